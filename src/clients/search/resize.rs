//! Clones, and what is read of indices before one is cloned.

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

    /// The copies of one index's shards.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn shard_copies(&self, index: &str) -> Result<ShardCopies, SearchError> {
        let call = Call::get(format!("/_cluster/health/{}", segment(index))).query("timeout", "5s");
        let what = call.to_string();
        let body = self.call(call).await?;
        // A number that is not there must not pass for none missing.
        let number = |field: &str| {
            let malformed = || SearchError::Malformed { call: what.clone(), cause: format!("no {field}") };
            body[field].as_u64().ok_or_else(malformed)
        };
        Ok(ShardCopies {
            active: number("active_shards")?,
            missing: number("unassigned_shards")?.saturating_add(number("initializing_shards")?),
        })
    }

    /// True when the engine can make the removal of an alias fail where there is no such alias (`must_exist`). Asked
    /// with such a removal beside an action that changes nothing and succeeds, the addition of an alias that the index
    /// has: an engine that passes over the flag then acknowledges the call.
    ///
    /// # Errors
    /// Any [`SearchError`] but the one that says it cannot.
    pub async fn has_must_exist(&self, index: &str, alias: &str) -> Result<bool, SearchError> {
        let nothing = json!([
            {"add": {"index": index, "alias": alias}},
            {"remove": {"index": index, "alias": "sexton-no-such-alias", "must_exist": true}},
        ]);
        match self.update_aliases(nothing).await {
            Err(SearchError::NotFound { .. }) => Ok(true),
            Ok(()) | Err(SearchError::Unexpected { status: 400, .. }) => Ok(false),
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
