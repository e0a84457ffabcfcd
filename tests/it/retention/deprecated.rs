//! Namespaces that are out of use.

use sexton::context::Context;
use sexton::retention::{Outcome, overdue};
use temporalio_protos::temporal::api::workflowservice::v1::DeprecateNamespaceRequest;
use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;

use super::{DAYS_3, DAYS_30, applied, outcomes, planned, policy};
use crate::support::temporal::{Namespace, Server, plain, prefix};

/// What the command line has no verb for.
#[allow(deprecated, reason = "the call is, and servers still answer it")]
async fn deprecate(server: &Server, namespace: &Namespace) {
    let mut client = WorkflowServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let request = DeprecateNamespaceRequest { namespace: namespace.name.clone(), ..Default::default() };
    client.deprecate_namespace(request).await.unwrap();
    assert_eq!(state(server, namespace), "NAMESPACE_STATE_DEPRECATED");
}

fn state(server: &Server, namespace: &Namespace) -> String {
    server.describe(&namespace.name)["namespaceInfo"]["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_deprecated_namespace_is_changed_only_when_it_is_named() {
    let (server, prefix) = (plain(), prefix());
    let named = server.namespace(&prefix, "named", "72h");
    let unnamed = server.namespace(&prefix, "unnamed", "72h");
    deprecate(&server, &named).await;
    deprecate(&server, &unnamed).await;
    let version = unnamed.version();
    let temporal = server.connect().await;
    let policy = policy(&prefix, &format!("{}: {{owner: o@x.y, data: {{k: v}}}}", named.name));

    let plan = planned(&temporal, &policy).await;
    let note = format!(
        "namespace {} is deprecated and left alone; name it under `namespaces` to have it changed",
        unnamed.name
    );
    assert!(plan.notes.contains(&note), "{:?}", plan.notes);
    let report = applied(&plan, &temporal).await;
    assert_eq!(outcomes(&report), [Outcome::Updated]);

    let seen = server.describe(&named.name);
    assert_eq!(seen["config"]["workflowExecutionRetentionTtl"], DAYS_30);
    assert_eq!(seen["namespaceInfo"]["ownerEmail"], "o@x.y");
    assert_eq!(seen["namespaceInfo"]["data"]["k"], "v");
    assert_eq!(state(&server, &named), "NAMESPACE_STATE_DEPRECATED", "it does not come back into use");
    assert_eq!((unnamed.retention().as_str(), unnamed.version()), (DAYS_3, version));
    // Its runs are as it is.
    let overdue = overdue::find(&server.source(), &temporal, &policy, &Context::plain()).await.unwrap();
    let alone: Vec<&String> = overdue.notes.iter().filter(|note| note.contains("is deprecated")).collect();
    let note = format!(
        "namespace {} is deprecated and left alone; name it under `namespaces` to have its runs seen to",
        unnamed.name
    );
    assert_eq!(alone, [&note]);
    assert_eq!(planned(&temporal, &policy).await.steps, []);
}

#[tokio::test]
async fn a_namespace_that_was_deprecated_since_the_plan_is_left_alone() {
    let (server, prefix) = (plain(), prefix());
    let one = server.namespace(&prefix, "one", "72h");
    let temporal = server.connect().await;
    let plan = planned(&temporal, &policy(&prefix, "")).await;
    deprecate(&server, &one).await;
    assert_eq!(outcomes(&applied(&plan, &temporal).await), [Outcome::Skipped]);
    assert_eq!(one.retention(), DAYS_3);
}
