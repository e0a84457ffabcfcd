//! A backup and a sweep on the same chunks: the backup's half of the protocol. [`super::prune`] says the whole.
//!
//! Before its manifest, a backup stores a claim, `backups/ID/claim.txt`, that names every chunk which the manifest will
//! name. Then it waits until no sweep has condemned one of them, and only then looks whether they are all there. A sweep
//! does the same from its side: it condemns, then reads the claims and the manifests, then removes. Whichever of the two
//! writes first, the other sees it; so a manifest that is stored names nothing that a sweep removes.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use super::error::BackupError;
use super::manifest::{self, Manifest};
use super::names::{self, ChunkName, MAX_NAMES};
use super::store::{Key, Store, StoreError};
use crate::context::Context;

/// The object in a backup's folder that names its chunks before its manifest does.
pub(super) const CLAIM: &str = "claim.txt";
/// What the key of a list of condemned chunks begins with.
pub(super) const CONDEMNED: &str = "prune/condemned-";
/// For how long a backup waits for a sweep to end.
const PATIENCE: Duration = Duration::from_secs(300);

/// Stores the manifest once it is sure that every chunk it names is there and stays. With that the backup exists.
///
/// # Errors
/// [`BackupError::Swept`] when chunks are gone or a sweep does not let go of them; what the store says; or the run is
/// cancelled. No manifest is left behind then, unless the store does not remove it.
pub(super) async fn commit(store: &dyn Store, manifest: &Manifest, ctx: &Context) -> Result<(), BackupError> {
    let chunks: BTreeSet<ChunkName> = manifest.chunks().map(|(_, _, chunk)| chunk.name()).collect();
    let claim = manifest.id.object(CLAIM)?;
    store.put(&claim, names::write(chunks.iter().copied())).await?;
    let outcome = claimed(store, manifest, &chunks, &claim, ctx).await;
    // It has done its work either way; a prune removes what stays.
    if let Err(error) = store.delete(&claim).await {
        tracing::warn!(key = %claim, %error, "a claim could not be removed");
    }
    outcome
}

async fn claimed(
    store: &dyn Store,
    manifest: &Manifest,
    chunks: &BTreeSet<ChunkName>,
    claim: &Key,
    ctx: &Context,
) -> Result<(), BackupError> {
    there(store, chunks, ctx).await?;
    if ctx.is_cancelled() {
        return Err(BackupError::Cancelled);
    }
    let stored = manifest::commit(store, manifest).await?;
    let outcome = committed(store, claim, &stored).await;
    if outcome.is_err() {
        // The manifest before its hash, as a prune does. A manifest alone is an unreadable backup, and nothing is pruned
        // beside one: right where its chunks may be gone, so that it takes no other backup's place; wrong where all is
        // there and the store only did not say so.
        let whole = !matches!(outcome, Err(BackupError::Swept { .. }));
        for (key, _) in stored.iter().rev() {
            if let Err(error) = store.delete(key).await {
                tracing::error!(%key, %error, "what is left of a backup that failed could not be removed");
                if whole {
                    break;
                }
            }
        }
    }
    outcome
}

/// The claim is there still, and so is what a store has said that it stored.
async fn committed(store: &dyn Store, claim: &Key, stored: &[(Key, u64)]) -> Result<(), BackupError> {
    // A claim is forgotten after the grace period. When this process was halted for so long, a prune may have begun
    // without it; it removes the claim before anything else, so a claim that is there proves that none has.
    if store.size(claim).await?.is_none() {
        let why = format!(
            "`{claim}` is gone: this took longer than the grace period, so that a prune removed it, or the store lost it"
        );
        return Err(BackupError::Swept { why, chunks: vec![] });
    }
    for (key, size) in stored {
        let there = store.size(key).await?;
        if there != Some(*size) {
            let has = there.map_or("nothing".to_owned(), |there| format!("{there} bytes"));
            let message = format!("it took {size} bytes and has {has}");
            let (location, key) = (store.location(), key.to_string());
            return Err(StoreError::Checksum { location, key, message }.into());
        }
    }
    Ok(())
}

/// No sweep is about to remove one of the chunks, and all are there, in this order.
async fn there(store: &dyn Store, chunks: &BTreeSet<ChunkName>, ctx: &Context) -> Result<(), BackupError> {
    let clock = Instant::now();
    let mut wait = Duration::from_millis(10);
    while let Some(by) = condemned(store, chunks).await? {
        if clock.elapsed() > PATIENCE {
            return Err(BackupError::Swept {
                why: format!("{by} names chunks that this backup needs"),
                chunks: vec![],
            });
        }
        tracing::info!(%by, "waiting for a prune to end");
        let pause = tokio::time::sleep(wait);
        wait = Duration::from_secs(1).min(wait * 2);
        ctx.cancel.run_until_cancelled(pause).await.ok_or(BackupError::Cancelled)?;
    }
    let listed: HashSet<ChunkName> = names::listed(store).await?.into_iter().map(|(name, _)| name).collect();
    let gone: Vec<String> = chunks.iter().filter(|id| !listed.contains(id)).map(ToString::to_string).collect();
    if gone.is_empty() {
        return Ok(());
    }
    Err(BackupError::Swept { why: "chunks that this backup relies on are no longer in the store".into(), chunks: gone })
}

/// The first list of condemned chunks that names one of these. A list that cannot be understood may name any.
async fn condemned(store: &dyn Store, chunks: &BTreeSet<ChunkName>) -> Result<Option<Key>, BackupError> {
    for entry in store.list(CONDEMNED).await? {
        let list = match store.get(&entry.key, MAX_NAMES).await {
            Ok(list) => list,
            // That sweep has ended.
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        if names::read(&list).map_or(true, |names| names.iter().any(|name| chunks.contains(name))) {
            return Ok(Some(entry.key));
        }
    }
    Ok(None)
}
