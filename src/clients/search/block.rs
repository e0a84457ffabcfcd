//! The write block of an index: whether it is in force, putting it on, taking it off.
//!
//! `PUT <index>/_block/write` works in two steps. The first sets the index's setting and puts a block with an id of its
//! own into the cluster's state; the second replaces that by the ordinary block once the writes under way are over. The
//! setting does not touch the block of the first step: set to null it takes off the ordinary one only, and a block that
//! was begun stays for good when its second step never came, as after a shard that did not answer in time. So the state
//! says what is in force, not the setting, and what was begun has to be finished before it can be taken off.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::engine::{Engine, Product, Version};
use super::error::SearchError;
use super::transport::{Call, Search, segment};

/// The id that every engine gives the write block in the cluster's state.
const WRITE: &str = "8";

/// Whether writes to an index are blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBlock {
    /// They are not.
    Off,
    /// They are, by a block that was begun and not finished: setting it to null does not take it off.
    Begun,
    /// They are.
    On,
}

/// What decides about the block of one index, all as of the same instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockState {
    /// The index's identity.
    pub uuid: String,
    /// Its aliases.
    pub aliases: BTreeSet<String>,
    /// Its write block.
    pub write: WriteBlock,
}

impl BlockState {
    /// `None` when the state knows no index of this name.
    fn read(state: &Value, index: &str) -> Option<Self> {
        let metadata = state["metadata"]["indices"].get(index)?;
        let aliases = metadata["aliases"].as_array().into_iter().flatten();
        let set = &metadata["settings"]["index"]["blocks"]["write"];
        let write = match state["blocks"]["indices"][index].get(WRITE) {
            Some(block) if block["uuid"].is_string() => WriteBlock::Begun,
            Some(_) => WriteBlock::On,
            None if *set == "true" || *set == true => WriteBlock::On,
            None => WriteBlock::Off,
        };
        Some(Self {
            uuid: metadata["settings"]["index"]["uuid"].as_str()?.to_owned(),
            aliases: aliases.filter_map(Value::as_str).map(str::to_owned).collect(),
            write,
        })
    }
}

impl Engine {
    /// True where `PUT <index>/_block/write` waits for the writes under way: Elasticsearch from 7.9 on, every
    /// OpenSearch.
    #[must_use]
    pub fn has_block_call(&self) -> bool {
        self.product == Product::OpenSearch || self.version >= Version { major: 7, minor: 9 }
    }
}

impl Search {
    /// The write block of the index of this very name; `None` when there is no such index, which an alias is not.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn block_state(&self, index: &str) -> Result<Option<BlockState>, SearchError> {
        // The blocks of other indices are in every engine's answer; what is asked for is picked by its name.
        let fields = [
            "metadata.indices.*.aliases",
            "metadata.indices.*.settings.index.uuid",
            "metadata.indices.*.settings.index.blocks",
            "blocks.indices.*.8",
        ];
        let call = Call::get(format!("/_cluster/state/metadata,blocks/{}", segment(index)))
            .query("expand_wildcards", "all")
            .query("filter_path", fields.join(","));
        match self.call(call).await {
            Ok(state) => Ok(BlockState::read(&state, index)),
            Err(SearchError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forbids writes to one index; the name may be an alias of it, without which the call then fails. When it returns,
    /// no write that was under way is still to come, unless the engine cannot tell (then [`Self::writes_are_over`]
    /// can). Never sent twice: the second might come after the block was taken off.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn block_writes(&self, name: &str) -> Result<(), SearchError> {
        if self.engine().has_block_call() {
            let call = Call::put_empty(format!("/{}/_block/write", segment(name))).once();
            let what = call.to_string();
            let body = self.call(call).await?;
            if body["acknowledged"] == true {
                return Ok(());
            }
            // A shard did not say that its writes are over.
            Err(SearchError::Malformed { call: what, cause: "the block is not acknowledged by every shard".into() })
        } else {
            self.set_write_block(name, json!(true)).await
        }
    }

    /// Goes on with a block that was begun, for so long at most; true when it is finished.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn finish_write_block(&self, name: &str, limit: Duration) -> Result<bool, SearchError> {
        let call = Call::put_empty(format!("/{}/_block/write", segment(name)));
        let call = call.query("timeout", format!("{}ms", limit.as_millis().max(1))).once();
        Ok(self.call(call).await?["acknowledged"] == true)
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

    /// Allows writes again; the name may be an alias of the index, without which the call then fails. Never sent twice:
    /// the second might take off a later block.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn lift_write_block(&self, name: &str) -> Result<(), SearchError> {
        self.set_write_block(name, Value::Null).await
    }

    async fn set_write_block(&self, name: &str, value: Value) -> Result<(), SearchError> {
        let body = json!({ "index.blocks.write": value });
        self.call(Call::put(format!("/{}/_settings", segment(name)), body).once()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_says_whether_writes_are_blocked() {
        let check = |setting: Value, block: Value, expect: WriteBlock| {
            let state = json!({
                "metadata": {"indices": {
                    "x": {"aliases": ["a"], "settings": {"index": {"uuid": "u", "blocks": {"write": setting}}}},
                }},
                "blocks": {"indices": {"x": {"8": block}, "y": {"8": {}}}},
            });
            let mut state = state;
            if state["blocks"]["indices"]["x"]["8"].is_null() {
                state["blocks"]["indices"].as_object_mut().unwrap().remove("x");
            }
            let read = BlockState::read(&state, "x").unwrap();
            assert_eq!((read.write, read.uuid.as_str()), (expect, "u"), "{state}");
            assert_eq!(read.aliases, BTreeSet::from(["a".to_owned()]));
            assert_eq!(BlockState::read(&state, "y"), None, "the blocks of others are in the answer too");
        };
        let begun = json!({"uuid": "b", "description": "moving to block index write (api)"});
        check(Value::Null, Value::Null, WriteBlock::Off);
        check(json!("false"), Value::Null, WriteBlock::Off);
        check(json!("true"), json!({"levels": ["write"]}), WriteBlock::On);
        check(json!("true"), begun.clone(), WriteBlock::Begun);
        check(Value::Null, begun, WriteBlock::Begun);
        check(Value::Null, json!({"levels": ["write"]}), WriteBlock::On);
        check(json!("true"), Value::Null, WriteBlock::On);
    }
}
