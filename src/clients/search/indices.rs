//! Indices, aliases, mappings, counts and the rollover.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::SearchError;
use super::transport::{Call, Search, segment};
use crate::units::{Size, Span};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// An alias and its members.
    Alias(Alias),
    /// An index of that very name.
    Concrete,
    /// Nothing.
    Missing,
}

/// An alias and the indices behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Its name.
    pub name: String,
    /// Its members by index name.
    pub members: BTreeMap<String, AliasMember>,
}

/// What the alias says of one of its indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasMember {
    /// `is_write_index`; `None` where it was never said.
    pub write: Option<bool>,
    /// True when a filter or a routing makes searches through the alias miss documents of the index.
    pub narrowed: bool,
}

/// Health of an index's shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every shard is allocated.
    Green,
    /// Every primary is allocated.
    Yellow,
    /// A primary is missing.
    Red,
}

/// What an engine's metadata says of one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFacts {
    /// Its name.
    pub name: String,
    /// Its identity: another index of the same name has another one.
    pub uuid: String,
    /// When it was created.
    pub created: Timestamp,
    /// False when it is closed.
    pub open: bool,
    /// Per alias, when it was rolled over (not shown by Elasticsearch 6).
    pub rolled: BTreeMap<String, Timestamp>,
    /// The ILM policy it names.
    pub lifecycle: Option<String>,
    /// The alias ILM or ISM rolls it under.
    pub rollover_alias: Option<String>,
    /// Its shards.
    pub shards: usize,
    /// The blocks that are set on it: `write`, `read_only`, `read_only_allow_delete`, `metadata`, `read`.
    pub blocks: Vec<String>,
}

/// Conditions of a rollover; any one suffices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RolloverConditions {
    /// Time since the write index was created.
    pub max_age: Span,
    /// Size of its primary shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Documents in its primary shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_docs: Option<u64>,
}

/// What the engine says to a rollover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloverAnswer {
    /// The write index before.
    pub from: String,
    /// The write index after.
    pub to: String,
    /// True when it happened; false in a dry run and when no condition is met.
    pub rolled: bool,
    /// The conditions that are met, as the engine writes them.
    pub met: Vec<String>,
}

impl Search {
    /// What the name stands for.
    ///
    /// # Errors
    /// Any [`SearchError`]; a missing name is [`Resolved::Missing`].
    pub async fn resolve(&self, name: &str) -> Result<Resolved, SearchError> {
        match self.call(Call::get(format!("/_alias/{}", segment(name)))).await {
            Ok(body) => {
                let members = entries(&body).map(|(index, entry)| {
                    let said = &entry["aliases"][name];
                    let narrowed = ["filter", "search_routing"].iter().any(|key| !said[key].is_null());
                    (index.clone(), AliasMember { write: said["is_write_index"].as_bool(), narrowed })
                });
                Ok(Resolved::Alias(Alias { name: name.to_owned(), members: members.collect() }))
            }
            Err(SearchError::NotFound { .. }) => match self.call(Call::get(format!("/{}", segment(name)))).await {
                Ok(_) => Ok(Resolved::Concrete),
                Err(SearchError::NotFound { .. }) => Ok(Resolved::Missing),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// What the engine's metadata says of every index that the name stands for, closed ones too, oldest first.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn index_facts(&self, name: &str) -> Result<Vec<IndexFacts>, SearchError> {
        let fields = ["state", "settings.index", "rollover_info"].map(|field| format!("metadata.indices.*.{field}"));
        let call = Call::get(format!("/_cluster/state/metadata/{}", segment(name)))
            .query("expand_wildcards", "all")
            .query("filter_path", fields.join(","));
        let what = call.to_string();
        let body = self.call(call).await?;
        let mut facts = Vec::new();
        for (index, entry) in entries(&body["metadata"]["indices"]) {
            let malformed =
                |field: &str| SearchError::Malformed { call: what.clone(), cause: format!("{index} has no {field}") };
            let settings = &entry["settings"]["index"];
            let text = |pointer: &str| settings.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let created = millis(&settings["creation_date"]).ok_or_else(|| malformed("creation_date"))?;
            let rolled = entries(&entry["rollover_info"])
                .filter_map(|(alias, info)| Some((alias.clone(), millis(&info["time"])?)))
                .collect();
            facts.push(IndexFacts {
                name: index.clone(),
                uuid: text("/uuid").ok_or_else(|| malformed("uuid"))?,
                created,
                open: entry["state"] != "close",
                rolled,
                lifecycle: text("/lifecycle/name"),
                rollover_alias: text("/lifecycle/rollover_alias")
                    .or_else(|| text("/plugins/index_state_management/rollover_alias")),
                shards: text("/number_of_shards").and_then(|shards| shards.parse().ok()).unwrap_or(1),
                blocks: entries(&settings["blocks"])
                    .filter(|(_, set)| **set == "true" || **set == true)
                    .map(|(name, _)| name.clone())
                    .collect(),
            });
        }
        // By the number that a rollover counts up, where each has one: an adoption makes the second index before the first.
        let number = |facts: &IndexFacts| facts.name.rsplit('-').next().and_then(|last| last.parse::<u64>().ok());
        let numbered = facts.iter().all(|facts| number(facts).is_some());
        facts.sort_by_key(|facts| (number(facts).filter(|_| numbered), facts.created, facts.name.clone()));
        Ok(facts)
    }

    /// Health per index behind the name. On some engines closed indices are not in it.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn health(&self, name: &str) -> Result<BTreeMap<String, Health>, SearchError> {
        let call = Call::get(format!("/_cluster/health/{}", segment(name))).query("level", "indices");
        let body = self.call(call.query("timeout", "5s")).await?;
        let healths = entries(&body["indices"]).map(|(index, entry)| {
            let health = match entry["status"].as_str() {
                Some("green") => Health::Green,
                Some("yellow") => Health::Yellow,
                _ => Health::Red,
            };
            (index.clone(), health)
        });
        Ok(healths.collect())
    }

    /// Documents and bytes of the primary shards, per open index behind the name.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn sizes(&self, name: &str) -> Result<BTreeMap<String, (u64, u64)>, SearchError> {
        let body = self.call(Call::get(format!("/{}/_stats/docs,store", segment(name)))).await?;
        let sizes = entries(&body["indices"]).map(|(index, entry)| {
            let primaries = &entry["primaries"];
            let docs = primaries["docs"]["count"].as_u64().unwrap_or(0);
            (index.clone(), (docs, primaries["store"]["size_in_bytes"].as_u64().unwrap_or(0)))
        });
        Ok(sizes.collect())
    }

    /// How many documents behind the name match the query. Only an answer of all shards counts.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Red`] when a shard did not answer.
    pub async fn count(&self, name: &str, query: Value) -> Result<u64, SearchError> {
        let call = Call::post(format!("/{}/_count", segment(name)), Some(json!({ "query": query }))).repeatable();
        let what = call.to_string();
        let body = self.call(call).await?;
        let shards = &body["_shards"];
        if shards["failed"].as_u64() != Some(0) || shards["successful"] != shards["total"] {
            return Err(SearchError::Red {
                address: self.address().to_owned(),
                reason: format!("a shard of {name} did not answer a count"),
            });
        }
        body["count"].as_u64().ok_or_else(|| SearchError::Malformed { call: what, cause: "no count".into() })
    }

    /// How many documents behind the name have each value of a keyword field; at most `size` values, the most
    /// frequent ones.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn terms(&self, name: &str, field: &str, size: usize) -> Result<BTreeMap<String, u64>, SearchError> {
        let body = json!({"size": 0, "aggs": {"by": {"terms": {"field": field, "size": size}}}});
        let answer = self.call(Call::post(format!("/{}/_search", segment(name)), Some(body)).repeatable()).await?;
        let buckets = answer["aggregations"]["by"]["buckets"].as_array().into_iter().flatten();
        Ok(buckets.filter_map(|b| Some((b["key"].as_str()?.to_owned(), b["doc_count"].as_u64()?))).collect())
    }

    /// Makes every acknowledged write visible to searches.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn refresh(&self, index: &str) -> Result<(), SearchError> {
        let body = self.call(Call::post(format!("/{}/_refresh", segment(index)), None).repeatable()).await?;
        self.all_shards(&body, index)
    }

    /// That no shard failed to answer. Copies that are not allocated were not asked.
    pub(super) fn all_shards(&self, body: &Value, name: &str) -> Result<(), SearchError> {
        if body["_shards"]["failed"].as_u64() == Some(0) {
            return Ok(());
        }
        let reason = format!("a shard of {name} did not answer");
        Err(SearchError::Red { address: self.address().to_owned(), reason })
    }

    /// The mapping of every index behind the name, without type names.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn mappings(&self, name: &str) -> Result<BTreeMap<String, Value>, SearchError> {
        let body = self.call(self.typeless(Call::get(format!("/{}/_mapping", segment(name))))).await?;
        Ok(entries(&body).map(|(index, entry)| (index.clone(), entry["mappings"].clone())).collect())
    }

    /// Adds fields to the mapping of an index.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn add_fields(&self, index: &str, properties: &Map<String, Value>) -> Result<(), SearchError> {
        self.put_mapping(index, json!({ "properties": properties })).await
    }

    /// Puts parts of a mapping there: fields are added, `_meta` is replaced as a whole.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn put_mapping(&self, index: &str, body: Value) -> Result<(), SearchError> {
        self.call(self.typeless(Call::put(format!("/{}/_mapping", segment(index)), body))).await.map(drop)
    }

    /// Creates an index with the given body (settings, mappings, aliases).
    ///
    /// # Errors
    /// Any [`SearchError`]; an index that exists is [`SearchError::Unexpected`].
    pub async fn create_index(&self, index: &str, body: Value) -> Result<(), SearchError> {
        self.call(self.typeless(Call::put(format!("/{}", segment(index)), body)).once()).await.map(drop)
    }

    /// Sets settings of one index.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn set_settings(&self, index: &str, settings: Value) -> Result<(), SearchError> {
        self.call(Call::put(format!("/{}/_settings", segment(index)), settings)).await.map(drop)
    }

    /// Deletes exactly one index.
    ///
    /// # Errors
    /// Any [`SearchError`]. An alias or a wildcard is refused here already, before it reaches the engine.
    pub async fn delete_index(&self, index: &str) -> Result<(), SearchError> {
        if index.is_empty() || index.starts_with(['_', '-', '+', '.']) || index.contains(['*', '?', ',', ' ', '/', '<'])
        {
            return Err(SearchError::Settings(format!("`{index}` is not the name of one index to delete")));
        }
        self.call(Call::delete(format!("/{}", segment(index)))).await.map(drop)
    }

    /// Applies actions on aliases, all or none (`POST _aliases`).
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn update_aliases(&self, actions: Value) -> Result<(), SearchError> {
        self.call(Call::post("/_aliases", Some(json!({ "actions": actions })))).await.map(drop)
    }

    /// What a rollover would do; writes nothing.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn rollover_dry_run(
        &self,
        alias: &str,
        conditions: &RolloverConditions,
    ) -> Result<RolloverAnswer, SearchError> {
        let call = Call::post(format!("/{}/_rollover", segment(alias)), Some(json!({ "conditions": conditions })));
        self.rollover_call(self.typeless(call.query("dry_run", "true")).repeatable()).await
    }

    /// Rolls the alias over if a condition is met; the new index gets the mappings on top of its templates.
    /// Elasticsearch 6 ignores mappings without a type here: there only the templates count.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn rollover(
        &self,
        alias: &str,
        conditions: &RolloverConditions,
        mappings: &Value,
    ) -> Result<RolloverAnswer, SearchError> {
        let body = json!({ "conditions": conditions, "mappings": mappings });
        let call = Call::post(format!("/{}/_rollover", segment(alias)), Some(body));
        self.rollover_call(self.typeless(call)).await
    }

    async fn rollover_call(&self, call: Call) -> Result<RolloverAnswer, SearchError> {
        let malformed = SearchError::Malformed { call: call.to_string(), cause: "no old_index and new_index".into() };
        let body = self.call(call).await?;
        let (Some(from), Some(to)) = (body["old_index"].as_str(), body["new_index"].as_str()) else {
            return Err(malformed);
        };
        let met = entries(&body["conditions"]).filter(|(_, met)| **met == true).map(|(name, _)| name.clone()).collect();
        let rolled = body["rolled_over"] == true;
        Ok(RolloverAnswer { from: from.to_owned(), to: to.to_owned(), rolled, met })
    }

    /// The same call, asking Elasticsearch 6 for mappings without type names.
    pub(super) fn typeless(&self, call: Call) -> Call {
        if self.engine().has_types() { call.query("include_type_name", "false") } else { call }
    }
}

/// The entries of an object; none when it is something else.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// An instant from milliseconds since 1970, as a number or a text.
pub(super) fn millis(value: &Value) -> Option<Timestamp> {
    let millis = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
    Timestamp::from_millisecond(millis).ok()
}
