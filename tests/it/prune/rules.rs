//! What goes, what stays, and what is never touched.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sexton::backup::prune::PrunePlan;
use sexton::backup::store::{Key, open};
use sexton::backup::{Listed, list};
use sexton::context::Context;

use super::*;
use crate::support::s3::Bucket;
use crate::support::site::{Site, postgres_sections};

const FOREIGN: [&str; 7] = [
    "backups/notes.txt",
    "chunks/README",
    "chunks/ab/README",
    "chunks/ab/cd00000000000000000000000000000000000000000000000000000000000000",
    "chunks/AB/AB00000000000000000000000000000000000000000000000000000000000000",
    "prune/mine",
    "other/chunks/ab/ab00000000000000000000000000000000000000000000000000000000000000",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_goes_with_its_chunks_and_nothing_else() {
    let bucket = Bucket::new().await;
    let beside = "chunks/ab/ab00000000000000000000000000000000000000000000000000000000000000";
    bucket.overwrite(beside, b"another prefix".to_vec()).await;
    let (_folder, directory) = directory().await;
    for store in [directory, open(&bucket.settings("sexton")).await.unwrap()] {
        let setting = Setting::new(store);
        let ids = setting.backups(4).await;
        let mut foreign: Vec<String> = FOREIGN.map(str::to_owned).to_vec();
        foreign.push(format!("backups/{}/mine.txt", ids[0]));
        for key in &foreign {
            setting.store.put(&Key::new(key.as_str()).unwrap(), "x".into()).await.unwrap();
        }
        let (before, _) = setting.chunks().await;
        let ctx = Context::plain();
        let planned: PrunePlan = prune::plan(&*setting.store, &last(2), Span::seconds(0), &ctx).await.unwrap();
        assert_eq!(planned.going.iter().map(|going| &going.id).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
        assert_eq!(planned.kept.iter().map(|kept| &kept.id).collect::<Vec<_>>(), [&ids[3], &ids[2]]);
        assert!(planned.going[0].alone.chunks > 0 && planned.freed.chunks >= planned.going[0].alone.chunks * 2);

        let report = setting.prune(last(2), Span::seconds(0)).await;
        assert_eq!((&report.backups[..], report.removed), (&ids[..2], planned.freed), "as was said");
        let (there, named) = setting.chunks().await;
        let known: BTreeSet<String> =
            FOREIGN.iter().filter_map(|key| key.rsplit('/').next().map(str::to_owned)).collect();
        assert_eq!(there.difference(&known).cloned().collect::<BTreeSet<_>>(), named);
        assert_eq!(before.len() - there.len(), usize::try_from(planned.freed.chunks).unwrap());
        let keys = setting.keys().await;
        for key in &foreign {
            assert!(keys.contains(key), "{key} is somebody else's");
        }
        let of_gone = |key: &&String| key.contains(ids[0].as_str()) || key.contains(ids[1].as_str());
        assert_eq!(keys.iter().filter(of_gone).collect::<Vec<_>>(), [&foreign[7]]);
        for id in &ids[2..] {
            setting.assert_verifies(id).await;
        }
        assert_eq!(setting.restored(&ids[3]).await, setting.source.dump());
        // A second one finds nothing, and a backup after it shares what is there.
        assert!(!setting.prune(last(2), Span::seconds(0)).await.changed());
        assert_eq!(setting.restored(&setting.backup().await.unwrap()).await, setting.source.dump());
    }
    assert!(bucket.keys().await.contains(&beside.to_owned()));
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_and_the_newest_proven_stay() {
    let (folder, store) = directory().await;
    let setting = Setting::new(store);
    let ids = setting.backups(4).await;
    let prove = |id: &BackupId, text: &str| {
        std::fs::write(folder.path().join(format!("backups/{id}/proven.json")), text).unwrap();
    };
    prove(&ids[0], "{}");
    prove(&ids[1], PROOF);
    setting.prune(last(1), Span::seconds(0)).await;
    let listed = list(&*setting.store).await.unwrap();
    let kept: Vec<_> = listed
        .iter()
        .map(|listed| match listed {
            Listed::Readable(summary) => (&summary.id, summary.proven),
            Listed::Unreadable { .. } => panic!("{listed:?}"),
        })
        .collect();
    let at: Timestamp = "2026-11-24T00:43:06Z".parse().unwrap();
    assert_eq!(kept, [(&ids[3], None), (&ids[1], Some(at))]);
    setting.assert_verifies(&ids[1]).await;

    // What nobody can read proves nothing. The proof of a newer one lets the older one go.
    prove(&ids[3], "not even JSON");
    let fifth = setting.backup().await.unwrap();
    setting.prune(last(2), Span::seconds(0)).await;
    let left = async || sexton::backup::manifest::ids(&*setting.store).await.unwrap();
    assert_eq!(left().await, [fifth.clone(), ids[3].clone(), ids[1].clone()]);
    prove(&ids[3], PROOF);
    setting.prune(last(1), Span::seconds(0)).await;
    assert_eq!(left().await, [fifth, ids[3].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_waits_for_the_grace_period_by_every_clock() {
    let (folder, store) = directory().await;
    let setting = Setting::new(store);
    let ids = setting.backups(2).await;
    let (before, _) = setting.chunks().await;
    let grace = Span::hours(48);
    let report = setting.prune(last(1), grace).await;
    assert_eq!((&report.backups[..], report.removed.chunks), (&ids[..1], 0));
    assert!(report.waiting.chunks > 0);
    assert_eq!(setting.chunks().await.0, before, "the manifest is gone, its chunks wait");

    let now = Timestamp::now();
    let at = async |shift: i64| {
        let now = now + SignedDuration::from_hours(shift);
        prune_at(&*setting.store, last(1), grace, now).await.unwrap();
        setting.chunks().await.0.len()
    };
    // This host's clock alone does not count, forward or back.
    assert_eq!([at(1000).await, at(-1).await, at(0).await], [before.len(); 3]);
    age(folder.path(), Duration::from_secs(47 * 3600));
    assert_eq!(at(0).await, before.len());
    age(folder.path(), Duration::from_secs(3600));
    assert_eq!(at(-1).await, before.len(), "an hour back, an hour longer");
    age(folder.path(), Duration::from_secs(48 * 3600));
    let (there, named) = {
        at(0).await;
        setting.chunks().await
    };
    assert_eq!(there, named);
    assert_eq!(setting.restored(&ids[1]).await, setting.source.dump());
}

/// The marks say that nothing has named a chunk for days; it was stored anew a moment ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_was_stored_anew_waits_anew() {
    let (folder, store) = directory().await;
    let setting = Setting::new(store);
    setting.backups(1).await;
    let id = "ab".repeat(32);
    let path = folder.path().join(format!("chunks/ab/{id}"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"x").unwrap();
    let grace = Span::hours(48);
    setting.prune(last(1), grace).await;
    age(folder.path(), Duration::from_secs(72 * 3600));
    std::fs::write(&path, b"x").unwrap();
    setting.prune(last(1), grace).await;
    assert!(path.exists());
    age(folder.path(), Duration::from_secs(72 * 3600));
    setting.prune(last(1), grace).await;
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_killed_runs_go_when_they_are_old() {
    let (folder, store) = directory().await;
    let setting = Setting::new(store);
    let id = setting.backups(1).await.remove(0);
    let partial = format!(".partial-{}", "0a".repeat(16));
    let dead = "20200101T000000Z-00000000";
    let ours = [
        format!("chunks/ab/{partial}"),
        format!("backups/{id}/{partial}"),
        format!("backups/{dead}/claim.txt"),
        format!("backups/{dead}/manifest.b3"),
        "prune/condemned-1".to_owned(),
    ];
    let foreign = [
        partial.clone(),
        format!("other/{partial}"),
        "chunks/ab/.partial-1".to_owned(),
        format!("backups/{dead}/notes"),
        format!("backups/mine/{partial}"),
    ];
    for name in ours.iter().chain(&foreign) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
    let grace = Span::hours(48);
    let all = files(folder.path());
    setting.prune(last(1), grace).await;
    let young = files(folder.path());
    assert!(all.keys().all(|name| young.contains_key(name)));
    age(folder.path(), Duration::from_secs(49 * 3600));
    let report = setting.prune(last(1), grace).await;
    let left = files(folder.path());
    assert_eq!(report.leftovers, 5, "{report:?}");
    assert!(ours.iter().all(|name| !left.contains_key(name)), "{:?}", left.keys());
    assert!(foreign.iter().all(|name| left.contains_key(name)), "{:?}", left.keys());
    setting.assert_verifies(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_nobody_will_complete_are_aborted() {
    let bucket = Bucket::new().await;
    let setting = Setting::new(open(&bucket.settings("sexton")).await.unwrap());
    setting.backups(1).await;
    let id = "ab".repeat(32);
    for key in [format!("sexton/chunks/ab/{id}"), format!("chunks/ab/{id}"), "sexton/mine/x".to_owned()] {
        bucket.client.create_multipart_upload().bucket(&bucket.name).key(key).send().await.unwrap();
    }
    assert_eq!(bucket.unfinished().await, 3);
    setting.prune(last(1), Span::hours(48)).await;
    assert_eq!(bucket.unfinished().await, 3, "they are young");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let report = setting.prune(last(1), Span::seconds(0)).await;
    assert_eq!((report.leftovers, bucket.unfinished().await), (1, 2), "the others are somebody else's");
    for upload in bucket.client.list_multipart_uploads().bucket(&bucket.name).send().await.unwrap().uploads() {
        let (key, id) = (upload.key().unwrap(), upload.upload_id().unwrap());
        let abort = bucket.client.abort_multipart_upload().bucket(&bucket.name).key(key).upload_id(id);
        abort.send().await.unwrap();
    }
    bucket.remove().await;
}

#[test]
fn one_manifest_that_cannot_be_read_stops_everything() {
    let (source, ledger) = (Scratch::new("pruned"), Scratch::new("ledger"));
    source.psql("CREATE TABLE t AS SELECT n, md5(n::text) AS t FROM generate_series(1, 3000) n");
    let site = Site::new(&format!("{}store: {{directory: store}}\n", postgres_sections(&ledger, &source.name)))
        .policy("backup", "range_size: 64kb\nkeep: {last: 1}\ngrace: 1h\n");
    site.run(&["ledger", "init"]).expect(0);
    let mut ids = Vec::new();
    for _ in 0..3 {
        source.psql("UPDATE t SET t = t || 'x' WHERE n % 1000 = 0");
        site.run(&["once", "backup", "-q"]).expect(0);
        std::thread::sleep(Duration::from_millis(1100));
        let listed = site.run(&["backup", "list", "--json"]).expect(0).json();
        ids.push(listed["backups"][0]["id"].as_str().unwrap().to_owned());
    }
    let store = site.path().join("store");
    let dry = site.run(&["once", "prune", "--dry-run"]).expect(2);
    assert!(dry.out.contains(&format!("backup {} stays: the newest", ids[2])), "{}", dry.out);
    assert!(dry.out.contains(&format!("- backup {}", ids[0])), "{}", dry.out);

    // Of one that goes, and of one that stays.
    for id in [&ids[0], &ids[2]] {
        let path = store.join(format!("backups/{id}/manifest.json"));
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, String::from_utf8(good.clone()).unwrap().replacen("3000", "3001", 1)).unwrap();
        let before = files(&store);
        for args in [&["once", "prune", "--dry-run"][..], &["once", "prune"]] {
            let said = site.run(args).expect(1);
            assert!(format!("{}{}", said.out, said.err).contains(id.as_str()), "{said:?}");
        }
        assert!(files(&store) == before, "nothing was written");
        std::fs::write(&path, good).unwrap();
    }
    let done = site.run(&["once", "prune", "--json"]).expect(0).json();
    assert_eq!(done["runs"][0]["report"]["backups"], serde_json::json!(ids[..2]));
    assert_eq!(site.run(&["backup", "list", "--json"]).expect(0).json()["backups"].as_array().unwrap().len(), 1);
    // Again: nothing to do.
    assert!(site.run(&["once", "prune"]).expect(0).out.contains("unchanged"));
}

#[test]
fn without_keep_nothing_is_pruned() {
    let (source, ledger) = (Scratch::new("pruned"), Scratch::new("ledger"));
    let site = Site::new(&format!("{}store: {{directory: store}}\n", postgres_sections(&ledger, &source.name)))
        .policy("backup", "{}\n");
    site.run(&["ledger", "init"]).expect(0);
    let said = site.run(&["once", "prune"]).expect(78);
    assert!(said.err.contains("has no `keep`"), "{said:?}");
    let planned = site.run(&["plan", "--json"]).json();
    assert!(planned["plans"].as_array().unwrap().iter().all(|plan| plan["job"] != "prune"), "{planned}");
    let site = site.policy("backup", "keep: {last: 0}\n");
    let said = site.run(&["once", "prune"]).expect(78);
    assert!(said.err.contains("keeps nothing"), "{said:?}");
}
