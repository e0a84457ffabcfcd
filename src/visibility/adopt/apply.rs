//! Executes an adoption: what an earlier one left is undone, everything slow is prepared, then comes the short part under
//! the block. Whatever ends it early, it is undone.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tracing::{info, warn};
use uuid::Uuid;

use super::error::AdoptError;
use super::guard::{Guard, GuardCommand};
use super::marks::Mark;
use super::observe::adoptions;
use super::plan::{AdoptPlan, Adoption, Way};
use super::prepare;
use super::swap::{Clock, Swap};
use super::undo::{SETTLE, Undoing, Undone, Which};
use crate::clients::search::{Search, WriteBlock};
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;
use crate::visibility::reconcile::ReconcileReport;

/// How long the guard of an adoption that died may take before its block is lifted without it.
const GUARD_GRACE: Duration = Duration::from_secs(10);
/// How long undoing is tried again while the engine does not answer.
const UNDO_PATIENCE: Duration = Duration::from_secs(10);

/// What an adoption did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AdoptReport {
    /// The name that is an alias now.
    pub index: String,
    /// How the documents got over; left out when there was nothing to adopt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Documents taken over.
    pub docs: u64,
    /// The index they are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// The write index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<String>,
    /// How long writes were blocked, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// Documents written one by one, by a copy.
    pub copied: u64,
    /// Documents compared one by one, by a copy.
    pub compared: u64,
    /// What an earlier adoption had left, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
    /// What was done to documents right after the swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<ReconcileReport>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Executes the plan.
///
/// # Errors
/// [`AdoptError::Undone`] when it failed and everything is as before, [`AdoptError::NotUndone`] when that failed too,
/// [`AdoptError::Stale`] when the world is not as planned; whatever kept it from being begun.
pub async fn apply(
    plan: &AdoptPlan,
    search: &Search,
    guard: &GuardCommand,
    ctx: &Context,
) -> Result<AdoptReport, AdoptError> {
    let index = plan.index.as_str();
    let mut report = AdoptReport { index: index.to_owned(), notes: plan.notes.clone(), ..AdoptReport::default() };
    let Some(adoption) = &plan.adoption else { return Ok(report) };
    report.undone = clear(search, index, adoption, ctx).await?;
    report.way = Some(adoption.way);
    report.read = Some(adoption.read.clone());
    report.write = Some(adoption.write.clone());

    let clock = Clock::default();
    let id: String = Uuid::new_v4().simple().to_string().chars().take(8).collect();
    clock.doing("preparing");
    ctx.progress.stage("preparing", None, Unit::Items);
    let prepared = ctx.cancel.run_until_cancelled(prepare::prepare(search, index, adoption, &id, ctx)).await;
    let prepared = match prepared.unwrap_or(Err(AdoptError::Cancelled)) {
        Ok(prepared) => prepared,
        Err(cause) => return Err(undone(search, index, cause, &clock, SETTLE).await),
    };
    report.copied = prepared.copied;
    report.compared = prepared.compared;
    let mut guard = match Guard::start(guard, index).await {
        Ok(guard) => guard,
        Err(cause) => return Err(undone(search, index, cause, &clock, Duration::ZERO).await),
    };
    // The guard acts at the mark's deadline, in whole seconds; this process a little earlier, so that it is the one to
    // undo while it lives.
    let deadline = Duration::from(adoption.deadline);
    let at = Timestamp::now().checked_add(SignedDuration::try_from(deadline).unwrap_or_default());
    let mark = &Mark::Adopts { deadline: at.unwrap_or(Timestamp::MAX), id }.alias(index);
    let limit = deadline.saturating_sub(Duration::from_millis(1_500).max(deadline / 20));
    let swap = Swap { search, index, adoption, prepared: &prepared, mark, limit, clock: &clock, ctx };
    match swap.guarded(&mut guard).await {
        Ok(swapped) => {
            report.docs = swapped.docs;
            report.pause_ms = Some(millis(swapped.pause));
            report.copied += swapped.copied;
            report.compared += swapped.compared;
        }
        Err(cause) => match undone(search, index, cause, &clock, SETTLE).await {
            AdoptError::Undone { cause, back: Undone::Adopted, pause_ms } => {
                // The swap's answer was lost, or came too late: what counts is that it happened.
                report.docs = adoption.docs;
                report.pause_ms = pause_ms;
                report.notes.push(format!("the swap happened although its answer was lost: {cause}"));
            }
            // The guard goes on where undoing failed here: it is not told that all is done.
            error @ AdoptError::NotUndone { .. } => return Err(error),
            error => {
                guard.release().await;
                return Err(error);
            }
        },
    }
    guard.release().await;
    info!(index, docs = report.docs, pause_ms = report.pause_ms, "adopted");
    Ok(report)
}

/// Makes sure that the live index is the planned one, and undoes what an earlier adoption left on it.
async fn clear(search: &Search, index: &str, adoption: &Adoption, ctx: &Context) -> Result<Option<String>, AdoptError> {
    let begun = Instant::now();
    loop {
        let state = search.block_state(index).await?;
        let now = state.ok_or_else(|| AdoptError::Stale(format!("{index} is no index any more")))?;
        if now.uuid != adoption.uuid {
            return Err(AdoptError::Stale(format!("{index} is another index of the same name")));
        }
        let (marks, blocked) = (adoptions(index, &now.aliases), now.write != WriteBlock::Off);
        if blocked && marks.is_empty() {
            return Err(AdoptError::Stale(format!("writes to {index} have been blocked meanwhile")));
        }
        // Its own guard lifts the block of an adoption that died. Where that was killed as well nobody would.
        let alive = |mark: &Mark| matches!(mark, Mark::Adopts { deadline, .. } if *deadline > Timestamp::now());
        let guarded = blocked && marks.iter().any(|(_, mark)| alive(mark));
        if !guarded || begun.elapsed() >= GUARD_GRACE {
            break;
        }
        if ctx.is_cancelled() {
            return Err(AdoptError::Cancelled);
        }
        ctx.progress.stage("waiting for the guard of an adoption that died", None, Unit::Items);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut undoing = Undoing::new(search, index, Which::All);
    // A block call of the adoption that died may be on its way still.
    (undoing.copies, undoing.settle) = (adoption.way == Way::Clone, SETTLE);
    match undoing.run().await? {
        Undone::Adopted => Err(AdoptError::Stale(format!("{index} has become an alias meanwhile"))),
        Undone::Back { lifted: false, removed } if removed.is_empty() => Ok(None),
        back => Ok(Some(back.told())),
    }
}

/// Undoes, and says so beside the cause.
async fn undone(search: &Search, index: &str, cause: AdoptError, clock: &Clock, settle: Duration) -> AdoptError {
    warn!(index, error = %chain(&cause), stage = clock.stage(), "undoing the adoption");
    let (cause, begun) = (Box::new(cause), Instant::now());
    let mut undoing = Undoing::new(search, index, Which::All);
    (undoing.settle, undoing.call) = (settle, clock.call());
    loop {
        match undoing.timed().await {
            Ok((back, off)) => {
                // Where the guard was quicker, it is not known when.
                let until = if back == Undone::Adopted { Some(Instant::now()) } else { off };
                let pause = clock.since().and_then(|since| Some(until?.saturating_duration_since(since)));
                return AdoptError::Undone { cause, back, pause_ms: pause.map(millis) };
            }
            Err(error) if begun.elapsed() >= UNDO_PATIENCE => {
                return AdoptError::NotUndone { cause, undo: Box::new(error.into()) };
            }
            Err(error) => warn!(error = %chain(&error), "undoing the adoption did not succeed yet"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
