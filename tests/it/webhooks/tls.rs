//! The way to a receiver: TLS, and a proxy.

use std::time::Duration;

use super::{hook, site, written};
use crate::support::postgres::Scratch;
use crate::support::receiver::Receiver;
use crate::support::site::eventually;
use crate::support::stack;

#[test]
fn a_receiver_is_trusted_by_its_authority_alone() {
    let (ledger, receiver) = (Scratch::new("tls"), Receiver::with_tls());
    let line = |name: &str, ca: &str| hook(name, &receiver, &format!(", ca: '{ca}'"));
    let hooks = [
        line("right", stack().get("CA")),
        // Somebody's certificate, and not of whoever signed the receiver's.
        line("wrong", stack().get("CLIENT_CERT")),
        hook("system", &receiver, ""),
        line("key", stack().get("CLIENT_KEY")),
    ];
    let site = site(&ledger, &hooks.concat());
    site.run(&["webhooks", "test", "right"]).expect(0);
    assert_eq!(receiver.seen().len(), 1);
    assert_eq!(receiver.seen()[0]["genuine"], true);
    for name in ["wrong", "system"] {
        let said = site.run(&["webhooks", "test", name]).expect(1);
        assert!(said.err.contains("its certificate is not trusted: "), "{name}: {said:?}");
        assert!(said.err.contains("set the webhook's `ca`"), "{name}: {said:?}");
    }
    let said = site.run(&["webhooks", "test", "key"]).expect(1);
    assert!(said.err.contains("cannot be used: no certificate is in it"), "{said:?}");
    assert_eq!(receiver.seen().len(), 1);
}

#[test]
fn renewed_authorities_count_without_a_restart() {
    let (ledger, receiver) = (Scratch::new("renewed"), Receiver::with_tls());
    let site = written(&ledger, "127.0.0.1:1", &hook("ops", &receiver, ", ca: hooks-ca.pem"));
    let renewed = |from: &str| std::fs::copy(stack().get(from), site.path().join("hooks-ca.pem")).unwrap();
    renewed("CLIENT_CERT");
    site.run(&["ledger", "init"]).expect(0);
    let mut daemon = site.start(&["run"], "daemon.log");
    site.run(&["once", "retention"]).expect(1);
    let state = "SELECT state || ' ' || coalesce(last_error, '-') FROM webhook_deliveries";
    let refused = || ledger.psql("SELECT attempts > 1 FROM webhook_deliveries") == "t";
    assert!(eventually(Duration::from_secs(30), refused), "{}", daemon.log());
    assert!(ledger.psql(state).contains("its certificate is not trusted"), "{}", ledger.psql(state));
    renewed("CA");
    let delivered = || ledger.psql(state) == "delivered -";
    assert!(eventually(Duration::from_secs(60), delivered), "{}", daemon.log());
    assert_eq!(receiver.seen().len(), 1);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let (ledger, proxy) = (Scratch::new("proxy"), Receiver::new());
    let site = site(&ledger, "  - {name: far, url: 'http://hooks.example.invalid/x'}\n");
    let said = site.run_with(&["webhooks", "test", "far"], &[("http_proxy", &proxy.origin())]);
    said.expect(0);
    assert_eq!(proxy.seen()[0]["path"], "http://hooks.example.invalid/x");
    let said = site.run(&["webhooks", "test", "far"]).expect(1);
    assert!(said.err.contains("no connection"), "{said:?}");
}
