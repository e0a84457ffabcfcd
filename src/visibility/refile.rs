//! A field that is added to a mapping is not found in documents that were written before. They are written once more, as
//! they are and with the version they have: Temporal's own writes win as ever.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::VisibilityError;
use crate::clients::search::{Done, Hit, Op, Scan, Search};
use crate::context::Context;

/// Documents read and written with one request.
const BATCH: usize = 1_000;

/// Adds the fields to the mapping of an index, and makes documents that were there before found by them. Returns how
/// many were written once more.
///
/// # Errors
/// Any error of the search engine; [`VisibilityError::Cancelled`] between two batches.
pub(super) async fn add_fields(
    search: &Search,
    index: &str,
    fields: &Map<String, Value>,
    ctx: &Context,
) -> Result<u64, VisibilityError> {
    search.add_fields(index, fields).await?;
    // Whatever is written from here on is filed under the new fields.
    let checkpoints = search.checkpoints(index).await?;
    search.refresh(index).await?;
    let mut refiled = 0;
    for (shard, next) in checkpoints.get(index).into_iter().flatten().enumerate() {
        let mut from = 0;
        while from < *next {
            if ctx.is_cancelled() {
                return Err(VisibilityError::Cancelled { done: 0, total: 0 });
            }
            let filter = json!({"match_all": {}});
            let scan = Scan { shard, filter, from, below: Some(*next), size: BATCH, fields: &[], source: true };
            let hits = search.scan(index, &scan).await?;
            let Some(last) = hits.last() else { break };
            from = last.seq_no + 1;
            refiled += again(search, index, &hits, fields).await?;
        }
    }
    search.refresh(index).await?;
    Ok(refiled)
}

async fn again(
    search: &Search,
    index: &str,
    hits: &[Hit],
    fields: &Map<String, Value>,
) -> Result<u64, VisibilityError> {
    let mut bulk = search.new_bulk();
    for hit in hits {
        let Some(body) = hit.source.as_deref().filter(|body| has_any(body, fields)) else { continue };
        search.add(&mut bulk, &Op::Again { index, id: &hit.id, version: hit.version, body });
    }
    let (mut refiled, mut refused, mut first) = (0, 0, String::new());
    for done in search.bulk(bulk).await? {
        match done {
            Done::Applied => refiled += 1,
            // Temporal wrote a newer one, or removed it.
            Done::Conflict | Done::Missing => {}
            Done::Failed { status, kind, reason } => {
                refused += 1;
                if first.is_empty() {
                    first = format!("{status} {kind}: {reason}");
                }
            }
        }
    }
    if refused > 0 {
        return Err(VisibilityError::Documents { count: refused, reason: first });
    }
    Ok(refiled)
}

fn has_any(body: &RawValue, fields: &Map<String, Value>) -> bool {
    let document: BTreeMap<String, &RawValue> = serde_json::from_str(body.get()).unwrap_or_default();
    document.keys().any(|name| fields.contains_key(name))
}
