//! TLS, judged by curl with OpenSSL: the right authority, client certificates, HTTP/2, and certificates that are renewed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Api, READ, ask, curl, section, site};
use crate::support::postgres::Scratch;
use crate::support::site::{eventually, postgres_sections};
use crate::support::stack;

/// A new authority, and a certificate for 127.0.0.1 by it, in this folder.
fn certificate(folder: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=it-ca -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=sexton -keyout new.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1' >san
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out new.pem
        mv new.key server.key
        mv new.pem server.pem";
    let output = Command::new("bash").args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn api(what: &str, more: &str) -> Api {
    let ledger = Scratch::new(what);
    let tls = format!("  tls: {{certificate: tls/server.pem, key: tls/server.key{more}}}\n");
    let site = site(&format!("{}{}", postgres_sections(&ledger, "temporal"), section(&tls)));
    let folder = site.path().join("tls");
    std::fs::create_dir(&folder).unwrap();
    certificate(&folder);
    Api::of(site.policy("visibility", "{}"), ledger)
}

fn ca(api: &Api) -> String {
    api.site.path().join("tls/ca.pem").display().to_string()
}

#[test]
fn the_right_authority_and_both_http() {
    let api = api("tls", "");
    let ca = ca(&api);
    let answer = api.ask(READ, "/api/v1/runs", &["--cacert", &ca, "--http2"]).expect(200);
    assert!(answer.head.starts_with("HTTP/2 200"), "{}", answer.head);
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
    let answer = api.ask(READ, "/api/v1/runs", &["--cacert", &ca, "--http1.1"]).expect(200);
    assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
    // Many requests over one connection of HTTP/2.
    let run = |number: usize| format!("{}/api/v1/runs?limit={number}", api.base);
    let urls: Vec<String> = (1..=50).map(run).collect();
    let bearer = format!("Authorization: Bearer {READ}");
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--http2", "--parallel", "--cacert", &ca, "-H", &bearer])
        .args(["-w", "%{http_version} %{http_code}\n"])
        .args(urls.iter().flat_map(|url| [url.as_str(), "-o", "/dev/null"]))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().filter(|line| *line == "2 200").count(), 50, "{said}");

    // curl refuses another authority; old TLS and plain HTTP get nowhere.
    let error = ask(&api.base, READ, "/api/v1/runs", &["--cacert", stack().get("CA")]).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    ask(&api.base, READ, "/api/v1/runs", &["--cacert", &ca, "--tls-max", "1.1"]).unwrap_err();
    for version in ["1.2", "1.3"] {
        let only = format!("--tlsv{version}");
        api.ask(READ, "/api/v1/runs", &["--cacert", &ca, &only, "--tls-max", version]).expect(200);
    }
    let plain = api.base.replace("https", "http");
    ask(&plain, READ, "/api/v1/runs", &[]).unwrap_err();
    let log = api.daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn client_certificates_where_they_are_wanted() {
    let api = api("mtls", &format!(", client_ca: {}", stack().get("CA")));
    let ca = ca(&api);
    let (certificate, key) = (stack().get("CLIENT_CERT"), stack().get("CLIENT_KEY"));
    let with = ["--cacert", &ca, "--cert", certificate, "--key", key];
    api.ask(READ, "/api/v1/runs", &with).expect(200);
    // The certificate lets nobody in by itself.
    api.ask("", "/api/v1/runs", &with).problem(401);
    ask(&api.base, READ, "/api/v1/runs", &["--cacert", &ca]).unwrap_err();
    let own = api.site.path().join("tls");
    let (certificate, key) = (own.join("server.pem"), own.join("server.key"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    ask(&api.base, READ, "/healthz", &["--cacert", &ca, "--cert", certificate, "--key", key]).unwrap_err();
    api.ask(READ, "/api/v1/runs", &with).expect(200);
}

#[test]
fn a_renewed_certificate_is_taken_up() {
    let api = api("renewed", "");
    let folder = api.site.path().join("tls");
    let old = folder.join("old-ca.pem");
    std::fs::copy(folder.join("ca.pem"), &old).unwrap();
    let old = old.to_str().unwrap();
    api.ask("", "/healthz", &["--cacert", old]).expect(200);

    // A renewal that is half done changes nothing.
    let key = std::fs::read(folder.join("server.key")).unwrap();
    std::fs::write(folder.join("server.key"), "not a key\n").unwrap();
    api.daemon.wait_for("the old one stays");
    api.ask("", "/healthz", &["--cacert", old]).expect(200);
    std::fs::write(folder.join("server.key"), key).unwrap();

    certificate(&folder);
    let new = ca(&api);
    let url = api.url("/healthz");
    let taken = eventually(Duration::from_secs(30), || curl(&["--cacert", &new, &url]).is_ok());
    assert!(taken, "{}", api.daemon.log());
    ask(&api.base, "", "/healthz", &["--cacert", old]).unwrap_err();
}

#[test]
fn the_stack_s_authority_will_do_as_well() {
    // `localhost` and `127.0.0.1` are in the certificate that every server of the stack has.
    let (ledger, tls) = (Scratch::new("stackca"), Path::new(stack().get("CA")).parent().unwrap());
    let server = tls.join("server.pem");
    if !server.exists() {
        eprintln!("skipped: the stack keeps no server certificate beside its authority");
        return;
    }
    let section = section(&format!(
        "  tls: {{certificate: {0}, key: {1}}}\n",
        server.display(),
        tls.join("server.key").display()
    ));
    let site = site(&format!("{}{section}", postgres_sections(&ledger, "temporal")));
    let api = Api::of(site.policy("visibility", "{}"), ledger);
    api.ask("", "/healthz", &["--cacert", stack().get("CA")]).expect(200);
}
