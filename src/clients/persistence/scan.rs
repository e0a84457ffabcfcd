//! `executions` read as a whole, a range of its pages at a time: each statement's snapshot lives for seconds, however
//! large the table is. A row that moves meanwhile may be seen twice or not at all.

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::executions::{life, readable};
use super::messages::{WorkflowExecutionInfo, WorkflowExecutionState};
use super::{ExecutionState, RunKey, Session};
use crate::clients::postgres::{Fields, PostgresError};

/// Pages of a table, from the first to the one before the last number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRange {
    /// The first page.
    pub from: u64,
    /// The page after the last one; `None` reads to the end, wherever that is by then.
    pub to: Option<u64>,
}

/// A row of `executions`, as the scan sees it.
#[derive(Debug)]
pub struct ScannedRun<'r> {
    /// The history shard.
    pub shard: i32,
    /// The namespace.
    pub namespace: Uuid,
    /// The workflow's id.
    pub workflow: &'r str,
    /// The run.
    pub run: Uuid,
    /// Where it is in its life.
    pub state: ExecutionState,
    /// Its workflow type; empty for what is no workflow.
    pub workflow_type: String,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub closed: Option<Timestamp>,
    /// Bytes of its history, as Temporal counts them.
    pub history_bytes: u64,
    /// Bytes of the row's two large columns.
    pub row_bytes: u64,
    /// False for other archetypes, which share the table and have no history.
    pub has_history: bool,
    /// False for a row in an encoding that is not read, or that does not decode: nothing else is known of it.
    pub readable: bool,
}

impl ScannedRun<'_> {
    /// The run's key.
    #[must_use]
    pub fn key(&self) -> RunKey {
        RunKey { shard: self.shard, namespace: self.namespace, workflow: self.workflow.to_owned(), run: self.run }
    }
}

impl Session {
    /// How many pages a table of Temporal's has now.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn pages(&mut self, table: &str) -> Result<u64, PostgresError> {
        const PAGES: &str =
            "SELECT pg_catalog.pg_relation_size($1::text::regclass) / current_setting('block_size')::int8";
        let asked: Result<i64, _> = sqlx::query_scalar(PAGES).bind(table).fetch_one(&mut self.connection).await;
        let pages = asked.map_err(|error| self.persistence.error(&format!("asking how large {table} is"), error))?;
        Ok(u64::try_from(pages).unwrap_or_default())
    }

    /// Hands every run in a range of pages to `each`; returns how many there were.
    ///
    /// # Errors
    /// When the query fails. The connection is of no use then.
    pub async fn scan_executions(
        &mut self,
        range: PageRange,
        mut each: impl FnMut(&ScannedRun<'_>),
    ) -> Result<u64, PostgresError> {
        let until = range.to.map_or_else(String::new, |to| format!(" AND ctid < '({to},0)'"));
        let sql = format!(
            "SELECT shard_id, namespace_id, workflow_id, run_id, data, data_encoding, state, state_encoding \
             FROM executions WHERE ctid >= '({},0)'{until}",
            range.from
        );
        self.copy_rows(&sql, "reading Temporal's executions", |fields| each(&run(fields))).await
    }
}

fn run<'r>(fields: &Fields<'r, 8>) -> ScannedRun<'r> {
    let (data, state) = (fields.bytes(4), fields.bytes(6));
    let decoded = (readable(fields.text(5)) && readable(fields.text(7)))
        .then(|| WorkflowExecutionInfo::of(data).ok().zip(WorkflowExecutionState::decode(state).ok()))
        .flatten();
    let mut scanned = ScannedRun {
        shard: fields.int4(0),
        namespace: Uuid::from_slice(fields.bytes(1)).unwrap_or_default(),
        workflow: fields.text(2),
        run: Uuid::from_slice(fields.bytes(3)).unwrap_or_default(),
        state: ExecutionState::Hidden,
        workflow_type: String::new(),
        started: None,
        closed: None,
        history_bytes: 0,
        row_bytes: (data.len() + state.len()) as u64,
        has_history: false,
        readable: decoded.is_some(),
    };
    if let Some((info, state)) = decoded {
        scanned.state = life(state.state);
        scanned.started = state.start_time.and_then(|time| time.instant());
        scanned.closed = info.close_time.and_then(|time| time.instant());
        scanned.history_bytes = info.execution_stats.map_or(0, |stats| u64::try_from(stats.history_size).unwrap_or(0));
        scanned.has_history = info.has_history();
        scanned.workflow_type = info.workflow_type_name;
    }
    scanned
}
