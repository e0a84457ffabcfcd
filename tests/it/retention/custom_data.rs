//! A namespace's own keys and values.

use serde_json::json;
use sexton::retention::Outcome;

use super::{applied, outcomes, planned, policy};
use crate::support::temporal::{plain, prefix};

#[tokio::test]
async fn data_is_merged_into_what_is_there_and_goes_along_with_a_registration() {
    let (server, prefix) = (plain(), prefix());
    let flags = ["--retention", "720h", "--data", "team=red", "--data", "tier=gold", "--data", "kept=as it is"];
    let old = server.namespace_with(&prefix, "old", &flags);
    let new = server.expect(format!("{prefix}-new"));
    let temporal = server.connect().await;
    let wanted = format!(
        "{}: {{data: {{team: blue, tier: gold, cost center: '42', note: ''}}}}, {}: {{ensure: true, data: {{team: blue}}}}",
        old.name, new.name
    );
    let policy = policy(&prefix, &wanted);
    let plan = planned(&temporal, &policy).await;
    let shown: Vec<_> = plan.plan().changes.into_iter().map(|c| (c.field.unwrap(), c.from, c.to.unwrap())).collect();
    let line = |field: &str, from: Option<&str>, to: &str| (field.to_owned(), from.map(str::to_owned), to.to_owned());
    assert_eq!(
        shown,
        [
            line("retention", None, "30d"),
            line("data.team", None, "blue"),
            line("data.cost center", None, "42"),
            line("data.note", None, ""),
            line("data.team", Some("red"), "blue"),
        ]
    );
    assert_eq!(outcomes(&applied(&plan, &temporal).await), [Outcome::Registered, Outcome::Updated]);
    let data = |name: &str| server.describe(name)["namespaceInfo"]["data"].clone();
    let merged = json!({"team": "blue", "tier": "gold", "kept": "as it is", "cost center": "42", "note": ""});
    assert_eq!(data(&old.name), merged);
    assert_eq!(data(&new.name), json!({"team": "blue"}));

    let versions = (old.version(), new.version());
    assert_eq!(planned(&temporal, &policy).await.steps, []);
    assert_eq!(outcomes(&applied(&plan, &temporal).await), [Outcome::Unchanged; 2]);
    assert_eq!((old.version(), new.version()), versions);
}

#[tokio::test]
async fn a_value_that_somebody_else_set_meanwhile_is_left_alone() {
    let (server, prefix) = (plain(), prefix());
    let one = server.namespace_with(&prefix, "one", &["--retention", "720h", "--data", "team=red"]);
    let temporal = server.connect().await;
    let plan = planned(&temporal, &policy(&prefix, &format!("{}: {{data: {{team: blue}}}}", one.name))).await;
    server.cli(&["operator", "namespace", "update", "--namespace", &one.name, "--data", "team=green"]);
    let report = applied(&plan, &temporal).await;
    assert_eq!(outcomes(&report), [Outcome::Skipped]);
    assert_eq!(report.namespaces[0].detail.as_deref(), Some("its data.team was changed meanwhile"));
    assert_eq!(server.describe(&one.name)["namespaceInfo"]["data"]["team"], "green");
}
