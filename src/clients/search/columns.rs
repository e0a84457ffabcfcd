//! Documents by a few of their values, which the engine keeps column by column (`doc_values`). To give the documents
//! themselves, or even their ids, it has to decompress each: several times the work.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::documents::{Scan, find_body, scan_body};
use super::engine::Product;
use super::error::SearchError;
use super::pick::pick;
use super::transport::{Call, Search, segment};

/// What was asked of one document. Its id is not told.
#[derive(Debug, Clone)]
pub struct Row {
    /// The index it is in.
    pub index: String,
    /// Its version: the task id of the write, in Temporal's indices.
    pub version: u64,
    /// Its place in the order of its shard's writes; each shard counts by itself.
    pub seq_no: u64,
    /// The first value of each field asked for, in that order; `None` where there is none.
    pub values: Vec<Option<String>>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "_index")]
    index: String,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(rename = "_seq_no")]
    seq_no: Option<u64>,
    fields: Option<Box<RawValue>>,
}

impl Search {
    /// What [`Search::scan`] reads, by values of mapped fields.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Red`] when a shard did not answer.
    pub async fn scan_rows(&self, index: &str, scan: &Scan<'_>) -> Result<Vec<Row>, SearchError> {
        let call = Call::post(format!("/{}/_search", segment(index)), Some(self.columns(scan_body(scan), scan.fields)));
        let call = call.repeatable().query("preference", format!("_shards:{}", scan.shard));
        self.rows(call, scan.fields).await
    }

    /// What [`Search::find`] finds, by values of mapped fields. The same bound holds.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Red`] when a shard did not answer.
    pub async fn find_rows(&self, indices: &[&str], ids: &[&str], fields: &[&str]) -> Result<Vec<Row>, SearchError> {
        if indices.is_empty() || ids.is_empty() {
            return Ok(Vec::new());
        }
        let path = indices.iter().map(|index| segment(index)).collect::<Vec<_>>().join(",");
        let body = self.columns(find_body(indices, ids), fields);
        self.rows(Call::post(format!("/{path}/_search"), Some(body)).repeatable(), fields).await
    }

    fn columns(&self, mut body: Value, fields: &[&str]) -> Value {
        body["_source"] = json!(false);
        body["docvalue_fields"] = json!(fields);
        // Elasticsearch 7 and before do not give versions without the id, which is stored with the document.
        let alone = self.engine().product == Product::OpenSearch || self.engine().version.major >= 8;
        if alone {
            body["stored_fields"] = json!("_none_");
        }
        body
    }

    async fn rows(&self, call: Call, fields: &[&str]) -> Result<Vec<Row>, SearchError> {
        let what = call.to_string();
        let found: Vec<Found> = self.found(call).await?;
        let missing =
            |part: &str| SearchError::Malformed { call: what.clone(), cause: format!("a hit without {part}") };
        let row = |found: Found| {
            let values = match &found.fields {
                Some(values) => pick(values.get(), fields).map_err(|_| missing("an object in fields"))?,
                None => Vec::new(),
            };
            Ok(Row {
                values: values.into_iter().map(|value| first(value?)).collect(),
                version: found.version.ok_or_else(|| missing("_version"))?,
                seq_no: found.seq_no.ok_or_else(|| missing("_seq_no"))?,
                index: found.index,
            })
        };
        found.into_iter().map(row).collect()
    }
}

/// A field may have several values, and is given as a list of them.
fn first(values: Value) -> Option<String> {
    let Value::Array(values) = values else { return None };
    match values.into_iter().next()? {
        Value::String(text) => Some(text),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}
