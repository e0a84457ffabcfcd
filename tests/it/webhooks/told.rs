//! What is told, to whom, and in which form.

use serde_json::json;

use super::{body, delivery, hook, ready, site, site_with, written};
use crate::support::postgres::Scratch;
use crate::support::receiver::Receiver;
use crate::support::temporal::{plain, prefix};

#[test]
fn a_failed_run_is_told_once_and_signed() {
    let (ledger, receiver) = (Scratch::new("hooks"), Receiver::new());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["once", "retention"]).expect(1);
    let seen = receiver.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let request = &seen[0];
    assert_eq!(request["genuine"], true, "{request}");
    assert!(request["age"].as_f64().unwrap().abs() < 30.0, "{request}");
    assert_eq!(request["path"], "/hook");
    assert_eq!(request["headers"]["content-type"], "application/json");
    assert_eq!(request["headers"]["x-sexton-event"], "run.ended");
    let told = body(request);
    assert_eq!(told["id"], delivery(request));
    assert_eq!(told["event"], "run.ended");
    assert_eq!(told["sexton"], env!("CARGO_PKG_VERSION"));
    let of_run = "SELECT id || '|' || job || '|' || trigger || '|' || outcome || '|' || host || '|' || \
                  (error->>'kind') || '|' || (error->>'message') || '|' || (error->>'hint') FROM runs";
    let run = &told["run"];
    let fields = ["id", "job", "trigger", "outcome", "host"].map(|field| run[field].as_str().unwrap().to_owned());
    let error = ["kind", "message", "hint"].map(|field| run["error"][field].as_str().unwrap().to_owned());
    assert_eq!([fields.to_vec(), error.to_vec()].concat().join("|"), ledger.psql(of_run));
    let ends = format!("SELECT finished_at = '{}' FROM runs", run["finished_at"].as_str().unwrap());
    assert_eq!(ledger.psql(&ends), "t");
    assert_eq!(told["at"], run["finished_at"]);

    // Another run, of which nobody wants to hear, and what was delivered is not delivered again.
    site.run(&["once", "visibility"]).expect(0);
    assert_eq!(receiver.seen().len(), 1);
    assert_eq!(ledger.psql("SELECT state || ' ' || attempts FROM webhook_deliveries"), "delivered 1");
    let listed = site.run(&["webhooks", "list", "--json"]).expect(0).json();
    assert_eq!(listed["deliveries"][0]["id"], told["id"]);
    assert_eq!((listed["pending"].as_i64(), listed["dead"].as_i64()), (Some(0), Some(0)));
}

#[test]
fn each_is_told_of_the_outcomes_and_jobs_it_wants() {
    let (ledger, receiver) = (Scratch::new("filters"), Receiver::new());
    let url = receiver.origin();
    let hooks = format!(
        "  - {{name: default, url: '{url}/default'}}\n  \
           - {{name: quiet, url: '{url}/unchanged', on: [unchanged]}}\n  \
           - {{name: backups, url: '{url}/backups', on: [failed, unchanged], jobs: [backup, drill]}}\n  \
           - {{name: both, url: '{url}/both', on: [failed, unchanged], jobs: [retention, visibility]}}\n"
    );
    let site = site(&ledger, &hooks);
    let paths = |after: usize| {
        let mut paths: Vec<String> =
            receiver.seen().iter().skip(after).map(|r| r["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    };
    site.run(&["once", "retention"]).expect(1);
    assert_eq!(paths(0), ["/both", "/default"]);
    site.run(&["once", "visibility"]).expect(0);
    assert_eq!(paths(2), ["/both", "/unchanged"]);
    assert!(receiver.seen().iter().all(|request| request["headers"].get("x-sexton-signature").is_none()));
}

#[test]
fn slack_gets_its_own_form() {
    let (ledger, receiver) = (Scratch::new("slack"), Receiver::new());
    let hooks = "  - {name: chat, format: slack, url: {env: CHAT_URL}, on: [failed, unchanged]}\n";
    let site = written(&ledger, "127.0.0.1:1", hooks);
    let site = ready(site.env("CHAT_URL", &format!("{}/services/T0/B0/x", receiver.origin())));
    site.run(&["once", "retention"]).expect(1);
    site.run(&["once", "visibility"]).expect(0);
    let seen = receiver.seen();
    assert_eq!(seen[0]["path"], "/services/T0/B0/x");
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&body(&seen[0])), ["text"]);
    assert!(keys(&seen[0]["headers"]).iter().all(|header| !header.starts_with("x-sexton")), "{}", seen[0]);
    let told = body(&seen[0])["text"].as_str().unwrap().to_owned();
    let of_run = |what: &str| ledger.psql(&format!("SELECT {what} FROM runs ORDER BY started_at LIMIT 1"));
    assert!(told.starts_with("*retention* failed after "), "{told}");
    assert!(told.contains(&format!("> {}", of_run("error->>'message'"))), "{told}");
    assert!(told.contains(&format!("hint: {}", of_run("error->>'hint'"))), "{told}");
    assert!(told.ends_with(&format!("run {}", of_run("id"))), "{told}");
    let quiet = body(&seen[1])["text"].as_str().unwrap().to_owned();
    assert!(quiet.starts_with("*visibility* unchanged after ") && quiet.contains("nothing to do"), "{quiet}");
}

#[test]
fn a_test_event_goes_out_at_once_and_says_how_it_went() {
    let (ledger, mut receiver) = (Scratch::new("test"), Receiver::new());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    let said = site.run(&["webhooks", "test", "ops"]).expect(0);
    assert_eq!(said.out, format!("ops: delivered to {}, which answers with 200\n", receiver.origin()));
    let request = &receiver.seen()[0];
    assert_eq!((&request["genuine"], body(request)["event"].as_str()), (&json!(true), Some("test")));
    assert_eq!(ledger.psql("SELECT count(*) FROM webhook_deliveries"), "0");

    receiver.answer(&json!([{"status": 403}]));
    let said = site.run(&["webhooks", "test", "ops"]).expect(1);
    assert!(
        said.err.contains(&format!("error: ops: not delivered: {} answers with 403", receiver.origin())),
        "{said:?}"
    );
    receiver.stop();
    let said = site.run(&["webhooks", "test", "ops", "--json"]).expect(1).json();
    assert!(said["error"].as_str().unwrap().contains("Connection refused"), "{said}");
    let said = site.run(&["webhooks", "test", "opps"]).expect(64);
    assert!(said.err.contains("there is no webhook `opps`\n  hint: the webhooks are: ops"), "{said:?}");
}

#[test]
fn a_workflow_gets_a_signal() {
    let (server, ledger) = (plain(), Scratch::new("signal"));
    let namespace = server.namespace(&prefix(), "hooks", "1d");
    server.start_workflow(&namespace.name, "nightly");
    let to = |workflow: &str| format!("{{namespace: {}, workflow_id: {workflow}, signal: sexton-run}}", namespace.name);
    let hooks = format!(
        "  - {{name: nightly, temporal: {}, on: [unchanged]}}\n  - {{name: gone, temporal: {}, on: [unchanged]}}\n",
        to("nightly"),
        to("no-such-workflow")
    );
    let site = site_with(&ledger, &server.address, &hooks);
    site.run(&["once", "visibility"]).expect(0);
    let signals = || -> Vec<serde_json::Value> {
        let show = ["workflow", "show", "--namespace", &namespace.name, "--workflow-id", "nightly"];
        let history = server.cli_json(&show);
        let events = history["events"].as_array().unwrap().clone();
        events.into_iter().filter(|e| e["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED").collect()
    };
    let seen = signals();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let signal = &seen[0]["workflowExecutionSignaledEventAttributes"];
    assert_eq!(signal["signalName"], "sexton-run");
    let payload = &signal["input"]["payloads"][0];
    let decoded = |value: &serde_json::Value| {
        ledger.psql(&format!("SELECT convert_from(decode('{}', 'base64'), 'UTF8')", value.as_str().unwrap()))
    };
    assert_eq!(decoded(&payload["metadata"]["encoding"]), "json/plain");
    let data: serde_json::Value = serde_json::from_str(&decoded(&payload["data"])).unwrap();
    assert_eq!(data["run"]["id"], ledger.psql("SELECT id FROM runs"));
    assert_eq!((&data["event"], &data["run"]["outcome"]), (&json!("run.ended"), &json!("unchanged")));

    // A workflow that is not open is not waited for.
    let state = "SELECT string_agg(webhook || ' ' || state, ',' ORDER BY webhook) FROM webhook_deliveries";
    assert_eq!(ledger.psql(state), "gone dead,nightly delivered");
    let why = ledger.psql("SELECT last_error FROM webhook_deliveries WHERE webhook = 'gone'");
    assert!(why.contains("workflow `no-such-workflow` is not open in namespace"), "{why}");

    // The same delivery once more, as after a crash: the server drops it.
    ledger.psql(
        "UPDATE webhook_deliveries SET state = 'pending', ended_at = NULL, next_attempt_at = now() \
         WHERE webhook = 'nightly'",
    );
    site.run(&["once", "retention"]);
    assert_eq!(ledger.psql(state), "gone dead,nightly delivered");
    assert_eq!(signals().len(), 1);
    site.run(&["webhooks", "test", "nightly"]).expect(0);
    assert_eq!(signals().len(), 2);
}
