//! How far each shard has been written: every write gets the next number of its shard.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::SearchError;
use super::indices::entries;
use super::transport::{Call, Search, segment};

impl Search {
    /// Per index behind the name and per shard: the first sequence number that a later write may get. Every write
    /// of a lower one is on all copies of the shard, and seen by searches after a refresh.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn checkpoints(&self, name: &str) -> Result<BTreeMap<String, Vec<u64>>, SearchError> {
        self.sequence(name, "global_checkpoint").await
    }

    /// The same for writes that may not be on every copy, or not on disk yet: the number after the highest given.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn numbers_given(&self, name: &str) -> Result<BTreeMap<String, Vec<u64>>, SearchError> {
        self.sequence(name, "max_seq_no").await
    }

    /// True when no primary of the index was ever started, so that nothing can have been written to it.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn never_started(&self, index: &str) -> Result<bool, SearchError> {
        let call = Call::get(format!("/_cluster/state/metadata/{}", segment(index)))
            .query("filter_path", "metadata.indices.*.in_sync_allocations");
        let body = self.call(call).await?;
        let shards = body["metadata"]["indices"][index]["in_sync_allocations"].as_object();
        Ok(shards.is_some_and(|shards| shards.values().all(|copies| copies.as_array().is_some_and(Vec::is_empty))))
    }

    async fn sequence(&self, name: &str, field: &str) -> Result<BTreeMap<String, Vec<u64>>, SearchError> {
        let call = Call::get(format!("/{}/_settings/index.number_of_shards", segment(name)));
        let settings = self.call(call.query("flat_settings", "true")).await?;
        let number = |entry: &Value| entry["settings"]["index.number_of_shards"].as_str()?.parse().ok();
        let expected = entries(&settings).filter_map(|(index, entry)| Some((index.clone(), number(entry)?)));
        let expected: BTreeMap<String, usize> = expected.collect();
        let path = format!("_shards.failed,indices.*.shards.*.routing.primary,indices.*.shards.*.seq_no.{field}");
        let call = Call::get(format!("/{}/_stats", segment(name))).query("level", "shards").query("filter_path", path);
        let body = self.call(call).await?;
        self.all_shards(&body, name)?;
        let mut found: BTreeMap<String, BTreeMap<usize, u64>> = BTreeMap::new();
        for (index, entry) in entries(&body["indices"]) {
            let shards = entries(&entry["shards"]).filter_map(|(number, copies)| {
                let primary = copies.as_array()?.iter().find(|copy| copy["routing"]["primary"] == true)?;
                // -1 stands for a shard that never took a write.
                let next = primary["seq_no"][field].as_i64()?.checked_add(1)?;
                Some((number.parse::<usize>().ok()?, u64::try_from(next).ok()?))
            });
            found.insert(index.clone(), shards.collect());
        }
        // A shard without a primary is not in the answer, and those after it must not be taken for it.
        for index in expected.keys().chain(found.keys()) {
            let there = |shard: &usize| found.get(index).is_some_and(|numbers| numbers.contains_key(shard));
            let last = found.get(index).and_then(|numbers| numbers.keys().next_back());
            let shards = expected.get(index).copied().unwrap_or_else(|| last.map_or(0, |last| last + 1));
            if let Some(shard) = (0..shards).find(|shard| !there(shard)) {
                let reason = format!("shard {shard} of {index} has no primary");
                return Err(SearchError::Red { address: self.address().to_owned(), reason });
            }
        }
        Ok(found.into_iter().map(|(index, numbers)| (index, numbers.into_values().collect())).collect())
    }
}
