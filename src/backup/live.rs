//! The one way from a chunk of a manifest to its rows.

use std::sync::Arc;

use super::chunk::{ChunkError, ChunkRef, Keys, MAX_STORED};
use super::error::BackupError;
use super::seal::{self, Identities};
use super::store::{Store, StoreError};

/// Where chunks are, and what opens those that are encrypted.
#[derive(Debug, Clone)]
pub struct Chunks {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The keys; none where nothing is encrypted.
    pub identities: Arc<Identities>,
}

/// The rows of a chunk that belong to the backup, as COPY writes them, without header and trailer. Everything that
/// reads rows out of a backup reads them here.
///
/// # Errors
/// What the store says, and [`BackupError::Chunk`] when it holds something else than the manifest says.
pub(super) async fn live_rows(
    from: Chunks,
    wanted: ChunkRef,
    keys: Keys,
    relation: String,
) -> Result<Vec<u8>, BackupError> {
    let stored = match from.store.get(&wanted.key()?, MAX_STORED).await {
        Err(StoreError::NotFound { .. }) => {
            return Err(BackupError::Chunk { id: wanted.id.to_string(), relation, cause: ChunkError::Missing });
        }
        other => other?,
    };
    let opened = tokio::task::spawn_blocking(move || seal::open(&stored, &wanted, &keys, &from.identities)).await;
    let opened = opened.map_err(|error| BackupError::Internal(error.to_string()))?;
    opened.map_err(|cause| match cause {
        ChunkError::NoIdentity(set) => BackupError::NoIdentity { relation, set },
        cause => BackupError::Chunk { id: wanted.id.to_string(), relation, cause },
    })
}
