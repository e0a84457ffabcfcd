//! One suite that every store passes, and what is special to each.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use bytes::Bytes;
use sexton::backup::store::{Algorithm, Key, ServerSide, Settings, Store, StoreError, open};

use crate::support::s3::Bucket;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn names(store: &dyn Store, prefix: &str) -> Vec<(String, u64)> {
    let entries = store.list(prefix).await.unwrap();
    entries.into_iter().map(|entry| (entry.key.to_string(), entry.size)).collect()
}

/// What a store must do, whatever lies below it.
async fn conforms(store: Arc<dyn Store>) {
    store.reach().await.unwrap();
    store.probe().await.unwrap();
    assert_eq!(names(&*store, "").await, vec![], "a probe leaves nothing");

    let a = key("chunks/ab/abcd");
    assert!(matches!(store.get(&a, 100).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.size(&a).await.unwrap(), None);
    store.put(&a, Bytes::from_static(b"one")).await.unwrap();
    store.put(&a, Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(store.get(&a, 5).await.unwrap(), Bytes::from_static(b"three"));
    assert_eq!(store.size(&a).await.unwrap(), Some(5));
    assert!(matches!(store.get(&a, 4).await, Err(StoreError::TooLarge { size: 5, limit: 4, .. })));

    assert!(!store.put_if_absent(&a, Bytes::from_static(b"other")).await.unwrap());
    assert_eq!(store.get(&a, 5).await.unwrap(), Bytes::from_static(b"three"));
    let empty = key("chunks/ac/empty");
    assert!(store.put_if_absent(&empty, Bytes::new()).await.unwrap());
    assert_eq!(store.get(&empty, 0).await.unwrap(), Bytes::new());

    let race = key("race");
    let tries = (0..8u8).map(|n| {
        let (store, race) = (Arc::clone(&store), race.clone());
        async move { store.put_if_absent(&race, Bytes::from(vec![n; 100])).await.unwrap() }
    });
    let won = futures::future::join_all(tries).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "one of many gets the key");
    let winner = won.iter().position(|won| *won).unwrap();
    assert_eq!(store.get(&race, 100).await.unwrap(), Bytes::from(vec![u8::try_from(winner).unwrap(); 100]));

    // Larger than a part, so that it goes up in several where the store has parts.
    let large = key("backups/large");
    let body: Bytes = (0..40u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    store.put(&large, body.clone()).await.unwrap();
    assert_eq!(store.size(&large).await.unwrap(), Some(40 << 20));
    assert!(store.get(&large, 64 << 20).await.unwrap() == body, "40 MiB come back as they were");

    let listed = names(&*store, "chunks/").await;
    assert_eq!(listed, [("chunks/ab/abcd".to_owned(), 5), ("chunks/ac/empty".to_owned(), 0)]);
    assert_eq!(names(&*store, "chunks/ab/ab").await.len(), 1, "a prefix may end inside a name");
    assert_eq!(names(&*store, "nothing/").await, vec![]);
    assert_eq!(names(&*store, "").await.len(), 4);

    store.delete(&a).await.unwrap();
    store.delete(&a).await.unwrap();
    assert_eq!(store.size(&a).await.unwrap(), None);
    assert_eq!(names(&*store, "chunks/").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(open(&Settings::Directory { path: folder.path().join("made-when-needed") }).await.unwrap()).await;
    let mode = std::fs::metadata(folder.path().join("made-when-needed")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "its names and sizes are nobody else's business");
    // Not so the folder above it: it may be that of a disk which is not mounted.
    let elsewhere = open(&Settings::Directory { path: folder.path().join("disk/store") }).await.unwrap();
    for outcome in [
        elsewhere.reach().await,
        elsewhere.probe().await,
        elsewhere.put(&key("chunks/ab/abcd"), Bytes::new()).await,
        elsewhere.list("").await.map(drop),
    ] {
        assert!(outcome.unwrap_err().to_string().contains("make it, or mount its disk"));
    }
    assert!(!folder.path().join("disk").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_conforms_and_a_prefix_keeps_to_itself() {
    let bucket = Bucket::new().await;
    bucket.overwrite("sexton-other/chunks/ab/abcd", b"someone else's".to_vec()).await;
    conforms(open(&bucket.settings("sexton")).await.unwrap()).await;
    assert!(bucket.keys().await.contains(&"sexton-other/chunks/ab/abcd".to_owned()));
    assert_eq!(bucket.unfinished().await, 0);
    bucket.remove().await;
}

/// What is deleted where a lock keeps it is gone for sexton, and can be had back by whoever looks at versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_object_lock_conforms_and_keeps_what_was_deleted() {
    let bucket = Bucket::locked().await;
    conforms(open(&bucket.settings("locked")).await.unwrap()).await;
    let versions = bucket.client.list_object_versions().bucket(&bucket.name).send().await.unwrap();
    let there: Vec<_> = versions.versions().iter().filter_map(|version| version.key()).collect();
    let now = bucket.keys().await;
    let deleted: Vec<_> = there.iter().filter(|key| !now.iter().any(|now| now == *key)).collect();
    assert!(!deleted.is_empty(), "{there:?} {now:?}");
}

/// What a store is told of encryption, for an object as a whole and in parts. The store here answers anything.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_asked_to_encrypt() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 8192];
        let length = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&head[..length]).to_lowercase()
    });
    let settings = Settings::S3 {
        bucket: "b".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        endpoint: Some(endpoint),
        path_style: true,
        credentials: Some(("access".into(), "secret".to_owned().into())),
        server_side: Some(ServerSide { algorithm: Algorithm::Kms, kms_key: Some("arn:key".into()) }),
    };
    let refused = open(&settings).await.unwrap().put(&key("chunks/ab/abcd"), Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(StoreError::AccessDenied { .. })), "{refused:?}");
    let head = heard.await.unwrap();
    for line in
        ["x-amz-server-side-encryption: aws:kms\r\n", "x-amz-server-side-encryption-aws-kms-key-id: arn:key\r\n"]
    {
        assert!(head.contains(line), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_half_way_is_aborted() {
    let bucket = Bucket::new().await;
    let store = open(&bucket.settings("")).await.unwrap();
    let (mut seen, mut tries) = (false, 0);
    // On a machine that is busy otherwise an upload may be over before it is seen.
    while !seen && tries < 5 {
        tries += 1;
        let store = Arc::clone(&store);
        let uploading = tokio::spawn(async move { store.put(&key("large"), Bytes::from(vec![7; 160 << 20])).await });
        while !seen && !uploading.is_finished() {
            seen = bucket.unfinished().await > 0;
        }
        uploading.abort();
        seen &= uploading.await.is_err();
        if !seen {
            bucket.delete("large").await;
        }
    }
    assert!(seen, "every upload was over before it was seen");
    assert_none_unfinished(&bucket).await;
    assert_eq!(bucket.keys().await, Vec::<String>::new());
    bucket.remove().await;
}

/// Also one that the store has begun and whose name it has not told yet.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_while_it_begins_is_aborted() {
    let bucket = Bucket::new().await;
    let store = open(&bucket.settings("")).await.unwrap();
    let body = Bytes::from(vec![7; 160 << 20]);
    for wait in 0..40 {
        let (store, body) = (Arc::clone(&store), body.clone());
        let uploading = tokio::spawn(async move { store.put(&key("large"), body).await });
        tokio::time::sleep(std::time::Duration::from_micros(500 * wait)).await;
        uploading.abort();
        assert!(uploading.await.is_err());
    }
    assert_none_unfinished(&bucket).await;
    bucket.remove().await;
}

async fn assert_none_unfinished(bucket: &Bucket) {
    bucket.settles_at(0).await;
    // One that is only now beginning would be there by then.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(bucket.unfinished().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_bucket_is_told_apart() {
    let bucket = Bucket::new().await;
    let Settings::S3 { bucket: name, prefix, region, endpoint, path_style, credentials, .. } = bucket.settings("")
    else {
        panic!("a bucket's settings are for S3");
    };
    let settings = |name: &str, endpoint: &Option<String>, secret: Option<&str>| Settings::S3 {
        bucket: name.to_owned(),
        prefix: prefix.clone(),
        region: region.clone(),
        endpoint: endpoint.clone(),
        path_style,
        server_side: None,
        credentials: credentials
            .clone()
            .map(|(access, key)| (access, secret.map_or(key, |text| text.to_owned().into()))),
    };
    let reach = async |settings: Settings| open(&settings).await.unwrap().reach().await.unwrap_err();
    let missing = reach(settings("it-no-such-bucket", &endpoint, None)).await;
    assert!(matches!(missing, StoreError::NoBucket { .. }), "{missing:?}");
    let denied = reach(settings(&name, &endpoint, Some("wrong"))).await;
    assert!(matches!(denied, StoreError::AccessDenied { .. }), "{denied:?}");
    let nowhere = reach(settings(&name, &Some("http://127.0.0.1:1".to_owned()), None)).await;
    assert!(matches!(nowhere, StoreError::Unreachable { .. }), "{nowhere:?}");
    assert!(!format!("{:?}", settings(&name, &endpoint, Some("hidden-secret"))).contains("hidden-secret"));
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_shows_no_partial_or_foreign_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Settings::Directory { path: folder.path().to_owned() }).await.unwrap();
    store.put(&key("a/b"), Bytes::from_static(b"x")).await.unwrap();
    std::fs::write(folder.path().join("a/.partial-1"), b"half").unwrap();
    std::fs::write(folder.path().join("a/not a key"), b"foreign").unwrap();
    assert_eq!(names(&*store, "").await, [("a/b".to_owned(), 1)]);
    assert_eq!(names(&*store, "../").await, vec![]);
    let pipe = folder.path().join("a/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let read = store.get(&key("a/pipe"), 100).await;
    assert!(matches!(read, Err(StoreError::NotFound { .. })), "{read:?}");
}
