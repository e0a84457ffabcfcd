//! Whether `history.visibilityProcessorEnableCloseWorkflowCleanup` is, or was, on.
//!
//! The server's dynamic configuration cannot be asked for. Its effect can be seen: a closed run whose memo and search
//! attributes were moved out of `executions` says so there (`relocatable_attributes_removed`). Temporal then reads them
//! from the document, by its id through the one name, which an alias of several indices does not allow.

use serde_json::json;
use uuid::Uuid;

use crate::clients::persistence::{Persistence, RunKey};
use crate::clients::search::{Hit, Scan, Search, SearchError};
use crate::failure::chain;

/// At most so many closed runs are looked at, per shard of the index the oldest and the newest.
const SAMPLE: usize = 100;
/// The newest are looked for among so many writes at the end of a shard.
const TAIL: u64 = 2_000;

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleanup {
    /// No run looked at was cleaned up.
    NotSeen {
        /// Runs looked at.
        looked: usize,
    },
    /// A run was.
    Seen {
        /// Its workflow.
        workflow: String,
    },
    /// It could not be seen.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Looks at closed runs of the index in Temporal's table.
///
/// # Errors
/// Any [`SearchError`]; what keeps the table from being read is [`Cleanup::Unknown`].
pub async fn look(search: &Search, index: &str, persistence: &Persistence) -> Result<Cleanup, SearchError> {
    let keys = sample(search, index).await?;
    if keys.is_empty() {
        return Ok(Cleanup::NotSeen { looked: 0 });
    }
    let details = async { persistence.connect().await?.details(&keys).await };
    match details.await {
        Ok(details) => {
            let cleaned = details.iter().find(|detail| detail.attributes_removed);
            Ok(match cleaned {
                Some(detail) => Cleanup::Seen { workflow: detail.key.workflow.clone() },
                None => Cleanup::NotSeen { looked: details.len() },
            })
        }
        Err(error) => Ok(Cleanup::Unknown { reason: chain(&error) }),
    }
}

async fn sample(search: &Search, index: &str) -> Result<Vec<RunKey>, SearchError> {
    let shards = search.checkpoints(index).await?.remove(index).unwrap_or_default();
    let mut keys = Vec::new();
    for (shard, next) in shards.into_iter().enumerate() {
        let filter = || json!({"exists": {"field": "CloseTime"}});
        let fields = &["NamespaceId", "WorkflowId", "RunId", "VisibilityTaskKey"][..];
        let scan = |from, size| Scan { shard, filter: filter(), from, below: None, size, fields, source: false };
        let oldest = search.scan(index, &scan(0, SAMPLE)).await?;
        let newest =
            search.scan(index, &scan(next.saturating_sub(TAIL), usize::try_from(TAIL).unwrap_or(SAMPLE))).await?;
        let newest = newest.iter().rev().take(SAMPLE);
        keys.extend(oldest.iter().chain(newest).filter_map(key));
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}

/// The run of a document; `VisibilityTaskKey` is the history shard, `~` and the task.
fn key(hit: &Hit) -> Option<RunKey> {
    let text = |field: &str| hit.fields.get(field)?.as_str();
    let (shard, _) = text("VisibilityTaskKey")?.split_once('~')?;
    Some(RunKey {
        shard: shard.parse().ok()?,
        namespace: Uuid::parse_str(text("NamespaceId")?).ok()?,
        workflow: text("WorkflowId")?.to_owned(),
        run: Uuid::parse_str(text("RunId")?).ok()?,
    })
}
