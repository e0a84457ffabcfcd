//! Closed runs whose deletion does not fit the retention of now, on a real Temporal. The judge is Temporal's own list and
//! its tables.

mod histories;
mod killed;
mod listed;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::cluster::{Cluster, Index};
use crate::support::histories::closed_at;
use crate::support::postgres::Scratch;
use crate::support::search::eventually;
use crate::support::site::Site;

/// Temporal spreads deletions over half an hour otherwise, and refreshes what it knows of namespaces every 2 s.
const QUICK: [&str; 1] = ["history.retentionTimerJitterDuration: [{value: \"1s\"}]"];

struct Stage {
    cluster: Cluster,
    ledger: Scratch,
    site: Site,
}

impl Stage {
    async fn new(what: &str, policy: &str) -> Self {
        let cluster = Cluster::start_with(what, Index::Alias, &QUICK).await;
        let ledger = Scratch::new("ledger");
        let site = Site::of_cluster(&cluster, &ledger).policy("retention", policy);
        Self { cluster, ledger, site }
    }

    fn workflow(&self, arguments: &[&str]) -> String {
        let namespace = &self.cluster.namespace;
        self.cluster.server.cli(&[&["workflow", arguments[0], "--namespace", namespace], &arguments[1..]].concat())
    }

    /// Starts a workflow that nobody works on; its run.
    fn open(&self, id: &str) -> String {
        let json = ["--type", "Order", "--task-queue", "nobody", "--output", "json"];
        let said = self.workflow(&[&["start", "--workflow-id", id], &json[..]].concat());
        serde_json::from_str::<Value>(&said).unwrap()["runId"].as_str().unwrap().to_owned()
    }

    /// The same, terminated.
    fn closed(&self, id: &str) -> String {
        let run = self.open(id);
        self.workflow(&["terminate", "--workflow-id", id, "--reason", "test"]);
        run
    }

    fn retention(&self, retention: &str) {
        let namespace = &self.cluster.namespace;
        self.cluster.server.cli(&[
            "operator",
            "namespace",
            "update",
            "--namespace",
            namespace,
            "--retention",
            retention,
        ]);
    }

    /// Runs that ended so many minutes ago, as far as Temporal knows from its next start on.
    fn backdate(&self, runs: &[&String], minutes: i64) {
        self.cluster.kill_server();
        let ended = Timestamp::now() - SignedDuration::from_mins(minutes);
        for run in runs {
            let which = format!("run_id = '\\x{}'", run.replace('-', ""));
            assert_eq!(closed_at(&self.cluster.database, &which, ended.as_second()), 1, "{run}");
        }
        self.cluster.restart();
    }

    /// The runs that Temporal has, by its tables.
    fn runs(&self) -> BTreeSet<String> {
        let namespace = self.cluster.namespace_id.replace('-', "");
        let query = format!("SELECT encode(run_id, 'hex') FROM executions WHERE namespace_id = '\\x{namespace}'");
        self.cluster.database.psql(&query).lines().map(str::to_owned).collect()
    }

    /// The workflows that Temporal lists.
    fn listed(&self) -> BTreeSet<String> {
        self.cluster.refresh();
        let said = self.workflow(&["list", "--limit", "1000", "--output", "json"]);
        let list: Value = serde_json::from_str(&said).unwrap();
        let id = |entry: &Value| entry["execution"]["workflowId"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(id).collect()
    }
}

fn plain(runs: &[&String]) -> BTreeSet<String> {
    runs.iter().map(|run| run.replace('-', "")).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// With this action the runs whose retention has ended go, and nothing else does.
async fn shortened(what: &str, action: &str, counted: &str) {
    let policy = format!("default: 1h\noverdue: {{action: {action}, slack: 5m, per_second: 10000}}\n");
    let stage = Stage::new(what, &policy).await;
    stage.retention("2160h");
    // More of them in a soak, to see what each way costs.
    let many = std::env::var("SEXTON_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(1).clamp(1, 100) * 3;
    let old: Vec<String> = (0..many).map(|number| stage.closed(&format!("old-{number}"))).collect();
    let young = [stage.closed("young-a"), stage.closed("young-b")];
    let open = [stage.open("open-a"), stage.open("open-b")];
    stage.backdate(&old.iter().collect::<Vec<_>>(), 180);
    stage.backdate(&[&young[1]], 62);
    stage.retention("1h");
    // The history service reads namespaces every 2 seconds and more.
    tokio::time::sleep(Duration::from_secs(12)).await;

    let proof = stage.site.run(&["once", "overdue", "--dry-run", "--json"]).expect(2).json();
    let change = &proof["plans"][0]["plan"]["changes"][0];
    assert_eq!(change["destructive"], true, "{proof:#}");
    assert!(change["reason"].as_str().unwrap().contains(&format!("{many} runs")), "{change:#}");
    assert_eq!(stage.runs().len(), many + 4, "a dry run does nothing");

    let asked = Instant::now();
    let done = stage.site.run(&["once", "overdue", "--json"]).expect(0).json();
    let told = asked.elapsed();
    assert_eq!(done["runs"][0]["report"][counted], many, "{done:#}");
    let left = plain(&[&young[0], &young[1], &open[0], &open[1]]);
    eventually("Temporal's deletion", async || (stage.runs() == left).then_some(())).await;
    println!("{counted} {many} runs in {told:?}; they were gone {:?} after the start", asked.elapsed());
    let listed = names(&["young-a", "young-b", "open-a", "open-b"]);
    eventually("Temporal's list", async || (stage.listed() == listed).then_some(())).await;
    for id in ["young-a", "young-b", "open-a", "open-b"] {
        assert!(stage.workflow(&["show", "--workflow-id", id]).contains("WorkflowExecutionStarted"));
    }
    let proof = stage.site.run(&["once", "overdue", "--prove"]).expect(0);
    assert!(proof.out.contains("holds"), "{}", proof.out);
    assert_eq!(stage.cluster.dlq(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortened_retention_reaches_runs_that_have_closed_by_timers_derived_anew() {
    shortened("refresh", "refresh", "refreshed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortened_retention_reaches_runs_that_have_closed_by_deletion() {
    shortened("delete", "delete", "deleted").await;
}

/// Has the deletion timer of a run that fires within two hours fire in some seconds, after a start of the server.
fn fires_soon(stage: &Stage, run: &str) {
    stage.cluster.kill_server();
    // `task_type` is the field 4 and its value 16 a byte.
    let update = format!(
        "UPDATE timer_tasks SET visibility_timestamp = now() AT TIME ZONE 'UTC' + '8 seconds' \
         WHERE position('{run}'::bytea in data) > 0 AND position('\\x2010'::bytea in data) > 0 \
         AND visibility_timestamp < now() AT TIME ZONE 'UTC' + '2 hours' RETURNING 1"
    );
    assert_eq!(stage.cluster.database.psql(&update), "1", "one timer");
    stage.cluster.restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_retention_reaches_runs_that_have_closed_before_they_go() {
    let stage = Stage::new("extend", "default: 90d\noverdue: {slack: 5m, per_second: 100}\n").await;
    stage.retention("1h");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (kept, control) = (stage.closed("kept"), stage.closed("control"));
    stage.retention("2160h");
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Left alone, Temporal deletes a run by the retention it had when it closed.
    fires_soon(&stage, &control);
    eventually("the deletion", async || (stage.runs() == plain(&[&kept])).then_some(())).await;

    let done = stage.site.run(&["once", "overdue", "--json"]).expect(0).json();
    assert_eq!(done["runs"][0]["report"]["extended"], 1, "{done:#}");
    assert_eq!(done["runs"][0]["plan"]["changes"][0]["destructive"], false);
    let again = stage.site.run(&["once", "overdue", "--json"]).expect(0).json();
    assert_eq!(again["runs"][0]["outcome"], "unchanged", "{again:#}");
    fires_soon(&stage, &kept);
    // As long as the other one took, and more: its old timer fires, and is dropped.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.runs(), plain(&[&kept]), "its retention has not ended");
    assert_eq!(stage.listed(), names(&["kept"]));
}
