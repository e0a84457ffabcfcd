//! The rest of what was ended: temporary files, uploads in parts, folders of backups without a manifest, lists of sweeps
//! that died.

use super::MOST_LEFTOVERS;
use super::marks::{Instants, Marks};
use super::references::Folders;
use super::sweep::FORGOTTEN;
use crate::backup::claim::{CLAIM, CONDEMNED};
use crate::backup::error::BackupError;
use crate::backup::store::{Key, Store, Unfinished};
use crate::context::Context;
use crate::units::Span;

/// Something that can go.
#[derive(Debug)]
pub(super) enum Leftover {
    /// A temporary file or an upload in parts.
    Unfinished(Unfinished),
    /// An object.
    Object(Key),
}

/// Everything that is old enough, claims before what else lies in their folders.
pub(super) async fn find(
    store: &dyn Store,
    folders: &Folders,
    marks: &Marks,
    now: Instants,
    grace: Span,
) -> Result<Vec<Leftover>, BackupError> {
    let mut found = Vec::new();
    let halves = folders.halves.iter().map(|(_, entry)| entry);
    let old =
        |entry: &&crate::backup::store::Entry| marks.is_due(&entry.key, now, grace) && now.old(entry.modified, grace);
    let (claims, others): (Vec<_>, Vec<_>) =
        halves.filter(old).partition(|entry| entry.key.as_str().ends_with(&format!("/{CLAIM}")));
    found.extend(claims.into_iter().chain(others).map(|entry| Leftover::Object(entry.key.clone())));
    for entry in store.list(CONDEMNED).await? {
        if now.old(entry.modified, FORGOTTEN) {
            found.push(Leftover::Object(entry.key));
        }
    }
    let unfinished = store.unfinished().await?;
    found.extend(unfinished.into_iter().filter(|one| now.old(one.since, grace)).map(Leftover::Unfinished));
    found.truncate(MOST_LEFTOVERS);
    Ok(found)
}

/// Removes them; how many.
pub(super) async fn remove(
    store: &dyn Store,
    found: &[Leftover],
    removed: &mut u64,
    ctx: &Context,
) -> Result<(), BackupError> {
    for leftover in found {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        match leftover {
            Leftover::Unfinished(unfinished) => store.abandon(unfinished).await?,
            Leftover::Object(key) => store.delete(key).await?,
        }
        *removed += 1;
    }
    Ok(())
}
