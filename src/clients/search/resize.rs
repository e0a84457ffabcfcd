//! Write blocks and clones, and what is read of indices before one is cloned.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::engine::{Engine, Product, Version};
use super::error::SearchError;
use super::indices::entries;
use super::transport::{Call, Search, segment};

/// An index as `GET <index>` shows it: metadata only, so that it is answered for closed and red ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDescription {
    /// Its aliases.
    pub aliases: BTreeSet<String>,
    /// Its settings by full name: `index.blocks.write`. Those set to nothing are left out.
    pub settings: BTreeMap<String, Value>,
    /// Its mapping, without a type name.
    pub mapping: Value,
}

impl IndexDescription {
    /// A setting as text; numbers and booleans in settings are texts in most engines.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// True when the block is on: `write`, `read_only`, `read_only_allow_delete`, `metadata`, `read`.
    #[must_use]
    pub fn blocks(&self, what: &str) -> bool {
        self.setting(&format!("index.blocks.{what}")).as_deref() == Some("true")
    }
}

/// How many copies of an index's shards are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardCopies {
    /// Started.
    pub active: u64,
    /// Not assigned to any node, or still being built.
    pub missing: u64,
}

impl Engine {
    /// True where an index can be cloned by hard links (`_clone`): Elasticsearch from 7.4 on, every OpenSearch.
    #[must_use]
    pub fn can_clone(&self) -> bool {
        self.product == Product::OpenSearch || self.version >= Version { major: 7, minor: 4 }
    }

    /// True where `PUT <index>/_block/write` waits for the writes under way: Elasticsearch from 7.9 on, every
    /// OpenSearch.
    fn has_block_call(&self) -> bool {
        self.product == Product::OpenSearch || self.version >= Version { major: 7, minor: 9 }
    }
}

impl Search {
    /// The index of this name and every index whose name begins with it and `-`, by name. An alias is no index: when
    /// the name is one, its members are in the answer.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::NotFound`] when nothing has the name itself.
    pub async fn describe_family(&self, name: &str) -> Result<BTreeMap<String, IndexDescription>, SearchError> {
        let call = Call::get(format!("/{0},{0}-*", segment(name)))
            .query("flat_settings", "true")
            .query("expand_wildcards", "all");
        let body = self.call(self.typeless(call)).await?;
        let described = entries(&body).map(|(index, entry)| {
            let settings = entries(&entry["settings"]).filter(|(_, value)| !value.is_null());
            let description = IndexDescription {
                aliases: entries(&entry["aliases"]).map(|(alias, _)| alias.clone()).collect(),
                settings: settings.map(|(key, value)| (key.clone(), value.clone())).collect(),
                mapping: entry["mappings"].clone(),
            };
            (index.clone(), description)
        });
        Ok(described.collect())
    }

    /// Forbids writes to one index. When it returns, no write that was under way is still to come, unless the engine
    /// cannot tell (then [`Self::writes_are_over`] can).
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn block_writes(&self, index: &str) -> Result<(), SearchError> {
        if self.engine().has_block_call() {
            let call = Call::put_empty(format!("/{}/_block/write", segment(index)));
            let what = call.to_string();
            let body = self.call(call).await?;
            if body["acknowledged"] == true {
                return Ok(());
            }
            // A shard did not say that its writes are over.
            Err(SearchError::Malformed { call: what, cause: "the block is not acknowledged by every shard".into() })
        } else {
            self.set_settings(index, json!({ "index.blocks.write": true })).await
        }
    }

    /// True when no write that began before the block is still under way. Engines without the block call are asked
    /// for a synced flush, which fails while there are any.
    ///
    /// # Errors
    /// Any [`SearchError`] but the one that says there are writes under way.
    pub async fn writes_are_over(&self, index: &str) -> Result<bool, SearchError> {
        if self.engine().has_block_call() {
            return Ok(true);
        }
        let call = Call::post(format!("/{}/_flush/synced", segment(index)), None).repeatable();
        match self.call(call).await {
            Ok(body) => Ok(body["_shards"]["failed"].as_u64() == Some(0)),
            Err(SearchError::Unexpected { status: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Allows writes again.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn lift_write_block(&self, index: &str) -> Result<(), SearchError> {
        self.set_settings(index, json!({ "index.blocks.write": null })).await
    }

    /// Writes what is in memory to disk.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn flush(&self, index: &str) -> Result<(), SearchError> {
        self.call(Call::post(format!("/{}/_flush", segment(index)), None).repeatable()).await.map(drop)
    }

    /// Clones an index whose writes are blocked; returns before the clone's shards are started.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn clone_index(
        &self,
        from: &str,
        to: &str,
        settings: Map<String, Value>,
        alias: &str,
    ) -> Result<(), SearchError> {
        let body = json!({ "settings": settings, "aliases": { alias: {} } });
        let call = Call::post(format!("/{}/_clone/{}", segment(from), segment(to)), Some(body));
        self.call(call.query("wait_for_active_shards", "0")).await.map(drop)
    }

    /// The highest sequence number of each shard, -1 for one that never took a write: the same twice means that
    /// nothing was written in between.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn highest_seq_nos(&self, index: &str) -> Result<BTreeMap<String, i64>, SearchError> {
        let call = Call::get(format!("/{}/_stats", segment(index)))
            .query("level", "shards")
            .query("filter_path", "indices.*.shards.*.routing.primary,indices.*.shards.*.seq_no.max_seq_no");
        let body = self.call(call).await?;
        let shards = entries(&body["indices"][index]["shards"]).filter_map(|(shard, copies)| {
            let primary = copies.as_array()?.iter().find(|copy| copy["routing"]["primary"] == true)?;
            Some((shard.clone(), primary["seq_no"]["max_seq_no"].as_i64()?))
        });
        Ok(shards.collect())
    }

    /// The copies of one index's shards.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn shard_copies(&self, index: &str) -> Result<ShardCopies, SearchError> {
        let call = Call::get(format!("/_cluster/health/{}", segment(index))).query("timeout", "5s");
        let body = self.call(call).await?;
        let number = |field: &str| body[field].as_u64().unwrap_or(0);
        Ok(ShardCopies {
            active: number("active_shards"),
            missing: number("unassigned_shards").saturating_add(number("initializing_shards")),
        })
    }

    /// True when the engine can make the removal of an alias fail where there is no such alias (`must_exist`). Asked
    /// with the removal of an alias that does not exist.
    ///
    /// # Errors
    /// Any [`SearchError`] but the one that says it cannot.
    pub async fn has_must_exist(&self, index: &str) -> Result<bool, SearchError> {
        let nothing = json!([{"remove": {"index": index, "alias": "sexton-no-such-alias", "must_exist": true}}]);
        match self.update_aliases(nothing).await {
            Ok(()) | Err(SearchError::NotFound { .. }) => Ok(true),
            Err(SearchError::Unexpected { status: 400, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_known_by_product_and_version() {
        let check = |product: Product, major, minor, can: bool| {
            let version = Version { major, minor };
            let engine = Engine { product, version, number: String::new(), cluster: String::new() };
            assert_eq!(engine.can_clone(), can, "{engine:?}");
        };
        check(Product::OpenSearch, 1, 0, true);
        check(Product::Elasticsearch, 6, 8, false);
        check(Product::Elasticsearch, 7, 3, false);
        check(Product::Elasticsearch, 7, 4, true);
        check(Product::Elasticsearch, 8, 0, true);
    }
}
