//! Retention on a real Temporal cluster. The judge is Temporal's own command line, and its database for the versions.
//!
//! The server is shared with other tests, so every policy here applies to the names of one test only.

mod custom_data;
mod deprecated;
mod shortening;

use std::collections::BTreeMap;
use std::time::Duration;

use sexton::clients::temporal::{NewNamespace, Temporal, TemporalError};
use sexton::context::Context;
use sexton::failure::{Failure, Kind};
use sexton::policy::retention::RetentionPolicy;
use sexton::retention::{Consent, Outcome, RetentionError, RetentionPlan, RetentionReport, Step, apply};

use crate::support::temporal::{dev, mutual, plain, prefix};

const DAYS_3: &str = "259200s";
const DAYS_30: &str = "2592000s";
const DAYS_90: &str = "7776000s";

fn policy(prefix: &str, namespaces: &str) -> RetentionPolicy {
    let yaml = format!("{{default: 30d, applies_to: ['{prefix}-*'], namespaces: {{{namespaces}}}}}");
    serde_saphyr::from_str(&yaml).unwrap()
}

/// Plans for somebody who agrees to everything; what that takes is looked at in `shortening`.
async fn plan(temporal: &Temporal, policy: &RetentionPolicy, ctx: &Context) -> Result<RetentionPlan, RetentionError> {
    sexton::retention::plan(temporal, &plain().source(), policy, Consent::Given, ctx).await
}

async fn planned(temporal: &Temporal, policy: &RetentionPolicy) -> RetentionPlan {
    plan(temporal, policy, &Context::plain()).await.unwrap()
}

async fn applied(plan: &RetentionPlan, temporal: &Temporal) -> RetentionReport {
    apply(plan, temporal, &Context::plain()).await.unwrap()
}

fn outcomes(report: &RetentionReport) -> Vec<Outcome> {
    report.namespaces.iter().map(|entry| entry.outcome).collect()
}

#[tokio::test]
async fn drift_is_corrected_once_and_only_where_it_is() {
    let (server, prefix) = (plain(), prefix());
    let short = server.namespace(&prefix, "short", "72h");
    let long = server.namespace(&prefix, "long", "2160h");
    let kept = server.namespace(&prefix, "kept", "2160h");
    let right = server.namespace(&prefix, "right", "720h");
    let other = server.namespace("it-other", &prefix, "72h");
    let system = (server.describe("temporal-system"), server.version("temporal-system"));
    let temporal = server.connect().await;
    let policy = policy(&prefix, &format!("{}: {{retention: 90d}}", kept.name));

    let first = planned(&temporal, &policy).await;
    let shown: Vec<_> = first.plan().changes.into_iter().map(|c| (c.subject, c.from, c.to, c.destructive)).collect();
    let line = |name: &str, from: &str, destructive| {
        (format!("namespace {name}"), Some(from.to_owned()), Some("30d".to_owned()), destructive)
    };
    assert_eq!(shown, [line(&long.name, "90d", true), line(&short.name, "3d", false)]);
    assert_eq!((short.retention().as_str(), long.retention().as_str()), (DAYS_3, DAYS_90), "a plan changes nothing");

    let untouched = (kept.version(), right.version(), other.version());
    let report = applied(&first, &temporal).await;
    assert_eq!((report.changed, outcomes(&report)), (2, vec![Outcome::Updated; 2]));
    assert_eq!((short.retention().as_str(), long.retention().as_str()), (DAYS_30, DAYS_30));
    assert_eq!((kept.retention().as_str(), right.retention().as_str()), (DAYS_90, DAYS_30));
    assert_eq!(other.retention(), DAYS_3, "outside of applies_to");
    assert_eq!((kept.version(), right.version(), other.version()), untouched);
    assert_eq!((server.describe("temporal-system"), server.version("temporal-system")), system);

    let versions = (short.version(), long.version());
    let second = planned(&temporal, &policy).await;
    assert_eq!(second.steps, []);
    assert_eq!(applied(&second, &temporal).await, RetentionReport::default());
    // Even the old plan, applied again, finds its work done and sends nothing.
    assert_eq!(outcomes(&applied(&first, &temporal).await), [Outcome::Unchanged; 2]);
    assert_eq!((short.version(), long.version()), versions);
}

#[tokio::test]
async fn ensure_registers_and_texts_are_set_without_touching_the_rest() {
    let (server, prefix) = (mutual(), prefix());
    let old = server.namespace_with(&prefix, "old", &["--retention", "720h", "--email", "a@x.y", "--data", "k=\"v\""]);
    let new = server.expect(format!("{prefix}-new"));
    let temporal = server.connect().await;
    let policy = policy(
        &prefix,
        &format!(
            "{}: {{ensure: true, retention: 7d, owner: n@x.y, description: New one}}, {}: {{description: Old one}}, {prefix}-gone: {{}}",
            new.name, old.name
        ),
    );
    let plan = planned(&temporal, &policy).await;
    assert!(plan.notes.iter().any(|note| note.contains(&format!("{prefix}-gone"))), "{:?}", plan.notes);
    let report = applied(&plan, &temporal).await;
    assert_eq!(outcomes(&report), [Outcome::Registered, Outcome::Updated]);

    assert!(server.names().contains(&new.name));
    let seen = server.describe(&new.name);
    assert_eq!(seen["config"]["workflowExecutionRetentionTtl"], "604800s");
    assert_eq!(seen["namespaceInfo"]["ownerEmail"], "n@x.y");
    assert_eq!(seen["namespaceInfo"]["description"], "New one");
    let seen = server.describe(&old.name);
    assert_eq!(seen["config"]["workflowExecutionRetentionTtl"], DAYS_30);
    assert_eq!(seen["namespaceInfo"]["description"], "Old one");
    assert_eq!(seen["namespaceInfo"]["ownerEmail"], "a@x.y");
    assert_eq!(seen["namespaceInfo"]["data"]["k"], "\"v\"");
    assert!(!server.names().contains(&format!("{prefix}-gone")));

    assert_eq!(planned(&temporal, &policy).await.steps, []);
    assert_eq!(outcomes(&applied(&plan, &temporal).await), [Outcome::Unchanged; 2]);
}

#[tokio::test]
async fn what_changed_since_the_plan_is_left_alone() {
    let (server, prefix) = (plain(), prefix());
    let changed = server.namespace(&prefix, "changed", "72h");
    let deleted = server.namespace(&prefix, "deleted", "72h");
    let replaced = server.namespace(&prefix, "replaced", "72h");
    let temporal = server.connect().await;
    let plan = planned(&temporal, &policy(&prefix, "")).await;
    assert_eq!(plan.steps.len(), 3);

    changed.set_retention("2160h");
    for gone in [&deleted, &replaced] {
        server.cli(&["operator", "namespace", "delete", "--namespace", &gone.name, "--yes"]);
    }
    let replaced = server.namespace(&prefix, "replaced", "72h");

    let report = applied(&plan, &temporal).await;
    assert_eq!((report.changed, report.skipped, outcomes(&report)), (0, 3, vec![Outcome::Skipped; 3]));
    assert_eq!((changed.retention().as_str(), replaced.retention().as_str()), (DAYS_90, DAYS_3));
}

#[tokio::test]
async fn one_failing_namespace_does_not_stop_the_others_and_fails_the_run() {
    let (server, prefix) = (plain(), prefix());
    let bad = server.namespace(&prefix, "bad", "72h");
    let good = server.namespace(&prefix, "good", "72h");
    let temporal = server.connect().await;
    let mut plan = planned(&temporal, &policy(&prefix, "")).await;
    let Some(Step::Update(update)) = plan.steps.first_mut() else { panic!("{plan:?}") };
    // Below the server's minimum: the policy cannot say so, hence only the server can refuse it.
    update.set.retention = Some(Duration::from_secs(1));

    let error = apply(&plan, &temporal, &Context::plain()).await.unwrap_err();
    let report = error.report().unwrap().clone();
    assert_eq!(outcomes(&report), [Outcome::Failed, Outcome::Updated]);
    assert_eq!((bad.retention().as_str(), good.retention().as_str()), (DAYS_3, DAYS_30));
    let failure = Failure::from(error);
    assert_eq!(failure.kind, Kind::Failed);
    assert!(failure.message.starts_with("1 of 2 namespaces could not be brought to the policy"), "{failure}");
    assert!(failure.message.contains(&bad.name) && failure.message.contains("retention period"), "{failure}");
}

#[tokio::test]
async fn a_cancelled_run_stops_before_the_next_namespace() {
    let (server, prefix) = (plain(), prefix());
    let one = server.namespace(&prefix, "one", "72h");
    let temporal = server.connect().await;
    let plan_made = planned(&temporal, &policy(&prefix, "")).await;
    let ctx = Context::plain();
    ctx.cancel.cancel();
    let error = apply(&plan_made, &temporal, &ctx).await.unwrap_err();
    assert!(matches!(&error, RetentionError::Cancelled { report } if report.namespaces.is_empty()), "{error}");
    let error = plan(&temporal, &policy(&prefix, ""), &ctx).await.unwrap_err();
    assert_eq!(Failure::from(error).kind, Kind::Cancelled);
    assert_eq!(one.retention(), DAYS_3);
}

#[tokio::test]
async fn the_rate_limit_of_the_server_is_waited_out() {
    // The stack's servers have their limits lifted; this one has them tight: one change per second.
    let limits =
        ["namespaceRPS", "namespaceBurstRatio"].map(|key| format!("frontend.{key}.namespaceReplicationInducingAPIs=1"));
    let dev = dev(&limits.each_ref().map(String::as_str)).await;
    let prefix = prefix();
    let busy = dev.server.namespace(&prefix, "busy", "72h");
    let temporal = dev.server.connect().await;
    let plan = planned(&temporal, &policy(&prefix, "")).await;
    let Some(Step::Update(update)) = plan.steps.first() else { panic!("{plan:?}") };
    let mut same = update.set.clone();
    same.retention = Some(update.observed.retention);
    let mut limited = None;
    for _ in 0..100 {
        if let Err(error) = temporal.update_namespace(&busy.name, &same).await {
            limited = Some(error);
            break;
        }
    }
    assert!(matches!(limited, Some(TemporalError::Exhausted { .. })), "{limited:?}");
    assert_eq!(outcomes(&applied(&plan, &temporal).await), [Outcome::Updated]);
    assert_eq!(busy.retention(), DAYS_30);
}

#[tokio::test]
async fn a_lost_server_stops_the_run_at_the_first_namespace() {
    let mut dev = dev(&[]).await;
    let prefix = prefix();
    let _one = dev.server.namespace(&prefix, "one", "72h");
    let _two = dev.server.namespace(&prefix, "two", "72h");
    let temporal = dev.server.connect().await;
    let plan_made = planned(&temporal, &policy(&prefix, "")).await;
    assert_eq!(plan_made.steps.len(), 2);
    dev.kill();

    let error = apply(&plan_made, &temporal, &Context::plain()).await.unwrap_err();
    assert!(matches!(&error, RetentionError::Stopped { planned: 2, .. }), "{error}");
    assert_eq!(outcomes(error.report().unwrap()), [Outcome::Failed]);
    let failure = Failure::from(error);
    assert!(failure.message.contains("connection refused") && failure.hint.is_some(), "{failure}");
    let error = plan(&temporal, &policy(&prefix, ""), &Context::plain()).await.unwrap_err();
    let failure = Failure::from(error);
    assert!(failure.message.starts_with("reading the namespaces: Temporal at"), "{failure}");
}

#[tokio::test]
async fn the_shipped_policy_reaches_every_page_of_namespaces_but_not_the_systems_own() {
    const MANY: usize = 130;
    let dev = dev(&[
        "frontend.namespaceRPS.namespaceReplicationInducingAPIs=1000",
        "frontend.rps.namespaceReplicationInducingAPIs=1000",
    ])
    .await;
    let temporal = dev.server.connect().await;
    for number in 0..MANY {
        let new = NewNamespace {
            name: format!("many-{number}"),
            retention: Duration::from_secs(3600),
            owner: None,
            description: None,
            data: BTreeMap::new(),
        };
        temporal.register_namespace(&new).await.unwrap();
    }
    let policy: RetentionPolicy = serde_saphyr::from_str(include_str!("../../policies/retention.yaml")).unwrap();
    let system = dev.server.describe("temporal-system");
    let report = applied(&planned(&temporal, &policy).await, &temporal).await;
    assert_eq!((report.changed, report.failed), (MANY + 1, 0), "all of them and `default`");

    let list = dev.server.cli_json(&["operator", "namespace", "list"]);
    for entry in list.as_array().unwrap() {
        let expect = if entry["namespaceInfo"]["name"] == "temporal-system" { "604800s" } else { DAYS_30 };
        assert_eq!(entry["config"]["workflowExecutionRetentionTtl"], expect, "{}", entry["namespaceInfo"]["name"]);
    }
    assert_eq!(list.as_array().unwrap().len(), MANY + 2);
    assert_eq!(dev.server.describe("temporal-system"), system);
    assert_eq!(planned(&temporal, &policy).await.steps, []);
}
