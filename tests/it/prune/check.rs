//! `backup check` and `backup stats`, against damage that was done by hand.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use sexton::backup::check::{Sample, check};
use sexton::backup::stats::stats;
use sexton::backup::store::{Entry, StoreError};
use sexton::failure::{Explain, Kind};

use super::*;
use crate::support::site::{Site, postgres_sections};

#[test]
fn damage_is_found_and_named_and_the_exit_code_says_so() {
    let (source, ledger) = (Scratch::new("checked"), Scratch::new("ledger"));
    // Copied whole each time, so that what changes is a chunk.
    source.psql("CREATE UNLOGGED TABLE t AS SELECT n, md5(n::text) AS t FROM generate_series(1, 6000) n");
    let site = Site::new(&format!("{}store: {{directory: store}}\n", postgres_sections(&ledger, &source.name)))
        .policy("backup", "range_size: 64kb\n");
    site.run(&["ledger", "init"]).expect(0);
    site.run(&["backup", "check"]).expect(1);
    site.run(&["once", "backup", "-q"]).expect(0);
    source.psql("UPDATE t SET t = 'x' WHERE n = 6000");
    std::thread::sleep(Duration::from_millis(1100));
    site.run(&["once", "backup", "-q"]).expect(0);
    let good = site.run(&["backup", "check", "--json"]).expect(0).json();
    assert_eq!((&good["backups"], &good["bad"], &good["sample"]), (&2.into(), &serde_json::json!([]), &Value::Null));
    assert_eq!(good["chunks"], good["good_chunks"], "what two share is read once");

    let store = site.path().join("store");
    let stored = files(&store);
    let manifests: Vec<(&str, BTreeSet<String>)> = stored
        .iter()
        .filter_map(|(name, text)| {
            Some((name.strip_prefix("backups/")?.strip_suffix("/manifest.json")?, named_by(text)))
        })
        .collect();
    let shared = manifests[0].1.intersection(&manifests[1].1).next().unwrap();
    let own = manifests[1].1.difference(&manifests[0].1).next().unwrap();
    let both = serde_json::json!([manifests[0].0, manifests[1].0]);
    for (id, backups) in [(shared, both), (own, serde_json::json!([manifests[1].0]))] {
        let path = store.join(format!("chunks/{}/{id}", &id[..2]));
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (damaged, problem, seen_by_sample) in [
            (None, "it is missing", true),
            (Some(whole[..whole.len() - 5].to_vec()), " bytes instead of ", true),
            (Some(flipped), "", false),
        ] {
            match damaged {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let said = site.run(&["backup", "check", "--json"]).expect(3);
            let found = &said.json()["bad"];
            assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
            assert_eq!((&found[0]["chunk"], &found[0]["backups"]), (&id.as_str().into(), &backups));
            assert_eq!(found[0]["tables"], serde_json::json!([format!("{} public.t", source.name)]));
            assert!(found[0]["problem"].as_str().unwrap().contains(problem), "{found}");
            assert!(said.err.contains(id.as_str()), "{}", said.err);
            // A sample of next to nothing still looks at all names and sizes.
            // It reads one chunk, which may be the damaged one: another seed takes another.
            let sample = |seed: u32| site.run(&["backup", "check", "--sample", "0.0001%", "--seed", &seed.to_string()]);
            let sampled = (1..20).map(sample).find(|said| said.code == 0 || seen_by_sample).unwrap();
            assert_eq!(sampled.code, if seen_by_sample { 3 } else { 0 }, "{sampled:?}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    let said = site.run(&["backup", "check", "--sample", "50%", "--json"]).expect(0).json();
    let seed = said["sample"]["seed"].to_string();
    let (read, all) = (said["good_chunks"].as_u64().unwrap(), said["chunks"].as_u64().unwrap());
    assert!(0 < read && read <= all, "{read} of {all}");
    let again = site.run(&["backup", "check", "--sample", "50%", "--seed", &seed, "--json"]).expect(0).json();
    assert_eq!(said, again);
    assert!(site.run(&["backup", "check", "--sample", "50"]).expect(0).out.contains("--seed "));
    site.run(&["backup", "check", "--sample", "0%"]).expect(64);

    // A chunk stored anew with another level has another size and is as good.
    let path = store.join(format!("chunks/{}/{shared}", &shared[..2]));
    let raw = zstd::stream::decode_all(&stored[&format!("chunks/{}/{shared}", &shared[..2])][..]).unwrap();
    std::fs::write(&path, sexton::backup::chunk::compress(&raw, 19).unwrap()).unwrap();
    site.run(&["backup", "check"]).expect(0);
    // A manifest that cannot be read is a finding too.
    let path = store.join(format!("backups/{}/manifest.b3", manifests[0].0));
    std::fs::write(path, "0000").unwrap();
    assert!(site.run(&["backup", "check"]).expect(3).err.contains(manifests[0].0));
}

/// A store that stops answering after some reads.
#[derive(Debug)]
struct Dying(Arc<dyn Store>, AtomicUsize);

impl Dying {
    fn alive(&self) -> Result<(), StoreError> {
        match self.1.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Unreachable { location: self.location(), message: "it is gone".into() }),
        }
    }
}

#[async_trait]
impl Store for Dying {
    fn location(&self) -> String {
        self.0.location()
    }
    async fn reach(&self) -> Result<(), StoreError> {
        self.0.reach().await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.0.probe().await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        self.0.put(key, body).await
    }
    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
        self.0.put_if_absent(key, body).await
    }
    async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
        self.alive()?;
        self.0.get(key, limit).await
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.alive()?;
        self.0.size(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.alive()?;
        self.0.list(prefix).await
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.0.delete(key).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_lost_half_way_is_no_verdict_and_what_was_found_stands() {
    let (folder, store) = directory().await;
    let setting = Setting::new(store);
    setting.backups(2).await;
    let ctx = Context::plain();
    let whole = check(&*setting.store, &std::sync::Arc::default(), None, &ctx).await.unwrap();
    whole.verdict().unwrap();
    for calls in 1..usize::try_from(whole.chunks).unwrap() + 6 {
        let dying = Dying(Arc::clone(&setting.store), AtomicUsize::new(calls));
        let report = check(&dying, &std::sync::Arc::default(), None, &ctx).await.unwrap();
        assert_eq!(report.verdict().unwrap_err().kind(), Kind::CouldNotVerify, "after {calls}: {report:?}");
    }
    let (there, _) = setting.chunks().await;
    let id = there.first().unwrap();
    std::fs::remove_file(folder.path().join(format!("chunks/{}/{id}", &id[..2]))).unwrap();
    let dying = Dying(Arc::clone(&setting.store), AtomicUsize::new(10));
    let report = check(&dying, &std::sync::Arc::default(), None, &ctx).await.unwrap();
    assert_eq!(report.verdict().unwrap_err().kind(), Kind::VerificationFailed, "{report:?}");
    assert!(
        check(&*setting.store, &std::sync::Arc::default(), Some(Sample { percent: 1.0, seed: 1 }), &ctx)
            .await
            .unwrap()
            .verdict()
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_those_of_the_files() {
    let (folder, store) = directory().await;
    let setting = Setting::new(store);
    let ids = setting.backups(2).await;
    let orphan = folder.path().join(format!("chunks/ab/{}", "ab".repeat(32)));
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(orphan, b"12345").unwrap();
    std::fs::write(folder.path().join(format!("backups/{}/proven.json", ids[0])), PROOF).unwrap();
    let stats = stats(&*setting.store, &Context::plain()).await.unwrap();
    let files = files(folder.path());
    let of = |id: &BackupId| named_by(&files[&format!("backups/{id}/manifest.json")]);
    let bytes = |ids: &mut dyn Iterator<Item = &String>| -> u64 {
        ids.map(|id| files[&format!("chunks/{}/{id}", &id[..2])].len() as u64).sum()
    };
    let (old, new) = (of(&ids[0]), of(&ids[1]));
    assert_eq!(stats.backups.iter().map(|backup| &backup.id).collect::<Vec<_>>(), [&ids[1], &ids[0]]);
    assert_eq!(stats.backups[0].alone_bytes, bytes(&mut new.difference(&old)));
    assert_eq!(stats.backups[1].alone_bytes, bytes(&mut old.difference(&new)));
    assert_eq!(stats.backups[0].shared_bytes, bytes(&mut new.intersection(&old)));
    assert!(stats.backups[0].alone_bytes > 0 && stats.backups[0].shared_bytes > 0);
    assert_eq!(stats.chunk_bytes, bytes(&mut new.union(&old)));
    assert_eq!((stats.chunks, stats.orphaned_chunks, stats.orphaned_bytes), (new.union(&old).count() as u64, 1, 5));
    assert_eq!(stats.missing_chunks, 0);
    assert!(stats.backups[0].proven.is_none() && stats.backups[1].proven.is_some());
}
