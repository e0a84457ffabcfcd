//! Two backups at once, and a clock that goes back.

use std::time::Duration;

use super::*;
use crate::kills::Seed;

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_at_once_to_one_store_are_both_whole() {
    let (_folder, setting) = begun("twice").await;
    let mut random = Seed::new("two at once");
    let mut kept = Kept::default();
    for _ in 0..rounds(1) {
        setting.source.psql(CHURN);
        let wait = Duration::from_millis(random.below(300));
        let later = async {
            tokio::time::sleep(wait).await;
            setting.backup().await
        };
        let (one, other) = tokio::join!(setting.backup(), later);
        let ids = [one.unwrap().id, other.unwrap().id];
        let dump = setting.source.dump();
        for id in ids {
            let manifest = show(&*setting.store, id.as_str()).await.unwrap();
            setting.assert_verifies(&manifest).await;
            assert_equal_dumps(&dump, &restored(&setting, &manifest).await.dump());
            assert!(kept.0.insert(id, dump.clone()).is_none());
        }
    }
    // The next one builds on one of them.
    setting.source.psql(CHURN);
    kept.judge(&setting, setting.backup().await.as_ref()).await.unwrap();
    kept.still_there(&setting, random.next()).await;
}

/// The backup of a host whose clock was an hour ahead is newest by its identifier until that hour is over. Those that follow
/// are whole all the same, and go by their own identifiers.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_an_hour_makes_no_false_backup() {
    let (folder, setting, mut kept) = backed_up("clock").await;
    setting.source.psql(CHURN);
    let ahead = setting.backup().await.unwrap().id;
    let mut manifest = show(&*setting.store, ahead.as_str()).await.unwrap();
    std::fs::remove_dir_all(folder.path().join(format!("backups/{ahead}"))).unwrap();
    manifest.started += Duration::from_secs(3600);
    manifest.finished += Duration::from_secs(3600);
    manifest.id = BackupId::new(manifest.started);
    for table in &mut manifest.databases[0].tables {
        for read in table.tracking.iter_mut().flat_map(|tracking| &mut tracking.read) {
            *read += Duration::from_secs(3600);
        }
    }
    manifest::commit(&*setting.store, &manifest).await.unwrap();
    kept.0.insert(manifest.id.clone(), setting.source.dump());
    for _ in 0..rounds(1) {
        setting.source.psql(CHURN);
        let outcome = setting.backup().await;
        let next = kept.judge(&setting, outcome.as_ref()).await.unwrap();
        assert!(next.id < manifest.id);
        assert_eq!(show(&*setting.store, "latest").await.unwrap().id, manifest.id);
    }
    kept.still_there(&setting, 0).await;
    kept.still_there(&setting, 1).await;
    kept.still_there(&setting, 2).await;
}
