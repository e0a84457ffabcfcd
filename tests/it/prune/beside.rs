//! Prunes beside backups and beside each other: real backups, held at the instants that matter.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use sexton::backup::store::{Entry, StoreError, Unfinished};
use sexton::failure::Explain;
use tokio::sync::oneshot;

use super::*;
use crate::support::s3::Bucket;

/// When a call is held: before or after it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    BeforePut,
    AfterPut,
    BeforeDelete,
}

/// A store that holds the first call on a key that begins and ends like this.
#[derive(Debug)]
struct Held {
    store: Arc<dyn Store>,
    at: (When, &'static str, &'static str),
    gate: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

/// The other side of the gate.
struct Gate {
    reached: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Held {
    fn hold(store: &Arc<dyn Store>, when: When, begin: &'static str, end: &'static str) -> (Arc<dyn Store>, Gate) {
        let ((reach, reached), (go, gone)) = (oneshot::channel(), oneshot::channel());
        let held = Self { store: Arc::clone(store), at: (when, begin, end), gate: Mutex::new(Some((reach, gone))) };
        (Arc::new(held), Gate { reached, go })
    }

    async fn pass(&self, when: When, key: &Key) {
        let (at, begin, end) = self.at;
        if at != when || !key.as_str().starts_with(begin) || !key.as_str().ends_with(end) {
            return;
        }
        let gate = self.gate.lock().unwrap().take();
        if let Some((reach, gone)) = gate {
            reach.send(()).unwrap();
            gone.await.unwrap();
        }
    }
}

#[async_trait]
impl Store for Held {
    fn location(&self) -> String {
        self.store.location()
    }
    async fn reach(&self) -> Result<(), StoreError> {
        self.store.reach().await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        self.pass(When::BeforePut, key).await;
        let done = self.store.put(key, body).await;
        self.pass(When::AfterPut, key).await;
        done
    }
    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
        self.store.put_if_absent(key, body).await
    }
    async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
        self.store.get(key, limit).await
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.store.size(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.store.list(prefix).await
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.pass(When::BeforeDelete, key).await;
        self.store.delete(key).await
    }
    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.store.unfinished().await
    }
    async fn abandon(&self, what: &Unfinished) -> Result<(), StoreError> {
        self.store.abandon(what).await
    }
}

/// A backup that has copied everything, reusing the chunks of the first one, and is held before its claim; by now there
/// is a newer one of other rows, so that the policy wants the first one gone.
struct Ground {
    setting: Arc<Setting>,
    first: BackupId,
    newer: BackupId,
    gate: Option<Gate>,
    running: tokio::task::JoinHandle<Result<BackupId, BackupError>>,
    dump: Vec<String>,
}

impl Ground {
    async fn new(store: Arc<dyn Store>) -> Self {
        let setting = Arc::new(Setting::new(store));
        let first = setting.backup().await.unwrap();
        setting.churn();
        let dump = setting.source.dump();
        let (held, mut gate) = Held::hold(&setting.store, When::BeforePut, "backups/", "/claim.txt");
        let running = tokio::spawn({
            let setting = Arc::clone(&setting);
            async move { setting.backup_to(&held).await }
        });
        (&mut gate.reached).await.unwrap();
        setting.source.psql("UPDATE t SET t = md5(t); UPDATE still SET t = md5(t)");
        let newer = setting.backup().await.unwrap();
        Self { setting, first, newer, gate: Some(gate), running, dump }
    }

    /// Lets the backup go on.
    fn release(&mut self) {
        self.gate.take().unwrap().go.send(()).unwrap();
    }

    /// What becomes of it.
    async fn end(&mut self) -> Result<BackupId, BackupError> {
        (&mut self.running).await.unwrap()
    }

    /// Every manifest that is there is good.
    async fn assert_whole(&self, ids: &[&BackupId]) {
        let there = sexton::backup::manifest::ids(&*self.setting.store).await.unwrap();
        assert_eq!(there.iter().collect::<BTreeSet<_>>(), ids.iter().copied().collect());
        for id in ids {
            self.setting.assert_verifies(id).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_prune_loses_nothing_within_the_grace_period() {
    let (folder, store) = directory().await;
    let mut ground = Ground::new(store).await;
    let grace = Span::hours(48);
    let report = ground.setting.prune(last(1), grace).await;
    assert_eq!((&report.backups[..], report.removed.chunks), (std::slice::from_ref(&ground.first), 0));
    assert!(report.waiting.chunks > 0);
    ground.release();
    let id = ground.end().await.unwrap();
    // Much later nothing of it is missing: it is named.
    age(folder.path(), Duration::from_secs(100 * 3600));
    let report = ground.setting.prune(last(2), grace).await;
    assert!(report.backups.is_empty() && report.removed.chunks > 0, "what only the first one named goes: {report:?}");
    ground.assert_whole(&[&id, &ground.newer]).await;
    assert_eq!(ground.setting.restored(&id).await, ground.dump);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_comes_too_late_fails_and_says_what_went() {
    let bucket = Bucket::new().await;
    let (_folder, directory) = directory().await;
    for store in [directory, open(&bucket.settings("late")).await.unwrap()] {
        let mut ground = Ground::new(store).await;
        let report = ground.setting.prune(last(1), Span::seconds(0)).await;
        assert!(report.removed.chunks > 0);
        ground.release();
        let error = ground.end().await.unwrap_err();
        let BackupError::Swept { chunks, .. } = &error else { panic!("{error:?}") };
        assert!(!chunks.is_empty() && error.hint().unwrap().contains("again"), "{error}");
        ground.assert_whole(&[&ground.newer]).await;
        // The next one is whole.
        let id = ground.setting.backup().await.unwrap();
        assert_eq!(ground.setting.restored(&id).await, ground.setting.source.dump());
        let keys = ground.setting.keys().await;
        assert!(!keys.iter().any(|key| key.ends_with("/claim.txt")), "{keys:?}");
    }
    bucket.remove().await;
}

/// The sweep has condemned and not looked yet: it sees the claim and spares, and the backup waits until that is sure.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_sees_the_claim_spares_the_chunks() {
    let (_folder, store) = directory().await;
    let mut ground = Ground::new(store).await;
    let (held, mut sweep) = Held::hold(&ground.setting.store, When::AfterPut, "prune/condemned-", "");
    let pruning =
        tokio::spawn(async move { prune_at(&*held, last(1), Span::seconds(0), jiff::Timestamp::now()).await });
    (&mut sweep.reached).await.unwrap();
    ground.release();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!ground.running.is_finished(), "it waits");
    let keys = ground.setting.keys().await;
    assert!(keys.iter().any(|key| key.ends_with("/claim.txt")), "{keys:?}");
    sweep.go.send(()).unwrap();
    let report = pruning.await.unwrap().unwrap();
    let id = ground.end().await.unwrap();
    assert_eq!(report.backups, [ground.first.clone()]);
    ground.assert_whole(&[&id, &ground.newer]).await;
    assert_eq!(ground.setting.restored(&id).await, ground.dump);
}

/// The sweep has looked and is about to remove: the backup waits, then sees what went.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_has_looked_already_fails_the_backup() {
    let (_folder, store) = directory().await;
    let mut ground = Ground::new(store).await;
    let (held, mut sweep) = Held::hold(&ground.setting.store, When::BeforeDelete, "chunks/", "");
    let pruning =
        tokio::spawn(async move { prune_at(&*held, last(1), Span::seconds(0), jiff::Timestamp::now()).await });
    (&mut sweep.reached).await.unwrap();
    ground.release();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!ground.running.is_finished(), "it waits");
    sweep.go.send(()).unwrap();
    pruning.await.unwrap().unwrap();
    let error = ground.end().await.unwrap_err();
    assert!(matches!(error, BackupError::Swept { .. }), "{error:?}");
    ground.assert_whole(&[&ground.newer]).await;
}

/// Two hosts, one store, no ledger in common; and backups all the while.
#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_at_once_beside_backups_leave_whole_backups() {
    let (_folder, store) = directory().await;
    let setting = Arc::new(Setting::new(store));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let prunes: Vec<_> = (0..2)
        .map(|_| {
            let (setting, stop) = (Arc::clone(&setting), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    setting.prune(last(2), Span::milliseconds(500)).await;
                }
            })
        })
        .collect();
    let (mut made, mut given_up) = (Vec::new(), 0);
    for _ in 0..5 {
        setting.churn();
        // With so short a grace period the chunks of a running backup are swept under its hands.
        match setting.backup().await {
            Ok(id) => made.push(id),
            Err(BackupError::Swept { .. }) => given_up += 1,
            Err(error) => panic!("{error:?}"),
        }
        for id in sexton::backup::manifest::ids(&*setting.store).await.unwrap() {
            let manifest = show(&*setting.store, id.as_str()).await;
            // Gone since the listing.
            let Ok(manifest) = manifest else { continue };
            let report =
                verify(&*setting.store, &manifest, &std::sync::Arc::default(), &Context::plain()).await.unwrap();
            let there = sexton::backup::manifest::ids(&*setting.store).await.unwrap().contains(&id);
            assert!(report.verdict().is_ok() || !there, "{report:?}");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for prune in prunes {
        prune.await.unwrap();
    }
    println!("{} made, {given_up} given up", made.len());
    let id = setting.backup().await.unwrap();
    assert_eq!(setting.restored(&id).await, setting.source.dump());
}
