//! A synthetic load on the copy: rows read and rewritten in place, as a server would, so that a lock that keeps others
//! waiting is felt and not only seen. What it writes it takes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clients::postgres::quote_identifier;
use crate::migrate::world::Place;
use crate::units::millis_since;

/// The load's sessions are told by this name.
pub(super) const PROGRAM: &str = "sexton-load";
/// Between two operations of a session.
const PAUSE: Duration = Duration::from_millis(5);
/// Tables of a database that are read and written: the largest ones.
const TABLES: i64 = 8;

/// What the load felt on a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Felt {
    /// `database.table`.
    pub table: String,
    /// Operations that were answered.
    pub operations: u64,
    /// The longest that one waited for its answer, in milliseconds.
    pub longest_milliseconds: u64,
    /// Operations that took longer than 100 ms.
    pub slow: u64,
    /// Operations that were refused.
    pub errors: u64,
}

/// A table and a column that an update may set to itself.
type Target = (String, Option<String>);

const TARGETS: &str = "SELECT c.relname::text, (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid \
      AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity = '' ORDER BY a.attnum DESC LIMIT 1) \
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.reltuples > 0 \
    ORDER BY pg_table_size(c.oid) DESC LIMIT $1";

/// Reads and writes in every database of a place until it is stopped; `None` when it could not begin in one.
pub(super) async fn load(place: Place, stop: CancellationToken) -> Option<Vec<Felt>> {
    let mut sessions = JoinSet::new();
    for name in place.all() {
        sessions.spawn(one(place.clone(), name, stop.clone()));
    }
    let all: Option<Vec<Vec<Felt>>> = sessions.join_all().await.into_iter().collect();
    Some(all?.into_iter().flatten().collect())
}

async fn one(place: Place, database: String, stop: CancellationToken) -> Option<Vec<Felt>> {
    let mut session = place.postgres.connect_held(&database).await.ok()?;
    let set = format!("SET application_name = '{PROGRAM}'; SET statement_timeout = 0; SET lock_timeout = 0");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut session).await.ok()?;
    let targets: Vec<Target> = sqlx::query_as(TARGETS).bind(TABLES).fetch_all(&mut session).await.ok()?;
    let mut felt: BTreeMap<String, Felt> = BTreeMap::new();
    let mut turn = 0_usize;
    while !stop.is_cancelled() && !targets.is_empty() {
        let Some((table, column)) = targets.get(turn % targets.len()) else { break };
        let clock = Instant::now();
        // A session that waits for a lock when it is to stop has been answered by then: the migration is over.
        let done =
            tokio::time::timeout(Duration::from_secs(3600), operate(&mut session, table, column.as_deref())).await;
        let waited = millis_since(clock);
        let entry = felt.entry(table.clone()).or_insert_with(|| Felt {
            table: format!("{database}.{table}"),
            operations: 0,
            longest_milliseconds: 0,
            slow: 0,
            errors: 0,
        });
        match done {
            Ok(Ok(())) => entry.operations += 1,
            _ => entry.errors += 1,
        }
        entry.longest_milliseconds = entry.longest_milliseconds.max(waited);
        entry.slow += u64::from(waited > 100);
        turn += 1;
        tokio::time::sleep(PAUSE).await;
    }
    let _ = session.close().await;
    Some(felt.into_values().collect())
}

/// Reads a row, and sets a column of it to itself, in a transaction that is rolled back.
async fn operate(session: &mut PgConnection, table: &str, column: Option<&str>) -> Result<(), sqlx::Error> {
    let name = quote_identifier(table);
    let row = format!("(SELECT ctid FROM {name} TABLESAMPLE SYSTEM (1) LIMIT 1)");
    let write = column.map_or_else(String::new, |column| {
        let column = quote_identifier(column);
        format!("UPDATE {name} SET {column} = {column} WHERE ctid = coalesce({row}, '(0,1)'::tid);")
    });
    let statement = format!("BEGIN; SELECT 1 FROM {name} LIMIT 1; {write} ROLLBACK");
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *session).await.map(drop);
    if done.is_err() {
        let _ = sqlx::raw_sql("ROLLBACK").execute(session).await;
    }
    done
}
