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
    /// Where to go on after a run in which the engine refused single documents: what was written is looked at again, and
    /// the round through all the rest goes on, or one such document would keep it at its place for ever.
    #[must_use]
    pub fn after_refusals(mut self, before: &Self) -> Self {
        for (uuid, marks) in &mut self.indices {
            let old = before.indices.get(uuid).cloned().unwrap_or_default();
            (marks.written, marks.late) = (old.written, old.late);
        }
        self
    }

    /// Forgets the indices that are gone.
    pub(super) fn keep(&mut self, uuids: &[&str]) {
        self.indices.retain(|uuid, _| uuids.contains(&uuid.as_str()));
        if self.sweep.as_ref().is_some_and(|uuid| !uuids.contains(&uuid.as_str())) {
            self.sweep = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_refusals_the_round_goes_on_and_what_was_written_is_looked_at_again() {
        let marks = |written, swept| Marks { written: vec![written], late: vec![], swept: vec![swept] };
        let with =
            |index: &str, marks| Bookmarks { indices: [(index.to_owned(), marks)].into(), ..Bookmarks::default() };
        let after = with("a", marks(9, 5)).after_refusals(&with("a", marks(3, 2)));
        assert_eq!(after, with("a", marks(3, 5)));
        let new = with("b", marks(9, 5)).after_refusals(&Bookmarks::default());
        assert_eq!(new, with("b", Marks { swept: vec![5], ..Marks::default() }));
    }
}
