//! Documents: read in the order in which a shard wrote them, and found by id.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::error::SearchError;
use super::pick::pick;
use super::transport::{Call, Search, segment};

/// The engines give at most so many documents in one answer (`index.max_result_window`, unless it was changed).
pub const PAGE: usize = 10_000;

/// A document as a search finds it.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The index it is in.
    pub index: String,
    /// Its id.
    pub id: String,
    /// Its version: the task id of the write, in Temporal's indices.
    pub version: u64,
    /// Its place in the order of its shard's writes; each shard counts by itself.
    pub seq_no: u64,
    /// The top-level fields asked for, as they are in the document; fields without a value are not in it.
    pub fields: BTreeMap<String, Value>,
    /// The document, when it was asked for.
    pub source: Option<Box<RawValue>>,
}

/// Which documents of one shard are read.
#[derive(Debug, Clone)]
pub struct Scan<'a> {
    /// The shard, from 0.
    pub shard: usize,
    /// A query; `{"match_all": {}}` for every document.
    pub filter: Value,
    /// The first sequence number to read.
    pub from: u64,
    /// The sequence number to stop before.
    pub below: Option<u64>,
    /// At most so many documents; at most [`PAGE`].
    pub size: usize,
    /// Top-level fields to give with each, whether the mapping knows them or not.
    pub fields: &'a [&'a str],
    /// Whether to give the documents themselves.
    pub source: bool,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits<T>,
    timed_out: bool,
}

#[derive(Deserialize)]
struct Shards {
    total: u64,
    successful: u64,
    failed: u64,
}

#[derive(Deserialize)]
struct Hits<T> {
    hits: Vec<T>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "_index")]
    index: String,
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(rename = "_seq_no")]
    seq_no: Option<u64>,
    #[serde(rename = "_source")]
    source: Option<Box<RawValue>>,
    /// False in the answer to a get that finds nothing.
    found: Option<bool>,
}

#[derive(Deserialize)]
struct Docs {
    docs: Vec<Found>,
}

impl Search {
    /// Documents of one shard, by ascending sequence number; the next page begins after the last one.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Red`] when a shard did not answer.
    pub async fn scan(&self, index: &str, scan: &Scan<'_>) -> Result<Vec<Hit>, SearchError> {
        let mut body = scan_body(scan);
        body["_source"] = wanted(scan.fields, scan.source);
        let call = Call::post(format!("/{}/_search", segment(index)), Some(body)).repeatable();
        self.hits(call.query("preference", format!("_shards:{}", scan.shard)), scan.fields, scan.source).await
    }

    /// Where documents of these ids are, of those that searches see. Each index may hold one of each id: ids times
    /// indices must not exceed [`PAGE`].
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Red`] when a shard did not answer.
    pub async fn find(
        &self,
        indices: &[&str],
        ids: &[&str],
        fields: &[&str],
        source: bool,
    ) -> Result<Vec<Hit>, SearchError> {
        if indices.is_empty() || ids.is_empty() {
            return Ok(Vec::new());
        }
        let path = indices.iter().map(|index| segment(index)).collect::<Vec<_>>().join(",");
        let mut body = find_body(indices, ids);
        body["_source"] = wanted(fields, source);
        self.hits(Call::post(format!("/{path}/_search"), Some(body)).repeatable(), fields, source).await
    }

    /// The documents of these ids in one index as they are now, whether searches see them yet or not. Those that are
    /// not there are not in the answer.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn get(&self, index: &str, ids: &[&str], source: bool) -> Result<Vec<Hit>, SearchError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let docs: Vec<Value> = ids
            .iter()
            .map(|id| {
                let mut doc = json!({"_index": index, "_id": id, "_source": source});
                if self.engine().has_types() {
                    doc["_type"] = json!("_doc");
                }
                doc
            })
            .collect();
        let call = Call::post("/_mget", Some(json!({ "docs": docs }))).repeatable();
        let what = call.to_string();
        let answer: Docs = self.call_as(call).await?;
        answer.docs.into_iter().filter(|doc| doc.found == Some(true)).map(|doc| hit(doc, &[], source, &what)).collect()
    }

    async fn hits(&self, call: Call, fields: &[&str], source: bool) -> Result<Vec<Hit>, SearchError> {
        let what = call.to_string();
        let found: Vec<Found> = self.found(call).await?;
        found.into_iter().map(|found| hit(found, fields, source, &what)).collect()
    }

    /// What a search finds, once every shard has answered.
    pub(super) async fn found<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, SearchError> {
        let what = call.to_string();
        let answer: Answer<T> = self.call_as(call).await?;
        // Some engines count a shard that is not allocated neither as failed nor as successful.
        let shards = &answer.shards;
        if shards.failed > 0 || shards.successful < shards.total || answer.timed_out {
            let reason = format!("a shard did not answer `{what}`");
            return Err(SearchError::Red { address: self.address().to_owned(), reason });
        }
        Ok(answer.hits.hits)
    }
}

pub(super) fn scan_body(scan: &Scan<'_>) -> Value {
    let mut range = Map::from_iter([("gte".to_owned(), json!(scan.from))]);
    range.extend(scan.below.map(|below| ("lt".to_owned(), json!(below))));
    json!({
        "query": {"bool": {"filter": [{"range": {"_seq_no": range}}, scan.filter]}},
        "size": scan.size.min(PAGE),
        "sort": [{"_seq_no": "asc"}],
        "version": true,
        "seq_no_primary_term": true,
    })
}

pub(super) fn find_body(indices: &[&str], ids: &[&str]) -> Value {
    json!({
        "query": {"bool": {"filter": [{"ids": {"values": ids}}]}},
        "size": ids.len().saturating_mul(indices.len()).min(PAGE),
        "sort": ["_doc"],
        "version": true,
        "seq_no_primary_term": true,
    })
}

/// What `_source` takes: Temporal's `VisibilityTaskKey` is in no mapping, so that it has no doc values.
fn wanted(fields: &[&str], source: bool) -> Value {
    if source || fields.is_empty() { json!(source) } else { json!(fields) }
}

fn hit(found: Found, fields: &[&str], source: bool, call: &str) -> Result<Hit, SearchError> {
    let missing = |what: &str| SearchError::Malformed { call: call.to_owned(), cause: format!("a hit without {what}") };
    let mut wanted = BTreeMap::new();
    if let Some(document) = found.source.as_ref().filter(|_| !fields.is_empty()) {
        let values = pick(document.get(), fields).map_err(|_| missing("an object in _source"))?;
        let named = fields.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        wanted.extend(named);
    }
    Ok(Hit {
        version: found.version.ok_or_else(|| missing("_version"))?,
        seq_no: found.seq_no.ok_or_else(|| missing("_seq_no"))?,
        fields: wanted,
        source: found.source.filter(|_| source),
        index: found.index,
        id: found.id,
    })
}
