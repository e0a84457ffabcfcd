//! A field that is added to a mapping is not found in documents that were written before. They are written once more, as
//! they are and with the version they have: Temporal's own writes win as ever.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::VisibilityError;
use crate::clients::search::{Bulk, Done, Hit, Op, Scan, Search};
use crate::context::Context;

/// Documents read and written with one request.
const BATCH: usize = 1_000;

/// The key of a mapping's `_meta` that names fields under which older documents are not found yet.
const MARK: &str = "sexton_unfiled";

/// Adds the fields to the mapping of an index, and makes documents that were there before found by them. Returns how
/// many were written once more. Until that is through the mapping says so, and [`resume`] goes on after a stop.
///
/// # Errors
/// Any error of the search engine; [`VisibilityError::Cancelled`] between two batches.
pub(super) async fn add_fields(
    search: &Search,
    index: &str,
    fields: &Map<String, Value>,
    ctx: &Context,
) -> Result<u64, VisibilityError> {
    let mut mapping = search.mappings(index).await?.remove(index).unwrap_or_default();
    let mut unfiled: BTreeSet<String> = take_mark(&mut mapping).into_iter().collect();
    unfiled.extend(fields.keys().cloned());
    let mut meta = mapping["_meta"].as_object().cloned().unwrap_or_default();
    meta.insert(MARK.to_owned(), json!(unfiled));
    search.put_mapping(index, json!({ "properties": fields, "_meta": meta })).await?;
    let refiled = file(search, index, &unfiled, ctx).await?;
    meta.remove(MARK);
    search.put_mapping(index, json!({ "_meta": meta })).await?;
    Ok(refiled)
}

/// Goes on with what an earlier [`add_fields`] did not bring to its end.
///
/// # Errors
/// As for [`add_fields`].
pub(super) async fn resume(search: &Search, index: &str, ctx: &Context) -> Result<u64, VisibilityError> {
    add_fields(search, index, &Map::new(), ctx).await
}

/// Takes the note out of a mapping, so that it is not carried into another index: the fields under which older
/// documents are not found yet.
pub(super) fn take_mark(mapping: &mut Value) -> Vec<String> {
    let Some(meta) = mapping.get_mut("_meta").and_then(Value::as_object_mut) else { return Vec::new() };
    let mark = meta.remove(MARK);
    let names = mark.as_ref().and_then(Value::as_array).into_iter().flatten();
    let names = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    if meta.is_empty()
        && let Some(mapping) = mapping.as_object_mut()
    {
        mapping.remove("_meta");
    }
    names
}

async fn file(search: &Search, index: &str, fields: &BTreeSet<String>, ctx: &Context) -> Result<u64, VisibilityError> {
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

async fn again(search: &Search, index: &str, hits: &[Hit], fields: &BTreeSet<String>) -> Result<u64, VisibilityError> {
    let mut bulk = Bulk::default();
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

fn has_any(body: &RawValue, fields: &BTreeSet<String>) -> bool {
    let document: BTreeMap<String, &RawValue> = serde_json::from_str(body.get()).unwrap_or_default();
    document.keys().any(|name| fields.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_taken_out_and_nothing_else() {
        let check = |mut mapping: Value, names: &[&str], rest: Value| {
            assert_eq!(take_mark(&mut mapping), names);
            assert_eq!(mapping, rest);
        };
        check(json!({"properties": {}, "_meta": {MARK: ["Tier"]}}), &["Tier"], json!({"properties": {}}));
        check(json!({"_meta": {MARK: ["a", "b"], "of": "others"}}), &["a", "b"], json!({"_meta": {"of": "others"}}));
        check(json!({"_meta": {MARK: 7, "of": 1}}), &[], json!({"_meta": {"of": 1}}));
        check(json!({"properties": {}}), &[], json!({"properties": {}}));
        check(Value::Null, &[], Value::Null);
    }
}
