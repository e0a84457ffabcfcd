//! Runs that are gone and listed all the same. The judge is Temporal's own list.

use serde_json::{Value, json};
use sexton::context::Context;
use sexton::policy::retention::RetentionPolicy;
use sexton::retention::overdue;

use super::{Stage, names};
use crate::support::postgres::Server;
use crate::support::search::eventually;
use crate::support::stack;
use crate::support::temporal::{mutual, prefix};

/// Gives documents another end, three hours ago.
fn documents_ended(stage: &Stage, workflows: &[&str]) {
    stage.cluster.refresh();
    let (engine, index) = (&stage.cluster.engine, &stage.cluster.index);
    let ended = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(3);
    let script = json!({"source": "ctx._source.CloseTime = params.ended", "params": {"ended": ended.to_string()}});
    let body = json!({"query": {"terms": {"WorkflowId": workflows}}, "script": script});
    let done = engine.ok("POST", &format!("/{index}/_update_by_query?refresh=true"), Some(body));
    assert_eq!(done["updated"], workflows.len(), "{done}");
}

fn notes(planned: &Value) -> Vec<&str> {
    let notes = planned["plans"][0]["plan"]["notes"].as_array().unwrap();
    notes.iter().map(|note| note.as_str().unwrap()).filter(|note| note.contains("still listed")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_only_listed_is_told_of_and_left_to_the_reconcile() {
    let stage = Stage::new("listed", "default: 1h\noverdue: {slack: 5m, per_second: 100}\n").await;
    stage.retention("1h");
    let all = ["ghost-a", "ghost-b", "ghost-young", "overdue"];
    let runs = all.map(|id| stage.closed(id));
    stage.open("open");
    let closed = "ExecutionStatus != \"Running\"";
    eventually("all is listed", async || {
        stage.cluster.refresh();
        let said = stage.workflow(&["list", "--query", closed, "--output", "json"]);
        (serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().len() == 4).then_some(())
    })
    .await;
    stage.backdate(&[&runs[3]], 180);
    documents_ended(&stage, &["ghost-a", "ghost-b", "overdue"]);
    let before = stage.listed();
    let dry = || stage.site.run(&["once", "overdue", "--dry-run", "--json"]).expect(2).json();
    assert_eq!(notes(&dry()), Vec::<&str>::new(), "every run is there");

    for run in &runs[..3] {
        stage.cluster.database.psql(&format!(
            "DELETE FROM executions WHERE run_id = '\\x{0}'; DELETE FROM current_executions WHERE run_id = '\\x{0}'",
            run.replace('-', "")
        ));
    }
    let planned = dry();
    let [note] = notes(&planned)[..] else { panic!("{planned:#}") };
    assert!(note.contains("2 runs") && note.contains("reconcile"), "{note}");
    let done = stage.site.run(&["once", "overdue", "--json"]).expect(0).json();
    let report = &done["runs"][0]["report"];
    let found = &report["found"][&stage.cluster.namespace];
    assert_eq!((&found["listed_only"], &report["refreshed"]), (&json!(2), &json!(1)), "{done:#}");
    let mut told: Vec<(&str, &str)> = found["listed_only_examples"].as_array().unwrap().iter().map(named).collect();
    told.sort_unstable();
    assert_eq!(told, [("ghost-a", runs[0].as_str()), ("ghost-b", runs[1].as_str())]);
    assert!(stage.listed().is_superset(&names(&["ghost-a", "ghost-b", "ghost-young", "open"])), "nothing is removed");
    assert!(stage.listed().is_subset(&before));

    let policy = format!("index: {}\n", stage.cluster.index);
    std::fs::write(stage.site.path().join("policies/visibility.yaml"), policy).unwrap();
    let reconciled = stage.site.run(&["once", "reconcile", "--json"]).expect(0).json();
    assert_eq!(reconciled["runs"][0]["report"]["ghosts"], 3, "{reconciled:#}");
    eventually("the list", async || (stage.listed() == names(&["open"])).then_some(())).await;
    let after = stage.site.run(&["once", "overdue", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(notes(&after), Vec::<&str>::new());
}

fn named(example: &Value) -> (&str, &str) {
    (example["workflow"].as_str().unwrap(), example["run"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_only_listed_is_told_of_where_visibility_is_in_postgresql() {
    let (server, prefix) = (mutual(), prefix());
    let namespace = server.namespace(&prefix, "listed", "24h");
    for id in ["ghost", "there", "ghost-young"] {
        server.start_workflow(&namespace.name, id);
        server.terminate_workflow(&namespace.name, id);
    }
    let id = server.describe(&namespace.name)["namespaceInfo"]["id"].as_str().unwrap().to_owned();
    let rows = |sql: &str| Server::Pg15.psql(stack().get("TEMPORAL_SQL_VISIBILITY_DATABASE"), sql);
    let closed = format!("FROM executions_visibility WHERE namespace_id = '{id}' AND close_time IS NOT NULL");
    eventually("all is listed", async || (rows(&format!("SELECT count(*) {closed}")) == "3").then_some(())).await;
    rows(&format!(
        "UPDATE executions_visibility SET start_time = start_time - interval '3 days', \
         close_time = close_time - interval '3 days' WHERE namespace_id = '{id}' AND workflow_id IN ('ghost', 'there')"
    ));
    let yaml = format!("{{default: 24h, applies_to: ['{prefix}-*']}}");
    let policy: RetentionPolicy = serde_saphyr::from_str(&yaml).unwrap();
    let temporal = server.connect().await;
    let look = async || overdue::find(&server.source(), &temporal, &policy, &Context::plain()).await.unwrap();
    assert!(look().await.namespaces.is_empty());

    Server::Pg15.psql(
        server.database(),
        &format!(
            "DELETE FROM executions WHERE namespace_id = '\\x{}' AND workflow_id LIKE 'ghost%'",
            id.replace('-', "")
        ),
    );
    let plan = look().await;
    let found = &plan.namespaces[&namespace.name];
    assert_eq!((found.listed_only, found.overdue()), (1, 0));
    assert_eq!(found.listed_only_examples[0].workflow, "ghost");
    assert!(plan.work.is_empty() && plan.plan().changes.is_empty());
    assert_eq!(rows(&format!("SELECT count(*) {closed}")), "3", "nothing is removed");
}
