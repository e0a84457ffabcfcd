//! What a prune would do: which backups go, why each other stays, and what becomes free.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::gfs;
use super::marks::{Instants, Marks};
use super::references::{claim, folders};
use super::{MOST_BACKUPS, leftovers};
use crate::backup::error::BackupError;
use crate::backup::manifest::{self, BackupId, Loaded};
use crate::backup::names::{self, ChunkName};
use crate::backup::proof;
use crate::backup::store::Store;
use crate::context::Context;
use crate::plan::{Action, Change, Plan};
use crate::policy::keep::Keep;
use crate::progress::Unit;
use crate::units::{Span, counted, human_bytes};

/// A prune that would be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// The store, for people.
    pub store: String,
    /// Which backups are kept.
    pub keep: Keep,
    /// For how long nothing must have named a chunk.
    pub grace: Span,
    /// Backups that go, the oldest first.
    pub going: Vec<Going>,
    /// Backups that are no longer kept and wait for a later run, since one run removes only so many.
    pub later: usize,
    /// Backups that stay, the newest first.
    pub kept: Vec<Kept>,
    /// Chunks that only backups which go name. They become free when the grace period has passed.
    pub freed: Freed,
    /// Chunks that nothing names now, and which wait for the grace period.
    pub waiting: Freed,
    /// Chunks that nothing has named for longer than the grace period: they are removed now.
    pub due: Freed,
    /// Temporary files, uploads in parts and rests of backups that are older than the grace period.
    pub leftovers: usize,
}

/// A backup that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Going {
    /// Its identifier.
    pub id: BackupId,
    /// What only it holds of all backups there are now.
    pub alone: Freed,
}

/// A backup that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its identifier.
    pub id: BackupId,
    /// Why.
    pub reasons: Vec<String>,
}

/// Chunks and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Freed {
    /// How many.
    pub chunks: u64,
    /// Their bytes in the store.
    pub bytes: u64,
}

impl Freed {
    pub(super) const fn add(&mut self, bytes: u64) {
        self.chunks += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn words(&self) -> String {
        format!("{}, {}", counted(self.chunks, "chunk", "chunks"), human_bytes(self.bytes))
    }
}

impl PrunePlan {
    /// The common form: a change for each backup that goes, one for the chunks that are due, one for leftovers.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut changes: Vec<Change> = Vec::new();
        for going in &self.going {
            let reason = format!("nothing in `keep` asks for it; it alone holds {}", going.alone.words());
            changes.push(Change::new(Action::Delete, format!("backup {}", going.id), reason).destructive());
        }
        if self.due.chunks > 0 {
            let subject = counted(self.due.chunks, "chunk", "chunks");
            let reason =
                format!("no backup has named them for {}; they take {}", self.grace, human_bytes(self.due.bytes));
            changes.push(Change::new(Action::Delete, subject, reason).destructive());
        }
        if self.leftovers > 0 {
            let subject = counted(self.leftovers as u64, "leftover", "leftovers");
            let reason = format!("of runs that were ended, older than {}", self.grace);
            changes.push(Change::new(Action::Delete, subject, reason).destructive());
        }
        let mut notes: Vec<String> =
            self.kept.iter().map(|kept| format!("backup {} stays: {}", kept.id, kept.reasons.join("; "))).collect();
        if self.freed.chunks > 0 {
            let freed = self.freed.words();
            notes.push(format!("the backups that go free {freed}, which are removed {} later", self.grace));
        }
        if self.waiting.chunks > 0 {
            notes.push(format!("nothing names {} now; they stay for {}", self.waiting.words(), self.grace));
        }
        if self.later > 0 {
            let more = counted(self.later as u64, "more backup goes", "more backups go");
            notes.push(format!("{more} in later runs, since one run removes {MOST_BACKUPS}"));
        }
        Plan { changes, notes }
    }
}

/// Looks at the store, writing nothing, and decides.
///
/// Takes memory for each chunk that is named, about a hundred bytes; one manifest is held at a time.
///
/// # Errors
/// [`BackupError::ManifestsUnreadable`], what the store says, or the run is cancelled.
pub async fn plan(store: &dyn Store, keep: &Keep, grace: Span, ctx: &Context) -> Result<PrunePlan, BackupError> {
    store.reach().await?;
    // The chunks first: one that is stored and named meanwhile must not look as if nothing named it.
    let listed = names::listed(store).await?;
    let claims = folders(store).await?.claims;
    let mut kept_names: HashSet<ChunkName> = HashSet::new();
    let mut unreadable = Vec::new();
    for key in &claims {
        match claim(store, key).await? {
            Some(Ok(names)) => kept_names.extend(names),
            Some(Err(why)) => unreadable.push(why),
            None => {}
        }
    }
    let mut folders = folders(store).await?;
    let proofs = proof::proofs(store).await?;
    for backup in &mut folders.backups {
        backup.proven = proofs.contains_key(&backup.id);
    }
    let mut order: Vec<(BackupId, Vec<String>)> =
        folders.backups.iter().map(|backup| backup.id.clone()).zip(gfs::reasons(&folders.backups, keep)).collect();
    order.sort();
    let unwanted: Vec<BackupId> =
        order.iter().filter(|(_, reasons)| reasons.is_empty()).map(|(id, _)| id.clone()).collect();
    let going: Vec<BackupId> = unwanted.iter().take(MOST_BACKUPS).cloned().collect();

    ctx.progress.stage("reading manifests", Some(folders.backups.len() as u64), Unit::Items);
    // Of each chunk that a backup names which goes: its size, and the one backup that names it, if it is one.
    let mut theirs: HashMap<ChunkName, (u64, Option<usize>)> = HashMap::new();
    for (id, _) in &order {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let manifest = match manifest::loaded(store, id).await? {
            Loaded::Read(manifest) => manifest,
            Loaded::Gone => continue,
            Loaded::Unreadable(why) => {
                unreadable.push(why);
                continue;
            }
        };
        match going.iter().position(|one| one == id) {
            None => kept_names.extend(manifest.chunks().map(|(_, _, chunk)| chunk.name())),
            Some(index) => {
                for (_, _, chunk) in manifest.chunks() {
                    let entry = theirs.entry(chunk.name()).or_insert((chunk.stored, Some(index)));
                    entry.1 = entry.1.filter(|owner| *owner == index);
                }
            }
        }
        ctx.progress.advance(1);
    }
    if !unreadable.is_empty() {
        return Err(BackupError::ManifestsUnreadable { reasons: unreadable });
    }
    theirs.retain(|id, _| !kept_names.contains(id));
    let mut alone = vec![Freed::default(); going.len()];
    let mut freed = Freed::default();
    for (bytes, owner) in theirs.values() {
        freed.add(*bytes);
        if let Some(one) = owner.and_then(|index| alone.get_mut(index)) {
            one.add(*bytes);
        }
    }
    // The store's clock is read by writing, which a plan does not: its own clock has to do until the plan is executed.
    let now = Instants { host: ctx.now, store: ctx.now };
    let marks = Marks::load(store).await?;
    let (mut waiting, mut due) = (Freed::default(), Freed::default());
    for (id, entry) in &listed {
        if kept_names.contains(id) || theirs.contains_key(id) {
            continue;
        }
        let old = now.old(entry.modified, grace) && marks.chunk_is_due(id, now, grace);
        if old { due.add(entry.size) } else { waiting.add(entry.size) }
    }
    let leftovers = leftovers::find(store, &folders, &marks, now, grace).await?.len();
    let kept = order.into_iter().rev().filter(|(_, reasons)| !reasons.is_empty());
    Ok(PrunePlan {
        store: store.location(),
        keep: *keep,
        grace,
        later: unwanted.len() - going.len(),
        going: going.into_iter().zip(alone).map(|(id, alone)| Going { id, alone }).collect(),
        kept: kept.map(|(id, reasons)| Kept { id, reasons }).collect(),
        freed,
        waiting,
        due,
        leftovers,
    })
}
