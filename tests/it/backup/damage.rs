//! Damage in the store is found and named.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_that_was_removed_is_stored_anew() {
    let (folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    let first = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, first.id.as_str()).await.unwrap();
    let path = folder.path().join(manifest.databases[0].tables[0].chunks[0].chunk.key().unwrap().as_str());
    std::fs::remove_file(&path).unwrap();
    let second = setting.backup().await.unwrap();
    assert_eq!(second.new_chunks, 1);
    let report = verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
    report.verdict().expect("the older backup shares the chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_chunk_in_another_table_s_place_is_found() {
    let (_folder, store) = directory().await;
    let source = small();
    source.psql("CREATE TABLE u AS SELECT id AS other, v FROM t");
    let setting = Setting::new(source, store);
    let report = setting.backup().await.unwrap();
    let mut manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let tables = &mut manifest.databases[0].tables;
    tables[1].chunks = tables[0].chunks.clone();
    let report = verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
    assert_eq!(report.bad.len(), manifest.databases[0].tables[1].chunks.len(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_chunks_and_manifests_are_found_and_named() {
    let (folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let chunk = manifest.databases[0].tables[0].chunks[1];
    let path = folder.path().join(chunk.chunk.key().unwrap().as_str());
    let good = std::fs::read(&path).unwrap();

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [Some(flipped), Some(good[..middle].to_vec()), Some(vec![]), None] {
        match damaged {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let found = verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
        let error = found.verdict().unwrap_err();
        assert_eq!(error.kind(), Kind::VerificationFailed);
        assert!(error.to_string().contains(&chunk.chunk.id.to_string()), "{error}");
        let target = Scratch::new("damaged");
        let refused = setting.restore_to(&manifest, &target).await.unwrap_err();
        assert!(refused.to_string().contains(&chunk.chunk.id.to_string()), "{refused}");
    }
    // The next backup sees that the chunk is gone and stores it again.
    assert_eq!(setting.backup().await.unwrap().new_chunks, 1);
    verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap().verdict().unwrap();

    let place = folder.path().join(format!("backups/{}/manifest.json", report.id));
    let text = std::fs::read_to_string(&place).unwrap().replacen("5000", "5001", 1);
    std::fs::write(&place, text).unwrap();
    let listed = list(&*setting.store).await.unwrap();
    assert!(matches!(&listed[1], Listed::Unreadable { id, .. } if *id == report.id), "{listed:?}");
    assert!(matches!(show(&*setting.store, report.id.as_str()).await, Err(BackupError::Manifest { .. })));
    // Without its manifest it is none.
    std::fs::remove_file(&place).unwrap();
    assert_eq!(list(&*setting.store).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_no_verdict() {
    let bucket = Bucket::new().await;
    let setting = Setting::new(small(), open(&bucket.settings("")).await.unwrap());
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let mut lost = bucket.settings("");
    if let Settings::S3 { credentials, .. } = &mut lost {
        *credentials = Some(("nobody".to_owned(), "wrong".to_owned().into()));
    }
    let found = verify(&*open(&lost).await.unwrap(), &manifest, &Arc::default(), &Context::plain()).await.unwrap();
    assert_eq!(found.verdict().unwrap_err().kind(), Kind::CouldNotVerify);
    bucket.remove().await;
}
