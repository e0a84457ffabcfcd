//! The rest of what was ended: temporary files, uploads in parts, folders of backups without a manifest, lists of sweeps
//! that died.

use std::collections::HashSet;

use super::MOST_LEFTOVERS;
use super::marks::{Instants, Marks};
use super::references::{Folders, folders};
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

/// Everything that is old enough.
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
    found.extend(halves.filter(old).map(|entry| Leftover::Object(entry.key.clone())));
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

/// Removes them and counts them.
///
/// Claims go first. What else lies in a backup's folder goes only when there is still no manifest after that: a backup
/// that ends meanwhile looks for its claim after it has stored its manifest.
pub(super) async fn remove(
    store: &dyn Store,
    found: Vec<Leftover>,
    removed: &mut u64,
    ctx: &Context,
) -> Result<(), BackupError> {
    let mut halves = Vec::new();
    for leftover in found {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        match leftover {
            Leftover::Unfinished(unfinished) => store.abandon(&unfinished).await?,
            Leftover::Object(key) if !is_claim(&key) && key.as_str().starts_with("backups/") => {
                halves.push(key);
                continue;
            }
            Leftover::Object(key) => store.delete(&key).await?,
        }
        *removed += 1;
    }
    if halves.is_empty() {
        return Ok(());
    }
    let still: HashSet<Key> = folders(store).await?.halves.into_iter().map(|(_, entry)| entry.key).collect();
    for key in halves.into_iter().filter(|key| still.contains(key)) {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        store.delete(&key).await?;
        *removed += 1;
    }
    Ok(())
}

fn is_claim(key: &Key) -> bool {
    key.as_str().rsplit('/').next() == Some(CLAIM)
}
