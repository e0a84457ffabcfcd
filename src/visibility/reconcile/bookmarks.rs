//! How far earlier runs have looked, kept in the ledger between two runs. Losing them costs time and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clients::persistence::RunKey;

/// How far earlier runs have looked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bookmarks {
    /// Per index, by its identity.
    pub indices: BTreeMap<String, Marks>,
    /// The index in which the search for ghosts goes on, by its identity.
    pub sweep: Option<String>,
    /// The run after which the search for missing documents goes on.
    pub executions: Option<RunKey>,
}

/// How far one index has been looked at: per shard, the first sequence number not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// For documents of which another index holds one too.
    pub written: Vec<u64>,
    /// Where the first look ended: what was written to an old index later came to it in spite of its rollover.
    pub late: Vec<u64>,
    /// For ghosts.
    pub swept: Vec<u64>,
}

impl Bookmarks {
    /// Forgets the indices that are gone.
    pub(super) fn keep(&mut self, uuids: &[&str]) {
        self.indices.retain(|uuid, _| uuids.contains(&uuid.as_str()));
        if self.sweep.as_ref().is_some_and(|uuid| !uuids.contains(&uuid.as_str())) {
            self.sweep = None;
        }
    }
}
