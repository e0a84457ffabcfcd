//! Backups and prunes on one store, every call of theirs interleaved at random: no manifest ever names a chunk that is
//! not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::{apply, plan};
use crate::backup::chunk::{ChunkRef, Keys};
use crate::backup::error::BackupError;
use crate::backup::manifest::{self, BackupId, Database, FORMAT, Manifest, Name, Slice, Table};
use crate::backup::names::ChunkName;
use crate::backup::rows::Format;
use crate::backup::store::{Entry, Key, Store, StoreError};
use crate::backup::{claim, known};
use crate::context::Context;
use crate::policy::keep::Keep;
use crate::units::Span;

/// How the histories are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The store's clock stands still for chunks, so that each is old at once and no clock keeps sweeps and backups apart.
    NoGrace,
    /// For claims as well: every backup is taken for one that was halted for the whole grace period.
    Forgetful,
    /// As the first, and backups do not claim.
    WithoutClaims,
}

/// A store in memory whose calls take a random number of turns before and after they take effect.
#[derive(Debug)]
struct Turns {
    objects: Mutex<BTreeMap<Key, (Bytes, Timestamp)>>,
    random: Mutex<u64>,
    mode: Mode,
    /// Deletions, the last word on what a prune does.
    deleted: Mutex<u64>,
}

impl Turns {
    fn new(seed: u64, mode: Mode) -> Self {
        Self { objects: Mutex::default(), random: Mutex::new(seed * 2 + 1), mode, deleted: Mutex::default() }
    }

    fn random(&self, below: u64) -> u64 {
        let mut state = self.random.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % below
    }

    fn clock(&self, key: &Key) -> Timestamp {
        let hours = i64::from(self.mode != Mode::Forgetful && key.as_str().starts_with("backups/"));
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    async fn turns(&self) {
        for _ in 0..self.random(6) {
            tokio::task::yield_now().await;
        }
    }

    async fn call<T>(&self, effect: impl FnOnce(&mut BTreeMap<Key, (Bytes, Timestamp)>) -> T) -> T {
        self.turns().await;
        let answer = effect(&mut self.objects.lock().unwrap());
        self.turns().await;
        answer
    }

    fn missing(&self, key: &Key) -> StoreError {
        StoreError::NotFound { location: self.location(), key: key.to_string() }
    }
}

#[async_trait]
impl Store for Turns {
    fn location(&self) -> String {
        "memory".into()
    }
    async fn reach(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        self.call(|objects| drop(objects.insert(key.clone(), (body, self.clock(key))))).await;
        Ok(())
    }
    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
        let new = |objects: &mut BTreeMap<Key, (Bytes, Timestamp)>| {
            let absent = !objects.contains_key(key);
            if absent {
                objects.insert(key.clone(), (body, self.clock(key)));
            }
            absent
        };
        Ok(self.call(new).await)
    }
    async fn get(&self, key: &Key, _: u64) -> Result<Bytes, StoreError> {
        self.call(|objects| objects.get(key).map(|(body, _)| body.clone())).await.ok_or_else(|| self.missing(key))
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(self.call(|objects| objects.get(key).map(|(body, _)| body.len() as u64)).await)
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        // A folder that changes while it is listed: half of it is seen earlier than the other.
        let some = |odd: bool| {
            move |objects: &mut BTreeMap<Key, (Bytes, Timestamp)>| -> Vec<Entry> {
                let of = |key: &&Key| key.as_str().starts_with(prefix) && (key.as_str().len() % 2 == 1) == odd;
                let entry = |key: &Key, (body, at): &(Bytes, Timestamp)| Entry {
                    key: key.clone(),
                    size: body.len() as u64,
                    modified: Some(*at),
                };
                objects.iter().filter(|(key, _)| of(key)).map(|(key, value)| entry(key, value)).collect()
            }
        };
        let first = self.random(2) == 0;
        let mut entries = self.call(some(first)).await;
        entries.extend(self.call(some(!first)).await);
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        if self.call(|objects| objects.remove(key)).await.is_some() && key.as_str().starts_with("chunks/") {
            *self.deleted.lock().unwrap() += 1;
        }
        Ok(())
    }
}

fn chunk(number: u64) -> ChunkRef {
    let keys = Keys::new("x", Format::Text);
    ChunkRef {
        id: keys.id(&number.to_be_bytes()),
        bytes: 1,
        stored: 1,
        rows: 1,
        content: u128::from(number),
        sealed: None,
    }
}

fn manifest_of(chunks: Vec<ChunkRef>, began: Timestamp) -> Manifest {
    let name = |name: &str| Name { schema: "public".into(), name: name.into() };
    let table = Table {
        name: name("t"),
        copy_format: Format::Text,
        columns: vec![],
        rows: chunks.len() as u64,
        bytes: chunks.len() as u64,
        content: chunks.iter().map(|chunk| chunk.content).sum(),
        chunks: chunks.into_iter().map(Slice::whole).collect(),
        tracking: None,
    };
    let database = Database {
        name: "main".into(),
        server_version: 150_018,
        encoding: "UTF8".into(),
        snapshot_at: began,
        snapshot_lsn: "0/0".into(),
        origin: None,
        schema_versions: vec![],
        pre_data: String::new(),
        post_data: String::new(),
        sequences: vec![],
        materialized_views: vec![],
        tables: vec![table],
        not_covered: vec![],
    };
    let id = BackupId::new(began);
    let databases = vec![database];
    Manifest {
        format: FORMAT,
        written_by: "0".into(),
        id,
        started: began,
        finished: began,
        recipients: vec![],
        databases,
    }
}

/// What a backup does with the store.
async fn backup(store: &Turns, number: i64) -> Result<(), BackupError> {
    let (known, _) = known::Known::read(store, &known::Sealing::default()).await?;
    let mut chunks = Vec::new();
    let first = store.random(12);
    for number in first..first + 4 {
        let chunk = chunk(number % 12);
        if known.get(&chunk.id).is_none() {
            store.put(&chunk.key()?, Bytes::from_static(b"x")).await?;
        }
        chunks.push(chunk);
        // Reading rows takes a while.
        for _ in 0..store.random(60) {
            store.turns().await;
        }
    }
    let manifest = manifest_of(chunks, Timestamp::UNIX_EPOCH + SignedDuration::from_hours(number));
    match store.mode {
        Mode::WithoutClaims => manifest::commit(store, &manifest).await.map(drop),
        _ => claim::commit(store, &manifest, &Context::plain()).await,
    }
}

async fn prune(store: &Turns) -> Result<(), BackupError> {
    let keep = Keep { last: 2, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let planned = plan(store, &keep, Span::seconds(0), &Context::plain()).await?;
    apply(&planned, store, &Context::plain()).await.1
}

/// How many chunks are named and not there.
fn gone(store: &Turns) -> usize {
    let objects = store.objects.lock().unwrap();
    let there: BTreeSet<ChunkName> = objects.keys().filter_map(ChunkName::of_key).collect();
    let manifests = objects.iter().filter(|(key, _)| key.as_str().ends_with("/manifest.json"));
    let named = manifests.flat_map(|(_, (bytes, _))| {
        let manifest: Manifest = serde_json::from_slice(bytes).unwrap();
        manifest.chunks().map(|(_, _, chunk)| chunk.name()).collect::<Vec<_>>()
    });
    named.filter(|id| !there.contains(id)).count()
}

/// What came of one history.
#[derive(Debug, Default)]
struct Came {
    made: u64,
    given_up: u64,
    deleted: u64,
    /// Named and not there, seen by whoever had just ended. A backup that was taken for dead may show it for a moment.
    gone: usize,
    gone_at_the_end: usize,
}

/// Two backups after each other, five times, beside two hosts that prune and know nothing of each other.
async fn history(seed: u64, mode: Mode) -> Came {
    let store = Arc::new(Turns::new(seed, mode));
    let mut tasks = Vec::new();
    for writer in 0..2 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let mut came = Came::default();
            for number in 0..8 {
                match backup(&store, writer * 100 + number).await {
                    Ok(()) => came.made += 1,
                    Err(BackupError::Swept { .. }) => came.given_up += 1,
                    Err(error) => panic!("seed {seed}: {error:?}"),
                }
                came.gone += gone(&store);
            }
            came
        }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut prunes = Vec::new();
    for _ in 0..2 {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        prunes.push(tokio::spawn(async move {
            let mut came = Came::default();
            while !stop.load(Ordering::Relaxed) {
                match prune(&store).await {
                    Ok(()) => {}
                    // A backup that was taken for dead, and has not seen that yet.
                    Err(BackupError::ManifestsUnreadable { .. }) if mode == Mode::Forgetful => {}
                    Err(error) => panic!("seed {seed}: {error:?}"),
                }
                came.gone += gone(&store);
            }
            came
        }));
    }
    let mut sum = Came::default();
    let writers = tasks.len();
    for (index, task) in tasks.into_iter().chain(prunes).enumerate() {
        stop.store(index >= writers, Ordering::Relaxed);
        let came = task.await.unwrap();
        sum.made += came.made;
        sum.given_up += came.given_up;
        sum.gone += came.gone;
    }
    prune(&store).await.unwrap();
    sum.gone_at_the_end = gone(&store);
    if mode == Mode::Forgetful {
        sum.gone = 0;
    }
    sum.deleted = *store.deleted.lock().unwrap();
    let objects = store.objects.lock().unwrap();
    let of_runs = |key: &&Key| key.as_str().contains("claim") || key.as_str().contains("condemned");
    assert_eq!(objects.keys().filter(of_runs).count(), 0, "seed {seed}");
    sum
}

async fn histories(seeds: u64, mode: Mode) -> Came {
    let mut sum = Came::default();
    for seed in 0..seeds {
        let came = history(seed, mode).await;
        if mode != Mode::WithoutClaims {
            assert_eq!((came.gone, came.gone_at_the_end), (0, 0), "seed {seed}, {mode:?}");
        }
        sum.made += came.made;
        sum.given_up += came.given_up;
        sum.deleted += came.deleted;
        sum.gone += came.gone;
    }
    println!("{mode:?}: {sum:?}");
    sum
}

#[tokio::test]
async fn no_manifest_names_a_chunk_that_was_swept() {
    let came = histories(100, Mode::NoGrace).await;
    assert!(came.made > 100 && came.given_up > 50 && came.deleted > 500, "backups and sweeps have not met: {came:?}");
}

#[tokio::test]
async fn backups_that_were_taken_for_dead_see_it() {
    let came = histories(50, Mode::Forgetful).await;
    assert!(came.made > 10 && came.given_up > 50 && came.deleted > 100, "backups and sweeps have not met: {came:?}");
}

/// The same histories without claims lose chunks, so the tests above are about something.
#[tokio::test]
async fn without_claims_chunks_are_lost() {
    assert!(histories(20, Mode::WithoutClaims).await.gone > 0);
}

#[tokio::test]
async fn a_backup_whose_claim_was_forgotten_takes_its_manifest_back() {
    /// Forgets the claim right before the manifest is stored, as if the backup had slept for days.
    #[derive(Debug)]
    struct Sleeper(Turns);
    #[async_trait]
    impl Store for Sleeper {
        fn location(&self) -> String {
            self.0.location()
        }
        async fn reach(&self) -> Result<(), StoreError> {
            Ok(())
        }
        async fn probe(&self) -> Result<(), StoreError> {
            Ok(())
        }
        async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
            self.0.put(key, body).await
        }
        async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
            if key.as_str().ends_with("manifest.json") {
                self.0.objects.lock().unwrap().retain(|key, _| !key.as_str().ends_with("claim.txt"));
            }
            self.0.put_if_absent(key, body).await
        }
        async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
            self.0.get(key, limit).await
        }
        async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
            self.0.size(key).await
        }
        async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
            self.0.list(prefix).await
        }
        async fn delete(&self, key: &Key) -> Result<(), StoreError> {
            self.0.delete(key).await
        }
    }
    let store = Sleeper(Turns::new(1, Mode::NoGrace));
    store.put(&chunk(1).key().unwrap(), Bytes::from_static(b"x")).await.unwrap();
    let manifest = manifest_of(vec![chunk(1)], Timestamp::UNIX_EPOCH);
    let error = claim::commit(&store, &manifest, &Context::plain()).await.unwrap_err();
    assert!(error.to_string().contains("longer than the grace period"), "{error}");
    assert_eq!(store.list("backups/").await.unwrap(), vec![]);
}
