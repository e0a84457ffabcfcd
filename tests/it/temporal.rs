//! The client against real servers: what it says when a connection cannot be made, and that what it reads is true.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sexton::clients::temporal::{Health, Settings, Support, Temporal, TemporalError, support};
use sexton::failure::{Explain, Kind};

use crate::support::stack;
use crate::support::temporal::{mutual, plain, prefix};

async fn refused(settings: &Settings) -> TemporalError {
    let error = Temporal::connect(settings).await.unwrap_err();
    assert!(error.to_string().contains(&settings.address), "{error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

/// A certificate and key that nobody knows, in the given folder.
fn stranger(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("stranger.pem"), folder.join("stranger.key"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=stranger", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

#[tokio::test]
async fn both_servers_say_what_they_are() {
    for server in [plain(), mutual()] {
        let temporal = server.connect().await;
        let info = temporal.server_info().await.unwrap();
        let seen = server.cli_json(&["operator", "cluster", "describe", "--detail"]);
        assert_eq!(seen["serverVersion"], info.version);
        assert_eq!(seen["clusterName"], info.cluster_name);
        assert_eq!(seen["historyShardCount"], info.history_shards);
        assert_eq!(seen["persistenceStore"], info.persistence_store);
        assert_eq!(seen["visibilityStore"], info.visibility_store);
        assert_eq!(support(&info.version), Support::Supported);
        assert_eq!(temporal.health().await, Ok(Health::Serving));
    }
}

#[tokio::test]
async fn namespaces_are_read_as_the_command_line_shows_them() {
    let (server, prefix) = (mutual(), prefix());
    let flags = ["--retention", "36h", "--email", "a@x.y", "--description", "Some text", "--data", "k=1"];
    let one = server.namespace_with(&prefix, "one", &flags);
    let temporal = server.connect().await;
    let read = temporal.describe_namespace(&one.name).await.unwrap();
    let seen = server.describe(&one.name);
    assert_eq!(seen["namespaceInfo"]["id"], read.id.to_string());
    assert_eq!((read.retention, one.retention().as_str()), (Duration::from_secs(129_600), "129600s"));
    assert_eq!((read.owner.as_str(), read.description.as_str()), ("a@x.y", "Some text"));
    assert_eq!(read.data.get("k").map(String::as_str), Some("1"));
    assert_eq!(seen["replicationConfig"]["activeClusterName"].as_str(), read.active_cluster.as_deref());
    assert!(!read.is_global);
    let listed = temporal.list_namespaces().await.unwrap();
    assert_eq!(listed.iter().find(|namespace| namespace.name == one.name), Some(&read));

    let nobody = format!("{prefix}-nobody");
    let error = temporal.describe_namespace(&nobody).await.unwrap_err();
    assert_eq!(error, TemporalError::NamespaceNotFound { address: server.address.clone(), namespace: nobody });
}

#[tokio::test]
async fn runs_are_counted() {
    let (server, prefix) = (plain(), prefix());
    let namespace = server.namespace(&prefix, "runs", "72h");
    for id in ["a", "b", "c"] {
        server.start_workflow(&namespace.name, id);
    }
    server.terminate_workflow(&namespace.name, "c");
    let temporal = server.connect().await;
    // Visibility follows the runs at its own pace.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let open = temporal.count_workflows(&namespace.name, "ExecutionStatus = 'Running'").await;
        let closed = temporal.count_workflows(&namespace.name, "CloseTime IS NOT NULL").await;
        if (&open, &closed) == (&Ok(2), &Ok(1)) {
            break;
        }
        assert!(Instant::now() < deadline, "open {open:?}, closed {closed:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_connection_without_or_with_the_wrong_tls_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = stranger(folder.path());
    let good = mutual().settings();
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        settings
    };

    let error = refused(&with(&|s| s.tls = None)).await;
    assert!(matches!(error, TemporalError::NeedsTls { .. }), "{error}");

    let error = refused(&Settings { tls: good.tls.clone(), ..plain().settings() }).await;
    assert!(matches!(error, TemporalError::NotTls { .. }), "{error}");

    let error = refused(&with(&|s| s.tls.as_mut().unwrap().ca = Some(certificate.clone()))).await;
    assert!(matches!(error, TemporalError::Untrusted { .. }), "{error}");

    let error = refused(&with(&|s| s.tls.as_mut().unwrap().ca = None)).await;
    assert!(matches!(error, TemporalError::Untrusted { .. }), "{error}");

    let error = refused(&with(&|s| s.server_name = Some("temporal.example.com".into()))).await;
    assert!(matches!(error, TemporalError::WrongName { .. }), "{error}");

    let bare = with(&|s| {
        let tls = s.tls.as_mut().unwrap();
        (tls.certificate, tls.key) = (None, None);
    });
    let error = refused(&bare).await;
    assert!(matches!(error, TemporalError::ClientCertificate { sent: false, .. }), "{error}");

    let unknown = with(&|s| {
        let tls = s.tls.as_mut().unwrap();
        (tls.certificate, tls.key) = (Some(certificate.clone()), Some(key.clone()));
    });
    let error = refused(&unknown).await;
    assert!(matches!(error, TemporalError::ClientCertificate { sent: true, .. }), "{error}");
}

#[tokio::test]
async fn wrong_files_are_named_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = stranger(folder.path());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "not a certificate\n").unwrap();
    let missing = folder.path().join("missing.pem");
    let check = async |change: &dyn Fn(&mut sexton::clients::TlsFiles), expect: &str| {
        let mut settings = mutual().settings();
        change(settings.tls.as_mut().unwrap());
        let error = refused(&settings).await;
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().contains(expect), "{expect}: {error}");
    };
    check(&|tls| tls.ca = Some(missing.clone()), "missing.pem` cannot be read").await;
    check(&|tls| tls.ca = Some(empty.clone()), "empty.pem` holds no certificate").await;
    check(&|tls| tls.certificate = Some(empty.clone()), "empty.pem` holds no certificate").await;
    check(&|tls| tls.key = Some(certificate.clone()), "stranger.pem` holds no private key").await;
    check(&|tls| tls.key = Some(key.clone()), "keys may not be consistent").await;
    check(&|tls| tls.key = None, "without its key").await;
    check(&|tls| tls.certificate = None, "without its certificate").await;
}

#[tokio::test]
async fn a_wrong_address_says_so() {
    let at = |address: &str| Settings { address: address.into(), ..plain().settings() };
    for address in ["localhost", "http://localhost:7233", ":7233", "localhost:0", "localhost:99999", "a b:7233", ""] {
        let error = refused(&at(address)).await;
        assert!(matches!(error, TemporalError::Address { .. }), "{address}: {error}");
    }
    let error = refused(&at("temporal.invalid:7233")).await;
    assert!(matches!(error, TemporalError::Unresolved { .. }), "{error}");

    // Bound and closed again: nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refused(&at(&free.to_string())).await;
    assert!(matches!(error, TemporalError::Refused { .. }), "{error}");

    // Something that listens and is not gRPC.
    let metrics = url::Url::parse(stack().get("TEMPORAL_METRICS_URL")).unwrap();
    let error = refused(&at(&format!("127.0.0.1:{}", metrics.port().unwrap()))).await;
    assert!(matches!(error, TemporalError::Broken { tls: false, .. }), "{error}");

    // Something that accepts and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = at(&mute.local_addr().unwrap().to_string());
    settings.timeout = Duration::from_millis(500);
    let error = refused(&settings).await;
    assert!(matches!(error, TemporalError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn the_api_key_is_never_shown() {
    let mut settings = plain().settings();
    settings.api_key = Some("sexton-secret-key\n".into());
    let temporal = Temporal::connect(&settings).await.unwrap();
    assert!(!format!("{temporal:?} {settings:?}").contains("secret-key"));

    settings.api_key = Some("sexton-secret\u{1}key".into());
    let error = refused(&settings).await;
    assert!(matches!(error, TemporalError::ApiKey { .. }), "{error}");
    assert!(!format!("{error:?} {error}").contains("secret"));
}
