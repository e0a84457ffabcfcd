//! Receivers that are down, refuse, or send somewhere else.

use std::time::Duration;

use serde_json::json;

use super::{body, delivery, hook, ready, site, written};
use crate::support::postgres::Scratch;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::site::eventually;

const STATE: &str = "SELECT state || ' ' || attempts FROM webhook_deliveries";

#[test]
fn a_receiver_that_was_down_gets_it_later() {
    let (ledger, mut receiver) = (Scratch::new("down"), Receiver::down());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    let said = site.run(&["once", "retention"]).expect(1);
    assert!(said.err.contains("not delivered yet") && said.err.contains("Connection refused"), "{}", said.err);
    assert_eq!(ledger.psql(STATE), "pending 1");
    receiver.start();
    let mut daemon = site.start(&["run"], "daemon.log");
    let seen = receiver.wait_for(1);
    assert_eq!(seen[0]["genuine"], true);
    assert!(eventually(Duration::from_secs(10), || ledger.psql(STATE).starts_with("delivered")), "{}", daemon.log());
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert_eq!(receiver.seen().len(), 1);
}

#[test]
fn attempts_come_at_growing_distances_with_the_same_delivery() {
    let ledger = Scratch::new("backoff");
    let receiver = Receiver::answering(&json!([{"status": 500}, {"status": 502}, {"status": 302}, {"status": 200}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    let mut daemon = site.start(&["run"], "daemon.log");
    let seen = receiver.wait_for(4);
    assert!(eventually(Duration::from_secs(10), || ledger.psql(STATE) == "delivered 4"), "{}", daemon.log());
    assert!(seen.iter().all(|request| delivery(request) == delivery(&seen[0]) && request["genuine"] == true));
    let at = |n: usize| seen[n]["at"].as_f64().unwrap();
    for (n, least) in [(1, 0.8), (2, 1.6), (3, 3.2)] {
        let pause = at(n) - at(n - 1);
        assert!(pause >= least && pause < least + 15.0, "{pause} s before attempt {}", n + 1);
    }
    daemon.signal("TERM");
    daemon.wait();
}

#[test]
fn a_refusal_is_final_until_somebody_asks_again() {
    let ledger = Scratch::new("dead");
    let receiver = Receiver::answering(&json!([{"status": 400, "body": "invalid_payload"}, {"status": 410}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    assert_eq!(ledger.psql(STATE), "dead 1");
    site.run(&["once", "retention"]).expect(1);
    let states = "SELECT string_agg(state || ' ' || attempts, ',' ORDER BY id) FROM webhook_deliveries";
    assert_eq!(ledger.psql(states), "dead 1,dead 1");
    let listed = site.run(&["webhooks", "list", "--dead", "--json"]).expect(0).json();
    assert_eq!(listed["dead"], 2);
    let errors: Vec<&str> =
        listed["deliveries"].as_array().unwrap().iter().map(|d| d["last_error"].as_str().unwrap()).collect();
    let origin = receiver.origin();
    assert_eq!(errors, [format!("{origin} answers with 410"), format!("{origin} answers with 400 (invalid_payload)")]);
    let table = site.run(&["webhooks", "list", "--dead"]).expect(0).out;
    assert!(table.contains("0 pending, 2 dead") && table.contains("(invalid_payload)"), "{table}");
    let doctor = site.run(&["doctor"]).out;
    assert!(doctor.contains("warn  webhooks  outbox: 0 deliveries pending, 2 given up"), "{doctor}");

    receiver.answer(&json!([{"status": 200}]));
    let first = listed["deliveries"][1]["id"].as_str().unwrap();
    // Nobody delivers to a webhook that is not there any more.
    let renamed = super::site(&ledger, &hook("others", &receiver, ""));
    let gone = renamed.run(&["webhooks", "retry", first]).expect(1);
    assert!(gone.err.contains("is for `ops`, and there is no such webhook any more"), "{gone:?}");
    assert_eq!(ledger.psql(states), "dead 1,dead 1");
    site.run(&["webhooks", "retry", first]).expect(0);
    assert_eq!(ledger.psql(states), "delivered 1,dead 1");
    let said = site.run(&["webhooks", "retry", first]).expect(1);
    assert!(said.err.contains("was delivered; it is not sent again"), "{said:?}");
    assert_eq!(
        site.run(&["webhooks", "retry", "--dead", "--json"]).expect(0).json()["deliveries"][0]["state"],
        "delivered"
    );
    assert_eq!(ledger.psql(states), "delivered 1,delivered 1");
    let said = site.run(&["webhooks", "retry", "abc"]).expect(64);
    assert!(said.err.contains("`sexton webhooks list` shows"), "{said:?}");
    let said = site.run(&["webhooks", "retry", "01a20b05-81e4-713f-a6fc-f27b6ae7ae35"]).expect(1);
    assert!(said.err.contains("there is no delivery 01a20b05"), "{said:?}");
    let seen = receiver.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(delivery(&seen[2]), delivery(&seen[0]), "the same delivery for the receiver");
}

#[test]
fn only_what_was_given_up_is_dismissed() {
    let ledger = Scratch::new("dismiss");
    let receiver = Receiver::answering(&json!([{"status": 410}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    for _ in 0..5 {
        site.run(&["once", "retention"]).expect(1);
    }
    // The oldest stays dead, the others are on their way, there already, another webhook's, and dead.
    let id = |n: usize| ledger.psql(&format!("SELECT id FROM webhook_deliveries ORDER BY id OFFSET {n} LIMIT 1"));
    let ids: Vec<String> = (0..5).map(id).collect();
    let make =
        |n: usize, what: &str| ledger.psql(&format!("UPDATE webhook_deliveries SET {what} WHERE id = '{}'", ids[n]));
    make(1, "state = 'pending', ended_at = NULL, next_attempt_at = now() + interval '1 hour'");
    make(2, "state = 'delivered'");
    make(3, "webhook = 'gone'");
    let left = || ledger.psql("SELECT string_agg(webhook || ' ' || state, ', ' ORDER BY id) FROM webhook_deliveries");
    assert_eq!(left(), "ops dead, ops pending, ops delivered, gone dead, ops dead");

    for (n, state) in [(1, "pending"), (2, "delivered")] {
        let said = site.run(&["webhooks", "dismiss", &ids[n]]).expect(1);
        assert!(said.err.contains(&format!("is {state}; only one that was given up is dismissed")), "{said:?}");
    }
    let said = site.run(&["webhooks", "dismiss", "01a20b05-81e4-713f-a6fc-f27b6ae7ae35"]).expect(1);
    assert!(said.err.contains("there is no delivery 01a20b05"), "{said:?}");
    site.run(&["webhooks", "dismiss"]).expect(64);
    site.run(&["webhooks", "dismiss", &ids[0], "--webhook", "ops"]).expect(64);
    assert_eq!(left(), "ops dead, ops pending, ops delivered, gone dead, ops dead");

    assert!(site.run(&["webhooks", "dismiss", &ids[4]]).expect(0).out.contains("1 delivery is dismissed"));
    assert_eq!(left(), "ops dead, ops pending, ops delivered, gone dead");
    let said = site.run(&["webhooks", "dismiss", "--dead", "--webhook", "gone", "--json"]).expect(0).json();
    assert_eq!(said, json!({"dismissed": 1}));
    assert_eq!(left(), "ops dead, ops pending, ops delivered");
    site.run(&["webhooks", "dismiss", "--dead"]).expect(0);
    assert_eq!(left(), "ops pending, ops delivered");
    assert!(site.run(&["webhooks", "dismiss", "--dead"]).expect(0).out.contains("nothing was given up"));
}

#[test]
fn what_a_daemon_delivers_again_is_told_of_as_well() {
    let ledger = Scratch::new("beside");
    let receiver = Receiver::answering(&json!([{"status": 404}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    assert_eq!(ledger.psql(STATE), "dead 1");
    receiver.answer(&json!([{"status": 200, "delay": 1}]));
    let mut daemon = site.start(&["run"], "daemon.log");
    daemon.wait_for("this daemon leads");
    for n in 1..=3 {
        site.run(&["webhooks", "retry", "--dead"]).expect(0);
        assert_eq!((ledger.psql(STATE).as_str(), receiver.seen().len()), ("delivered 1", n + 1));
        ledger.psql("UPDATE webhook_deliveries SET state = 'dead'");
    }
    daemon.signal("TERM");
    daemon.wait();
}

#[test]
fn a_busy_receiver_says_when() {
    let ledger = Scratch::new("busy");
    let receiver = Receiver::answering(&json!([{"status": 429, "headers": {"Retry-After": "120"}}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    let pause = "SELECT state || ' ' || (next_attempt_at - now() BETWEEN interval '90 s' AND interval '121 s') \
                 FROM webhook_deliveries";
    assert_eq!(ledger.psql(pause), "pending true");
    receiver.answer(&json!([{"status": 503, "headers": {"Retry-After": "1000000"}}]));
    ledger.psql("UPDATE webhook_deliveries SET next_attempt_at = now()");
    site.run(&["once", "visibility"]).expect(0);
    let hour = "SELECT next_attempt_at - now() BETWEEN interval '59 min' AND interval '1 h' FROM webhook_deliveries";
    assert_eq!(ledger.psql(hour), "t", "however long it asks for");
}

#[test]
fn after_a_day_it_is_given_up() {
    let (ledger, receiver) = (Scratch::new("day"), Receiver::down());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    ledger.psql("UPDATE webhook_deliveries SET next_attempt_at = now(), tried_since = now() - interval '24 h'");
    let said = site.run(&["once", "visibility"]).expect(0);
    assert!(said.err.contains("delivery given up"), "{}", said.err);
    assert_eq!(ledger.psql(STATE), "dead 2");
}

#[test]
fn the_day_begins_with_the_first_attempt() {
    let (ledger, receiver) = (Scratch::new("weekend"), Receiver::down());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    // As if nobody had been there to deliver it since it was written.
    ledger.psql(
        "UPDATE webhook_deliveries SET attempts = 0, next_attempt_at = now() - interval '2 days', \
         created_at = now() - interval '2 days', tried_since = now() - interval '2 days'",
    );
    site.run(&["once", "visibility"]).expect(0);
    let since =
        "SELECT state || ' ' || attempts || ' ' || (tried_since > now() - interval '1 min') FROM webhook_deliveries";
    assert_eq!(ledger.psql(since), "pending 1 true");
    // And with no later one.
    ledger.psql("UPDATE webhook_deliveries SET next_attempt_at = now(), tried_since = now() - interval '2 h'");
    site.run(&["once", "visibility"]).expect(0);
    assert_eq!(ledger.psql(since), "pending 2 false");
}

#[test]
fn a_redirect_is_not_followed() {
    let (ledger, elsewhere) = (Scratch::new("redirect"), Receiver::new());
    let to = format!("{}/stolen", elsewhere.origin());
    let receiver = Receiver::answering(&json!([{"status": 307, "headers": {"Location": to}}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    let said = site.run(&["webhooks", "test", "ops"]).expect(1);
    assert!(said.err.contains("answers with 307, a redirect, which is not followed"), "{said:?}");
    assert_eq!((receiver.seen().len(), elsewhere.seen().len()), (1, 0));
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let ledger = Scratch::new("long");
    let receiver = Receiver::answering(&json!([{"status": 400, "body": "x".repeat(8 << 20)}]));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    let error = "SELECT last_error FROM webhook_deliveries";
    assert_eq!(ledger.psql(error), format!("{} answers with 400", receiver.origin()));
}

#[test]
fn no_secret_is_shown_or_kept() {
    let (ledger, receiver) = (Scratch::new("secret"), Receiver::answering(&json!([{"status": 400, "body": "ECHO"}])));
    const PATH: &str = "hidden-path-77aa";
    let hooks = "  - {name: echo, url: {env: ECHO_URL}, secret: {env: HOOK_SECRET}}\n  \
       - {name: down, url: {file: down-url}, secret: {env: HOOK_SECRET}}\n  \
       - {name: chat, url: {env: ECHO_URL}, format: slack}\n";
    let site = written(&ledger, "127.0.0.1:1", hooks)
        .env("ECHO_URL", &format!("{}/{PATH}?token={PATH}", receiver.origin()))
        .file("down-url", &format!("http://{PATH}:{PATH}@127.0.0.1:1/{PATH}\n"));
    let site = ready(site);
    let mut all = String::new();
    let runs: [&[&str]; 8] = [
        &["-vv", "once", "retention", "--json"],
        &["-vv", "once", "retention"],
        &["webhooks", "list", "--json"],
        &["webhooks", "list"],
        &["-vv", "webhooks", "test", "echo"],
        &["-vv", "webhooks", "test", "down", "--json"],
        &["-vv", "webhooks", "retry", "--dead", "--json"],
        &["doctor", "--json"],
    ];
    for args in runs {
        let said = site.run(args);
        all.push_str(&format!("{args:?}\n{}{}\n", said.out, said.err));
    }
    let dumped = ledger.server.tool("pg_dump", &ledger.name).args(["--data-only", "--inserts"]).output().unwrap();
    assert!(dumped.status.success());
    let dumped = String::from_utf8(dumped.stdout).unwrap();
    assert!(dumped.contains("answers with 400") && dumped.contains("Connection refused"), "{dumped}");
    assert!(all.contains("answers with 400") && all.contains("Connection refused"), "{all}");
    for secret in [PATH, SECRET] {
        for (what, text) in [("the output", &all), ("the ledger", &dumped)] {
            let at = text.lines().find(|line| line.contains(secret));
            assert!(at.is_none(), "{what} has {secret}: {at:?}");
        }
    }
    // It did go there.
    assert!(receiver.seen().len() >= 4);
    assert!(receiver.seen()[0]["path"].as_str().unwrap().contains(PATH));
    assert_eq!(body(&receiver.seen()[0])["run"]["job"], "retention");
}
