//! Many writes in one call, each with a version of its own.
//!
//! Temporal numbers its writes with growing task ids and drops one whose number is not higher than the document's,
//! without an error; so nothing here ever raises a version: a copy is written with the version it has, and a removal
//! leaves a tombstone of the version it removed.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::SearchError;
use super::transport::{Call, Search};

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
