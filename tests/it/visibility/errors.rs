//! What the client says when the engine cannot be reached, trusted or used.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::json;
use sexton::clients::search::{Auth, Product, Search, SearchError, Settings};
use sexton::failure::Explain;

use crate::support::search::Engine;

async fn refused(settings: &Settings) -> SearchError {
    let error = Search::connect(settings).await.unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    error
}

#[tokio::test]
async fn the_engines_are_told_apart() {
    let opensearch = Engine::opensearch().client().await;
    assert_eq!(opensearch.engine().product, Product::OpenSearch);
    assert!(!opensearch.has_lifecycle().await.unwrap());
    let elasticsearch = Engine::elasticsearch6().client().await;
    assert_eq!(elasticsearch.engine().to_string(), "Elasticsearch 6.8.23");
    assert!(elasticsearch.has_lifecycle().await.unwrap());
}

#[tokio::test]
async fn a_wrong_password_is_a_refused_login_and_is_not_shown() {
    let password = "not-the-password";
    let auth = Auth::Basic { user: "elastic".into(), password: password.into() };
    let error = refused(&Settings { auth, ..Engine::elasticsearch6().settings() }).await;
    assert!(matches!(error, SearchError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains(password));
    let client = Engine::elasticsearch6().client().await;
    assert!(!format!("{client:?}").contains(&Engine::elasticsearch6().user.unwrap().1));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let error = refused(&Settings { ca: None, ..Engine::elasticsearch6().settings() }).await;
    assert!(matches!(error, SearchError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    // Bound and dropped: a port nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let error = refused(&Settings { url, ..Engine::opensearch().settings() }).await;
    assert!(matches!(error, SearchError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_a_time_out() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let timeout = Duration::from_millis(300);
    let error = refused(&Settings { url, timeout, auth: Auth::None, ca: None }).await;
    assert_eq!(error, SearchError::Timeout { call: "GET /".into(), limit: timeout });
}

#[tokio::test]
async fn a_file_that_holds_no_certificate_is_named() {
    let engine = Engine::elasticsearch6();
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_owned(), "no/such/file.pem".into()] {
        let error = refused(&Settings { ca: Some(path.clone()), ..engine.settings() }).await;
        assert!(matches!(&error, SearchError::CaFile { path: named, .. } if *named == path), "{error:?}");
    }
}

#[tokio::test]
async fn a_user_without_privileges_is_forbidden() {
    let engine = Engine::elasticsearch6();
    let name = format!("it-{}", uuid::Uuid::new_v4().simple());
    let path = format!("/_security/user/{name}");
    engine.ok("PUT", &path, Some(json!({"password": "low-privileges", "roles": []})));
    let auth = Auth::Basic { user: name.clone(), password: "low-privileges".into() };
    let error = refused(&Settings { auth, ..engine.settings() }).await;
    engine.ok("DELETE", &path, None);
    let SearchError::Forbidden { reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("cluster:monitor/main"), "the privilege is named: {reason}");
}

/// Elasticsearch 6.8 has API keys only with a paid licence, so that the header is judged here and its refusal there.
#[tokio::test]
async fn an_api_key_is_sent_as_it_is_given() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let body = r#"{"version": {"number": "2.19.0", "distribution": "opensearch"}}"#;
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    let timeout = Duration::from_secs(10);
    let client = Search::connect(&Settings { url, timeout, auth: Auth::ApiKey("aWQ6a2V5".into()), ca: None }).await;
    assert_eq!(client.unwrap().engine().to_string(), "OpenSearch 2.19.0");
    let request = server.join().unwrap();
    assert!(request.contains("\r\nauthorization: ApiKey aWQ6a2V5\r\n"), "{request}");
    assert!(!request.contains("compatible-with"), "OpenSearch and old engines refuse that media type: {request}");
}

#[tokio::test]
async fn an_api_key_that_is_none_is_refused() {
    let with = |key: &str| Settings { auth: Auth::ApiKey(key.into()), ..Engine::elasticsearch6().settings() };
    let wrong = refused(&with("bm86a2V5")).await;
    assert!(matches!(wrong, SearchError::Unauthorized { .. }), "{wrong:?}");
    let unsendable = refused(&with("line\nbreak")).await;
    assert!(matches!(unsendable, SearchError::Settings(_)), "{unsendable:?}");
}

#[tokio::test]
async fn https_to_an_engine_that_speaks_http_says_so() {
    let url = Engine::opensearch().url.replace("http://", "https://").parse().unwrap();
    let error = refused(&Settings { url, ..Engine::opensearch().settings() }).await;
    assert!(matches!(error, SearchError::Tls { .. }), "{error:?}");
}
