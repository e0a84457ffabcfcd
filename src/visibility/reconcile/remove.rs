//! Removing stale documents and ghosts, each looked at again right before.

use std::collections::BTreeMap;

use super::act::Act;
use super::document::{KEY, run_of};
use super::plan::Item;
use super::report::ReconcileReport;
use super::verdict::{Copy, winner};
use crate::clients::persistence::RunKey;
use crate::clients::search::{Bulk, Done, Hit, Op};
use crate::progress::Unit;
use crate::visibility::VisibilityError;

/// Removes documents of which a newer one lies elsewhere now.
pub(super) async fn stale(
    act: &mut Act<'_>,
    items: &[Item],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    if items.is_empty() {
        return Ok(());
    }
    act.ctx.progress.stage("stale documents removed", Some(items.len() as u64), Unit::Items);
    for (index, batch) in act.batches(items) {
        act.go_on()?;
        let ids: Vec<&str> = batch.iter().map(|item| item.id.as_str()).collect();
        let mut copies: BTreeMap<String, Vec<(Copy, Hit)>> = BTreeMap::new();
        for (rank, member) in act.survey.members.iter().enumerate() {
            // As they are now, not as searches saw them: the newer document has to be there still.
            for hit in act.search().get(&member.name, &ids, false).await? {
                copies.entry(hit.id.clone()).or_default().push((Copy { rank, version: hit.version }, hit));
            }
        }
        let mut bulk = Bulk::default();
        for item in &batch {
            let Some(group) = copies.get(&item.id) else { continue };
            let ranked: Vec<Copy> = group.iter().map(|(copy, _)| *copy).collect();
            let Some(stays) = winner(&ranked) else { continue };
            let here = group.iter().position(|(copy, _)| copy.rank == item.member && copy.version == item.version);
            if here.is_some_and(|here| here != stays) {
                act.search().add(&mut bulk, &Op::Delete { index, id: &item.id, version: item.version });
            }
        }
        report.changed_meanwhile += (batch.len() - bulk.len()) as u64;
        for done in act.search().bulk(bulk).await? {
            count(done, report, |report| &mut report.stale);
        }
        act.ctx.progress.advance(batch.len() as u64);
    }
    Ok(())
}

/// Removes documents of runs that do not exist now.
pub(super) async fn ghosts(
    act: &mut Act<'_>,
    items: &[Item],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    if items.is_empty() {
        return Ok(());
    }
    act.ctx.progress.stage("ghosts removed", Some(items.len() as u64), Unit::Items);
    for (index, batch) in act.batches(items) {
        act.go_on()?;
        let planned: BTreeMap<&str, u64> = batch.iter().map(|item| (item.id.as_str(), item.version)).collect();
        let ids: Vec<&str> = batch.iter().map(|item| item.id.as_str()).collect();
        let hits = act.search().find(&[index], &ids, &KEY, false).await?;
        let unchanged = hits.iter().filter(|hit| planned.get(hit.id.as_str()) == Some(&hit.version));
        let keyed: Vec<(&Hit, RunKey)> = unchanged.filter_map(|hit| Some((hit, run_of(hit)?))).collect();
        let keys: Vec<RunKey> = keyed.iter().map(|(_, key)| key.clone()).collect();
        let exist = act.session.exist(&keys).await?;
        let mut bulk = Bulk::default();
        for ((hit, _), _) in keyed.iter().zip(exist).filter(|(_, exists)| !exists) {
            act.search().add(&mut bulk, &Op::Delete { index, id: &hit.id, version: hit.version });
        }
        report.changed_meanwhile += (batch.len() - bulk.len()) as u64;
        for done in act.search().bulk(bulk).await? {
            count(done, report, |report| &mut report.ghosts);
        }
        act.ctx.progress.advance(batch.len() as u64);
    }
    Ok(())
}

fn count(done: Done, report: &mut ReconcileReport, class: impl Fn(&mut ReconcileReport) -> &mut u64) {
    match done {
        Done::Applied => *class(report) += 1,
        // Somebody else removed it, or wrote a newer one.
        Done::Missing | Done::Conflict => report.changed_meanwhile += 1,
        failed @ Done::Failed { .. } => report.refuse(&failed),
    }
}
