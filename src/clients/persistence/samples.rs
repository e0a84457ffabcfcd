//! Runs with what their rows say of their histories, to hold against what a server says.

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::executions::{life, readable};
use super::messages::{WorkflowExecutionInfo, WorkflowExecutionState};
use super::{ExecutionState, RunKey, Session};
use crate::clients::postgres::PostgresError;

/// A run as its row says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// Which run.
    pub key: RunKey,
    /// Whether it has ended.
    pub is_open: bool,
    /// `WorkflowExecutionStatus` of the public API.
    pub status: i32,
    /// The id of its history's last event.
    pub last_event: i64,
    /// When it ended.
    pub closed: Option<Timestamp>,
}

impl Session {
    /// The runs after this one in the order of the primary key, and the last of them that was looked at; `None` when
    /// there was none any more. Left out are those without a history of their own or in an encoding that is not read.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn stored_runs(
        &mut self,
        after: Option<&RunKey>,
        limit: usize,
    ) -> Result<(Vec<StoredRun>, Option<RunKey>), PostgresError> {
        type Row = (i32, Vec<u8>, String, Vec<u8>, Vec<u8>, String, Vec<u8>, String, i64);
        const COLUMNS: &str = "data, data_encoding, state, state_encoding, next_event_id";
        let rows: Vec<Row> = self.runs_after(COLUMNS, after, limit).await?;
        let (mut runs, mut last) = (Vec::new(), None);
        for (shard, namespace, workflow, run, data, encoding, state, state_encoding, next_event) in rows {
            let namespace = Uuid::from_slice(&namespace).unwrap_or_default();
            let key = RunKey { shard, namespace, workflow, run: Uuid::from_slice(&run).unwrap_or_default() };
            let info = readable(&encoding).then(|| WorkflowExecutionInfo::of(&data).ok()).flatten();
            let state = readable(&state_encoding).then(|| WorkflowExecutionState::decode(&*state).ok()).flatten();
            last = Some(key.clone());
            let (Some(info), Some(state)) = (info, state) else { continue };
            let is_open = match life(state.state) {
                ExecutionState::Open => true,
                ExecutionState::Closed => false,
                ExecutionState::Hidden => continue,
            };
            if info.has_history() {
                let closed = info.close_time.and_then(|time| time.instant());
                runs.push(StoredRun { key, is_open, status: state.status, last_event: next_event - 1, closed });
            }
        }
        Ok((runs, last))
    }
}
