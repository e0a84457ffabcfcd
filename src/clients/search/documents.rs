//! Documents: read in the order in which a shard wrote them, found by id, and written with versions of their own.
//!
//! Every write carries an external version. Temporal numbers its writes with growing task ids and drops one whose
//! number is not higher than the document's, without an error; so nothing here ever raises a version: a copy is
//! written with the version it has, and a removal leaves a tombstone of the version it removed.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
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

/// One write.
#[derive(Debug, Clone)]
pub enum Op<'a> {
    /// Put the document there with exactly this version, unless there is one of the same or a higher version.
    Index {
        /// The index, by its own name.
        index: &'a str,
        /// The document's id.
        id: &'a str,
        /// Its version.
        version: u64,
        /// The document.
        body: &'a RawValue,
    },
    /// Write the document once more with the version it has, so that it is filed by the mapping as it is now; unless
    /// there is one of a higher version.
    Again {
        /// The index, by its own name.
        index: &'a str,
        /// The document's id.
        id: &'a str,
        /// Its version.
        version: u64,
        /// The document.
        body: &'a RawValue,
    },
    /// Remove the document, unless it has a higher version than this.
    Delete {
        /// The index, by its own name.
        index: &'a str,
        /// The document's id.
        id: &'a str,
        /// The version that is to go; it becomes that of the tombstone.
        version: u64,
    },
}

/// What became of one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It happened.
    Applied,
    /// A document (or a tombstone) of a version that wins is there.
    Conflict,
    /// There was nothing to remove.
    Missing,
    /// The engine refused it.
    Failed {
        /// HTTP status of this one write.
        status: u16,
        /// The engine's `type`.
        kind: String,
        /// The engine's `reason`.
        reason: String,
    },
}

/// The lines of one `_bulk` call, built up one write at a time.
#[derive(Debug, Default)]
pub struct Bulk {
    lines: BytesMut,
    length: usize,
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

#[derive(Deserialize)]
struct Written {
    items: Vec<BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
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

    /// Makes the writes of one bulk, each by itself: one that is refused does not keep the others from happening.
    /// The answers stand in the order of the writes.
    ///
    /// # Errors
    /// Any [`SearchError`] of the whole call.
    pub async fn bulk(&self, bulk: Bulk) -> Result<Vec<Done>, SearchError> {
        if bulk.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = bulk.length;
        // Of each write only what became of it: the engine would say its index, id, version and shards as well.
        let call = Call::lines("/_bulk", bulk.lines.freeze()).query("filter_path", "items.*.status,items.*.error");
        let what = call.to_string();
        let answer: Written = self.call_as(call).await?;
        let done: Vec<Done> = answer.items.into_iter().filter_map(|item| item.into_values().next()).map(done).collect();
        if done.len() != wanted {
            let cause = format!("{} answers to {wanted} writes", done.len());
            return Err(SearchError::Malformed { call: what, cause });
        }
        Ok(done)
    }

    /// An empty bulk for this engine.
    #[must_use]
    pub fn new_bulk(&self) -> Bulk {
        Bulk::default()
    }

    /// Adds a write to a bulk.
    pub fn add(&self, bulk: &mut Bulk, op: &Op<'_>) {
        let kind = self.engine().has_types().then_some("_doc");
        let head = |index, id, version, version_type| Head { index, kind, id, version, version_type };
        match op {
            Op::Index { index, id, version, body } => {
                bulk.line(&Action::Index(head(index, id, *version, "external")));
                bulk.document(body.get());
            }
            Op::Again { index, id, version, body } => {
                bulk.line(&Action::Index(head(index, id, *version, "external_gte")));
                bulk.document(body.get());
            }
            Op::Delete { index, id, version } => {
                bulk.line(&Action::Delete(head(index, id, *version, "external_gte")));
            }
        }
        bulk.length += 1;
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

impl Bulk {
    /// Writes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// True when there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes to be sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    fn line(&mut self, value: &impl Serialize) {
        let mut writer = (&mut self.lines).writer();
        // Writing plain text to memory does not fail.
        let _ = serde_json::to_writer(&mut writer, value);
        self.lines.put_u8(b'\n');
    }

    /// A document is one line, whatever line breaks its writer put between its fields.
    fn document(&mut self, json: &str) {
        if json.contains(['\n', '\r']) {
            let one_line: String = json.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }).collect();
            self.lines.put_slice(one_line.as_bytes());
        } else {
            self.lines.put_slice(json.as_bytes());
        }
        self.lines.put_u8(b'\n');
    }
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Action<'a> {
    Index(Head<'a>),
    Delete(Head<'a>),
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "_index")]
    index: &'a str,
    #[serde(rename = "_type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "_id")]
    id: &'a str,
    version: u64,
    version_type: &'static str,
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

fn done(item: Item) -> Done {
    match item.status {
        200..=299 => Done::Applied,
        409 => Done::Conflict,
        404 if item.error.is_none() => Done::Missing,
        status => {
            let cause = item.error.unwrap_or(Cause { kind: String::new(), reason: String::new() });
            Done::Failed { status, kind: cause.kind, reason: cause.reason }
        }
    }
}
