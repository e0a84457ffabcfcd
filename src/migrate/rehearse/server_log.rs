//! What the scratch server's own log says of a rehearsal: who waited for which lock on which relation, and for how long.
//!
//! The copies are told to log waits that are longer than [`DEADLOCK_TIMEOUT`]; what the server has written between two
//! instants is read through its own functions, wherever its files are. Where that cannot be, the report says why.

mod files;
mod names;
mod parse;

use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use self::files::{CHUNK, ask, current, length, piece, said};
use self::names::{Names, names_in};
use self::parse::{Format, On, Record, Wait};
use super::load::PROGRAM;
use super::locks::Held;
use crate::clients::postgres::{MAINTENANCE, quote_identifier};
use crate::migrate::world::Place;
use crate::units::took;

/// The shortest wait that is logged. The server looks for deadlocks and logs a wait at the same time.
const DEADLOCK_TIMEOUT: &str = "10ms";
/// The shortest statement that is logged.
const SLOW: &str = "100ms";
/// How much of the log is read at most, in bytes.
const LARGEST: usize = 8 << 20;
/// How long the last record may take to come to its file.
const PATIENCE: Duration = Duration::from_secs(5);
/// Statements that are reported: the longest ones, and their first characters.
const STATEMENTS: usize = 20;
const CLIP: usize = 200;

/// What the server's own log says of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerLog {
    /// Why it was not read; `None` when it was.
    pub not_read: Option<String>,
    /// What was read: `jsonlog`, `csvlog` or `stderr`.
    pub format: Option<String>,
    /// Waits for locks in the copies.
    pub waits: Vec<LoggedWait>,
    /// The statements that took longest, of those over 100 ms; none where the role may not have them logged.
    pub statements: Vec<LoggedStatement>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Waits of one program for one lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedWait {
    /// `database.relation`, or in words what is none, such as `transaction`.
    pub relation: String,
    /// The table, where the relation is an index of one.
    pub table: String,
    /// What was wanted: PostgreSQL's name of the mode.
    pub mode: String,
    /// Who waited, by its `application_name`; `None` where the log does not say.
    pub who: Option<String>,
    /// When the first one was over, in milliseconds since the rehearsal's run began; `None` where the log does not say.
    pub at: Option<u64>,
    /// How many.
    pub waits: u64,
    /// How many of them did not get the lock; they waited at least as long as was logged.
    pub given_up: u64,
    /// The longest, in milliseconds.
    pub longest_milliseconds: u64,
    /// All together, in milliseconds.
    pub milliseconds: u64,
}

/// A statement, and what the server says it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedStatement {
    /// Its beginning, on one line.
    pub statement: String,
    /// In milliseconds.
    pub milliseconds: u64,
}

impl LoggedWait {
    /// Who waited, for people.
    #[must_use]
    pub fn waiter(&self) -> &str {
        match self.who.as_deref() {
            Some(PROGRAM) => "the load",
            Some("sexton") => "the migration",
            Some(other) => other,
            None => "not told",
        }
    }
}

impl ServerLog {
    fn not_read(why: impl Into<String>) -> Self {
        Self { not_read: Some(why.into()), ..Self::default() }
    }

    /// Holds it against the locks that were sampled: who waits for a relation waits for somebody who has it.
    pub(super) fn compare(&mut self, held: &[Held]) {
        let is_seen = |wait: &LoggedWait| held.iter().any(|held| held.relation == wait.table);
        let unseen = self.waits.iter().filter(|wait| wait.relation.contains('.') && !is_seen(wait));
        let said = |wait: &LoggedWait| {
            let longest = took(wait.longest_milliseconds);
            let (mode, relation, who) = (&wait.mode, &wait.relation, wait.waiter());
            format!("{who} waited up to {longest} for {mode} on {relation}, where no sample saw a lock")
        };
        let notes: Vec<String> = unseen.map(said).collect();
        self.notes.extend(notes);
    }
}

/// An ear at the log, from an instant on.
pub(super) enum Listening {
    Yes(Box<Ear>),
    No(String),
}

pub(super) struct Ear {
    place: Place,
    session: PgConnection,
    format: Format,
    files: Vec<File>,
    /// This process's clock and the server's, in the time zone of its log, at one instant.
    zero: (Instant, Option<DateTime>),
    set: Vec<&'static str>,
    notes: Vec<String>,
}

/// A file of the log, and how far it was read.
struct File {
    name: String,
    read: usize,
}

/// Has the copies' waits logged, and notes where the log ends now.
pub(super) async fn listen(place: &Place) -> Listening {
    match Ear::open(place).await {
        Ok(ear) => Listening::Yes(Box::new(ear)),
        Err(why) => Listening::No(why),
    }
}

impl Listening {
    /// What the server has written since, with times since `origin`.
    pub(super) async fn hear(self, origin: Instant) -> ServerLog {
        match self {
            Self::No(why) => ServerLog::not_read(why),
            Self::Yes(ear) => ear.hear(origin).await,
        }
    }
}

impl Ear {
    async fn open(place: &Place) -> Result<Self, String> {
        // Who may call these functions is kept by database, and a copy's is gone with it.
        let mut session = place.postgres.connect(MAINTENANCE).await.map_err(|error| error.to_string())?;
        let collects: bool = ask(&mut session, "SELECT current_setting('logging_collector')::bool").await?;
        if !collects {
            return Err(
                "logging_collector is off on the scratch server, so its log is in no file of its own".to_owned()
            );
        }
        let (format, name) = current(&mut session, &Format::ALL)
            .await?
            .ok_or_else(|| "the scratch server's log_destination is none of jsonlog, csvlog and stderr".to_owned())?;
        let now = "SELECT to_char(clock_timestamp() AT TIME ZONE current_setting('log_timezone'), 'YYYY-MM-DD HH24:MI:SS.MS')";
        let now: String = ask(&mut session, now).await?;
        let read = length(&mut session, &name).await?;
        let zero = (Instant::now(), now.parse().ok());
        let files = vec![File { name, read }];
        let mut ear = Self { place: place.clone(), session, format, files, zero, set: Vec::new(), notes: Vec::new() };
        // Before anything is set: that it may be read at all.
        ear.more(&mut Vec::new()).await?;
        if let Err(why) = ear.have_it_logged().await {
            ear.forget_settings().await;
            return Err(why);
        }
        Ok(ear)
    }

    /// Sets on the copies what makes new sessions of theirs log.
    async fn have_it_logged(&mut self) -> Result<(), String> {
        let role: String = ask(&mut self.session, "SELECT current_user::text").await?;
        let speaks = "SELECT lower(current_setting('lc_messages')) ~ '^(c|posix|en)([._]|$)' OR current_setting('lc_messages') = ''";
        let speaks: bool = ask(&mut self.session, speaks).await?;
        let logs: bool = ask(&mut self.session, "SELECT current_setting('log_lock_waits')::bool").await?;
        if !speaks && let Err(error) = self.set("lc_messages", "C").await {
            return Err(format!("the scratch server's log is not in English, and its language cannot be set: {error}"));
        }
        if !logs && let Err(error) = self.set("log_lock_waits", "on").await {
            let grant = format!("GRANT SET ON PARAMETER log_lock_waits, deadlock_timeout TO {role}");
            return Err(format!(
                "the scratch server does not log waits, and does not let us: {error} ({grant}, from PostgreSQL 15 on)"
            ));
        }
        if let Err(error) = self.set("deadlock_timeout", DEADLOCK_TIMEOUT).await {
            let timeout: String = ask(&mut self.session, "SELECT current_setting('deadlock_timeout')").await?;
            self.notes.push(format!("waits of less than {timeout} are not in it: {error}"));
        }
        // Without it, there are no statements.
        let _ = self.set("log_min_duration_statement", SLOW).await;
        Ok(())
    }

    async fn set(&mut self, name: &'static str, value: &str) -> Result<(), String> {
        for database in self.place.all() {
            let set = format!("ALTER DATABASE {} SET {name} = '{value}'", quote_identifier(&database));
            sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut self.session).await.map_err(|error| said(&error))?;
        }
        self.set.push(name);
        Ok(())
    }

    /// The copies may be kept for a look.
    async fn forget_settings(&mut self) {
        for name in std::mem::take(&mut self.set) {
            for database in self.place.all() {
                let reset = format!("ALTER DATABASE {} RESET {name}", quote_identifier(&database));
                let _ = sqlx::raw_sql(AssertSqlSafe(reset)).execute(&mut self.session).await;
            }
        }
    }

    /// What cannot be read or looked up loses nothing of what was.
    async fn hear(mut self, origin: Instant) -> ServerLog {
        self.forget_settings().await;
        // The server writes its log through a process of its own: what stands before this is there when this is.
        let mark = format!("sexton: a rehearsal ends ({})", uuid::Uuid::new_v4());
        let raise = format!("DO $$BEGIN RAISE LOG '{mark}'; END$$");
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(raise)).execute(&mut self.session).await {
            self.notes.push(format!("its end could not be marked: {}", said(&error)));
        }
        let (mut bytes, clock) = (Vec::new(), Instant::now());
        let has_mark = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
        loop {
            if let Err(why) = self.more(&mut bytes).await {
                if bytes.is_empty() {
                    return ServerLog { notes: self.notes, ..ServerLog::not_read(why) };
                }
                self.notes.push(format!("it could not be read to its end: {why}"));
                break;
            }
            if bytes.len() >= LARGEST {
                let read = crate::units::human_bytes(LARGEST as u64);
                self.notes.push(format!("only its first {read} were read"));
                break;
            }
            if has_mark(&bytes) {
                break;
            }
            if clock.elapsed() > PATIENCE {
                self.notes.push("its end did not come; what the server wrote last may be missing".to_owned());
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if self.files.len() > 1 {
            self.notes
                .push("it was rotated meanwhile; had it been more than once, something would be missing".to_owned());
        }
        let records = parse::records(self.format, &String::from_utf8_lossy(&bytes));
        let waits = self.waits(&records, origin).await;
        let statements = self.statements(&records);
        if self.format == Format::Text {
            self.notes.push("as stderr it does not tell whose a statement is, so none are told".to_owned());
        }
        let (format, notes) = (Some(self.format.name().to_owned()), self.notes);
        let _ = self.session.close().await;
        ServerLog { not_read: None, format, waits, statements, notes }
    }

    /// Reads on, up to [`LARGEST`], in the file that is written now, too. What was read before something failed stays in `bytes`.
    async fn more(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        if let Some((_, name)) = current(&mut self.session, &[self.format]).await?
            && self.files.last().is_none_or(|file| file.name != name)
        {
            self.files.push(File { name, read: 0 });
        }
        for file in &mut self.files {
            while bytes.len() < LARGEST {
                let piece = piece(&mut self.session, &file.name, file.read).await?;
                file.read += piece.len();
                bytes.extend_from_slice(&piece);
                if piece.len() < CHUNK {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The waits in the copies, those of one program for one lock together.
    async fn waits(&mut self, records: &[Record], origin: Instant) -> Vec<LoggedWait> {
        let all = parse::waits(records);
        let names = self.names(&all).await;
        let copies = self.place.all();
        let since = |at: DateTime| {
            let (instant, zero) = (self.zero.0, self.zero.1?);
            let since_zero = at.duration_since(zero).as_millis();
            let origin = i128::try_from(origin.saturating_duration_since(instant).as_millis()).ok()?;
            u64::try_from((since_zero - origin).max(0)).ok()
        };
        let mut waits: Vec<LoggedWait> = Vec::new();
        for wait in all {
            let (relation, table) = match &wait.on {
                On::Relation(database, relation) => match names.get(&(*database, *relation)) {
                    Some(names) => names.clone(),
                    // Of another database, or gone by now.
                    None => match wait.database.as_ref().filter(|name| copies.contains(name)) {
                        Some(name) => (format!("{name}.relation {relation}"), String::new()),
                        None => continue,
                    },
                },
                On::Other(word) if wait.database.as_ref().is_some_and(|name| copies.contains(name)) => {
                    (word.clone(), String::new())
                }
                On::Other(_) => continue,
            };
            let milliseconds = wait.milliseconds.round().max(0.0) as u64;
            let given_up = u64::from(!wait.ended);
            let same =
                |one: &&mut LoggedWait| one.relation == relation && one.mode == wait.mode && one.who == wait.program;
            if let Some(one) = waits.iter_mut().find(same) {
                one.waits += 1;
                one.given_up += given_up;
                one.longest_milliseconds = one.longest_milliseconds.max(milliseconds);
                one.milliseconds += milliseconds;
                continue;
            }
            let (who, at, longest_milliseconds) = (wait.program, wait.at.and_then(since), milliseconds);
            let mode = wait.mode;
            waits.push(LoggedWait {
                relation,
                table,
                mode,
                who,
                at,
                waits: 1,
                given_up,
                longest_milliseconds,
                milliseconds,
            });
        }
        waits.sort_by_key(|wait| std::cmp::Reverse(wait.longest_milliseconds));
        waits
    }

    /// What the relations in the copies are called, and of which table they are.
    async fn names(&mut self, waits: &[Wait]) -> Names {
        let oid = |wait: &Wait| if let On::Relation(_, relation) = wait.on { Some(relation) } else { None };
        let oids: Vec<i64> = waits.iter().filter_map(oid).collect();
        let mut all = Names::new();
        for database in self.place.all() {
            match names_in(&self.place, &database, &oids).await {
                Ok(names) => all.extend(names),
                Err(why) => self.notes.push(format!("the relations of {database} could not be looked up: {why}")),
            }
        }
        all
    }

    fn statements(&self, records: &[Record]) -> Vec<LoggedStatement> {
        let copies = self.place.all();
        // Those of the load are its own, and many.
        let is_ours = |record: &&Record| {
            record.program.as_deref() != Some(PROGRAM)
                && record.database.as_ref().is_some_and(|name| copies.contains(name))
        };
        let one = |(took, statement): (f64, &str)| LoggedStatement {
            statement: statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CLIP).collect(),
            milliseconds: took.round().max(0.0) as u64,
        };
        let mut all: Vec<_> = records.iter().filter(is_ours).filter_map(parse::duration).map(one).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.milliseconds));
        all.truncate(STATEMENTS);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_where_no_sample_saw_a_lock_is_noted() {
        let wait = |relation: &str, table: &str| LoggedWait {
            relation: relation.into(),
            table: table.into(),
            mode: "AccessShareLock".into(),
            who: Some(PROGRAM.into()),
            at: None,
            waits: 2,
            given_up: 0,
            longest_milliseconds: 12,
            milliseconds: 20,
        };
        let waits = vec![wait("d.t_key", "d.t"), wait("d.u", "d.u"), wait("transaction", "")];
        let mut log = ServerLog { waits, ..ServerLog::default() };
        let held = Held { relation: "d.t".into(), mode: "AccessExclusiveLock".into(), from: 0, milliseconds: 5 };
        log.compare(&[held]);
        assert_eq!(log.notes, ["the load waited up to 12ms for AccessShareLock on d.u, where no sample saw a lock"]);
    }
}
