//! The one way from the chunks of a manifest to rows.

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};

use super::aside;
use super::chunk::{ChunkError, ChunkRef, Keys, MAX_STORED};
use super::error::BackupError;
use super::manifest::{Slice, Table};
use super::rows::Format;
use super::seal::{self, Identities};
use super::store::{Store, StoreError};
use super::track::gone::Bitmap;

/// Where chunks are, and what opens those that are encrypted.
#[derive(Debug, Clone)]
pub struct Chunks {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The keys; none where nothing is encrypted.
    pub identities: Arc<Identities>,
}

/// The rows of a table that belong to the backup, chunk after chunk, as COPY writes them, without header and trailer;
/// so many chunks are read ahead. Everything that reads rows out of a backup reads them here.
///
/// # Errors
/// What the store says, and [`BackupError::Chunk`] when it holds something else than the manifest says.
pub(super) fn table_rows(
    from: &Chunks,
    table: &Table,
    ahead: usize,
) -> impl Stream<Item = Result<Vec<u8>, BackupError>> + Send + use<> {
    let (from, relation, keys, format) = (from.clone(), table.name.to_string(), table.keys(), table.copy_format);
    let slices = table.chunks.clone();
    let list = table.tracking.as_ref().and_then(|tracking| tracking.gone);
    let opened = async move {
        let gone = match list {
            None => Vec::new(),
            Some(list) => opened(from.clone(), list, Keys::list(), relation.clone()).await?,
        };
        let gone = Arc::new(gone);
        let chunks = futures::stream::iter(slices).map(move |slice| {
            let (from, keys, relation, gone) = (from.clone(), keys.clone(), relation.clone(), Arc::clone(&gone));
            live_rows(from, slice, format, keys, relation, gone)
        });
        Ok::<_, BackupError>(chunks.buffered(ahead))
    };
    futures::stream::once(opened).try_flatten()
}

async fn live_rows(
    from: Chunks,
    slice: Slice,
    format: Format,
    keys: Keys,
    relation: String,
    list: Arc<Vec<u8>>,
) -> Result<Vec<u8>, BackupError> {
    let bytes = opened(from, slice.chunk, keys, relation.clone()).await?;
    let Some(gone) = slice.gone else { return Ok(bytes) };
    let left = aside::work(move || {
        // That the list is long enough was seen when the manifest was read.
        let bitmap = Bitmap::of(&list, gone.at, slice.chunk.rows).unwrap_or_default();
        bitmap.without(&bytes, format)
    });
    let left = left.await.map_err(|error| BackupError::Internal(error.to_string()))?;
    let id = slice.chunk.id.to_string();
    left.map_err(|cause| BackupError::Chunk { id, relation, cause: ChunkError::Rows(cause) })
}

/// The bytes of an object, after they were proven to be what the manifest names.
///
/// # Errors
/// As of [`table_rows`].
pub(super) async fn opened(
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
    let opened = aside::work(move || seal::open(&stored, &wanted, &keys, &from.identities)).await;
    let opened = opened.map_err(|error| BackupError::Internal(error.to_string()))?;
    opened.map_err(|cause| match cause {
        ChunkError::NoIdentity(set) => BackupError::NoIdentity { relation, set },
        cause => BackupError::Chunk { id: wanted.id.to_string(), relation, cause },
    })
}
