//! Documents of open runs in old indices. All of them are looked at every time: they are few, since each leaves its
//! index at the first look, and what they say is wrong as soon as their run goes on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::{CLOSE_TIME, KEY};
use super::look::{BATCH, Look};
use super::verdict::{Copy, winner};
use crate::clients::search::{Hit, Scan};
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
            let scan = Scan { shard, filter, from, below: Some(*next), size, fields: &KEY, source: false };
            let hits = look.search().scan(&index.name, &scan).await?;
            let Some(last) = hits.last() else { break };
            from = last.seq_no + 1;
            look.found.documents += hits.len() as u64;
            look.ctx.progress.advance(hits.len() as u64);
            judge(look, member, hits).await?;
        }
    }
    Ok(())
}

async fn judge(look: &mut Look<'_>, member: usize, hits: Vec<Hit>) -> Result<(), VisibilityError> {
    let copies = elsewhere(look, member, &hits).await?;
    let mut newest = Vec::new();
    for hit in hits {
        let here = Copy { rank: member, version: hit.version };
        let mut all = vec![here];
        all.extend(copies.get(&hit.id).into_iter().flatten());
        if winner(&all) == Some(0) {
            newest.push(hit);
        } else {
            look.found.stale.extend(look.item(&hit));
        }
    }
    let wanted = newest.len();
    let (there, gone) = look.split(newest).await?;
    look.found.unreadable += (wanted - there.len() - gone.len()) as u64;
    look.found.open.extend(there.iter().filter_map(|hit| look.item(hit)).collect::<Vec<_>>());
    if look.ghosts {
        // Whatever the policy keeps of closed runs: a document that says a run is open is wrong when there is no such run.
        look.found.ghosts.extend(gone.iter().filter_map(|hit| look.item(hit)).collect::<Vec<_>>());
    }
    Ok(())
}

/// By id, the documents that the other indices have.
async fn elsewhere(
    look: &Look<'_>,
    member: usize,
    hits: &[Hit],
) -> Result<BTreeMap<String, Vec<Copy>>, VisibilityError> {
    let ids: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
    let mut copies: BTreeMap<String, Vec<Copy>> = BTreeMap::new();
    for hit in look.find(&look.survey.others(member), &ids, &[]).await? {
        let Some(rank) = look.survey.rank(&hit.index) else { continue };
        copies.entry(hit.id).or_default().push(Copy { rank, version: hit.version });
    }
    Ok(copies)
}
