//! Where manifests lie in the store.

use super::{BackupId, Manifest};
use crate::backup::error::BackupError;
use crate::backup::store::{Key, Store, StoreError};
use crate::failure::chain;

/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 30;

/// Stores a manifest; with that the backup exists. Storing the same one again is no error. Gives its objects with the
/// sizes they have.
///
/// # Errors
/// When it could not be stored, or its identifier is taken.
pub async fn commit(store: &dyn Store, manifest: &Manifest) -> Result<Vec<(Key, u64)>, BackupError> {
    let id = &manifest.id;
    let (bytes, sum) =
        manifest.write().map_err(|error| BackupError::Manifest { id: id.to_string(), message: error.to_string() })?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > MAX_MANIFEST) {
        let message = format!("it would be {} bytes, more than is read back; raise `range_size`", bytes.len());
        return Err(BackupError::Manifest { id: id.to_string(), message });
    }
    let mut stored = Vec::new();
    for (name, body) in [("manifest.b3", sum), ("manifest.json", bytes)] {
        let key = id.object(name)?;
        // A store whose answer was lost is asked again, and then finds what the first attempt has stored.
        if !store.put_if_absent(&key, body.clone()).await? && store.get(&key, MAX_MANIFEST).await? != body {
            let message = "another backup has the same identifier".into();
            return Err(BackupError::Manifest { id: id.to_string(), message });
        }
        stored.push((key, u64::try_from(body.len()).unwrap_or(u64::MAX)));
    }
    Ok(stored)
}

/// Reads the manifest of a backup.
///
/// # Errors
/// [`BackupError::NoBackup`], [`BackupError::Manifest`], or what the store says.
pub async fn load(store: &dyn Store, id: &BackupId) -> Result<Manifest, BackupError> {
    let bytes = match store.get(&id.object("manifest.json")?, MAX_MANIFEST).await {
        Err(StoreError::NotFound { location, .. }) => {
            return Err(BackupError::NoBackup { location, id: id.to_string() });
        }
        other => other?,
    };
    let bad = |message: String| BackupError::Manifest { id: id.to_string(), message };
    let sum = match store.get(&id.object("manifest.b3")?, 4096).await {
        // A prune that removes the backup takes the manifest first.
        Err(StoreError::NotFound { location, .. }) if store.size(&id.object("manifest.json")?).await?.is_none() => {
            return Err(BackupError::NoBackup { location, id: id.to_string() });
        }
        Err(StoreError::NotFound { .. }) => return Err(bad("the hash beside it is missing".into())),
        other => other?,
    };
    let manifest = Manifest::read(&bytes, &sum).map_err(bad)?;
    if &manifest.id == id { Ok(manifest) } else { Err(bad(format!("it is the manifest of `{}`", manifest.id))) }
}

/// What became of reading a manifest.
pub(in crate::backup) enum Loaded {
    /// Here it is.
    Read(Box<Manifest>),
    /// A prune has removed it since the listing.
    Gone,
    /// It is there and is of no use; why, with the backup's identifier.
    Unreadable(String),
}

/// Reads a manifest, telling apart what says something about it and what does not.
pub(in crate::backup) async fn loaded(store: &dyn Store, id: &BackupId) -> Result<Loaded, BackupError> {
    match load(store, id).await {
        Ok(manifest) => Ok(Loaded::Read(Box::new(manifest))),
        Err(BackupError::NoBackup { .. }) => Ok(Loaded::Gone),
        Err(
            error @ (BackupError::Manifest { .. }
            | BackupError::Store(StoreError::TooLarge { .. } | StoreError::Checksum { .. })),
        ) => Ok(Loaded::Unreadable(chain(&error))),
        Err(error) => Err(error),
    }
}

/// The identifiers of all backups that have a manifest, newest first. Folders of other names are left out.
///
/// # Errors
/// When the listing fails.
pub async fn ids(store: &dyn Store) -> Result<Vec<BackupId>, BackupError> {
    let entries = store.list("backups/").await?;
    let mut ids: Vec<BackupId> = entries
        .iter()
        .filter_map(|entry| entry.key.as_str().strip_prefix("backups/")?.strip_suffix("/manifest.json")?.parse().ok())
        .collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids)
}
