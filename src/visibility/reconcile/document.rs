//! What a document says of the run it stands for.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::clients::persistence::{RunKey, shard_of};
use crate::clients::search::{Hit, Row};

/// The fields that name a run. `VisibilityTaskKey` is `shard~taskId`.
pub(super) const KEY: [&str; 4] = ["NamespaceId", "WorkflowId", "RunId", "VisibilityTaskKey"];

/// Set once a run has ended; without it the run is open, whatever its status (a paused one is open too).
pub(super) const CLOSE_TIME: &str = "CloseTime";

/// The engines take ids of so many bytes.
const LONGEST_ID: usize = 512;

/// What is asked of every document that is looked at: who it is, and whether its run has ended. All of it is in
/// columns, unlike `VisibilityTaskKey`, which no mapping of Temporal's has.
pub(super) const COLUMNS: [&str; 4] = ["WorkflowId", "RunId", "NamespaceId", CLOSE_TIME];

/// A document as the look sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// The place of its index among the members.
    pub member: usize,
    /// The id that Temporal gives the document of this run.
    pub id: String,
    pub version: u64,
    pub seq_no: u64,
    /// True once it says that its run has ended.
    pub closed: bool,
    namespace: Option<Uuid>,
    workflow: String,
    /// The run's id, as the document has it.
    pub run: String,
}

impl Listed {
    /// Read from [`COLUMNS`]; `None` when it names no run.
    pub(super) fn read(member: usize, row: Row) -> Option<Self> {
        let mut values = row.values.into_iter();
        let (workflow, run) = (values.next()??, values.next()??);
        let namespace = values.next()?.and_then(|text| Uuid::parse_str(&text).ok());
        let closed = values.next()?.is_some();
        let id = id_of(&workflow, &run);
        Some(Self { member, id, version: row.version, seq_no: row.seq_no, closed, namespace, workflow, run })
    }

    /// The run, if it lies in the shard that it should lie in. Only the document itself says in which it does.
    pub(super) fn likely_run(&self, shards: u32) -> Option<RunKey> {
        let (namespace, workflow) = (self.namespace?, self.workflow.clone());
        let shard = shard_of(namespace, &workflow, shards);
        Some(RunKey { shard, namespace, workflow, run: Uuid::parse_str(&self.run).ok()? })
    }
}

/// The run a document stands for; `None` when it is no document of Temporal's.
pub(super) fn run_of(hit: &Hit) -> Option<RunKey> {
    key(&hit.fields)
}

fn key(fields: &BTreeMap<String, Value>) -> Option<RunKey> {
    let text = |name: &str| fields.get(name)?.as_str();
    let (shard, task) = text("VisibilityTaskKey")?.split_once('~')?;
    task.parse::<u64>().ok()?;
    Some(RunKey {
        shard: shard.parse().ok()?,
        namespace: Uuid::parse_str(text("NamespaceId")?).ok()?,
        workflow: text("WorkflowId")?.to_owned(),
        run: Uuid::parse_str(text("RunId")?).ok()?,
    })
}

/// The id Temporal gives the document of a run: `workflow~run`, the workflow's id cut at a character so that the whole
/// has at most 512 bytes (`GetDocID` in the server's source).
pub(super) fn document_id(key: &RunKey) -> String {
    id_of(&key.workflow, &key.run.to_string())
}

fn id_of(workflow: &str, run: &str) -> String {
    let mut end = workflow.len().min(LONGEST_ID.saturating_sub(run.len() + 1));
    while !workflow.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{run}", &workflow[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn a_key_is_read_from_the_fields_or_not_at_all() {
        let fields = |task: Value, run: Value| {
            BTreeMap::from([
                ("NamespaceId".to_owned(), json!(ID)),
                ("WorkflowId".to_owned(), json!("order~1")),
                ("RunId".to_owned(), run),
                ("VisibilityTaskKey".to_owned(), task),
            ])
        };
        let found = key(&fields(json!("3~1048577"), json!(ID))).unwrap();
        assert_eq!((found.shard, found.workflow.as_str()), (3, "order~1"));
        for task in [json!("3"), json!("x~1"), json!("3~x"), json!(7), json!("")] {
            assert_eq!(key(&fields(task, json!(ID))), None);
        }
        assert_eq!(key(&fields(json!("3~1"), json!("not-a-run"))), None);
        assert_eq!(key(&BTreeMap::new()), None);
    }

    #[test]
    fn long_workflow_ids_are_cut_at_a_character() {
        let id =
            |workflow: String| document_id(&RunKey { shard: 1, namespace: Uuid::nil(), workflow, run: Uuid::nil() });
        let run = Uuid::nil().to_string();
        assert_eq!(id("w".into()), format!("w~{run}"));
        assert_eq!(id("w".repeat(475)).len(), 512);
        assert_eq!(id("w".repeat(476)).len(), 512);
        // 237 characters of two bytes are 474, one more would be 476.
        assert_eq!(id("é".repeat(300)), format!("{}~{run}", "é".repeat(237)));
    }
}
