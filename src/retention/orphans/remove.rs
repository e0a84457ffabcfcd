//! Removes histories that nothing refers to: a transaction for each tree, in which everything is looked at once more.

use jiff::SignedDuration;

use super::find::is_complete;
use super::judge::{Verdict, judge, removal, unused_from};
use super::{OrphanReport, Orphans};
use crate::clients::persistence::{Branch, Removal, Session, ShardRange};
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
    let min_age = SignedDuration::try_from(std::time::Duration::from(min_age)).unwrap_or(SignedDuration::MAX);
    ctx.progress.stage("histories without a run removed", Some(found.trees.len() as u64), Unit::Items);
    for (tree, resets) in &found.trees {
        if ctx.is_cancelled() {
            return Err(AuditError::Cancelled);
        }
        let leftovers = leftovers(session, tree.shard, tree.id, min_age, ctx).await?;
        let decide = |branches: &[(Branch, bool)]| {
            let verdicts = judge(branches, ctx.now, min_age);
            if verdicts.contains(&Verdict::Unreadable) || !is_complete(branches, *tree, Some(resets)) {
                return Removal::default();
            }
            let mut all = removal(branches, &verdicts);
            let stay: Vec<(Branch, bool)> =
                branches.iter().filter(|(branch, _)| !all.branches.contains(&branch.id)).cloned().collect();
            for branch in leftovers {
                if let Some(from) = unused_from(&stay, branch)
                    && !all.nodes.iter().any(|(there, _)| *there == branch)
                {
                    all.nodes.push((branch, from));
                }
            }
            all
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

/// Branches of the tree that have nodes but no row, are old enough, and belong to no run of the tree's id.
async fn leftovers(
    session: &mut Session,
    shard: i32,
    tree: uuid::Uuid,
    min_age: SignedDuration,
    ctx: &Context,
) -> Result<Vec<uuid::Uuid>, AuditError> {
    let mut old = Vec::new();
    for leftover in session.leftover_nodes_of(ShardRange { from: shard, to: shard + 1 }, Some(tree)).await? {
        let last = session.last_event(shard, tree, leftover.branch).await?;
        if !leftover.has_run && last.is_some_and(|last| ctx.now.duration_since(last) >= min_age) {
            old.push(leftover.branch);
        }
    }
    Ok(old)
}
