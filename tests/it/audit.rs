//! The audit and the proof of retention on a real Temporal server. The judges are DescribeWorkflowExecution for each run,
//! and PostgreSQL's own counts and sizes.

mod refusals;
mod replica;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use temporalio_protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_protos::temporal::api::workflow::v1::WorkflowExecutionInfo;

use crate::support::cluster::{Cluster, Index};
use crate::support::histories::closed_at;
use crate::support::postgres::Scratch;
use crate::support::site::Site;
use crate::support::workflows::{Run, Workflows, worker};

const DAY: i64 = 86_400;

/// A workflow type and an id that would be markup.
const KIND: &str = "<b>Order & \"Co\"</b>";
const ID: &str = "<script>alert('x')</script>";

/// Keeps what the cluster's namespace has.
const POLICY: &str = "default: 3d\n";

/// Open, closed in several ways, continued as new, with a child, reset.
async fn runs(cluster: &Cluster) {
    let workflows = Workflows::on(cluster).await;
    let mut load = worker(cluster);
    workflows.start_on("open", "nobody", "Waits").await;
    workflows.start_on(ID, "nobody", KIND).await;
    for (id, signal) in [("finished", "finish"), ("failed", "fail"), ("goes-on", "again"), ("old-1", "finish")] {
        let run = workflows.start(id).await;
        workflows.signal(&run, "something").await;
        workflows.signal(&run, signal).await;
    }
    for id in ["old-2", "in-time"] {
        let run = workflows.start(id).await;
        workflows.signal(&run, "finish").await;
    }
    workflows.start_with_child("parent", "child").await;
    let base = workflows.start("reset").await;
    workflows.signal(&base, "one").await;
    workflows.reset(&base, 1).await;
    load.quiesce().await;
}

/// Every run of the namespace, told by Temporal one by one.
async fn described(cluster: &Cluster) -> Vec<WorkflowExecutionInfo> {
    let workflows = Workflows::on(cluster).await;
    let rows = cluster.database.psql(&format!(
        "SELECT encode(convert_to(workflow_id, 'UTF8'), 'hex'), encode(run_id, 'hex')::uuid FROM executions \
         WHERE namespace_id = decode(replace('{}', '-', ''), 'hex')",
        cluster.namespace_id
    ));
    let mut told = Vec::new();
    for row in rows.lines() {
        let (workflow, id) = row.split_once('|').unwrap();
        let workflow = String::from_utf8(hex::decode(workflow).unwrap()).unwrap();
        let run = Run { workflow, id: id.to_owned() };
        told.push(workflows.describe(&run).await.workflow_execution_info.unwrap());
    }
    told
}

/// PostgreSQL's sizes of the tables, and an audit while they did not change: the server goes on with work of its own.
fn undisturbed(site: &Site, database: &Scratch) -> (BTreeMap<String, i64>, Value) {
    const SIZES: &str = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' \
        AND relnamespace = 'public'::regnamespace";
    let sizes = || {
        let rows = database.psql(SIZES);
        let row =
            |line: &str| line.split_once('|').map(|(name, size)| (name.to_owned(), size.parse().unwrap())).unwrap();
        rows.lines().map(row).collect::<BTreeMap<String, i64>>()
    };
    for _ in 0..10 {
        let before = sizes();
        let audit = site.run(&["audit", "--json", "-q", "--no-ledger"]).expect(0).json();
        if sizes() == before {
            return (before, audit);
        }
    }
    panic!("the sizes of the tables never stay the same");
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn of_namespace<'a>(audit: &'a Value, name: &str) -> &'a Value {
    let all = audit["namespaces"].as_array().unwrap();
    all.iter().find(|namespace| namespace["namespace"] == name).unwrap_or_else(|| panic!("no {name} in {audit}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_those_of_temporal_and_postgresql() {
    let cluster = Cluster::start("audit", Index::Concrete).await;
    runs(&cluster).await;
    let ledger = Scratch::new("ledger");
    let site = Site::of_cluster(&cluster, &ledger).policy("retention", POLICY);
    let now = Timestamp::now().as_second();
    let (old, oldest, in_time) = (now - 10 * DAY, now - 40 * DAY, now - 3 * DAY - 3_600);
    for (workflow, at) in [("old-1", old), ("old-2", oldest), ("in-time", in_time)] {
        assert_eq!(closed_at(&cluster.database, &format!("workflow_id = '{workflow}'"), at), 1);
    }
    let told = described(&cluster).await;
    let (sizes, audit) = undisturbed(&site, &cluster.database);
    let count = |sql: &str| cluster.database.psql(sql).parse::<i64>().unwrap();
    assert_eq!(number(&audit["runs"]), count("SELECT count(*) FROM executions"));
    let size = |table: &Value| (table["name"].as_str().unwrap().to_owned(), number(&table["bytes"]));
    let there: BTreeMap<String, i64> = audit["tables"].as_array().unwrap().iter().map(size).collect();
    assert_eq!(there, sizes);
    assert_eq!(number(&audit["bytes"]), sizes.values().sum::<i64>());
    assert_eq!((&audit["unreadable"], &audit["hidden"]), (&Value::from(0), &Value::from(0)));

    let ours = of_namespace(&audit, &cluster.namespace);
    assert_eq!(ours["retention"], "3d");
    let is_open = |run: &&WorkflowExecutionInfo| run.status() == WorkflowExecutionStatus::Running;
    let bytes = |runs: &mut dyn Iterator<Item = &WorkflowExecutionInfo>| {
        runs.fold((0, 0), |(runs, bytes), run| (runs + 1, bytes + run.history_size_bytes))
    };
    let said = |sum: &Value| (number(&sum["runs"]), number(&sum["history_bytes"]));
    let open = bytes(&mut told.iter().filter(is_open));
    let closed = bytes(&mut told.iter().filter(|run| !is_open(run)));
    assert_eq!((said(&ours["open"]), said(&ours["closed"])), (open, closed));
    // open, of the odd name, the one that goes on, parent, child, reset; three closed and three backdated, the run that
    // was continued, the base.
    assert_eq!((open.0, closed.0), (6, 7), "{told:?}");
    let rows = count(&format!(
        "SELECT sum(length(data) + length(state)) FROM executions WHERE namespace_id = decode(replace('{}', '-', ''), 'hex')",
        cluster.namespace_id
    ));
    assert_eq!(number(&ours["open"]["row_bytes"]) + number(&ours["closed"]["row_bytes"]), rows);

    let mut types: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for run in &told {
        let of = types.entry(run.r#type.as_ref().unwrap().name.clone()).or_default();
        *of = (of.0 + 1, of.1 + run.history_size_bytes);
    }
    let of_type = |group: &Value| (group["name"].as_str().unwrap().to_owned(), said(group));
    assert_eq!(ours["types"].as_array().unwrap().iter().map(of_type).collect::<BTreeMap<_, _>>(), types);
    let ages: Vec<i64> = ours["ages"].as_array().unwrap().iter().map(|group| number(&group["runs"])).collect();
    assert_eq!(ages, [closed.0 - 3, 1, 1, 1, 0]);
    let at: Timestamp = ours["oldest_closed"].as_str().unwrap().parse().unwrap();
    assert_eq!(at.as_second(), oldest);
    let largest = told.iter().map(|run| run.history_size_bytes).max().unwrap();
    assert_eq!(number(&audit["largest"][0]["history_bytes"]), largest);
    // Within the slack of two hours nothing is overdue.
    assert_eq!(number(&ours["overdue"]["runs"]), 2);
    assert_eq!(audit["orphans"]["lost"], 0, "{}", audit["orphans"]);

    page(&site);
    proof(&site, &cluster);
    growth(&site, &ledger, number(&audit["bytes"]));
}

/// One file that loads nothing, in which names are only names.
fn page(site: &Site) {
    site.run(&["audit", "-q", "--html", "audit.html", "--no-ledger"]).expect(0);
    let page = std::fs::read_to_string(site.path().join("audit.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for loads in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe", "<img"] {
        assert!(!page.contains(loads), "{loads} in {page}");
    }
    assert!(page.contains("&lt;b&gt;Order &amp; &quot;Co&quot;&lt;/b&gt;") && !page.contains("<b>Order"));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
}

/// A line for each namespace of the policy; 3 while one of them does not hold.
fn proof(site: &Site, cluster: &Cluster) {
    let said = site.run(&["once", "retention", "--prove", "-q"]).expect(3);
    let lines: Vec<&str> = said.out.lines().filter(|line| line.contains(&cluster.namespace)).collect();
    assert_eq!(lines.len(), 1, "{}", said.out);
    assert!(lines[0].contains("DOES NOT HOLD: 2 runs overdue") && lines[0].contains("3d"), "{}", lines[0]);
    assert!(!said.out.contains("temporal-system"), "{}", said.out);
    let json = site.run(&["once", "retention", "--prove", "--json", "-q"]).expect(3).json();
    let proof = &json["proof"][0];
    assert_eq!((&proof["holds"], &proof["overdue"], &proof["closed"]), (&false.into(), &2.into(), &7.into()));
    assert_eq!(json["proof"].as_array().unwrap().len(), 1);

    cluster.database.psql("UPDATE executions SET data_encoding = 'Json' WHERE workflow_id = 'old-1'");
    let refused = site.run(&["once", "retention", "--prove", "-q", "--json"]).expect(4);
    assert_eq!(refused.json()["proof"], serde_json::Value::Null, "{}", refused.out);
    assert!(refused.err.contains("1 rows of `executions` are in an encoding"), "{}", refused.err);
    cluster.database.psql("UPDATE executions SET data_encoding = 'Proto3' WHERE workflow_id = 'old-1'");

    let now = Timestamp::now().as_second();
    for workflow in ["old-1", "old-2"] {
        closed_at(&cluster.database, &format!("workflow_id = '{workflow}'"), now - DAY);
    }
    let said = site.run(&["once", "retention", "--prove", "-q"]).expect(0);
    assert!(said.out.contains("holds"), "{}", said.out);
}

/// The audit that the ledger has, said to be ten days old and of a tenth of the size.
fn growth(site: &Site, ledger: &Scratch, bytes: i64) {
    let audits = "job = 'audit' AND outcome = 'unchanged'";
    let noted = || ledger.psql(&format!("SELECT count(*) FROM runs WHERE {audits}"));
    assert_eq!(noted(), "0", "--no-ledger notes nothing");
    assert!(site.run(&["audit", "--json", "-q"]).expect(0).json()["growth"].is_null());
    assert_eq!(noted(), "1");
    let at = Timestamp::from_second(Timestamp::now().as_second() - 10 * DAY).unwrap();
    ledger.psql(&format!(
        "UPDATE runs SET report = report || jsonb_build_object('at', '{at}', 'bytes', {}) WHERE {audits}",
        bytes / 10
    ));
    let disk = format!("{POLICY}audit: {{disk: 1gb}}\n");
    std::fs::write(site.path().join("policies/retention.yaml"), disk).unwrap();
    let audit = site.run(&["audit", "--json", "-q"]).expect(0).json();
    let growth = &audit["growth"];
    assert_eq!(growth["since"], at.to_string());
    let (now, rate) = (number(&audit["bytes"]), number(&growth["bytes_per_day"]));
    let expected = (now - bytes / 10) / 10;
    assert!((rate - expected).abs() <= expected / 1_000, "{rate} for {expected}");
    let days = number(&growth["disk_lasts_days"]);
    assert!((days - ((1 << 30) - now) / rate).abs() <= 1, "{days}");
    assert_eq!(noted(), "2");
}
