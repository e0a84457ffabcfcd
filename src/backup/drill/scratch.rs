//! The drill's own databases on the scratch server: made, recognised, dropped. Nothing else there is ever touched.
//!
//! A database is the drill's own when its name begins with [`PREFIX`], its comment with [`MARK`], and nobody holds its
//! lock: a drill holds it for as long as it works, and it goes with the drill's session when its process dies.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::backup::error::BackupError;
use crate::backup::manifest::{BackupId, Database};
use crate::clients::postgres::{MAINTENANCE, Postgres, PostgresError, quote_identifier, quote_literal};

const PREFIX: &str = "sexton_drill_";
const MARK: &str = "a sexton drill at work";
const KEPT: &str = "kept from a failed sexton drill";

/// What earlier drills have left.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Databases that the next drill drops.
    pub(super) leftovers: Vec<String>,
    /// What looks like a drill's and is left alone, and why.
    pub(super) notes: Vec<String>,
}

/// A session for making and dropping databases.
///
/// # Errors
/// When it cannot be made.
pub(super) async fn session(postgres: &Postgres) -> Result<PgConnection, BackupError> {
    Ok(postgres.connect_held(MAINTENANCE).await?)
}

/// Looks for what earlier drills have left. Writes nothing.
///
/// # Errors
/// When the query fails.
pub(super) async fn found(postgres: &Postgres, session: &mut PgConnection) -> Result<Found, BackupError> {
    const LISTED: &str = "SELECT datname::text AS name, coalesce(shobj_description(oid, 'pg_database'), '') AS said \
        FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY 1";
    let failed = |error| postgres.error(MAINTENANCE, "looking for databases of earlier drills", error);
    let rows = sqlx::query(LISTED).bind(PREFIX).fetch_all(&mut *session).await.map_err(failed)?;
    let mut found = Found::default();
    for row in rows {
        let (name, said): (String, String) =
            (row.try_get("name").map_err(failed)?, row.try_get("said").map_err(failed)?);
        if said.starts_with(KEPT) {
            found.notes.push(format!("database {name} is {said}"));
        } else if !said.starts_with(MARK) {
            found.notes.push(format!(
                "database {name} is named as a drill's but lacks its comment; it is left alone: drop it by hand if it is"
            ));
        } else if is_free(postgres, session, &name).await? {
            found.leftovers.push(name);
        } else {
            found.notes.push(format!("database {name} is of a drill at work elsewhere"));
        }
    }
    Ok(found)
}

/// Whether nobody works in it: its lock can be had.
async fn is_free(postgres: &Postgres, session: &mut PgConnection, name: &str) -> Result<bool, BackupError> {
    let free = lock(postgres, session, name).await?;
    if free {
        let failed = |error| postgres.error(MAINTENANCE, "releasing a drill's lock", error);
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(key(name)).execute(session).await.map_err(failed)?;
    }
    Ok(free)
}

async fn lock(postgres: &Postgres, session: &mut PgConnection, name: &str) -> Result<bool, BackupError> {
    let failed = |error| postgres.error(MAINTENANCE, "taking a drill's lock", error);
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key(name)).fetch_one(session).await;
    Ok(asked.map_err(failed)?)
}

fn key(name: &str) -> i64 {
    let hash = blake3::hash(name.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

/// Drops a left-over that still is one.
///
/// # Errors
/// When it cannot be dropped; `false` when it is no left-over any more.
pub(super) async fn drop_leftover(
    postgres: &Postgres,
    session: &mut PgConnection,
    name: &str,
) -> Result<bool, BackupError> {
    if !lock(postgres, session, name).await? {
        return Ok(false);
    }
    let dropped = drop_marked(postgres, session, name).await;
    let _ = sqlx::query("SELECT pg_advisory_unlock($1)").bind(key(name)).execute(session).await;
    dropped
}

/// Drops a database when its name and comment are a drill's, looked at right before. FORCE ends what a killed drill's
/// sessions may still be busy with.
async fn drop_marked(postgres: &Postgres, session: &mut PgConnection, name: &str) -> Result<bool, BackupError> {
    const SAID: &str = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let failed = |error| postgres.error(MAINTENANCE, &format!("dropping the drill's database {name}"), error);
    let said: Option<Option<String>> =
        sqlx::query_scalar(SAID).bind(name).fetch_optional(&mut *session).await.map_err(failed)?;
    let marked = said.flatten().is_some_and(|said| said.starts_with(MARK));
    if !(marked && name.starts_with(PREFIX)) {
        return Ok(false);
    }
    let sql = format!("DROP DATABASE {} WITH (FORCE)", quote_identifier(name));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await.map_err(failed)?;
    Ok(true)
}

/// A database that a drill has made and works in.
#[derive(Debug)]
pub(super) struct Made {
    /// Its name.
    pub(super) name: String,
    postgres: Postgres,
    session: PgConnection,
}

impl Made {
    /// Makes an empty database, marks it and takes its lock.
    ///
    /// # Errors
    /// When the role may not, or the server cannot.
    pub(super) async fn create(postgres: &Postgres, id: &BackupId, of: &Database) -> Result<Self, BackupError> {
        let mut session = session(postgres).await?;
        let name = free_name(postgres, &mut session, id).await?;
        let failed = |error| match postgres.error(MAINTENANCE, &format!("making the database {name}"), error) {
            PostgresError::InsufficientPrivilege { host, role, .. } => {
                PostgresError::NoCreate { host, database: name.clone(), role }
            }
            error => error,
        };
        // Before there is anything to find: from its first instant on it is of a drill at work.
        if !lock(postgres, &mut session, &name).await? {
            let reasons = vec![format!("another drill is making the database {name}")];
            return Err(BackupError::Unverified { subject: format!("backup `{id}`"), reasons });
        }
        const ENCODING: &str =
            "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = 'template0'";
        let usual: Option<String> = sqlx::query_scalar(ENCODING).fetch_optional(&mut session).await.map_err(failed)?;
        // A server's own locale may not go with another encoding; C goes with all.
        let form = match usual.is_some_and(|usual| usual == of.encoding) {
            true => String::new(),
            false => format!(" ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'", quote_literal(&of.encoding)),
        };
        let quoted = quote_identifier(&name);
        let sql = format!("CREATE DATABASE {quoted} TEMPLATE template0{form}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session).await.map_err(failed)?;
        let said = quote_literal(&format!("{MARK}: backup {id}; the next drill drops what a killed one leaves"));
        let sql = format!("COMMENT ON DATABASE {quoted} IS {said}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session).await.map_err(failed)?;
        Ok(Self { name, postgres: postgres.clone(), session })
    }

    /// Drops it.
    ///
    /// # Errors
    /// When it cannot be dropped; the next drill tries again.
    pub(super) async fn remove(mut self) -> Result<(), BackupError> {
        let dropped = drop_marked(&self.postgres, &mut self.session, &self.name).await;
        let _ = self.session.close().await;
        dropped.map(drop)
    }

    /// Leaves it for a person, who drops it.
    ///
    /// # Errors
    /// When the comment cannot be set; the next drill drops it then.
    pub(super) async fn keep(mut self, id: &BackupId, at: jiff::Timestamp) -> Result<(), BackupError> {
        let said = quote_literal(&format!("{KEPT} of backup {id} at {}; drop it by hand", at.strftime("%FT%TZ")));
        let sql = format!("COMMENT ON DATABASE {} IS {said}", quote_identifier(&self.name));
        let set = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.session).await;
        let failed = |error| self.postgres.error(MAINTENANCE, &format!("keeping the database {}", self.name), error);
        set.map_err(failed)?;
        let _ = self.session.close().await;
        Ok(())
    }
}

/// A name that is not taken; a backup's identifier has no capitals there, so that it needs no quotes.
async fn free_name(postgres: &Postgres, session: &mut PgConnection, id: &BackupId) -> Result<String, BackupError> {
    let stem = format!("{PREFIX}{}_", id.as_str().to_ascii_lowercase().replace('-', "_"));
    const TAKEN: &str = "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1)";
    let failed = |error| postgres.error(MAINTENANCE, "looking for a name for the drill's database", error);
    let taken: Vec<String> = sqlx::query_scalar(TAKEN).bind(&stem).fetch_all(session).await.map_err(failed)?;
    let mut names = (1..=taken.len() + 1).map(|n| format!("{stem}{n}"));
    Ok(names.find(|name| !taken.contains(name)).unwrap_or_else(|| format!("{stem}0")))
}
