//! Executes a plan: backups go, what nothing names is marked, what has been marked for long enough is swept.

use std::collections::HashSet;

use serde::Serialize;

use super::marks::{Instants, Marks};
use super::plan::{Freed, PrunePlan};
use super::references::{Folders, References, folders};
use super::{MOST_CHUNKS, gfs, leftovers, sweep};
use crate::backup::error::BackupError;
use crate::backup::manifest::BackupId;
use crate::backup::names::{self, ChunkName};
use crate::backup::proof::PROVEN;
use crate::backup::store::{Entry, Store};
use crate::context::Context;
use crate::progress::Unit;

/// What a prune came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PruneReport {
    /// Backups that were removed.
    pub backups: Vec<BackupId>,
    /// Backups that were to go and stay, since by now something asks for them.
    pub spared: Vec<BackupId>,
    /// Chunks that were removed.
    pub removed: Freed,
    /// Chunks that nothing names and that wait for the grace period.
    pub waiting: Freed,
    /// Leftovers that were removed.
    pub leftovers: u64,
    /// Chunks that were removed had been written before this, by the store's clock; `None` when it came to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<jiff::Timestamp>,
}

impl PruneReport {
    /// True when the store is another than before.
    #[must_use]
    pub fn changed(&self) -> bool {
        !self.backups.is_empty() || self.removed.chunks > 0 || self.leftovers > 0
    }
}

/// Executes the plan. A run that is ended at any instant leaves nothing that a later one does not take up.
///
/// # Errors
/// [`BackupError::ManifestsUnreadable`] before anything is removed or, when it shows only then, in between; what the
/// store says; or the run is cancelled. The report says what was done until then.
pub async fn apply(plan: &PrunePlan, store: &dyn Store, ctx: &Context) -> (PruneReport, Result<(), BackupError>) {
    let mut report = PruneReport::default();
    let outcome = execute(plan, store, &mut report, ctx).await;
    (report, outcome)
}

/// Marks what nothing names, without removing anything.
///
/// # Errors
/// As for [`apply`].
pub async fn mark(store: &dyn Store, ctx: &Context) -> Result<(), BackupError> {
    let mut references = References::default();
    survey(store, &mut references, ctx).await.map(|_| ())
}

async fn execute(
    plan: &PrunePlan,
    store: &dyn Store,
    report: &mut PruneReport,
    ctx: &Context,
) -> Result<(), BackupError> {
    let going: HashSet<BackupId> = plan.going.iter().map(|going| going.id.clone()).collect();
    let mut references = References::default();
    // All of them, those that go as well: one that cannot be read stops everything.
    references.refresh(store, &going, ctx).await?;
    ctx.progress.stage("removing backups", Some(going.len() as u64), Unit::Items);
    for backup in &plan.going {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        if remove_backup(plan, store, &backup.id).await? {
            report.backups.push(backup.id.clone());
        } else {
            report.spared.push(backup.id.clone());
        }
        ctx.progress.advance(1);
    }
    let ground = survey(store, &mut references, ctx).await?;
    let Ground { unnamed, folders, marks, now } = &ground;
    let is_due =
        |id: &ChunkName, entry: &Entry| now.old(entry.modified, plan.grace) && marks.chunk_is_due(id, *now, plan.grace);
    let mut due = Vec::new();
    for (id, entry) in unnamed {
        if is_due(id, entry) && due.len() < MOST_CHUNKS {
            due.push(*id);
        } else {
            report.waiting.add(entry.size);
        }
    }
    if !due.is_empty() {
        report.cutoff = now.store.checked_sub(jiff::SignedDuration::from(plan.grace)).ok();
    }
    sweep::sweep(store, &due, &mut references, (*now, plan.grace), &mut report.removed, ctx).await?;
    ctx.progress.stage("removing leftovers", None, Unit::Items);
    let found = leftovers::find(store, folders, marks, *now, plan.grace).await?;
    leftovers::remove(store, found, &mut report.leftovers, ctx).await
}

/// What there is after the backups have gone.
struct Ground {
    unnamed: Vec<(ChunkName, Entry)>,
    folders: Folders,
    marks: Marks,
    now: Instants,
}

/// Lists the chunks, reads what names them, and renews the marks.
async fn survey(store: &dyn Store, references: &mut References, ctx: &Context) -> Result<Ground, BackupError> {
    let now = Instants::read(store, ctx.now).await?;
    let old = Marks::load(store).await?;
    // The chunks first: one that is stored and named in between must not look as if nothing named it.
    let listed = names::listed(store).await?;
    let folders = references.refresh(store, &HashSet::new(), ctx).await?;
    let unnamed: Vec<(ChunkName, Entry)> = listed.into_iter().filter(|(id, _)| !references.name(id)).collect();
    let halves = folders.halves.iter().map(|(_, entry)| entry.key.as_str());
    let marks = old.renewed(unnamed.iter().map(|(id, _)| *id), halves, now);
    if marks != old {
        marks.store(store).await?;
    }
    Ok(Ground { unnamed, folders, marks, now })
}

/// Removes a backup, its manifest first, unless something asks for it by now.
async fn remove_backup(plan: &PrunePlan, store: &dyn Store, id: &BackupId) -> Result<bool, BackupError> {
    let there = folders(store).await?.backups;
    let reasons = gfs::reasons(&there, &plan.keep);
    let stays = |(backup, reasons): (&gfs::Candidate, &Vec<String>)| &backup.id == id && !reasons.is_empty();
    if there.iter().zip(&reasons).any(stays) {
        return Ok(false);
    }
    for name in ["manifest.json", "manifest.b3", PROVEN] {
        store.delete(&id.object(name)?).await?;
    }
    Ok(true)
}
