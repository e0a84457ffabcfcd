//! The marks: since when nothing has named a chunk, kept in the store as `prune/marks.json`.
//!
//! They decide only when a chunk is old enough, never whether it may go. Two hosts that write them at once lose marks,
//! and chunks stay for longer.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::backup::error::BackupError;
use crate::backup::names::ChunkName;
use crate::backup::store::{Key, Store, StoreError};
use crate::units::Span;

const FORMAT: u32 = 1;
/// The largest object of marks that is read.
const MAX_MARKS: u64 = 1 << 30;
/// As many are marked at most; the others wait for a later run.
const MOST_MARKS: usize = 1_000_000;

/// An instant as two clocks tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instants {
    /// This host's.
    pub host: Timestamp,
    /// The store's.
    pub store: Timestamp,
}

impl Instants {
    /// This host's now and the store's, which is read from an object that is written for that.
    pub(super) async fn read(store: &dyn Store, host: Timestamp) -> Result<Self, BackupError> {
        let key = Key::new("prune/clock")?;
        store.put(&key, Bytes::from(uuid::Uuid::new_v4().to_string())).await?;
        let listed = store.list(key.as_str()).await?;
        let written = listed.into_iter().find(|entry| entry.key == key).and_then(|entry| entry.modified);
        Ok(Self { host, store: written.unwrap_or(host) })
    }

    /// Whether both clocks say that so much time has passed since then.
    fn passed(self, since: Self, grace: Span) -> bool {
        let grace = SignedDuration::from(grace);
        self.host.duration_since(since.host) >= grace && self.store.duration_since(since.store) >= grace
    }

    /// Whether the store's clock says that what was written then is so old. What has no time is never old.
    pub(super) fn old(self, written: Option<Timestamp>, grace: Span) -> bool {
        written.is_some_and(|written| self.store.duration_since(written) >= SignedDuration::from(grace))
    }
}

/// Since when each chunk, and each object of a backup without a manifest, has been of no use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks {
    chunks: HashMap<ChunkName, Instants>,
    rest: HashMap<String, Instants>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    marks: Vec<Generation>,
}

/// What was marked at one instant.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generation {
    since: Instants,
    #[serde(default)]
    chunks: Vec<ChunkName>,
    #[serde(default)]
    rest: Vec<String>,
}

impl Marks {
    fn key() -> Result<Key, BackupError> {
        Ok(Key::new("prune/marks.json")?)
    }

    /// The marks in the store. Marks that cannot be understood are none: everything begins to wait anew.
    pub(super) async fn load(store: &dyn Store) -> Result<Self, BackupError> {
        let bytes = match store.get(&Self::key()?, MAX_MARKS).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        Ok(Self::parse(&bytes).unwrap_or_default())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let mut marks = Self::default();
        for generation in (written.format == FORMAT).then_some(written.marks)? {
            marks.chunks.extend(generation.chunks.into_iter().map(|id| (id, generation.since)));
            marks.rest.extend(generation.rest.into_iter().map(|name| (name, generation.since)));
        }
        Some(marks)
    }

    /// Stores them.
    pub(super) async fn store(&self, store: &dyn Store) -> Result<(), BackupError> {
        let mut generations: HashMap<Instants, Generation> = HashMap::new();
        let new = |since: Instants| Generation { since, chunks: vec![], rest: vec![] };
        for (id, since) in &self.chunks {
            generations.entry(*since).or_insert_with(|| new(*since)).chunks.push(*id);
        }
        for (name, since) in &self.rest {
            generations.entry(*since).or_insert_with(|| new(*since)).rest.push(name.clone());
        }
        let written = Written { format: FORMAT, marks: generations.into_values().collect() };
        let bytes = serde_json::to_vec(&written).map_err(|error| BackupError::Internal(error.to_string()))?;
        Ok(store.put(&Self::key()?, bytes.into()).await?)
    }

    /// The marks of exactly these, those that had one keeping it. One from the future, which a clock has left that went
    /// back since, begins anew.
    pub(super) fn renewed<'a>(
        &self,
        chunks: impl IntoIterator<Item = ChunkName>,
        rest: impl IntoIterator<Item = &'a str>,
        now: Instants,
    ) -> Self {
        let since = |old: Option<&Instants>| match old {
            Some(old) if old.host <= now.host && old.store <= now.store => *old,
            _ => now,
        };
        let chunks = chunks.into_iter().map(|id| (id, since(self.chunks.get(&id)))).take(MOST_MARKS);
        let rest = rest.into_iter().map(|name| (name.to_owned(), since(self.rest.get(name)))).take(MOST_MARKS);
        Self { chunks: chunks.collect(), rest: rest.collect() }
    }

    /// Whether nothing has named the chunk for longer than the grace period.
    pub(super) fn chunk_is_due(&self, id: &ChunkName, now: Instants, grace: Span) -> bool {
        self.chunks.get(id).is_some_and(|since| now.passed(*since, grace))
    }

    /// The same for any other object, by its key.
    pub(super) fn is_due(&self, key: &Key, now: Instants, grace: Span) -> bool {
        self.rest.get(key.as_str()).is_some_and(|since| now.passed(*since, grace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::chunk::Keys;
    use crate::backup::rows::Format;
    use crate::backup::store::Directory;

    fn at(host: i64, store: i64) -> Instants {
        let hours = |hours: i64| Timestamp::from_second(1_000_000_000 + hours * 3600).unwrap();
        Instants { host: hours(host), store: hours(store) }
    }

    fn id(text: &str) -> ChunkName {
        ChunkName { id: Keys::new("x", Format::Text).id(text.as_bytes()), sealed: None }
    }

    #[test]
    fn a_chunk_is_due_when_both_clocks_say_so() {
        let grace = Span::hours(48);
        let marks = Marks::default().renewed([id("a")], ["backups/x"], at(0, 0));
        let due = |host, store| marks.chunk_is_due(&id("a"), at(host, store), grace);
        assert!(due(48, 48) && due(100, 48));
        // Either clock may have jumped.
        assert!(!due(47, 48) && !due(100, 47) && !due(-1, 100) && !due(47, 47));
        assert!(!marks.chunk_is_due(&id("b"), at(100, 100), grace));
        let key = Key::new("backups/x").unwrap();
        assert!(marks.is_due(&key, at(48, 48), grace) && !marks.is_due(&key, at(47, 48), grace));
        let written = |hours| Some(at(0, hours).store);
        let now = at(0, 48);
        assert!(now.old(written(0), grace) && !now.old(written(1), grace) && !now.old(None, grace));
        assert!(!now.old(written(60), grace), "written in the future");
    }

    #[test]
    fn a_mark_stays_while_nothing_names_the_chunk_and_one_from_the_future_begins_anew() {
        let grace = Span::hours(48);
        let first = Marks::default().renewed([id("a"), id("b")], [], at(10, 10));
        let second = first.renewed([id("a"), id("c")], [], at(40, 40));
        assert!(second.chunk_is_due(&id("a"), at(58, 58), grace) && !second.chunk_is_due(&id("c"), at(58, 58), grace));
        assert!(!second.chunk_is_due(&id("b"), at(500, 500), grace), "it was named meanwhile");
        // The clock goes back an hour, then on.
        let back = first.renewed([id("a")], [], at(9, 11));
        assert!(!back.chunk_is_due(&id("a"), at(56, 60), grace) && back.chunk_is_due(&id("a"), at(57, 59), grace));
    }

    #[tokio::test]
    async fn marks_read_back_and_damaged_ones_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Directory::new(folder.path().into());
        assert_eq!(Marks::load(&store).await.unwrap(), Marks::default());
        let marks = Marks::default().renewed([id("a")], ["x"], at(0, 0)).renewed([id("a"), id("b")], ["x"], at(1, 1));
        marks.store(&store).await.unwrap();
        assert_eq!(Marks::load(&store).await.unwrap(), marks);
        std::fs::write(folder.path().join("prune/marks.json"), b"{\"format\": 2, \"marks\": []}").unwrap();
        assert_eq!(Marks::load(&store).await.unwrap(), Marks::default());
        let now = Instants::read(&store, Timestamp::now()).await.unwrap();
        assert!(now.store.duration_since(now.host).abs() < SignedDuration::from_secs(5));
    }
}
