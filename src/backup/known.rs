//! The chunks that need not be stored again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::chunk::{ChunkId, ChunkRef, Holds};
use super::error::BackupError;
use super::manifest::{self, Database, Loaded, Table};
use super::names::{self, ChunkName};
use super::seal::{Recipients, SetId};
use super::store::Store;
use super::track::Origin;

/// How new chunks are sealed, and which older ones do.
#[derive(Debug, Clone, Default)]
pub(super) struct Sealing {
    /// For whom; nothing is encrypted without.
    pub(super) recipients: Option<Recipients>,
    /// True when chunks that are encrypted for others, as before a change of keys, are stored anew.
    pub(super) renew: bool,
}

impl Sealing {
    /// The set that new chunks are encrypted for.
    pub(super) fn set(&self) -> Option<SetId> {
        self.recipients.as_ref().map(Recipients::id)
    }

    /// Whether a chunk that is encrypted for these is as good as a new one: what is not encrypted never is when it
    /// should be, and no key is needed for what need not be encrypted.
    fn takes(&self, sealed: Option<SetId>) -> bool {
        sealed == self.set() || (!self.renew && sealed.is_some() && self.recipients.is_some())
    }
}

/// Chunks that a readable manifest names and that the store lists with the size they should have. A chunk that no
/// manifest names is not trusted: it may be the rest of a run that broke off, and a sweep may be about to remove it.
#[derive(Debug, Default)]
pub(super) struct Known {
    chunks: Mutex<HashMap<ChunkId, ChunkRef>>,
}

/// Databases as backups say they were, by name, newest first: the newest of each server that had one.
#[derive(Debug, Default)]
pub(super) struct Last(HashMap<String, Vec<Arc<Database>>>);

/// Servers that may share a store with databases of one name.
const SERVERS: usize = 4;

impl Last {
    fn add(&mut self, database: Database) {
        let known = self.0.entry(database.name.clone()).or_default();
        let same = |other: &Arc<Database>| match (&other.origin, &database.origin) {
            (Some(one), Some(other)) => one.is_of(other),
            (None, None) => true,
            _ => false,
        };
        if known.len() < SERVERS && !known.iter().any(same) {
            known.push(Arc::new(database));
        }
    }

    /// The last one of this origin, else the last one of the name.
    pub(super) fn of(&self, name: &str, origin: &Origin) -> Option<Arc<Database>> {
        let known = self.0.get(name)?;
        let same = |database: &&Arc<Database>| database.origin.as_ref().is_some_and(|one| one.is_of(origin));
        known.iter().find(same).or_else(|| known.first()).cloned()
    }
}

impl Known {
    /// Reads the listing and the manifests; the databases are those of the newest backup that has each. A manifest that
    /// cannot be read makes its chunks unknown, no more.
    ///
    /// # Errors
    /// When the store cannot be listed or read.
    pub(super) async fn read(store: &dyn Store, sealing: &Sealing) -> Result<(Self, Last), BackupError> {
        let listed = names::listed(store).await?.into_iter();
        let sizes: HashMap<ChunkName, u64> = listed.map(|(name, entry)| (name, entry.size)).collect();
        let (mut chunks, mut last) = (HashMap::new(), Last::default());
        for id in manifest::ids(store).await? {
            let manifest = match manifest::loaded(store, &id).await? {
                Loaded::Read(manifest) => manifest,
                Loaded::Gone => continue,
                Loaded::Unreadable(why) => {
                    tracing::warn!(why, "the chunks of a backup whose manifest cannot be read are stored anew");
                    continue;
                }
            };
            for (holds, chunk) in
                manifest.databases.iter().flat_map(|database| &database.tables).flat_map(Table::objects)
            {
                // Whoever reads a list finds out whether it opens.
                let takes = !matches!(holds, Holds::Rows(_)) || sealing.takes(chunk.sealed);
                if !takes || sizes.get(&chunk.name()) != Some(&chunk.stored) {
                    continue;
                }
                let current = chunk.sealed == sealing.set();
                chunks
                    .entry(chunk.id)
                    .and_modify(|known| {
                        if current {
                            *known = *chunk
                        }
                    })
                    .or_insert(*chunk);
            }
            for database in manifest.databases {
                last.add(database);
            }
        }
        Ok((Self { chunks: Mutex::new(chunks) }, last))
    }

    /// The chunk of this name.
    #[must_use]
    pub(super) fn get(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Forgets an object that turned out not to be what it should be.
    pub(super) fn forget(&self, id: &ChunkId) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Remembers a chunk that has just been stored.
    pub(super) fn add(&self, chunk: ChunkRef) {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk.id, chunk);
    }
}
