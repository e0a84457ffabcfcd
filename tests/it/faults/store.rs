//! A store that lies, in front of a directory that does not.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sexton::backup::store::{Entry, Key, Store, StoreError, Unfinished};
use sexton::failure::{Explain, Failure, Kind};

use super::*;
use crate::kills::Seed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// For a while it answers with errors, as S3 does when too much is asked of it.
    Storm,
    /// What it gives is cut off or has another bit.
    Bent,
    /// It says that it stored something, and did not.
    Lost,
    /// It takes its time.
    Slow,
    /// From some write on there is no space.
    Full,
    /// It finds by itself that what it gives is not what it was given.
    Torn,
    /// Removals that it does not answer. It carries them out later.
    Unanswered,
}

const LIES: [Lie; 5] = [Lie::Storm, Lie::Bent, Lie::Lost, Lie::Slow, Lie::Full];

#[derive(Debug)]
struct Liar {
    store: Arc<dyn Store>,
    lie: Lie,
    /// It lies about keys that have this in them.
    about: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Seed,
    /// Of the calls that the lie is about.
    calls: u64,
    /// The first that is lied to, and the first that is not again.
    span: (u64, u64),
    /// The keys that were lied about.
    told: Vec<String>,
}

impl Liar {
    fn new(store: &Arc<dyn Store>, lie: Lie, random: &mut Seed) -> Arc<Self> {
        // A backup makes some forty calls, of which a third are writes.
        let from = random.below(if matches!(lie, Lie::Lost | Lie::Full) { 14 } else { 45 });
        let span = match lie {
            Lie::Storm => (from, from + 1 + random.below(20)),
            Lie::Lost => (from, from + 1 + random.below(3)),
            Lie::Full => (from, u64::MAX),
            Lie::Bent | Lie::Slow | Lie::Torn | Lie::Unanswered => (0, u64::MAX),
        };
        Self::about(store, lie, "", span, random)
    }

    fn about(store: &Arc<dyn Store>, lie: Lie, about: &str, span: (u64, u64), random: &mut Seed) -> Arc<Self> {
        let state = Mutex::new(State { random: random.branch(), calls: 0, span, told: Vec::new() });
        Arc::new(Self { store: Arc::clone(store), lie, about: about.to_owned(), state })
    }

    /// Whether this call is lied to, when it is one that the lie is about; and a number for how.
    fn tells(&self, lie: Lie, about: &str) -> Option<u64> {
        if lie != self.lie || !about.contains(&*self.about) {
            return None;
        }
        let mut state = self.state.lock().unwrap();
        let (call, (from, to), draw) = (state.calls, state.span, state.random.next());
        state.calls += 1;
        let often = lie != Lie::Bent || draw.is_multiple_of(3);
        if !often || call < from || call >= to {
            return None;
        }
        state.told.push(about.to_owned());
        Some(draw >> 8)
    }

    fn told(&self) -> Vec<String> {
        self.state.lock().unwrap().told.clone()
    }

    async fn call(&self, about: &str) -> Result<(), StoreError> {
        if let Some(draw) = self.tells(Lie::Slow, about) {
            tokio::time::sleep(Duration::from_millis(draw % 40)).await;
        }
        match self.tells(Lie::Storm, about) {
            None => Ok(()),
            Some(draw) if draw.is_multiple_of(2) => Err(StoreError::Other {
                location: self.location(),
                doing: format!("asking for `{about}`"),
                message: "SlowDown: HTTP status 503".into(),
            }),
            Some(_) => Err(StoreError::Unreachable { location: self.location(), message: "SlowDown".into() }),
        }
    }

    async fn write(&self, key: &Key) -> Result<bool, StoreError> {
        self.call(key.as_str()).await?;
        if self.tells(Lie::Full, key.as_str()).is_some() {
            return Err(StoreError::Full { location: self.location(), doing: format!("storing `{key}`") });
        }
        Ok(self.tells(Lie::Lost, key.as_str()).is_none())
    }
}

#[async_trait]
impl Store for Liar {
    fn location(&self) -> String {
        self.store.location()
    }
    async fn reach(&self) -> Result<(), StoreError> {
        self.call("").await?;
        self.store.reach().await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.call("").await?;
        self.store.probe().await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        if self.write(key).await? { self.store.put(key, body).await } else { Ok(()) }
    }
    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
        if self.write(key).await? { self.store.put_if_absent(key, body).await } else { Ok(true) }
    }
    async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
        self.call(key.as_str()).await?;
        if self.tells(Lie::Torn, key.as_str()).is_some() {
            let (location, message) = (self.location(), "another checksum".into());
            return Err(StoreError::Checksum { location, key: key.to_string(), message });
        }
        let body = self.store.get(key, limit).await?;
        let Some(draw) = self.tells(Lie::Bent, key.as_str()) else { return Ok(body) };
        let (mut bent, at) = (body.to_vec(), usize::try_from(draw >> 1).unwrap() % body.len());
        if draw.is_multiple_of(2) {
            bent.truncate(at);
        } else {
            bent[at] ^= 1 << (draw % 8);
        }
        Ok(bent.into())
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.call(key.as_str()).await?;
        self.store.size(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.call(prefix).await?;
        self.store.list(prefix).await
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call(key.as_str()).await?;
        if self.tells(Lie::Unanswered, key.as_str()).is_some() {
            return Err(StoreError::Unreachable { location: self.location(), message: "no answer".into() });
        }
        self.store.delete(key).await
    }
    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.store.unfinished().await
    }
    async fn abandon(&self, what: &Unfinished) -> Result<(), StoreError> {
        self.store.abandon(what).await
    }
}

/// What a backup that was lied to may say.
fn assert_says(lie: Lie, told: &[String], error: &BackupError) {
    let message = Failure { kind: error.kind(), message: sexton::failure::chain(error), hint: error.hint() };
    assert!(!told.is_empty(), "{lie:?}: {message:?}");
    assert_eq!(message.kind, Kind::Failed, "{lie:?} {told:?}: {message:?}");
    let fits = match lie {
        Lie::Storm => message.message.contains("SlowDown"),
        Lie::Full => matches!(error, BackupError::Store(StoreError::Full { .. })),
        // What was lost is named.
        Lie::Lost => told.iter().any(|key| message.message.contains(key.rsplit('/').next().unwrap())),
        Lie::Bent | Lie::Slow | Lie::Torn | Lie::Unanswered => false,
    };
    assert!(fits, "{lie:?} {told:?}: {message:?}");
}

/// One round: the database changes, is backed up to the liar, and what is there is judged; then the newest backup is read
/// through another liar.
async fn round(setting: &mut Setting, kept: &mut Kept, lies: (Lie, Lie), random: &mut Seed) {
    setting.source.psql(CHURN);
    let honest = Arc::clone(&setting.store);
    let liar = Liar::new(&honest, lies.0, random);
    setting.store = liar.clone();
    let outcome = setting.backup().await;
    setting.store = Arc::clone(&honest);
    if let Err(error) = &outcome {
        assert_says(lies.0, &liar.told(), error);
    }
    kept.judge(setting, outcome.as_ref()).await;
    println!(
        "{:?}: {} calls, {:?}",
        lies.0,
        liar.told().len(),
        outcome.map(|report| report.id).map_err(|e| e.to_string())
    );

    let Some((id, dump)) = kept.0.iter().next_back() else { return };
    let manifest = show(&*honest, id.as_str()).await.unwrap();
    let liar = Liar::new(&honest, lies.1, random);
    let verdict = verify(&*liar, &manifest, &Arc::default(), &Context::plain()).await.unwrap().verdict();
    let wanted = match (lies.1, liar.told().is_empty()) {
        (Lie::Bent, false) => Some(Kind::VerificationFailed),
        (Lie::Storm, false) => Some(Kind::CouldNotVerify),
        _ => None,
    };
    assert_eq!(verdict.as_ref().err().map(Explain::kind), wanted, "{:?} {:?}: {verdict:?}", lies.1, liar.told());

    let liar = Liar::new(&honest, lies.1, random);
    setting.store = liar.clone();
    let target = Scratch::new("lied_to");
    let outcome = setting.restore_to(&manifest, &target).await;
    setting.store = honest;
    let wanted = match (lies.1, liar.told().is_empty()) {
        (Lie::Bent, false) => Some(Kind::VerificationFailed),
        (Lie::Storm, false) => Some(Kind::Failed),
        _ => None,
    };
    assert_eq!(outcome.as_ref().err().map(Explain::kind), wanted, "{:?} {:?}: {outcome:?}", lies.1, liar.told());
    if let Ok(report) = outcome {
        report.verdict().unwrap();
        assert_equal_dumps(dump, &target.dump());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lies_makes_no_false_backup() {
    let (_folder, mut setting, mut kept) = backed_up("lied_to").await;
    let mut random = Seed::new("a store that lies");
    for round_number in 0..rounds(5) {
        // Each lie in turn, then as they come.
        let place = |draw| LIES[usize::try_from(draw).unwrap() % LIES.len()];
        let first = if round_number < 5 { place(round_number) } else { place(random.below(5)) };
        let second = place(random.below(2));
        round(&mut setting, &mut kept, (first, second), &mut random).await;
    }
    // Once it is honest again, a backup is made of what it has.
    setting.source.psql(CHURN);
    let last = setting.backup().await;
    kept.judge(&setting, last.as_ref()).await.unwrap();
    kept.still_there(&setting, random.next()).await;
}

/// Each object that a backup writes, lost after it was acknowledged: the backup finds out and says what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_after_it_was_acknowledged_is_found_at_the_end() {
    let (_folder, mut setting, mut kept) = backed_up("lost").await;
    let mut random = Seed::new("lost objects");
    for lost in ["chunks/", "/claim.txt", "/manifest.b3", "/manifest.json"] {
        setting.source.psql(CHURN);
        let honest = Arc::clone(&setting.store);
        let liar = Liar::about(&honest, Lie::Lost, lost, (0, 1), &mut random);
        setting.store = liar.clone();
        let error = setting.backup().await.unwrap_err();
        setting.store = honest;
        assert_says(Lie::Lost, &liar.told(), &error);
        assert!(kept.judge(&setting, Err(&error)).await.is_none(), "{lost}: {error}");
        println!("{lost}: {error}");
    }
    let last = setting.backup().await;
    kept.judge(&setting, last.as_ref()).await.unwrap();
}

/// A manifest that could neither be looked at nor be taken back stays with its hash: a backup that is whole, and not one
/// that is unreadable.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_taken_back_keeps_its_hash() {
    let (_folder, mut setting, mut kept) = backed_up("kept_hash").await;
    setting.source.psql(CHURN);
    let honest = Arc::clone(&setting.store);
    // The last one is read, twice; this one is written, then looked at, then removed.
    let liar = Liar::about(&honest, Lie::Storm, "/manifest.json", (3, 5), &mut Seed::new("a manifest kept"));
    setting.store = liar.clone();
    let error = setting.backup().await.unwrap_err();
    setting.store = honest;
    assert_eq!(liar.told().len(), 2, "{:?}", liar.told());
    assert!(kept.judge(&setting, Err(&error)).await.is_some(), "{error}");
}

/// One whose claim was gone, so that its chunks may be, does not stay readable: it would count as the newest backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_claim_was_lost_does_not_stay_readable() {
    let (_folder, mut setting, kept) = backed_up("lost_claim").await;
    setting.source.psql(CHURN);
    let honest = Arc::clone(&setting.store);
    let lost: Arc<dyn Store> = Liar::about(&honest, Lie::Lost, "/claim.txt", (0, 1), &mut Seed::new("a claim lost"));
    let stuck = Liar::about(&lost, Lie::Storm, "/manifest.json", (3, 4), &mut Seed::new("a manifest stuck"));
    setting.store = stuck.clone();
    let error = setting.backup().await.unwrap_err();
    setting.store = Arc::clone(&honest);
    assert!(matches!(error, BackupError::Swept { .. }), "{error}");
    assert_eq!(stuck.told().len(), 1, "{:?}", stuck.told());
    let ids = manifest::ids(&*honest).await.unwrap();
    let new = ids.iter().find(|id| !kept.0.contains_key(id)).expect("its manifest could not be removed");
    assert!(matches!(show(&*honest, new.as_str()).await, Err(BackupError::Manifest { .. })));
}

/// The manifest of one backup, torn: nothing but that backup is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_the_store_gives_up_stops_no_other_backup() {
    let (_folder, mut setting, mut kept) = backed_up("torn").await;
    let torn = kept.0.keys().next().unwrap().clone();
    setting.source.psql(CHURN);
    let honest = Arc::clone(&setting.store);
    let liar = Liar::about(&honest, Lie::Torn, &format!("{torn}/manifest.json"), (0, u64::MAX), &mut Seed::new("torn"));
    setting.store = liar;
    let made = setting.backup().await.unwrap();
    let listed = sexton::backup::list(&*setting.store).await.unwrap();
    let unreadable = listed.iter().filter_map(|one| match one {
        sexton::backup::Listed::Unreadable { id, .. } => Some(id),
        sexton::backup::Listed::Readable(_) => None,
    });
    assert_eq!((listed.len(), unreadable.collect::<Vec<_>>()), (2, vec![&torn]));
    setting.store = honest;
    kept.judge(&setting, Ok(&made)).await.unwrap();
}

/// Which rows are gone is read from a list of its own. Not to be had for a moment, it leaves rows unchecked.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_for_a_moment_is_no_pass() {
    let (_folder, setting, mut kept) = backed_up("moment").await;
    setting.source.psql(CHURN);
    let made = setting.backup().await;
    let manifest = kept.judge(&setting, made.as_ref()).await.unwrap();
    let tables = manifest.databases.iter().flat_map(|database| &database.tables);
    let list = tables.filter_map(|table| table.tracking.as_ref()?.gone).next().expect("rows are gone");
    let key = list.key().unwrap().to_string();
    let liar = Liar::about(&setting.store, Lie::Storm, &key, (0, 1), &mut Seed::new("a moment"));
    let error = verify(&*liar, &manifest, &Arc::default(), &Context::plain()).await.unwrap().verdict().unwrap_err();
    assert_eq!((error.kind(), liar.told().len()), (Kind::CouldNotVerify, 1), "{error}");
}

/// A removal that was not answered may still be carried out: no backup relies on what it names.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sweep_was_not_answered_about_stays_condemned() {
    let (_folder, setting, kept) = backed_up("condemned").await;
    setting.source.psql("DROP TABLE big");
    setting.backup().await.unwrap();
    let condemned = async || setting.store.list("prune/condemned-").await.unwrap().len();
    let liar = Liar::about(&setting.store, Lie::Unanswered, "chunks/", (0, 1), &mut Seed::new("no answer"));
    let error = prune(&*liar, 1).await.unwrap_err();
    assert!(!liar.told().is_empty() && error.to_string().contains("no answer"), "{error}");
    assert_eq!(condemned().await, 1);
    drop(kept);
    // What else is removed is not held up by that.
    prune(&*setting.store, 1).await.unwrap();
    assert_eq!(condemned().await, 1);
}
