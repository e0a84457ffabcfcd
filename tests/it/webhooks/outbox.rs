//! Nothing is lost and nothing is delivered twice without need: kills, several at work, old rows.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use super::{body, delivery, hook, site, site_with};
use crate::support::postgres::Scratch;
use crate::support::receiver::Receiver;
use crate::support::site::eventually;

#[test]
fn a_process_that_is_killed_before_it_delivers_loses_nothing() {
    let ledger = Scratch::new("killed");
    let receiver = Receiver::answering(&json!([{"delay": 30}, {"status": 200}]));
    let site = site(&ledger, &hook("ops", &receiver, ", timeout: 2s"));
    let mut once = site.start(&["once", "retention"], "once.log");
    // The run has ended, and the receiver keeps whoever delivers waiting.
    assert!(eventually(Duration::from_secs(20), || ledger.psql("SELECT outcome FROM runs") == "failed"));
    once.signal("KILL");
    once.wait();
    let state = "SELECT state FROM webhook_deliveries";
    assert_eq!(ledger.psql(state), "pending");
    let mut daemon = site.start(&["run"], "daemon.log");
    assert!(eventually(Duration::from_secs(60), || ledger.psql(state) == "delivered"), "{}", daemon.log());
    let seen = receiver.seen();
    assert!(seen.iter().all(|request| delivery(request) == delivery(&seen[0])), "{seen:?}");
    assert_eq!(body(seen.last().unwrap())["run"]["outcome"], "failed");
    daemon.signal("TERM");
    daemon.wait();
}

#[test]
fn a_run_whose_process_died_is_told_of_by_whoever_finds_it() {
    let (ledger, receiver) = (Scratch::new("died"), Receiver::new());
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = site_with(&ledger, &hole.local_addr().unwrap().to_string(), &hook("ops", &receiver, ""));
    let mut once = site.start(&["once", "retention"], "once.log");
    once.wait_for("started");
    once.signal("KILL");
    once.wait();
    assert_eq!(ledger.psql("SELECT count(*) FROM webhook_deliveries"), "0");
    let mut daemon = site.start(&["run"], "daemon.log");
    let told = body(&receiver.wait_for(1)[0]);
    assert_eq!(told["run"]["outcome"], "interrupted");
    assert_eq!(told["run"]["id"].as_str(), Some(ledger.psql("SELECT id FROM runs").as_str()));
    daemon.signal("TERM");
    daemon.wait();
}

#[test]
fn a_daemon_that_is_stopped_tells_of_the_run_it_cancels() {
    let (ledger, receiver) = (Scratch::new("stopped"), Receiver::new());
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let hooks = hook("ops", &receiver, ", on: [cancelled]");
    let site = site_with(&ledger, &hole.local_addr().unwrap().to_string(), &hooks)
        .policy("schedule", "jobs: {retention: {cron: '* * * * * *'}}\nshutdown_grace: 15s\n");
    let mut daemon = site.start(&["run"], "daemon.log");
    daemon.wait_for("\"started\"");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert_eq!(body(&receiver.seen()[0])["run"]["outcome"], "cancelled");
}

#[test]
fn many_at_work_deliver_each_once() {
    let (ledger, receiver) = (Scratch::new("many"), Receiver::answering(&json!([{"delay": 0.2}])));
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "visibility"]).expect(0);
    ledger.psql(
        "INSERT INTO webhook_deliveries (id, webhook, run, payload) \
         SELECT gen_random_uuid(), 'ops', r.id, jsonb_build_object('event', 'run.ended', 'n', n) \
         FROM runs r, generate_series(1, 60) n",
    );
    let mut leader = site.start(&["run"], "leader.log");
    let mut standby = site.start(&["run"], "standby.log");
    let mut others: Vec<_> =
        (0..3).map(|n| site.start(&["webhooks", "retry", "--dead"], &format!("{n}.log"))).collect();
    let left = "SELECT count(*) FROM webhook_deliveries WHERE state <> 'delivered'";
    assert!(eventually(Duration::from_secs(60), || ledger.psql(left) == "0"), "{}", leader.log());
    for other in &mut others {
        other.wait();
    }
    let seen = receiver.seen();
    let distinct: BTreeSet<&str> = seen.iter().map(delivery).collect();
    assert_eq!((seen.len(), distinct.len()), (60, 60));
    assert_eq!(ledger.psql("SELECT DISTINCT attempts FROM webhook_deliveries"), "1");
    // More than one of them had a part in it, or this has shown nothing.
    let logs = [leader.log(), others[0].log(), others[1].log(), others[2].log()];
    let at_work = logs.iter().filter(|log| log.contains("\"delivered\"")).count();
    assert!(at_work > 1, "{at_work} of them delivered");
    for daemon in [&mut leader, &mut standby] {
        daemon.signal("TERM");
        daemon.wait();
    }
}

#[test]
fn a_slow_receiver_holds_up_no_run_and_no_other_webhook() {
    let ledger = Scratch::new("slow");
    let (slow, quick) = (Receiver::answering(&json!([{"delay": 8}])), Receiver::new());
    let on = ", on: [unchanged], timeout: 30s";
    let hooks = [hook("slow", &slow, on), hook("quick", &quick, on)].concat();
    let site = site(&ledger, &hooks).policy("schedule", "jobs: {visibility: {cron: '* * * * * *'}}\n");
    let mut daemon = site.start(&["run"], "daemon.log");
    slow.wait_for(1);
    assert_eq!(
        ledger.psql("SELECT count(*) FROM webhook_deliveries WHERE webhook = 'slow' AND state = 'delivered'"),
        "0"
    );
    quick.wait_for(3);
    let before = "SELECT count(*) FROM runs WHERE outcome = 'unchanged' AND finished_at - started_at < interval '3 s'";
    let at_that_time: u32 = ledger.psql(before).parse().unwrap();
    let delivered = "SELECT count(*) FROM webhook_deliveries WHERE webhook = 'slow' AND state = 'delivered'";
    assert_eq!(ledger.psql(delivered), "0", "the slow one has answered already");
    assert!(at_that_time >= 3, "{at_that_time}");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
}

const NOTED: &str = "SELECT state || ' ' || attempts || ' ' || coalesce(last_error, '-') FROM webhook_deliveries";

#[test]
fn a_command_gives_a_receiver_the_webhooks_own_time() {
    let ledger = Scratch::new("patient");
    let receiver = Receiver::answering(&json!([{"delay": 13}]));
    let site = site(&ledger, &hook("ops", &receiver, ", timeout: 1m"));
    site.run(&["once", "retention"]).expect(1);
    assert_eq!((ledger.psql(NOTED).as_str(), receiver.seen().len()), ("delivered 1 -", 1));
    assert_eq!(ledger.psql("SELECT finished_at - started_at < interval '6 s' FROM runs"), "t");
}

#[test]
fn a_command_waits_for_a_receiver_no_longer_than_that() {
    let ledger = Scratch::new("bounded");
    let receiver = Receiver::answering(&json!([{"delay": 60}]));
    let site = site(&ledger, &hook("ops", &receiver, ", timeout: 12s"));
    let clock = std::time::Instant::now();
    site.run(&["once", "retention"]).expect(1);
    let took = clock.elapsed();
    assert!(took > Duration::from_secs(12) && took < Duration::from_secs(28), "{took:?}");
    let noted = ledger.psql(NOTED);
    assert!(noted.starts_with("pending 1 ") && noted.contains("no answer within 12s"), "{noted}");
}

#[test]
fn a_command_that_is_stopped_leaves_the_attempt_to_others() {
    let ledger = Scratch::new("left");
    let receiver = Receiver::answering(&json!([{"delay": 60}, {"status": 200}]));
    let site = site(&ledger, &hook("ops", &receiver, ", timeout: 30s"));
    let mut once = site.start(&["once", "retention"], "once.log");
    receiver.wait_for(1);
    let clock = std::time::Instant::now();
    once.signal("TERM");
    assert_eq!(once.wait(), Some(1), "{}", once.log());
    assert!(clock.elapsed() < Duration::from_secs(12), "{:?}", clock.elapsed());
    assert!(once.log().contains("whoever delivers next goes on"), "{}", once.log());
    // It has not failed: the receiver may have had it.
    assert_eq!(ledger.psql(NOTED), "pending 1 -");
    ledger.psql("UPDATE webhook_deliveries SET next_attempt_at = now()");
    site.run(&["once", "visibility"]).expect(0);
    assert_eq!(ledger.psql(NOTED), "delivered 2 -");
}

#[test]
fn old_rows_go() {
    let (ledger, receiver) = (Scratch::new("old"), Receiver::new());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    ledger.psql(
        "INSERT INTO webhook_deliveries (id, webhook, payload, state, ended_at, tried_since, next_attempt_at) \
         SELECT gen_random_uuid(), webhook, '{}', state, now() - ended::interval, now() - since::interval, \
                now() + interval '1 h' \
         FROM (VALUES ('a', 'delivered', '31 days', '31 days'), ('b', 'delivered', '29 days', '29 days'), \
                      ('c', 'dead', '31 days', '31 days'), ('d', 'dead', '91 days', '91 days'), \
                      ('e', 'pending', NULL, '25 h'), ('f', 'pending', NULL, '23 h'), ('ops', 'pending', NULL, '25 h')) \
              AS v (webhook, state, ended, since)",
    );
    site.run(&["once", "visibility"]).expect(0);
    let left = "SELECT string_agg(webhook || ' ' || state, ', ' ORDER BY webhook) FROM webhook_deliveries";
    assert_eq!(ledger.psql(left), "b delivered, c dead, e dead, f pending, ops pending");
    let why = ledger.psql("SELECT last_error FROM webhook_deliveries WHERE webhook = 'e'");
    assert_eq!(why, "no webhook of this name is configured");
}
