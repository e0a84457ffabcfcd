//! A real Temporal cluster goes on over a rollover.

use std::process::Command;

use sexton::clients::persistence::Persistence;
use sexton::context::Context;
use sexton::policy::visibility::{Rollover, VisibilityPolicy};
use sexton::units::Span;
use sexton::visibility;
use sexton::visibility::reconcile::Ground;

use crate::support::postgres::postgres15;
use crate::support::search::{Engine, eventually};
use crate::support::stack;

fn temporal(arguments: &[&str]) -> String {
    let output = Command::new(stack().get("TEMPORAL_CLI"))
        .args(["--address", stack().get("TEMPORAL_ADDRESS")])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Starts a workflow nobody works on, and waits until Temporal lists it.
async fn started_and_listed(namespace: &str, workflow: &str) {
    let ids = ["--namespace", namespace, "--workflow-id", workflow];
    temporal(&[&["workflow", "start", "--type", "T", "--task-queue", "nobody"], &ids[..]].concat());
    let query = format!("WorkflowId = '{workflow}'");
    eventually("listed", async || {
        let list = temporal(&["workflow", "list", "--namespace", namespace, "--query", &query, "--output", "json"]);
        list.contains(workflow).then_some(())
    })
    .await;
}

#[tokio::test]
async fn temporal_lists_workflows_from_before_and_after_a_rollover() {
    let engine = Engine::opensearch();
    let alias = stack().get("TEMPORAL_VISIBILITY");
    let namespace = format!("it-{}", uuid::Uuid::new_v4().simple());
    temporal(&["operator", "namespace", "create", "--namespace", &namespace, "--retention", "1d"]);
    started_and_listed(&namespace, "before").await;

    // Other tests use this cluster: the policy rolls, but is far from deleting anything.
    let rollover = Rollover { max_age: Span::seconds(1), max_size: None, max_docs: None };
    let policy = VisibilityPolicy { rollover, ..VisibilityPolicy::default() };
    assert_eq!(policy.index.as_str(), alias);
    let search = engine.client().await;
    let persistence = Persistence::new(postgres15(), stack().get("TEMPORAL_DATABASE"));
    let ground = Ground { search: search.clone(), persistence, temporal: None };
    let rolled = eventually("rolled", async || {
        let plan = visibility::plan(&search, &policy, Some(Span::days(30)), &Context::plain()).await.unwrap();
        visibility::apply(&plan, &ground, &Context::plain()).await.unwrap().rolled
    })
    .await;
    started_and_listed(&namespace, "after").await;

    let indices = |workflow: &str| {
        let query = serde_json::json!({"query": {"term": {"WorkflowId": workflow}}});
        let body = engine.ok("POST", &format!("/{}/_count", rolled.to), Some(query));
        body["count"].as_u64().unwrap()
    };
    assert!(indices("after") >= 1, "the new workflow is in the new index");
    let list = temporal(&["workflow", "list", "--namespace", &namespace, "--output", "json"]);
    assert!(list.contains("\"before\"") && list.contains("\"after\""), "{list}");
    temporal(&["operator", "namespace", "delete", "--namespace", &namespace, "--yes"]);
}
