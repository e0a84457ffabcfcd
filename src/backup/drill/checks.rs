//! Whether a restored database of Temporal's is one that Temporal could work with, beyond holding the rows of the
//! backup: a backup of a broken database restores equal too.
//!
//! What a database is asked is one list ([`look`]). When nothing is wrong, a Temporal server may be started on all of
//! them together ([`super::server`]).

use serde::Serialize;

use crate::backup::catalog;
use crate::backup::error::BackupError;
use crate::backup::manifest::{Database, SchemaVersion};
use crate::clients::persistence::{Persistence, RunKey, Session};
use crate::clients::postgres::{Postgres, PostgresError};
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;

/// Runs looked at with one statement.
const AT_ONCE: usize = 2_000;
/// No single statement on a restored copy may take longer.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Runs that are named.
const NAMED: usize = 5;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it should be.
    Holds,
    /// It is not.
    Broken,
    /// It could not be told.
    Unknown,
}

/// One question about a restored database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `schema_versions`, `shards`, `histories`, `current_executions`, `visibility` or `server`.
    pub check: &'static str,
    /// The answer.
    pub outcome: Outcome,
    /// Rows that were looked at; of a server, workflows that it gave.
    pub looked_at: u64,
    /// What is wrong, or why it could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Rows looked at, and what is wrong with them.
type Answer = Result<(u64, Option<String>), PostgresError>;

/// Asks everything that fits the database.
///
/// # Errors
/// Only on cancel; what keeps a question from being answered is in its [`Check`].
pub(super) async fn look(
    postgres: &Postgres,
    database: &str,
    source: &Database,
    ctx: &Context,
) -> Result<Vec<Check>, BackupError> {
    let (is_main, is_visibility) = (is_main(source), is_visibility(source));
    let mut checks = Vec::new();
    if !source.schema_versions.is_empty() {
        checks.push(check("schema_versions", versions(postgres, database, source).await));
    }
    if !is_main && !is_visibility {
        return Ok(checks);
    }
    ctx.progress.stage("checking what Temporal relies on", None, Unit::Items);
    let bounded = postgres.clone().with_statement_timeout(LIMIT);
    let mut session = match Persistence::new(bounded, database).connect().await {
        Ok(session) => session,
        Err(error) => {
            checks.push(check("shards", Err(error)));
            return Ok(checks);
        }
    };
    if is_main {
        let tables: Vec<&str> = source.tables.iter().map(|table| table.name.name.as_str()).collect();
        checks.push(check("shards", shards(&mut session, &tables).await));
        checks.push(histories(&mut session, ctx).await?);
        checks.push(check("current_executions", current(&mut session, has(source, "current_chasm_executions")).await));
    }
    if is_visibility {
        checks.push(check("visibility", visibility(&mut session).await));
    }
    session.close().await;
    Ok(checks)
}

fn has(source: &Database, wanted: &str) -> bool {
    source.tables.iter().any(|table| table.name.schema == "public" && table.name.name == wanted)
}

/// Whether it holds a cluster's runs and histories.
pub(super) fn is_main(source: &Database) -> bool {
    ["executions", "shards", "history_node", "current_executions"].into_iter().all(|table| has(source, table))
}

/// Whether it holds visibility in PostgreSQL.
pub(super) fn is_visibility(source: &Database) -> bool {
    has(source, "executions_visibility")
}

fn check(check: &'static str, answer: Answer) -> Check {
    let (outcome, looked_at, detail) = match answer {
        Ok((rows, None)) => (Outcome::Holds, rows, None),
        Ok((rows, Some(wrong))) => (Outcome::Broken, rows, Some(wrong)),
        Err(error) => (Outcome::Unknown, 0, Some(chain(&error))),
    };
    Check { check, outcome, looked_at, detail }
}

async fn versions(postgres: &Postgres, database: &str, source: &Database) -> Answer {
    let failed = |error| postgres.error(database, "reading Temporal's schema versions", error);
    let mut connection = postgres.connect(database).await?;
    let found = catalog::schema_versions_of(&mut connection, &source.tables).await.map_err(failed)?;
    let _ = sqlx::Connection::close(connection).await;
    let said = |versions: &[SchemaVersion]| {
        let one = |version: &SchemaVersion| format!("{} {}", version.name, version.version);
        versions.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let wrong = (found != source.schema_versions).then(|| {
        format!(
            "the schema's versions are `{}`, not `{}` as in the manifest",
            said(&found),
            said(&source.schema_versions)
        )
    });
    Ok((found.len() as u64, wrong))
}

/// Every shard of 1 to their number has a row, and no table has a row of any other. A shard without its row would be
/// begun anew by the server, with task ids that were handed out before.
async fn shards(session: &mut Session, tables: &[&str]) -> Answer {
    let rows = session.shard_rows().await?;
    let looked_at = u64::try_from(rows.rows).unwrap_or_default();
    let count = rows.said.unwrap_or(rows.highest);
    let missing = session.missing_shards(count).await?;
    if count == 0 || !missing.is_empty() {
        let list = missing.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        return Ok((looked_at, Some(format!("of {count} shards {} have a row; missing: {list}", rows.rows))));
    }
    // The shard there is the one of another cluster.
    let ours: Vec<&str> = tables.iter().copied().filter(|table| *table != "replication_tasks_dlq").collect();
    for table in session.sharded(&ours).await? {
        let Some((lowest, highest)) = session.shard_bounds(&table).await? else { continue };
        if lowest < 1 || highest > count {
            let odd = if lowest < 1 { lowest } else { highest };
            return Ok((looked_at, Some(format!("{table} has rows of shard {odd}, and there are {count} shards"))));
        }
    }
    Ok((looked_at, None))
}

/// Every run has the beginning of its history, and of each branch it goes on from.
async fn histories(session: &mut Session, ctx: &Context) -> Result<Check, BackupError> {
    let (mut after, mut runs, mut lacking, mut unreadable) = (None, 0, 0_u64, 0);
    let mut named: Vec<String> = Vec::new();
    loop {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let page = match session.histories_after(after.as_ref(), AT_ONCE).await {
            Ok(page) => page,
            Err(error) => return Ok(check("histories", Err(error))),
        };
        runs += page.runs;
        unreadable += page.unreadable;
        lacking += page.lacking.len() as u64;
        named.extend(page.lacking.iter().take(NAMED.saturating_sub(named.len())).map(name_of));
        ctx.progress.advance(page.runs);
        after = page.last;
        if after.is_none() {
            break;
        }
    }
    let wrong = (lacking > 0)
        .then(|| format!("{lacking} of {runs} runs have no history, or not all of it: {}", named.join(", ")));
    let checked = check("histories", Ok((runs, wrong)));
    if checked.outcome == Outcome::Holds && unreadable > 0 {
        // A row in an older encoding says nothing against the backup, and nothing for it.
        let detail = Some(format!("{unreadable} of {runs} runs cannot be read"));
        return Ok(Check { outcome: Outcome::Unknown, detail, ..checked });
    }
    Ok(checked)
}

fn name_of(key: &RunKey) -> String {
    format!("`{}` run {}", key.workflow, key.run)
}

/// Each workflow's current run exists.
async fn current(session: &mut Session, has_chasm: bool) -> Answer {
    let mut tables = vec![("current_executions", "workflow_id")];
    if has_chasm {
        tables.push(("current_chasm_executions", "business_id"));
    }
    let mut looked_at = 0;
    for (table, column) in tables {
        let found = session.lost_current(table, column).await?;
        looked_at += found.rows;
        if found.lost > 0 {
            let list = found.examples.join("`, `");
            let wrong = format!("{} rows of {table} are of runs that do not exist: `{list}`", found.lost);
            return Ok((looked_at, Some(wrong)));
        }
    }
    Ok((looked_at, None))
}

async fn visibility(session: &mut Session) -> Answer {
    let (rows, odd) = session.odd_visibility().await?;
    let wrong = (odd > 0).then(|| format!("{odd} of {rows} rows of executions_visibility contradict themselves"));
    Ok((rows, wrong))
}
