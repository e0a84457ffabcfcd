//! How far each shard has been written: every write gets the next number of its shard.

use std::collections::BTreeMap;

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

    async fn sequence(&self, name: &str, field: &str) -> Result<BTreeMap<String, Vec<u64>>, SearchError> {
        let path = format!("_shards.failed,indices.*.shards.*.routing.primary,indices.*.shards.*.seq_no.{field}");
        let call = Call::get(format!("/{}/_stats", segment(name))).query("level", "shards").query("filter_path", path);
        let body = self.call(call).await?;
        self.all_shards(&body, name)?;
        let mut all = BTreeMap::new();
        for (index, entry) in entries(&body["indices"]) {
            let shards = entries(&entry["shards"]).filter_map(|(number, copies)| {
                let primary = copies.as_array()?.iter().find(|copy| copy["routing"]["primary"] == true)?;
                // -1 stands for a shard that never took a write.
                let next = primary["seq_no"][field].as_i64()?.checked_add(1)?;
                Some((number.parse::<usize>().ok()?, u64::try_from(next).ok()?))
            });
            let by_number: BTreeMap<usize, u64> = shards.collect();
            // A shard without a primary is not in the answer, and those after it must not be taken for it.
            if let Some((shard, _)) = by_number.keys().enumerate().find(|(place, number)| place != *number) {
                let reason = format!("shard {shard} of {index} has no primary");
                return Err(SearchError::Red { address: self.address().to_owned(), reason });
            }
            all.insert(index.clone(), by_number.into_values().collect());
        }
        Ok(all)
    }
}
