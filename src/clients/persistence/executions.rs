//! The table `executions`: one row per run, open or closed, until its retention ends.

use jiff::Timestamp;
use prost::Message;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Session;
use super::messages::{WorkflowExecutionInfo, WorkflowExecutionState};
use crate::clients::postgres::PostgresError;

/// Which run: the primary key of `executions`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// The history shard, from 1.
    pub shard: i32,
    /// The namespace's identity.
    pub namespace: Uuid,
    /// The workflow's id.
    pub workflow: String,
    /// The run's id.
    pub run: Uuid,
}

/// A row of `executions`, without its large column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Which run.
    pub key: RunKey,
    /// Where it is in its life.
    pub state: ExecutionState,
    /// When it started; `None` when the row does not say.
    pub started: Option<Timestamp>,
}

/// Where a run is in its life, by what the visibility index should say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionState {
    /// Created, running or paused.
    Open,
    /// Ended, in whatever way.
    Closed,
    /// A state that has no document, or one that cannot be read: the losing side of a conflict between clusters,
    /// a row in another encoding.
    Hidden,
}

/// What only the large column says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionDetail {
    /// Which run.
    pub key: RunKey,
    /// When it ended.
    pub closed: Option<Timestamp>,
    /// True for a workflow. Other archetypes share the table; they have no history.
    pub has_history: bool,
    /// True once its memo and search attributes are only in the visibility store.
    pub attributes_removed: bool,
}

pub(super) const KEYS: &str = "unnest($1::int4[], $2::bytea[], $3::text[], $4::bytea[]) \
    WITH ORDINALITY AS d (shard_id, namespace_id, workflow_id, run_id, place)";
const SAME: &str = "e.shard_id = d.shard_id AND e.namespace_id = d.namespace_id \
    AND e.workflow_id = d.workflow_id AND e.run_id = d.run_id";

/// Keys as the four arrays that [`KEYS`] takes.
#[derive(Default)]
struct Columns {
    shards: Vec<i32>,
    namespaces: Vec<Vec<u8>>,
    workflows: Vec<String>,
    runs: Vec<Vec<u8>>,
}

impl Columns {
    fn of(keys: &[RunKey]) -> Self {
        let mut columns = Self::default();
        for key in keys {
            columns.shards.push(key.shard);
            columns.namespaces.push(key.namespace.as_bytes().to_vec());
            // PostgreSQL holds no NUL, so that an id with one is in no row.
            columns.workflows.push(key.workflow.replace('\0', "\u{fffd}"));
            columns.runs.push(key.run.as_bytes().to_vec());
        }
        columns
    }
}

impl Session {
    /// Runs a query on [`KEYS`].
    pub(super) async fn by_keys<T>(
        &mut self,
        sql: String,
        keys: &[RunKey],
        doing: &str,
    ) -> Result<Vec<T>, PostgresError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let columns = Columns::of(keys);
        let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(columns.shards)
            .bind(columns.namespaces)
            .bind(columns.workflows)
            .bind(columns.runs)
            .fetch_all(&mut self.connection)
            .await;
        asked.map_err(|error| self.persistence.error(doing, error))
    }

    /// Which of these runs exist now, in their order.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn exist(&mut self, keys: &[RunKey]) -> Result<Vec<bool>, PostgresError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // The LIMIT keeps the planner at one look into the primary key per run, whatever it thinks of the array's length.
        let sql = format!(
            "SELECT d.place FROM {KEYS} CROSS JOIN LATERAL (SELECT 1 FROM executions e WHERE {SAME} LIMIT 1) AS found"
        );
        let places: Vec<(i64,)> = self.by_keys(sql, keys, "looking runs up in Temporal's executions").await?;
        let mut exist = vec![false; keys.len()];
        for (place,) in places {
            if let Some(found) = usize::try_from(place - 1).ok().and_then(|place| exist.get_mut(place)) {
                *found = true;
            }
        }
        Ok(exist)
    }

    /// The keys and these columns of the runs after this one in the order of the primary key, from the beginning when
    /// there is none.
    pub(super) async fn runs_after<Row>(
        &mut self,
        columns: &str,
        after: Option<&RunKey>,
        limit: usize,
    ) -> Result<Vec<Row>, PostgresError>
    where
        Row: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        let sql = format!(
            "SELECT shard_id, namespace_id, workflow_id, run_id, {columns} FROM executions \
             WHERE (shard_id, namespace_id, workflow_id, run_id) > ($1, $2, $3, $4) \
             ORDER BY shard_id, namespace_id, workflow_id, run_id LIMIT $5"
        );
        let (shard, namespace, workflow, run) = match after {
            Some(key) => {
                (key.shard, key.namespace.as_bytes().to_vec(), key.workflow.as_str(), key.run.as_bytes().to_vec())
            }
            None => (i32::MIN, Vec::new(), "", Vec::new()),
        };
        let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(shard)
            .bind(namespace)
            .bind(workflow)
            .bind(run)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut self.connection)
            .await;
        asked.map_err(|error| self.persistence.error("reading Temporal's executions", error))
    }

    /// The runs after this one in the order of the primary key, from the beginning when there is none.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn executions(&mut self, after: Option<&RunKey>, limit: usize) -> Result<Vec<Execution>, PostgresError> {
        type Row = (i32, Vec<u8>, String, Vec<u8>, Vec<u8>, String);
        let rows: Vec<Row> = self.runs_after("state, state_encoding", after, limit).await?;
        let execution = |(shard, namespace, workflow, run, state, encoding): Row| {
            let key = RunKey {
                shard,
                namespace: Uuid::from_slice(&namespace).unwrap_or_default(),
                workflow,
                run: Uuid::from_slice(&run).unwrap_or_default(),
            };
            let decoded = readable(&encoding).then(|| WorkflowExecutionState::decode(&*state).ok()).flatten();
            Execution {
                key,
                state: decoded.as_ref().map_or(ExecutionState::Hidden, |state| life(state.state)),
                started: decoded.and_then(|state| state.start_time?.instant()),
            }
        };
        Ok(rows.into_iter().map(execution).collect())
    }

    /// What the large column says of these runs; runs that are gone are left out, and so are rows in an encoding
    /// that is not read.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn details(&mut self, keys: &[RunKey]) -> Result<Vec<ExecutionDetail>, PostgresError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT d.place, found.data, found.data_encoding FROM {KEYS} CROSS JOIN LATERAL \
             (SELECT e.data, e.data_encoding FROM executions e WHERE {SAME} LIMIT 1) AS found"
        );
        let rows: Vec<(i64, Vec<u8>, String)> = self.by_keys(sql, keys, "reading Temporal's executions").await?;
        let detail = |(place, data, encoding): (i64, Vec<u8>, String)| {
            let key = keys.get(usize::try_from(place - 1).ok()?)?.clone();
            let info = readable(&encoding).then(|| WorkflowExecutionInfo::of(&data).ok()).flatten()?;
            Some(ExecutionDetail {
                key,
                closed: info.close_time.and_then(|time| time.instant()),
                has_history: info.has_history(),
                attributes_removed: info.relocatable_attributes_removed,
            })
        };
        Ok(rows.into_iter().filter_map(detail).collect())
    }
}

/// The server writes `Proto3`; older rows may hold JSON.
pub(super) fn readable(encoding: &str) -> bool {
    encoding.eq_ignore_ascii_case("proto3")
}

/// `temporal.server.api.enums.v1.WorkflowExecutionState`: created 1, running 2, completed 3, zombie 4, void 5,
/// corrupted 6.
pub(super) fn life(state: i32) -> ExecutionState {
    match state {
        1 | 2 => ExecutionState::Open,
        3 => ExecutionState::Closed,
        _ => ExecutionState::Hidden,
    }
}
