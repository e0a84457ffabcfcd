//! The `way_back` operation: nothing on the way forward. On the way back it asks whether the target still holds what the
//! source does; a server that has served on the target has written to it, and going back would lose that.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Act, Ran, Reversal, SqlFailure, StepError};
use crate::migrate::hands::Hands;
use crate::migrate::names::Database;
use crate::migrate::world::Server;

/// Where the way back ends: at the first write to the target that the source does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WayBackStep {}

/// The id of `temporal-system`, whose workflows begin to run whenever a server starts (`common/primitives/namespace.go`).
const SYSTEM: &str = "'\\x32049b68787240948e63d0dd59896a83'::bytea";

/// What tells that somebody's workflows or namespaces have changed. Every change of a run, its history and its buffered
/// events included, changes its row in `executions`.
const TABLES: [(&str, bool); 4] =
    [("executions", true), ("current_executions", true), ("namespaces", false), ("nexus_endpoints", false)];

/// Rows of each table and a sum over their hashes. `hash_record_extended` gives the same for the same row of these types
/// on every server, whatever its version from 14 on.
async fn sums(server: Server, hands: &mut Hands<'_>) -> Result<BTreeMap<&'static str, String>, StepError> {
    let session = hands.session(server, &Database::Main).await?;
    // As long as it takes: the session's own time-out is for queries of milliseconds.
    sqlx::query("SET statement_timeout = 0").execute(&mut *session).await.map_err(SqlFailure::Database)?;
    let mut sums = BTreeMap::new();
    for (table, of_namespaces) in TABLES {
        let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(&mut *session).await;
        // A table that this version of the schema does not have is missing on both sides.
        if !there.map_err(SqlFailure::Database)? {
            continue;
        }
        let but = if of_namespaces { format!("WHERE namespace_id <> {SYSTEM}") } else { String::new() };
        let sum = format!(
            "SELECT count(*)::text || ' rows, hash ' || coalesce(sum(hash_record_extended(t, 0)::numeric), 0)::text \
             FROM ONLY {table} t {but}"
        );
        let sum = sqlx::query_scalar(AssertSqlSafe(sum)).fetch_one(&mut *session).await;
        sums.insert(table, sum.map_err(SqlFailure::Database)?);
    }
    Ok(sums)
}

#[async_trait]
impl Act for WayBackStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn run(&self, _: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        Ok(Ran::once(json!({})))
    }

    async fn lets_back(&self, hands: &mut Hands<'_>) -> Result<(), StepError> {
        hands.ctx.progress.note("looking whether the target has been written to");
        let (source, target) = (sums(Server::Source, hands).await?, sums(Server::Target, hands).await?);
        let told =
            |sums: &BTreeMap<_, String>, table| sums.get(table).map_or("has no such table", String::as_str).to_owned();
        let tables = TABLES.iter().map(|(table, _)| *table).filter(|table| source.get(table) != target.get(table));
        let differing: Vec<String> = tables
            .map(|table| format!("{table}: source {}, target {}", told(&source, table), told(&target, table)))
            .collect();
        match differing.is_empty() {
            true => Ok(()),
            false => Err(StepError::WayBackClosed(differing.join("; "))),
        }
    }

    /// Once more, with the server that might write to the target stopped.
    async fn undo(&self, hands: &mut Hands<'_>, _: &Value) -> Result<(), StepError> {
        self.lets_back(hands).await
    }
}
