//! Documents written since the last look of which another index holds one too.
//!
//! A run has documents in two indices only if it was there before the newer of them was created, so that in a newer
//! index only runs that started before it are looked up elsewhere. An old index takes no writes but those that were
//! under way during its rollover: whatever is written there later is looked up, whenever its run started.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::bookmarks::Bookmarks;
use super::document::Listed;
use super::look::{BATCH, Look};
use super::survey::Member;
use super::verdict::{Copy, winner};
use crate::clients::search::Scan;
use crate::visibility::VisibilityError;

/// By how much the clocks of Temporal's hosts and the engine's may differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// Sequence numbers looked at with one search, so that it need not sort a whole index.
const WINDOW: u64 = 50_000;

pub(super) async fn look(look: &mut Look<'_>, marks: &mut Bookmarks) -> Result<(), VisibilityError> {
    let survey = look.survey;
    for (place, member) in survey.members.iter().enumerate() {
        let marks = marks.indices.entry(member.uuid.clone()).or_default();
        // Nothing was ever looked at in these: not the same as a shard in which there was nothing.
        for next in member.next.iter().skip(marks.late.len()) {
            marks.late.push(*next);
            // What the oldest has in common with newer indices is found there.
            marks.written.push(if place == 0 { *next } else { 0 });
        }
        let shards = member.next.iter().zip(&mut marks.written).zip(&marks.late);
        for (shard, ((next, mark), late)) in shards.enumerate() {
            let late = if place == survey.write() { *next } else { *late.min(next) };
            if *mark < late {
                *mark = one_shard(look, place, shard, &early(member), *mark, late).await?;
            }
            if *mark >= late {
                *mark = one_shard(look, place, shard, &json!({"match_all": {}}), *mark, *next).await?;
            }
        }
    }
    Ok(())
}

/// Runs that started before the index was created.
fn early(member: &Member) -> Value {
    let latest = member.created.saturating_add(CLOCKS).unwrap_or(jiff::Timestamp::MAX);
    json!({"range": {"StartTime": {"lt": latest.to_string()}}})
}

/// Looks from the mark on; the new mark.
async fn one_shard(
    look: &mut Look<'_>,
    place: usize,
    shard: usize,
    filter: &Value,
    mark: u64,
    next: u64,
) -> Result<u64, VisibilityError> {
    let survey = look.survey;
    let others = survey.others(place);
    let mut from = mark;
    while from < next && !look.is_full() && !others.is_empty() {
        look.go_on()?;
        let below = next.min(from.saturating_add(WINDOW));
        let filter = filter.clone();
        let scan = Scan { shard, filter, from, below: Some(below), size: BATCH, fields: &[], source: false };
        let page = look.page(place, &scan).await?;
        from = page.last.map_or(below, |last| last + 1);
        let ids: Vec<&str> = page.documents.iter().map(|document| document.id.as_str()).collect();
        let copies = look.find(&others, &ids).await?;
        if let Some(first_left) = losers(look, page.documents, copies) {
            return Ok(first_left);
        }
    }
    Ok(if others.is_empty() { next } else { from })
}

/// Notes the documents that lose; the sequence number of the first that there was no more room for.
fn losers(look: &mut Look<'_>, documents: Vec<Listed>, copies: Vec<Listed>) -> Option<u64> {
    let mut groups: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
    for copy in copies {
        groups.entry(copy.id.clone()).or_default().push(copy);
    }
    for document in documents {
        let Some(mut group) = groups.remove(&document.id) else { continue };
        let seq_no = document.seq_no;
        group.push(document);
        let copies: Vec<Copy> = group.iter().map(|copy| Copy { rank: copy.member, version: copy.version }).collect();
        let Some(stays) = winner(&copies) else { continue };
        for (place, copy) in group.into_iter().enumerate() {
            // Open documents of old indices have been judged already.
            let judged = copy.member != look.survey.write() && !copy.closed;
            // Of three documents the same one loses in the sight of both others.
            if place == stays || judged || look.stale.contains(&(copy.member, copy.id.clone())) {
                continue;
            }
            if look.is_full() {
                return Some(seq_no);
            }
            look.stale.insert((copy.member, copy.id.clone()));
            look.found.stale.push(copy.into());
        }
    }
    None
}
