//! Tables: what is dead in them, whether autovacuum keeps up, and what leaks.

use serde::{Deserialize, Serialize};

use super::AuditError;
use crate::clients::persistence::{Session, TableFacts};

/// Autovacuum waits for a share of the table; of a large one that is too much at once.
const LARGE_ROWS: u64 = 1_000_000;
/// Dead rows for each live one from which on a table is in trouble.
const DEAD_SHARE: u64 = 5;

/// A table with what there is to say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    /// What PostgreSQL knows.
    #[serde(flatten)]
    pub facts: TableFacts,
    /// What to change, when something is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<String>,
}

/// Rows of a table that has to be almost empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// The table.
    pub table: String,
    /// Rows that belong to runs which do not exist.
    pub rows: u64,
    /// What they are.
    pub what: String,
}

impl TableReport {
    pub(super) fn of(facts: TableFacts) -> Self {
        let advice = advice(&facts);
        Self { facts, advice }
    }
}

fn advice(facts: &TableFacts) -> Option<String> {
    let name = &facts.name;
    if facts.dead > facts.vacuum_at && facts.dead > 10_000 {
        return Some(format!(
            "{} dead rows, and autovacuum begins at {}: it does not keep up; look for long transactions and replication \
             slots, and raise autovacuum_vacuum_cost_limit",
            facts.dead, facts.vacuum_at
        ));
    }
    if facts.rows >= LARGE_ROWS && facts.dead > facts.rows / DEAD_SHARE {
        return Some(format!(
            "one row in {} is dead: ALTER TABLE {name} SET (autovacuum_vacuum_scale_factor = 0.02)",
            facts.rows / facts.dead.max(1) + 1
        ));
    }
    if facts.rows >= LARGE_ROWS && facts.vacuum_at > facts.rows / 10 {
        return Some(format!(
            "autovacuum waits for {} dead rows: ALTER TABLE {name} SET (autovacuum_vacuum_scale_factor = 0.02)",
            facts.vacuum_at
        ));
    }
    None
}

/// Tables with a row for something of a run, and what a row of no run there means.
const OF_RUNS: [(&str, &str); 2] = [
    ("signals_requested_sets", "ids of signals that runs which are gone have received (Temporal issue 8146)"),
    ("buffered_events", "events that wait for runs which are gone"),
];

pub(super) async fn leaks(session: &mut Session) -> Result<Vec<Leak>, AuditError> {
    let mut leaks = Vec::new();
    for (table, what) in OF_RUNS {
        let rows = session.rows_without_run(table).await?;
        if rows > 0 {
            leaks.push(Leak { table: table.to_owned(), rows, what: what.to_owned() });
        }
    }
    let archival = session.scheduled_archivals().await?;
    if archival > 0 {
        let what = "histories that wait to be archived before they can be deleted".to_owned();
        leaks.push(Leak { table: "history_scheduled_tasks".to_owned(), rows: archival, what });
    }
    Ok(leaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_where_something_is_wrong() {
        let check = |rows: u64, dead: u64, vacuum_at: u64, expect: Option<&str>| {
            let facts = TableFacts {
                name: "history_node".into(),
                bytes: 0,
                index_bytes: 0,
                toast_bytes: 0,
                rows,
                dead,
                vacuumed: None,
                settings: Vec::new(),
                vacuum_at,
            };
            match (advice(&facts), expect) {
                (Some(found), Some(expect)) => assert!(found.contains(expect), "{found}"),
                (found, expect) => assert_eq!(found.as_deref(), expect),
            }
        };
        check(1_000, 500, 250, None);
        check(10_000_000, 100_000, 200_050, None);
        check(10_000_000, 3_000_000, 2_000_050, Some("does not keep up"));
        check(10_000_000, 100_000, 2_000_050, Some("autovacuum waits for 2000050 dead rows"));
        check(10_000_000, 2_500_000, 2_600_000, Some("is dead: ALTER TABLE history_node"));
    }
}
