//! Removes histories that nothing refers to: a transaction for each tree, in which everything is looked at once more.

use jiff::{SignedDuration, Timestamp};

use super::judge::{all_that_goes, is_old};
use super::{Noted, OrphanReport, Orphans};
use crate::clients::persistence::{Removal, Session, TreeState};
use crate::context::Context;
use crate::progress::Unit;
use crate::retention::audit::AuditError;
use crate::units::Span;

/// Removes what was found, tree by tree. A run that came back meanwhile keeps its history.
///
/// # Errors
/// When a tree cannot be removed, with the report of what was; and on cancel.
pub async fn remove(
    found: &Orphans,
    session: &mut Session,
    min_age: Span,
    ctx: &Context,
) -> (OrphanReport, Result<(), AuditError>) {
    let mut report = OrphanReport::default();
    let result = every(found, session, min_age, ctx, &mut report).await;
    (report, result)
}

async fn every(
    found: &Orphans,
    session: &mut Session,
    min_age: Span,
    ctx: &Context,
    report: &mut OrphanReport,
) -> Result<(), AuditError> {
    let min_age = SignedDuration::from(min_age);
    ctx.progress.stage("histories without a run removed", Some(found.trees.len() as u64), Unit::Items);
    for (tree, noted) in &found.trees {
        if ctx.is_cancelled() {
            return Err(AuditError::Cancelled);
        }
        let decide = |state: &TreeState| match noted {
            _ if !state.branches.is_empty() => all_that_goes(state, ctx.now, min_age),
            Noted::NodesOnly => nodes_only(state, ctx.now, min_age),
            // What named the tree's workflow is gone meanwhile, and with it what could prove anything.
            Noted::Branches => Removal::default(),
        };
        let removed = session.remove_of_tree(tree.shard, tree.id, decide).await?;
        if removed.branches + removed.nodes > 0 {
            report.trees += 1;
        }
        report.branches += removed.branches;
        report.nodes += removed.nodes;
        ctx.progress.advance(1);
    }
    Ok(())
}

/// A tree without any branch goes as a whole: which nodes go on from which is not known.
fn nodes_only(tree: &TreeState, now: Timestamp, min_age: SignedDuration) -> Removal {
    let goes = tree.leftovers.iter().all(|(leftover, last)| !leftover.has_run && is_old(*last, now, min_age));
    let nodes = tree.leftovers.iter().filter(|_| goes).map(|(leftover, _)| (leftover.branch, 0));
    Removal { branches: Vec::new(), nodes: nodes.collect() }
}
