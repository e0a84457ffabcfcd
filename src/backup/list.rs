//! What backups there are.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use super::error::BackupError;
use super::manifest::{self, BackupId, Loaded, Manifest};
use super::proof;
use super::store::Store;

/// One backup of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Listed {
    /// Its manifest can be read.
    Readable(Summary),
    /// It cannot, and nobody should count on the backup.
    Unreadable {
        /// The identifier.
        id: BackupId,
        /// Why.
        reason: String,
    },
}

/// A backup in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The identifier.
    pub id: BackupId,
    /// When it began.
    pub started: Timestamp,
    /// When it was complete.
    pub finished: Timestamp,
    /// The databases in it.
    pub databases: Vec<String>,
    /// Tables.
    pub tables: usize,
    /// Rows.
    pub rows: u64,
    /// Bytes of rows before compression.
    pub raw_bytes: u64,
    /// Bytes of its chunks in the store, each counted once, shared with other backups or not.
    pub stored_bytes: u64,
    /// When a drill last proved it; `None` when none did.
    pub proven: Option<Timestamp>,
}

/// All backups, newest first; one whose manifest is damaged is among them.
///
/// # Errors
/// When the store cannot be read.
pub async fn list(store: &dyn Store) -> Result<Vec<Listed>, BackupError> {
    list_beside(store, &mut HashMap::new()).await
}

/// The same for somebody who lists again and again: a manifest never changes, so that those in `known` are not read
/// again, and those that are read are put there.
///
/// # Errors
/// When the store cannot be read.
pub async fn list_beside(
    store: &dyn Store,
    known: &mut HashMap<BackupId, Summary>,
) -> Result<Vec<Listed>, BackupError> {
    let proofs = proof::proofs(store).await?;
    let ids = manifest::ids(store).await?;
    known.retain(|id, _| ids.contains(id));
    let mut listed = Vec::new();
    for id in ids {
        let proven = proofs.get(&id).map(|proof| proof.at);
        if let Some(summary) = known.get(&id) {
            listed.push(Listed::Readable(Summary { proven, ..summary.clone() }));
            continue;
        }
        listed.push(match manifest::loaded(store, &id).await? {
            Loaded::Read(manifest) => {
                let summary = summary(&manifest, proven);
                known.insert(id, summary.clone());
                Listed::Readable(summary)
            }
            Loaded::Unreadable(reason) => Listed::Unreadable { id, reason },
            Loaded::Gone => continue,
        });
    }
    Ok(listed)
}

/// The manifest of a backup; `latest` is the newest one, and an error when that cannot be read: an older one must not pass for it.
///
/// # Errors
/// When there is none, or it cannot be read.
pub async fn show(store: &dyn Store, id: &str) -> Result<Manifest, BackupError> {
    if id != "latest" {
        return manifest::load(store, &id.parse()?).await;
    }
    let newest = manifest::ids(store).await?.into_iter().next();
    let newest = newest.ok_or_else(|| BackupError::NoneYet { location: store.location() })?;
    manifest::load(store, &newest).await
}

/// The line of a manifest, and when it was proven.
#[must_use]
pub fn summary(manifest: &Manifest, proven: Option<Timestamp>) -> Summary {
    let tables = || manifest.databases.iter().flat_map(|database| &database.tables);
    let chunks: HashMap<_, _> = manifest.chunks().map(|(_, _, chunk)| (chunk.name(), chunk.stored)).collect();
    Summary {
        id: manifest.id.clone(),
        started: manifest.started,
        finished: manifest.finished,
        databases: manifest.databases.iter().map(|database| database.name.clone()).collect(),
        tables: tables().count(),
        rows: tables().map(|table| table.rows).sum(),
        raw_bytes: tables().map(|table| table.bytes).sum(),
        stored_bytes: chunks.values().sum(),
        proven,
    }
}
