//! Documents of open runs in old indices. All of them are looked at every time: they are few, since each leaves its
//! index at the first look, and what they say is wrong as soon as their run goes on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::{CLOSE_TIME, Listed};
use super::look::{BATCH, Look};
use super::verdict::{Copy, winner};
use crate::clients::search::Scan;
use crate::visibility::VisibilityError;

/// Documents without a close time.
pub(super) fn is_open() -> Value {
    json!({"bool": {"must_not": [{"exists": {"field": CLOSE_TIME}}]}})
}

pub(super) async fn look(look: &mut Look<'_>) -> Result<(), VisibilityError> {
    for member in 0..look.survey.write() {
        one_index(look, member, is_open()).await?;
    }
    Ok(())
}

/// Sorts the documents of one old index that match the filter into carried forward, stale, and gone.
pub(super) async fn one_index(look: &mut Look<'_>, member: usize, filter: Value) -> Result<(), VisibilityError> {
    let survey = look.survey;
    let Some(index) = survey.members.get(member) else { return Ok(()) };
    for (shard, next) in index.next.iter().enumerate() {
        let mut from = 0;
        while from < *next && !look.is_full() {
            look.go_on()?;
            let (filter, size) = (filter.clone(), BATCH.min(look.room()));
            let scan = Scan { shard, filter, from, below: Some(*next), size, fields: &[], source: false };
            let page = look.page(member, &scan).await?;
            look.found.unreadable += page.unreadable;
            judge(look, (member, shard), page.documents).await?;
            let Some(last) = page.last else { break };
            from = last + 1;
        }
    }
    Ok(())
}

async fn judge(
    look: &mut Look<'_>,
    (member, shard): (usize, usize),
    documents: Vec<Listed>,
) -> Result<(), VisibilityError> {
    let copies = elsewhere(look, member, &documents).await?;
    let mut newest = Vec::new();
    for document in documents {
        let here = Copy { rank: member, version: document.version };
        let mut all = vec![here];
        all.extend(copies.get(&document.id).into_iter().flatten());
        if winner(&all) == Some(0) {
            newest.push(document);
        } else {
            look.found.stale.push(document.into());
        }
    }
    let split = look.split((member, shard), newest).await?;
    look.found.unreadable += split.unreadable;
    look.found.open.extend(split.there);
    if look.ghosts {
        // Whatever the policy keeps of closed runs: a document that says a run is open is wrong when there is no such run.
        look.found.ghosts.extend(split.gone);
    }
    Ok(())
}

/// By id, the documents that the other indices have.
async fn elsewhere(
    look: &Look<'_>,
    member: usize,
    documents: &[Listed],
) -> Result<BTreeMap<String, Vec<Copy>>, VisibilityError> {
    let ids: Vec<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    let mut copies: BTreeMap<String, Vec<Copy>> = BTreeMap::new();
    for copy in look.find(&look.survey.others(member), &ids).await? {
        copies.entry(copy.id).or_default().push(Copy { rank: copy.member, version: copy.version });
    }
    Ok(copies)
}
