//! The chunks that need not be stored again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::chunk::{ChunkId, ChunkRef};
use super::error::BackupError;
use super::manifest;
use super::store::{Store, StoreError};

/// Chunks that a readable manifest names and that the store lists with the size they should have. A chunk that no
/// manifest names is not trusted: it may be the rest of a run that broke off, and a sweep may be about to remove it.
#[derive(Debug, Default)]
pub(super) struct Known {
    chunks: Mutex<HashMap<ChunkId, ChunkRef>>,
}

impl Known {
    /// Reads the listing and the manifests. A manifest that cannot be read makes its chunks unknown, no more.
    ///
    /// # Errors
    /// When the store cannot be listed or read.
    pub(super) async fn read(store: &dyn Store) -> Result<Self, BackupError> {
        let mut sizes: HashMap<ChunkId, u64> = HashMap::new();
        for entry in store.list("chunks/").await? {
            if let Some(Ok(id)) = entry.key.as_str().rsplit('/').next().map(str::parse) {
                sizes.insert(id, entry.size);
            }
        }
        let mut chunks = HashMap::new();
        for id in manifest::ids(store).await? {
            let manifest = match manifest::load(store, &id).await {
                Ok(manifest) => manifest,
                Err(
                    BackupError::Manifest { .. }
                    | BackupError::NoBackup { .. }
                    | BackupError::Store(StoreError::TooLarge { .. }),
                ) => continue,
                Err(error) => return Err(error),
            };
            let tables = manifest.databases.iter().flat_map(|database| &database.tables);
            for chunk in tables.flat_map(|table| &table.chunks) {
                if sizes.get(&chunk.id) == Some(&chunk.stored) {
                    chunks.insert(chunk.id, *chunk);
                }
            }
        }
        Ok(Self { chunks: Mutex::new(chunks) })
    }

    /// The chunk of this name.
    #[must_use]
    pub(super) fn get(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Remembers a chunk that has just been stored.
    pub(super) fn add(&self, chunk: ChunkRef) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk.id, chunk);
    }
}
