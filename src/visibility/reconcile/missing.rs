//! Runs that Temporal has and no index lists as they are, and having Temporal write their documents again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};

use super::Ground;
use super::bookmarks::Bookmarks;
use super::document::{Listed, document_id};
use super::look::{BATCH, Look};
use super::report::ReconcileReport;
use super::verdict::{Copy, winner};
use crate::clients::persistence::{Execution, ExecutionState, RunKey};
use crate::clients::temporal::TemporalError;
use crate::context::Context;
use crate::progress::Unit;
use crate::visibility::VisibilityError;

/// How long Temporal is given to write a document before it counts as missing: its queue is worked off in parts of a
/// second, and after a failure again within seconds.
pub(super) const SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// Refreshes under way at one time.
const AT_ONCE: usize = 8;

/// Looks at up to `budget` runs, from where the last look stopped, each once.
pub(super) async fn look(look: &mut Look<'_>, budget: usize, marks: &mut Bookmarks) -> Result<(), VisibilityError> {
    let settled = look.ctx.now.saturating_sub(SETTLE).unwrap_or(Timestamp::MIN);
    let (mut left, start) = (budget, marks.executions.clone());
    let mut around = false;
    while left > 0 && !look.is_full() {
        look.go_on()?;
        let page = look.session.executions(marks.executions.as_ref(), BATCH.min(left).min(look.room())).await?;
        match page.last() {
            Some(last) => marks.executions = Some(last.key.clone()),
            // Through. When this look did not begin at the beginning, the first part is still to come.
            None => {
                marks.executions = None;
                if around || start.is_none() {
                    return Ok(());
                }
                around = true;
                continue;
            }
        }
        // A short page costs a search as well.
        left = left.saturating_sub(page.len().max(BATCH / 10));
        look.found.executions += page.len() as u64;
        look.ctx.progress.advance(page.len() as u64);
        judge(look, page, settled).await?;
        if around && marks.executions >= start {
            return Ok(());
        }
    }
    Ok(())
}

/// Compares runs with their documents. Only what started, or ended, before `settled` is missed: later documents may
/// still be on their way.
pub(in crate::visibility) async fn judge(
    look: &mut Look<'_>,
    page: Vec<Execution>,
    settled: Timestamp,
) -> Result<(), VisibilityError> {
    let page: Vec<Execution> = page
        .into_iter()
        .filter(|run| run.state != ExecutionState::Hidden && run.started.is_none_or(|started| started < settled))
        .collect();
    let ids: Vec<String> = page.iter().map(|run| document_id(&run.key)).collect();
    let text: Vec<&str> = ids.iter().map(String::as_str).collect();
    let found = look.find(&look.survey.names(), &text).await?;
    let listed = newest(found);
    let wrong = |(run, id): &(Execution, String)| match listed.get(id) {
        None => true,
        Some(open) => *open && run.state == ExecutionState::Closed,
    };
    let suspects: Vec<(Execution, String)> = page.into_iter().zip(ids).filter(wrong).collect();
    if suspects.is_empty() {
        return Ok(());
    }
    confirm(look, suspects, settled).await
}

/// A suspect may have been written a moment ago, have been deleted, have closed a moment ago, or be no workflow.
async fn confirm(
    look: &mut Look<'_>,
    suspects: Vec<(Execution, String)>,
    settled: Timestamp,
) -> Result<(), VisibilityError> {
    let keys: Vec<RunKey> = suspects.iter().map(|(run, _)| run.key.clone()).collect();
    let mut details = BTreeMap::new();
    // A run's state may be large, and is dropped once these few fields are read.
    for keys in keys.chunks(200) {
        let found = look.session.details(keys).await?;
        details.extend(found.into_iter().map(|detail| (detail.key.clone(), detail)));
    }
    look.search().refresh(&look.survey.alias).await?;
    let ids: Vec<&str> = suspects.iter().map(|(_, id)| id.as_str()).collect();
    let found = look.find(&look.survey.names(), &ids).await?;
    let listed = newest(found);
    for (run, id) in suspects {
        let Some(detail) = details.get(&run.key) else { continue };
        if !detail.has_history {
            look.found.other_archetypes += 1;
            continue;
        }
        match (listed.get(&id), detail.closed) {
            (None, _) => look.found.missing.push(run.key),
            (Some(true), Some(closed)) if closed < settled => look.found.outdated.push(run.key),
            _ => {}
        }
    }
    Ok(())
}

/// By id, whether the newest document says that its run is open.
fn newest(found: Vec<Listed>) -> BTreeMap<String, bool> {
    let mut groups: BTreeMap<String, Vec<(Copy, bool)>> = BTreeMap::new();
    for document in found {
        let copy = Copy { rank: document.member, version: document.version };
        groups.entry(document.id).or_default().push((copy, !document.closed));
    }
    let newest = |group: Vec<(Copy, bool)>| {
        let copies: Vec<Copy> = group.iter().map(|(copy, _)| *copy).collect();
        winner(&copies).and_then(|place| group.get(place)).is_some_and(|(_, open)| *open)
    };
    groups.into_iter().map(|(id, group)| (id, newest(group))).collect()
}

/// Has Temporal write the documents of these runs again. A run that Temporal refuses to refresh does not keep the others
/// from it. Returns those that it does not know: they are gone meanwhile, or rows that were left behind.
///
/// # Errors
/// When Temporal cannot be reached, is too busy, or permits none of this.
pub(in crate::visibility) async fn refresh(
    ground: &Ground,
    runs: &[RunKey],
    pause: Duration,
    ctx: &Context,
    report: &mut ReconcileReport,
) -> Result<Vec<RunKey>, VisibilityError> {
    let Some(temporal) = &ground.temporal else { return Ok(Vec::new()) };
    ctx.progress.stage("documents written again by Temporal", Some(runs.len() as u64), Unit::Items);
    let asked: BTreeSet<RunKey> = runs.iter().cloned().collect();
    let mut answers = futures::stream::iter(asked)
        .map(|key: RunKey| async move {
            if ctx.is_cancelled() {
                return Err(VisibilityError::Cancelled { done: 0, total: 0 });
            }
            tokio::time::sleep(pause).await;
            match temporal.refresh_workflow_tasks(key.namespace, &key.workflow, key.run).await {
                Ok(()) => Ok(Asked::Written),
                Err(TemporalError::RunNotFound { .. }) => Ok(Asked::Unknown(key)),
                Err(error @ (TemporalError::Call { .. } | TemporalError::Answer { .. })) => {
                    Ok(Asked::Refused(format!("{}~{}: {error}", key.workflow, key.run)))
                }
                Err(error) => Err(VisibilityError::from(error)),
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut unknown = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer? {
            Asked::Written => report.refreshed += 1,
            Asked::Unknown(key) => unknown.push(key),
            Asked::Refused(reason) => {
                report.refused += 1;
                report.first_refusal.get_or_insert(reason);
            }
        }
        ctx.progress.advance(1);
    }
    Ok(unknown)
}

/// What came of asking for one run.
enum Asked {
    Written,
    Unknown(RunKey),
    Refused(String),
}
