//! Puts a piece of rows, or a list, into the store unless it is there already.

use std::sync::{Arc, PoisonError};

use super::job::Job;
use crate::backup::aside;
use crate::backup::chunk::{ChunkRef, Content, Holds, Keys};
use crate::backup::copy::Piece;
use crate::backup::error::BackupError;
use crate::backup::manifest::Slice;
use crate::backup::seal::{self, Recipients};
use crate::backup::track::gone::Bitmap;
use crate::backup::track::places::Placed;
use crate::units::human_bytes;

/// A chunk that is stored; where the piece had places, each with its row's hash.
pub(super) type Sealed = (ChunkRef, Vec<Placed>);

impl Job {
    /// Names a chunk, and compresses and stores it unless the store has it.
    pub(super) async fn seal(self, piece: Piece, keys: Keys) -> Result<Sealed, BackupError> {
        let (known, sealing, spares) = (Arc::clone(&self.known), Arc::clone(&self.sealing), self.spares.clone());
        let level = self.policy.compression_level.get();
        let bytes = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        let sealed = aside::work(move || {
            let id = keys.id(&piece.bytes);
            // Its name vouches for the bytes; what else the older manifest says about it must fit as well.
            let fits = |chunk: &ChunkRef| chunk.bytes == bytes && usize::try_from(chunk.rows) == Ok(piece.ends.len());
            let chunk = known.get(&id).filter(fits);
            if let Some(chunk) = chunk.filter(|_| piece.places.is_empty()) {
                return Ok((chunk, None, Vec::new()));
            }
            let hashes = keys.rows(piece.rows());
            let content = hashes.iter().fold(Content::default(), |sum, hash| sum.plus(Content::of_row(*hash)));
            let placed = piece.places.iter().copied().zip(hashes).collect();
            if let Some(chunk) = chunk {
                return Ok((chunk, None, placed));
            }
            let body = seal::seal(&piece.bytes, level, sealing.recipients.as_ref())?;
            spares.give(piece.bytes);
            let stored = u64::try_from(body.len()).unwrap_or(u64::MAX);
            let Content { rows, sum } = content;
            Ok((ChunkRef { id, bytes, stored, rows, content: sum, sealed: sealing.set() }, Some(body), placed))
        });
        let sealed: Result<_, std::io::Error> =
            sealed.await.map_err(|error| BackupError::Internal(error.to_string()))?;
        let (chunk, body, placed) = sealed.map_err(|error| BackupError::Internal(format!("compressing: {error}")))?;
        self.put(chunk, body).await?;
        Ok((chunk, placed))
    }

    /// The same for a list.
    pub(super) async fn seal_list(&self, bytes: Vec<u8>, holds: Holds) -> Result<ChunkRef, BackupError> {
        let id = Keys::list().id(&bytes);
        let recipients = self.lists.recipients(holds).cloned();
        let set = recipients.as_ref().map(Recipients::id);
        if let Some(list) = self.known.get(&id).filter(|list| list.sealed == set) {
            return Ok(list);
        }
        let level = self.policy.compression_level.get();
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let sealed = aside::work(move || seal::seal(&bytes, level, recipients.as_ref())).await;
        let sealed = sealed.map_err(|error| BackupError::Internal(error.to_string()))?;
        let body = sealed.map_err(|error| BackupError::Internal(format!("compressing: {error}")))?;
        let stored = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let list = ChunkRef { id, bytes: size, stored, rows: 0, content: 0, sealed: set };
        self.store(list, body).await?;
        Ok(list)
    }

    async fn put(&self, chunk: ChunkRef, body: Option<bytes::Bytes>) -> Result<(), BackupError> {
        let new = body.is_some();
        if let Some(body) = body {
            self.store(chunk, body).await?;
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if new {
            totals.new += 1;
        } else {
            totals.reused += 1;
        }
        Ok(())
    }

    async fn store(&self, object: ChunkRef, body: bytes::Bytes) -> Result<(), BackupError> {
        self.store.put(&object.key()?, body).await?;
        self.known.add(object);
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).stored += object.stored;
        Ok(())
    }

    /// These slices need not be stored; nor read, when the server said so.
    pub(super) fn kept(&self, slices: &[(Slice, Bitmap)], unread: bool) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.reused += slices.len() as u64;
        if unread {
            self.ctx.progress.advance(slices.iter().map(|(slice, _)| slice.bytes()).sum());
        }
    }

    /// So many bytes of rows were read. Waits when that is more than the policy's rate.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(super) async fn read(&self, bytes: usize) -> Result<(), BackupError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.ctx.progress.advance(bytes);
        let totals = {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.read += bytes;
            *totals
        };
        self.ctx.progress.detail(&format!("{} new", human_bytes(totals.stored)));
        self.throttle.took(bytes, &self.ctx.cancel).await
    }
}
