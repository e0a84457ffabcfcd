//! What the manifests and claims name.

use std::collections::HashSet;

use super::gfs::Candidate;
use crate::backup::claim::CLAIM;
use crate::backup::error::BackupError;
use crate::backup::manifest::{self, BackupId, Loaded};
use crate::backup::names::ChunkName;
use crate::backup::names::{self, MAX_NAMES};
use crate::backup::proof::PROVEN;
use crate::backup::store::{Entry, Key, Store, StoreError};
use crate::context::Context;

/// The folder `backups/` as one listing shows it.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// Backups, those with a manifest.
    pub backups: Vec<Candidate>,
    /// Objects that sexton writes into a backup's folder, where there is no manifest.
    pub halves: Vec<(BackupId, Entry)>,
    /// Claims, of backups that are about to be committed or of processes that died.
    pub claims: Vec<Key>,
}

/// Looks into `backups/`. What is of another name there is somebody else's. A mark is not read: what it proves is for
/// whoever decides by it.
pub(super) async fn folders(store: &dyn Store) -> Result<Folders, BackupError> {
    let mut folders = Folders::default();
    let mut others = Vec::new();
    for entry in store.list("backups/").await? {
        let parts = entry.key.as_str().strip_prefix("backups/").and_then(|rest| rest.split_once('/'));
        let Some((Ok(id), name)) = parts.map(|(id, name)| (id.parse::<BackupId>(), name)) else { continue };
        match name {
            "manifest.json" => folders.backups.push(Candidate { id, stored: entry.modified, proven: false }),
            "manifest.b3" | PROVEN | CLAIM => {
                if name == CLAIM {
                    folders.claims.push(entry.key.clone());
                }
                others.push((id, entry));
            }
            _ => {}
        }
    }
    let whole: HashSet<&BackupId> = folders.backups.iter().map(|backup| &backup.id).collect();
    others.retain(|(id, _)| !whole.contains(id));
    folders.halves = others;
    Ok(folders)
}

/// Every chunk that was seen named. It only grows: what a backup named that is gone by now counts still, until the
/// next run.
#[derive(Debug, Default)]
pub(super) struct References {
    read: HashSet<BackupId>,
    named: HashSet<ChunkName>,
}

impl References {
    /// Reads the manifests that were not read yet and every claim. Those of the backups in `going` are looked at, since
    /// every manifest must be readable, and what they name is left out.
    ///
    /// # Errors
    /// [`BackupError::ManifestsUnreadable`], or what the store says.
    pub(super) async fn refresh(
        &mut self,
        store: &dyn Store,
        going: &HashSet<BackupId>,
        ctx: &Context,
    ) -> Result<Folders, BackupError> {
        // Claims from one listing, manifests from a later one: a backup that ends in between has its manifest by then,
        // and a folder that changes while it is listed may show neither.
        let mut bad = Vec::new();
        for key in folders(store).await?.claims {
            match claim(store, &key).await? {
                Some(Ok(names)) => self.named.extend(names),
                Some(Err(why)) => bad.push(why),
                None => {}
            }
        }
        let folders = folders(store).await?;
        for id in folders.backups.iter().map(|backup| &backup.id) {
            if self.read.contains(id) {
                continue;
            }
            if ctx.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            match manifest::loaded(store, id).await? {
                Loaded::Gone => {}
                Loaded::Unreadable(why) => bad.push(why),
                Loaded::Read(_) if going.contains(id) => {}
                Loaded::Read(manifest) => {
                    self.named.extend(manifest.chunks().map(|(_, _, chunk)| chunk.name()));
                    self.read.insert(id.clone());
                }
            }
        }
        if bad.is_empty() { Ok(folders) } else { Err(BackupError::ManifestsUnreadable { reasons: bad }) }
    }

    /// Whether something names it.
    pub(super) fn name(&self, id: &ChunkName) -> bool {
        self.named.contains(id)
    }
}

/// What a claim names; `None` when its backup has ended.
pub(super) async fn claim(store: &dyn Store, key: &Key) -> Result<Option<Result<Vec<ChunkName>, String>>, BackupError> {
    match store.get(key, MAX_NAMES).await {
        Ok(bytes) => Ok(Some(names::read(&bytes).map_err(|error| format!("`{key}` is no list of chunks: {error}")))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
