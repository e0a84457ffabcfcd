//! The mark of a backup that was restored and compared: `backups/<id>/proven.json`, beside its manifest.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use super::manifest::BackupId;
use super::store::{Store, StoreError};

/// The object that makes a backup proven.
pub(super) const PROVEN: &str = "proven.json";
const MAX_PROOF: u64 = 1 << 20;

/// That a drill has restored a backup and found in it what its manifest says. A later drill of the same backup that
/// passes replaces it, one that finds something wrong removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When the drill ended.
    pub at: Timestamp,
    /// The version of sexton that made it.
    pub by: String,
    /// The databases that were restored.
    pub databases: Vec<String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// `server_version_num` of the server it was restored on.
    pub server_version: u32,
    /// Workflows that a Temporal server started on the restored databases gave as they are; `None` without a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflows: Option<u64>,
}

/// Stores a proof.
///
/// # Errors
/// When the store does not take it.
pub(super) async fn write(store: &dyn Store, id: &BackupId, proof: &Proof) -> Result<(), BackupError> {
    let body = serde_json::to_vec(proof).map_err(|error| BackupError::Internal(error.to_string()))?;
    Ok(store.put(&id.object(PROVEN)?, body.into()).await?)
}

/// Takes the mark off; whether there was one.
///
/// # Errors
/// When the store cannot be asked, or does not remove it.
pub(super) async fn revoke(store: &dyn Store, id: &BackupId) -> Result<bool, BackupError> {
    let key = id.object(PROVEN)?;
    let is_there = store.size(&key).await?.is_some();
    if is_there {
        store.delete(&key).await?;
    }
    Ok(is_there)
}

/// The proofs there are, by backup. One that cannot be read proves nothing and is left out.
///
/// # Errors
/// When the store cannot be read.
pub async fn proofs(store: &dyn Store) -> Result<BTreeMap<BackupId, Proof>, BackupError> {
    let entries = store.list("backups/").await?;
    let of = |name: &str| -> BTreeSet<BackupId> {
        let id = |key: &str| key.strip_prefix("backups/")?.strip_suffix(name)?.strip_suffix('/')?.parse().ok();
        entries.iter().filter_map(|entry| id(entry.key.as_str())).collect()
    };
    // Without its manifest there is no backup that could be proven.
    let ids: Vec<BackupId> = of(PROVEN).intersection(&of("manifest.json")).cloned().collect();
    let mut proofs = BTreeMap::new();
    for id in ids {
        let bytes = match store.get(&id.object(PROVEN)?, MAX_PROOF).await {
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. } | StoreError::Checksum { .. }) => continue,
            other => other?,
        };
        if let Ok(proof) = serde_json::from_slice(&bytes) {
            proofs.insert(id, proof);
        }
    }
    Ok(proofs)
}

/// The newest backup that has a proof.
///
/// # Errors
/// When the store cannot be read.
pub async fn newest_proof(store: &dyn Store) -> Result<Option<(BackupId, Proof)>, BackupError> {
    Ok(proofs(store).await?.pop_last())
}
