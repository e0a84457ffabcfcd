//! Carrying documents forward to the write index, beside a Temporal that goes on writing and deleting.

use std::collections::{BTreeMap, BTreeSet};

use super::act::Act;
use super::document::{KEY, run_of};
use super::plan::Item;
use super::report::ReconcileReport;
use crate::clients::persistence::RunKey;
use crate::clients::search::{Bulk, Done, Hit, Op};
use crate::progress::Unit;
use crate::visibility::rollover::missing_fields;
use crate::visibility::{VisibilityError, refile};

/// A bulk is sent once it has so many bytes, however few documents they are.
const BULK_BYTES: usize = 8 << 20;

pub(super) async fn carry(
    act: &mut Act<'_>,
    items: &[Item],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    if items.is_empty() {
        return Ok(());
    }
    act.ctx.progress.stage("documents carried forward", Some(items.len() as u64), Unit::Items);
    let survey = act.survey;
    let mut prepared: BTreeSet<(String, String)> = BTreeSet::new();
    for (place, from) in survey.members.iter().enumerate() {
        let of_index: Vec<&Item> = items.iter().filter(|item| item.member == place).collect();
        for batch in of_index.chunks(super::act::BULK) {
            act.go_on()?;
            let to = act.write_index().await?;
            if to == from.name {
                // An older index became the write index again: nothing is in the wrong place any more.
                report.changed_meanwhile += batch.len() as u64;
                continue;
            }
            if prepared.insert((from.name.clone(), to.clone())) {
                same_fields(act, place, &to).await?;
            }
            one_batch(act, &from.name, &to, batch, report).await?;
            act.ctx.progress.advance(batch.len() as u64);
        }
    }
    Ok(())
}

/// A search attribute that the write index does not know would not be found by any more.
async fn same_fields(act: &Act<'_>, from: usize, to: &str) -> Result<(), VisibilityError> {
    let Some(from) = act.survey.members.get(from) else { return Ok(()) };
    let mapping = act.search().mappings(to).await?.remove(to).unwrap_or_default();
    let missing = missing_fields(&from.mapping, &mapping);
    if !missing.is_empty() {
        refile::add_fields(act.search(), to, &missing, act.ctx).await?;
    }
    Ok(())
}

async fn one_batch(
    act: &mut Act<'_>,
    from: &str,
    to: &str,
    items: &[&Item],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let planned: BTreeMap<&str, u64> = items.iter().map(|item| (item.id.as_str(), item.version)).collect();
    let hits = act.search().find(&[from], &ids, &KEY, true).await?;
    let hits: Vec<(Hit, RunKey)> = hits
        .into_iter()
        .filter(|hit| planned.get(hit.id.as_str()) == Some(&hit.version))
        .filter_map(|hit| run_of(&hit).map(|key| (hit, key)))
        .collect();
    report.changed_meanwhile += (items.len() - hits.len()) as u64;

    // Gone by now: the next look finds a ghost.
    let keys: Vec<RunKey> = hits.iter().map(|(_, key)| key.clone()).collect();
    let exist = act.session.exist(&keys).await?;
    let there: Vec<(Hit, RunKey)> =
        hits.into_iter().zip(exist).filter(|(_, there)| *there).map(|(hit, _)| hit).collect();
    report.changed_meanwhile += (keys.len() - there.len()) as u64;

    let copied = copy(act, to, &there, report).await?;
    // Lists have to see the copy before the original goes.
    act.search().refresh(to).await?;
    undo_resurrections(act, to, &copied, report).await?;

    let mut bulk = act.search().new_bulk();
    for (hit, _) in &copied {
        act.search().add(&mut bulk, &Op::Delete { index: from, id: &hit.id, version: hit.version });
    }
    for done in act.search().bulk(bulk).await? {
        match done {
            Done::Applied | Done::Missing => report.carried += 1,
            Done::Conflict => report.changed_meanwhile += 1,
            failed @ Done::Failed { .. } => report.refuse(&failed),
        }
    }
    Ok(())
}

/// Copies the documents; those that are in the write index afterwards, in this or a newer version.
async fn copy<'h>(
    act: &mut Act<'_>,
    to: &str,
    hits: &'h [(Hit, RunKey)],
    report: &mut ReconcileReport,
) -> Result<Vec<&'h (Hit, RunKey)>, VisibilityError> {
    let (mut copied, mut contested) = (Vec::new(), Vec::new());
    let mut rest = hits;
    while !rest.is_empty() {
        let mut bulk: Bulk = act.search().new_bulk();
        let mut taken = 0;
        for (hit, _) in rest {
            if bulk.bytes() > BULK_BYTES {
                break;
            }
            if let Some(body) = &hit.source {
                act.search().add(&mut bulk, &Op::Index { index: to, id: &hit.id, version: hit.version, body });
            }
            taken += 1;
        }
        let (sent, later) = rest.split_at(taken);
        rest = later;
        let sent = sent.iter().filter(|(hit, _)| hit.source.is_some());
        for (hit, done) in sent.zip(act.search().bulk(bulk).await?) {
            match done {
                Done::Applied => copied.push(hit),
                Done::Conflict => contested.push(hit),
                failed => report.refuse(&failed),
            }
        }
    }
    // A conflict is a newer document, or the tombstone of one; only a document makes the original superfluous.
    let ids: Vec<&str> = contested.iter().map(|(hit, _)| hit.id.as_str()).collect();
    let newer = act.search().get(to, &ids, false).await?;
    let newer: BTreeMap<&str, u64> = newer.iter().map(|hit| (hit.id.as_str(), hit.version)).collect();
    for one in contested {
        if newer.get(one.0.id.as_str()).is_some_and(|version| *version >= one.0.version) {
            copied.push(one);
        } else {
            report.changed_meanwhile += 1;
        }
    }
    Ok(copied)
}

/// A run that was deleted while its document was copied would be listed again: Temporal's deletion came before the
/// copy, and the engine may have forgotten it by then.
async fn undo_resurrections(
    act: &mut Act<'_>,
    to: &str,
    copied: &[&(Hit, RunKey)],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    let keys: Vec<RunKey> = copied.iter().map(|(_, key)| key.clone()).collect();
    let exist = act.session.exist(&keys).await?;
    let mut bulk = act.search().new_bulk();
    for ((hit, _), _) in copied.iter().zip(exist).filter(|(_, exists)| !exists) {
        act.search().add(&mut bulk, &Op::Delete { index: to, id: &hit.id, version: hit.version });
    }
    for done in act.search().bulk(bulk).await? {
        if matches!(done, Done::Failed { .. }) {
            report.refuse(&done);
        }
    }
    Ok(())
}
