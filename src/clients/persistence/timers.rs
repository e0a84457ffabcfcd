//! `timer_tasks`: among them, for each closed run, the timer with which Temporal deletes it.

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::executions::readable;
use super::messages::TimerTaskInfo;
use super::{RunKey, Session};
use crate::clients::postgres::{Fields, PostgresError};

/// `TASK_TYPE_DELETE_HISTORY_EVENT` of the server's enums.
const DELETE_HISTORY_EVENT: i32 = 16;

/// PostgreSQL counts microseconds from here.
const EPOCH: i64 = 946_684_800;

impl Session {
    /// Hands every deletion timer of a shard to `each`, or those that fire before an instant, with the instant at which
    /// it fires; returns how many timers of any kind there were. A run may have several: one that Temporal has derived anew stands beside the old one.
    ///
    /// # Errors
    /// When the query fails. The connection is of no use then.
    pub async fn deletion_timers(
        &mut self,
        shard: i32,
        before: Option<Timestamp>,
        mut each: impl FnMut(RunKey, Timestamp),
    ) -> Result<u64, PostgresError> {
        // The column has no time zone and holds UTC.
        let before = before.map_or_else(String::new, |before| {
            format!(" AND visibility_timestamp < to_timestamp({}) AT TIME ZONE 'UTC'", before.as_second())
        });
        let sql = format!(
            "SELECT visibility_timestamp, data, data_encoding FROM timer_tasks WHERE shard_id = {shard}{before}"
        );
        let row = |fields: &Fields<'_, 3>| {
            if let Some((key, fires)) = timer(shard, fields) {
                each(key, fires);
            }
        };
        self.copy_rows(&sql, "reading Temporal's timers", row).await
    }
}

fn timer(shard: i32, fields: &Fields<'_, 3>) -> Option<(RunKey, Timestamp)> {
    let task = readable(fields.text(2)).then(|| TimerTaskInfo::decode(fields.bytes(1)).ok()).flatten()?;
    if task.task_type != DELETE_HISTORY_EVENT {
        return None;
    }
    let micros = fields.int8(0);
    let fires = Timestamp::from_microsecond(micros.checked_add(EPOCH * 1_000_000)?).ok()?;
    let namespace = Uuid::parse_str(&task.namespace_id).ok()?;
    let run = Uuid::parse_str(&task.run_id).ok()?;
    Some((RunKey { shard, namespace, workflow: task.workflow_id, run }, fires))
}
