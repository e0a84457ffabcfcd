//! What the store holds, and what each backup costs.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use super::error::BackupError;
use super::manifest::{self, BackupId, Loaded};
use super::names::{self, ChunkName};
use super::proof;
use super::store::Store;
use crate::context::Context;
use crate::progress::Unit;

/// One backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupStats {
    /// Its identifier.
    pub id: BackupId,
    /// Bytes of rows before compression.
    pub raw_bytes: u64,
    /// Bytes of chunks that only this backup names: what its removal frees.
    pub alone_bytes: u64,
    /// Bytes of chunks that others name as well.
    pub shared_bytes: u64,
    /// Raw bytes for each byte that only it holds; `None` when it holds nothing alone.
    pub dedup_ratio: Option<f64>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Raw bytes a second.
    pub bytes_per_second: u64,
    /// When a drill proved it; `None` when none did.
    pub proven: Option<Timestamp>,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Where it is.
    pub store: String,
    /// Its backups, newest first.
    pub backups: Vec<BackupStats>,
    /// Backups whose manifest cannot be read, and why.
    pub unreadable: Vec<(BackupId, String)>,
    /// Bytes of rows of all backups, before compression.
    pub raw_bytes: u64,
    /// Chunks that backups name, each counted once.
    pub chunks: u64,
    /// Bytes of these.
    pub chunk_bytes: u64,
    /// Raw bytes of all backups for each byte of their chunks; `None` when there are none.
    pub dedup_ratio: Option<f64>,
    /// Chunks in the store that no backup names: of runs that are going on or were ended, and what a prune has not
    /// removed yet.
    pub orphaned_chunks: u64,
    /// Bytes of these.
    pub orphaned_bytes: u64,
    /// Chunks that backups name and that are not in the store.
    pub missing_chunks: u64,
}

/// By how many backups a chunk is named.
#[derive(Clone, Copy)]
enum Named {
    By(usize),
    Several,
}

/// Reads every manifest and the listing. Takes memory for each chunk, about a hundred bytes.
///
/// # Errors
/// What the store says, or the run is cancelled. A manifest that cannot be read is in the answer.
pub async fn stats(store: &dyn Store, ctx: &Context) -> Result<Stats, BackupError> {
    let listed = names::listed(store).await?;
    let ids = manifest::ids(store).await?;
    let mut proofs = proof::proofs(store).await?;
    ctx.progress.stage("reading manifests", Some(ids.len() as u64), Unit::Items);
    let mut backups: Vec<BackupStats> = Vec::new();
    let mut unreadable = Vec::new();
    let mut named: HashMap<ChunkName, (u64, Named)> = HashMap::new();
    // Bytes of the chunks of each, each counted once.
    let mut held: Vec<u64> = Vec::new();
    for id in ids {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let manifest = match manifest::loaded(store, &id).await? {
            Loaded::Read(manifest) => manifest,
            Loaded::Gone => continue,
            Loaded::Unreadable(why) => {
                unreadable.push((id, why));
                continue;
            }
        };
        let index = backups.len();
        let own: HashMap<ChunkName, u64> =
            manifest.chunks().map(|(_, _, chunk)| (chunk.name(), chunk.stored)).collect();
        for (chunk, stored) in &own {
            named.entry(*chunk).and_modify(|(_, by)| *by = Named::Several).or_insert((*stored, Named::By(index)));
        }
        held.push(own.values().fold(0, |sum, stored| sum.saturating_add(*stored)));
        let raw_bytes = manifest.databases.iter().flat_map(|database| &database.tables).map(|table| table.bytes).sum();
        let took = manifest.finished.duration_since(manifest.started).as_millis();
        let milliseconds = u64::try_from(took).unwrap_or(0);
        backups.push(BackupStats {
            proven: proofs.remove(&id).map(|proof| proof.at),
            id,
            raw_bytes,
            alone_bytes: 0,
            shared_bytes: 0,
            dedup_ratio: None,
            milliseconds,
            bytes_per_second: u64::try_from(u128::from(raw_bytes) * 1000 / u128::from(milliseconds.max(1)))
                .unwrap_or(u64::MAX),
        });
        ctx.progress.advance(1);
    }
    let mut chunk_bytes = 0;
    for (stored, by) in named.values() {
        chunk_bytes = stored.saturating_add(chunk_bytes);
        if let Named::By(index) = by
            && let Some(backup) = backups.get_mut(*index)
        {
            backup.alone_bytes = stored.saturating_add(backup.alone_bytes);
        }
    }
    for (backup, held) in backups.iter_mut().zip(held) {
        backup.shared_bytes = held.saturating_sub(backup.alone_bytes);
        backup.dedup_ratio = ratio(backup.raw_bytes, backup.alone_bytes);
    }
    let (mut there, mut orphaned_chunks, mut orphaned_bytes) = (0u64, 0, 0);
    for (id, entry) in listed {
        if named.contains_key(&id) {
            there += 1;
        } else {
            orphaned_chunks += 1;
            orphaned_bytes = entry.size.saturating_add(orphaned_bytes);
        }
    }
    let raw_bytes = backups.iter().fold(0u64, |sum, backup| sum.saturating_add(backup.raw_bytes));
    let chunks = named.len() as u64;
    Ok(Stats {
        store: store.location(),
        backups,
        unreadable,
        raw_bytes,
        chunks,
        chunk_bytes,
        dedup_ratio: ratio(raw_bytes, chunk_bytes),
        orphaned_chunks,
        orphaned_bytes,
        missing_chunks: chunks.saturating_sub(there),
    })
}

/// Two digits after the point.
fn ratio(raw: u64, stored: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    let ratio = (raw as f64 / stored as f64 * 100.0).round() / 100.0;
    (stored > 0).then_some(ratio)
}
