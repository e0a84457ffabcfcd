//! Records of PostgreSQL's log in the three forms in which it writes files, and what two kinds of them say: a wait for a lock
//! (`log_lock_waits`), and how long a statement took (`log_min_duration_statement`).

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use serde_json::Value;

/// A form of the log, the one that tells most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// An object on each line, from PostgreSQL 15 on.
    Json,
    /// A row for each record.
    Csv,
    /// Text behind a prefix, which may be anything.
    Text,
}

impl Format {
    pub(super) const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Text];

    /// Its name in `log_destination`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "jsonlog",
            Self::Csv => "csvlog",
            Self::Text => "stderr",
        }
    }
}

/// A record, as far as its form tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// In the server's `log_timezone`.
    pub(super) at: Option<DateTime>,
    pub(super) database: Option<String>,
    pub(super) program: Option<String>,
    pub(super) message: String,
}

/// The records of a piece of log. What is none, such as a line that was cut in two, is passed over.
pub(super) fn records(format: Format, text: &str) -> Vec<Record> {
    match format {
        Format::Json => text.lines().filter_map(of_json).collect(),
        Format::Csv => rows(text).iter().filter_map(|row| of_row(row)).collect(),
        Format::Text => text.lines().map(|line| Record { message: line.to_owned(), ..Record::default() }).collect(),
    }
}

fn time(text: &str) -> Option<DateTime> {
    text.get(..23)?.parse().ok()
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn of_json(line: &str) -> Option<Record> {
    let record: Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| record.get(field).and_then(Value::as_str);
    Some(Record {
        at: text("timestamp").and_then(time),
        database: text("dbname").and_then(some),
        program: text("application_name").and_then(some),
        message: text("message")?.to_owned(),
    })
}

/// Columns as PostgreSQL's manual has them ("Using CSV-Format Log Output").
fn of_row(row: &[String]) -> Option<Record> {
    let at = time(row.first()?)?;
    Some(Record {
        at: Some(at),
        database: row.get(2).and_then(|text| some(text)),
        program: row.get(22).and_then(|text| some(text)),
        message: row.get(13)?.clone(),
    })
}

/// Comma-separated rows; a field in quotes may hold commas, line breaks and doubled quotes.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                all.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    all
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum On {
    /// A relation, or a row, a page, or its growth: by the OIDs of its database and of itself.
    Relation(i64, i64),
    /// Anything else, such as the end of a transaction.
    Other(String),
}

/// A wait that has ended, or was never seen to end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wait {
    pub(super) at: Option<DateTime>,
    pub(super) database: Option<String>,
    pub(super) program: Option<String>,
    pub(super) mode: String,
    pub(super) on: On,
    pub(super) milliseconds: f64,
    /// Whether it got the lock.
    pub(super) ended: bool,
}

/// The waits that records tell of, in the order in which they ended. One that began before the first record is told by its end.
pub(super) fn waits(records: &[Record]) -> Vec<Wait> {
    let mut open: BTreeMap<(u64, String, On), Wait> = BTreeMap::new();
    let mut all = Vec::new();
    for record in records {
        let Some((process, wait)) = wait(record) else { continue };
        let key = (process, wait.mode.clone(), wait.on.clone());
        if wait.ended {
            open.remove(&key);
            all.push(wait);
        } else {
            open.insert(key, wait);
        }
    }
    all.extend(open.into_values());
    all
}

/// `process 7 still waiting for ShareLock on relation 16385 of database 16384 after 10.123 ms` (`ProcSleep` in `proc.c`).
fn wait(record: &Record) -> Option<(u64, Wait)> {
    const WORDS: [(&str, bool); 4] = [
        (" still waiting for ", false),
        (" acquired ", true),
        (" detected deadlock while waiting for ", false),
        (" failed to acquire ", false),
    ];
    let message = record.message.get(record.message.find("process ")?..)?;
    let (begins, rest, ended) = WORDS
        .into_iter()
        .find_map(|(words, ended)| message.split_once(words).map(|(begins, rest)| (begins, rest, ended)))?;
    let process = begins.strip_prefix("process ")?.parse().ok()?;
    let (mode, rest) = rest.split_once(" on ")?;
    let (on, took) = rest.rsplit_once(" after ")?;
    let milliseconds = took.split_once(" ms")?.0.parse().ok()?;
    let (at, database, program) = (record.at, record.database.clone(), record.program.clone());
    Some((process, Wait { at, database, program, mode: mode.to_owned(), on: object(on), milliseconds, ended }))
}

fn object(text: &str) -> On {
    let relation = || {
        let (_, relation) = text.split_once("relation ")?;
        let (relation, database) = relation.split_once(" of database ")?;
        Some(On::Relation(database.trim().parse().ok()?, relation.parse().ok()?))
    };
    // Which transaction it is tells nobody anything afterwards.
    let word = || text.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().trim().to_owned();
    relation().unwrap_or_else(|| On::Other(word()))
}

/// A statement and its milliseconds: `duration: 1.234 ms  execute s1: ALTER …`.
pub(super) fn duration(record: &Record) -> Option<(f64, &str)> {
    let (took, rest) = record.message.strip_prefix("duration: ")?.split_once(" ms  ")?;
    let (kind, statement) = rest.split_once(": ")?;
    let is_run = kind == "statement" || kind.starts_with("execute");
    is_run.then(|| Some((took.parse().ok()?, statement)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITING: &str = "process 7 still waiting for ShareLock on relation 5 of database 4 after 10.120 ms";
    const GOT_IT: &str = "process 7 acquired ShareLock on relation 5 of database 4 after 345.678 ms";

    #[test]
    fn every_form_tells_the_same_waits() {
        let json = |message: &str| {
            format!(
                "{{\"timestamp\":\"2026-01-31 02:00:00.500 UTC\",\"user\":\"u\",\"dbname\":\"d\",\"pid\":7,\
                 \"message\":\"{message}\",\"application_name\":\"p\"}}\n"
            )
        };
        let csv = |message: &str| {
            format!(
                "2026-01-31 02:00:00.500 UTC,\"u\",\"d\",7,\"[local]\",s,1,\"a \"\"b\"\",\nc\",t,3/4,0,LOG,00000,\"{message}\",\
                 \"Process holding the lock: 8.\",,,,,\"LOCK TABLE x\",,,\"p\",\"client backend\",,0\n"
            )
        };
        let text = |message: &str| format!("2026-01-31 UTC [7] u@d LOG:  {message}\n\tand more\n");
        let of = |format, line: &dyn Fn(&str) -> String| {
            waits(&records(format, &format!("cut\n{}{}{}", line(WAITING), line("hello"), line(GOT_IT))))
        };
        let expect = Wait {
            at: Some("2026-01-31T02:00:00.5".parse().unwrap()),
            database: Some("d".into()),
            program: Some("p".into()),
            mode: "ShareLock".into(),
            on: On::Relation(4, 5),
            milliseconds: 345.678,
            ended: true,
        };
        assert_eq!(of(Format::Json, &json), std::slice::from_ref(&expect));
        assert_eq!(of(Format::Csv, &csv), std::slice::from_ref(&expect));
        assert_eq!(of(Format::Text, &text), [Wait { at: None, database: None, program: None, ..expect }]);
    }

    #[test]
    fn a_wait_without_an_end_and_one_for_something_else_are_told() {
        let all = |message: &str| waits(&records(Format::Text, message));
        let [wait] = all(WAITING).try_into().unwrap();
        assert!(!wait.ended && wait.milliseconds == 10.12);
        let of = |on: &str| all(&WAITING.replace("relation 5 of database 4", on)).remove(0).on;
        assert_eq!(of("tuple (0,1) of relation 5 of database 4"), On::Relation(4, 5));
        assert_eq!(of("extension of relation 5 of database 4"), On::Relation(4, 5));
        assert_eq!(of("transaction 739"), On::Other("transaction".into()));
        assert_eq!(of("virtual transaction 3/45"), On::Other("virtual transaction".into()));
        assert!(all("process 7 still waiting").is_empty() && all("process x acquired A on B after 1 ms").is_empty());
    }

    #[test]
    fn durations_are_of_statements_that_ran() {
        let of = |message: &str| {
            let record = Record { message: message.to_owned(), ..Record::default() };
            duration(&record).map(|(took, statement)| (took, statement.to_owned()))
        };
        assert_eq!(of("duration: 1.5 ms  statement: SELECT ': '"), Some((1.5, "SELECT ': '".into())));
        assert_eq!(of("duration: 20 ms  execute sqlx_s_1: SELECT 1"), Some((20.0, "SELECT 1".into())));
        assert_eq!(of("duration: 20 ms  bind sqlx_s_1: SELECT 1"), None);
        assert_eq!(of("duration: 20 ms"), None);
    }
}
