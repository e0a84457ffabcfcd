//! One pass over all of Temporal's runs.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::clients::persistence::{ExecutionState, RunKey};
use crate::context::Context;
use crate::progress::Unit;
use crate::visibility::VisibilityError;
use crate::visibility::reconcile::look::{BATCH, Look};
use crate::visibility::reconcile::missing::{judge, refresh};
use crate::visibility::reconcile::survey::survey_any;
use crate::visibility::reconcile::{Ground, ReconcileReport};

/// What a pass found, and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pass {
    pub executions: u64,
    pub missing: u64,
    pub refreshed: u64,
    pub other_archetypes: u64,
    pub example: Option<String>,
    /// Why Temporal refused to write one.
    pub refusal: Option<String>,
}

/// Looks for runs that started before `since` and are not listed as they are; with a pause between two, Temporal is
/// asked to write them again, page by page, so that memory does not grow with the cluster. Runs it does not know are
/// collected, and not looked for again.
pub(super) async fn pass(
    ground: &Ground,
    index: &str,
    since: Timestamp,
    write: Option<Duration>,
    unknown: &mut BTreeSet<RunKey>,
    ctx: &Context,
) -> Result<Pass, VisibilityError> {
    let survey = survey_any(&ground.search, index).await?;
    let mut look = Look::new(ground, &survey, usize::MAX, ctx).await?;
    let mut pass = Pass::default();
    let mut after = None;
    loop {
        look.go_on()?;
        ctx.progress.stage("looking at runs", None, Unit::Items);
        ctx.progress.advance(pass.executions);
        let page = look.session.executions(after.as_ref(), BATCH).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        pass.executions += page.iter().filter(|run| run.state != ExecutionState::Hidden).count() as u64;
        judge(&mut look, page, since).await?;
        let mut wrong = std::mem::take(&mut look.found.missing);
        wrong.append(&mut look.found.outdated);
        wrong.retain(|run| !unknown.contains(run));
        pass.missing += wrong.len() as u64;
        if pass.example.is_none() {
            pass.example = wrong.first().map(|run| format!("{}~{}", run.workflow, run.run));
        }
        if let Some(pause) = write {
            let mut report = ReconcileReport::default();
            let not_found = refresh(ground, &wrong, pause, ctx, &mut report).await?;
            pass.refreshed += report.refreshed;
            pass.missing -= not_found.len() as u64;
            unknown.extend(not_found);
            if pass.refusal.is_none() {
                pass.refusal = report.first_refusal;
            }
        }
    }
    pass.other_archetypes = look.found.other_archetypes;
    Ok(pass)
}

/// Counts the runs: without an index every one of them is missing.
pub(super) async fn count(ground: &Ground, ctx: &Context) -> Result<Pass, VisibilityError> {
    let mut session = ground.persistence.connect().await?;
    let mut pass = Pass::default();
    let mut after = None;
    loop {
        if ctx.is_cancelled() {
            return Err(VisibilityError::Cancelled { done: 0, total: 0 });
        }
        let page = session.executions(after.as_ref(), BATCH).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        pass.executions += page.iter().filter(|run| run.state != ExecutionState::Hidden).count() as u64;
    }
    pass.missing = pass.executions;
    Ok(pass)
}
