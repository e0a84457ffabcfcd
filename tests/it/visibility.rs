//! The visibility job on Elasticsearch 6.8 and OpenSearch, judged by curl and by Temporal's list. What every way of
//! rolling has to do is in [`drivers`].

mod adopt;
mod copy;
mod drivers;
mod errors;
mod load;
mod long_running;
mod rebuild;
mod reconcile;
mod soak;
mod temporal;

use serde_json::json;
use sexton::context::Context;
use sexton::policy::visibility::{Delete, IndexName, Rollover, VisibilityPolicy};
use sexton::units::Span;
use sexton::visibility::{self, Refusal, Step, VisibilityError, VisibilityPlan, VisibilityReport};

use crate::support::executions::Executions;
use crate::support::search::{Engine, Scratch, eventually};

/// Rolls and deletes after so many seconds.
fn policy(alias: &str, max_age: Span, after: Span) -> VisibilityPolicy {
    VisibilityPolicy {
        index: IndexName::try_from(alias.to_owned()).unwrap(),
        rollover: Rollover { max_age, max_size: None, max_docs: None },
        delete: Delete { after, ..Delete::default() },
        ..VisibilityPolicy::default()
    }
}

/// With namespaces that keep one second, so that a deletion after one second is allowed.
async fn plan(scratch: &Scratch, policy: &VisibilityPolicy) -> Result<VisibilityPlan, VisibilityError> {
    let search = scratch.engine.client().await;
    visibility::plan(&search, policy, Some(Span::seconds(1)), &Context::plain()).await
}

/// With no run in Temporal.
async fn apply(scratch: &Scratch, plan: &VisibilityPlan) -> VisibilityReport {
    let executions = Executions::new();
    visibility::apply(plan, &executions.ground(scratch).await, &Context::plain()).await.unwrap()
}

fn deletions(plan: &VisibilityPlan) -> Vec<String> {
    let names = plan.steps.iter().filter_map(|step| match step {
        Step::DeleteIndex { index, .. } => Some(index.clone()),
        _ => None,
    });
    names.collect()
}

/// The first write index with a custom search attribute and an open workflow in it.
fn begun(engine: Engine) -> Scratch {
    let scratch = Scratch::new(engine);
    scratch.member(1, true);
    scratch.add_search_attribute("OrderId");
    scratch.document(&scratch.alias, "first", 10, true, json!({"OrderId": "a"}));
    scratch
}

/// The write index takes a workflow with the custom search attribute, and a search on that finds it there.
fn attribute_is_indexed(scratch: &Scratch, write: &str) {
    scratch.document(&scratch.alias, "second", 20, true, json!({"OrderId": "b"}));
    assert_eq!(scratch.found(write, "OrderId", "b"), 1);
}

/// Two old members and the write index, a bystander outside the alias, and another alias whose name begins alike. What
/// Temporal still has outlives its index, open or closed, in the version it has.
async fn deletes_what_is_gone_from_temporal_only(engine: Engine) {
    let scratch = Scratch::new(engine);
    for number in 1..=3 {
        scratch.member(number, number == 3);
    }
    let outside = format!("{}-000001-copy", scratch.alias);
    scratch.create(&outside, json!({}));
    let other = format!("{}_other", scratch.alias);
    let others = format!("{other}-000001");
    scratch.create(&others, json!({"aliases": {&other: {"is_write_index": true}}}));
    for index in [&scratch.index(1), &outside, &others] {
        scratch.document(index, "closed", 10, false, json!({}));
    }
    scratch.document(&scratch.index(2), "closed", 10, false, json!({}));
    // Open means no close time, whatever the status says.
    scratch.document(&scratch.index(2), "paused", 11, true, json!({"ExecutionStatus": "Paused"}));
    scratch.document(&scratch.index(2), "overdue", 13, false, json!({}));
    scratch.document(&scratch.index(3), "closed-too", 12, false, json!({}));
    let executions = Executions::new();
    executions.run("paused", true);
    executions.run("overdue", false);
    executions.run("closed-too", false);

    let policy = policy(&scratch.alias, Span::days(30), Span::seconds(1));
    let due = eventually("due for deletion", async || {
        let plan = plan(&scratch, &policy).await.unwrap();
        (deletions(&plan).len() == 2).then_some(plan)
    })
    .await;
    assert_eq!(deletions(&due), [scratch.index(1), scratch.index(2)]);
    assert!(due.plan().changes.iter().any(|change| change.destructive));
    assert!(scratch.exists(&scratch.index(1)), "a plan writes nothing");
    let report = visibility::apply(&due, &executions.ground(&scratch).await, &Context::plain()).await.unwrap();
    let gone: Vec<_> = report.deleted.iter().map(|deleted| deleted.index.as_str()).collect();
    assert_eq!(gone, [scratch.index(1), scratch.index(2)]);
    assert_eq!(report.reconciled.unwrap().carried, 2);

    assert!(!scratch.exists(&scratch.index(1)) && !scratch.exists(&scratch.index(2)));
    let versions = ["paused", "overdue", "closed-too"].map(|workflow| scratch.version(&scratch.index(3), workflow));
    assert_eq!(versions, [Some(11), Some(13), Some(12)]);
    assert_eq!(scratch.count(&scratch.index(3)), 3);
    assert_eq!(scratch.count(&outside), 1);
    assert_eq!(scratch.count(&other), 1);
    let again = plan(&scratch, &policy).await.unwrap();
    assert!(again.plan().is_empty(), "{again:?}");
}

#[tokio::test]
async fn gated_deletion_takes_what_is_gone_from_temporal_only_on_opensearch() {
    deletes_what_is_gone_from_temporal_only(Engine::opensearch()).await;
}

#[tokio::test]
async fn gated_deletion_takes_what_is_gone_from_temporal_only_on_elasticsearch() {
    deletes_what_is_gone_from_temporal_only(Engine::elasticsearch6()).await;
}

#[tokio::test]
async fn what_changed_since_the_plan_saves_an_index() {
    let scratch = Scratch::new(Engine::opensearch());
    for number in 1..=4 {
        scratch.member(number, number == 4);
        scratch.document(&scratch.index(number), "closed", 10, false, json!({}));
    }
    let policy = policy(&scratch.alias, Span::days(30), Span::seconds(1));
    let due = eventually("due for deletion", async || {
        let plan = plan(&scratch, &policy).await.unwrap();
        (deletions(&plan).len() == 3).then_some(plan)
    })
    .await;
    // A document that is not Temporal's, written without a refresh; another index under the old name; no longer a member.
    let path = format!("/{}/_doc/new~run?version=5&version_type=external", scratch.index(1));
    scratch.engine.ok("PUT", &path, Some(json!({"WorkflowId": "new"})));
    scratch.engine.ok("DELETE", &format!("/{}", scratch.index(2)), None);
    scratch.member(2, false);
    let removal = json!({"actions": [{"remove": {"index": scratch.index(3), "alias": &scratch.alias}}]});
    scratch.engine.ok("POST", "/_aliases", Some(removal));

    let report = apply(&scratch, &due).await;
    assert_eq!(report.deleted, []);
    let reasons: Vec<_> = report.held_back.iter().map(|held| held.reason.as_str()).collect();
    let foreign = "1 documents in it name no run of Temporal's";
    assert_eq!(reasons, [foreign, "it is another index of the same name", "it is no longer behind the alias"]);
    assert!((1..=4).all(|number| scratch.exists(&scratch.index(number))));
}

#[tokio::test]
async fn a_plain_index_is_noted_and_left_alone() {
    for engine in [Engine::opensearch(), Engine::elasticsearch6()] {
        let scratch = Scratch::new(engine);
        scratch.create(&scratch.alias, json!({}));
        scratch.document(&scratch.alias, "w", 1, true, json!({}));
        let plan = plan(&scratch, &policy(&scratch.alias, Span::seconds(1), Span::seconds(1))).await.unwrap();
        assert!(plan.plan().is_empty() && plan.notes[0].contains("plain index"), "{plan:?}");
        assert_eq!(apply(&scratch, &plan).await.changed, 0);
        assert_eq!(scratch.count(&scratch.alias), 1);
    }
}

#[tokio::test]
async fn unsound_aliases_are_refused() {
    for engine in [Engine::opensearch(), Engine::elasticsearch6()] {
        let scratch = Scratch::new(engine);
        let policy = policy(&scratch.alias, Span::days(30), Span::days(90));
        let refusal = async || match plan(&scratch, &policy).await {
            Err(VisibilityError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal().await, Refusal::Missing(scratch.alias.clone()));
        scratch.member(1, false);
        assert!(matches!(refusal().await, Refusal::WriteIndices { .. }));
        scratch.member(2, true);
        for narrow in [json!({"filter": {"term": {"WorkflowType": "t"}}}), json!({"search_routing": "1"}), json!({})] {
            let mut add = json!({"index": scratch.index(1), "alias": scratch.alias, "is_write_index": false});
            add.as_object_mut().unwrap().extend(narrow.as_object().unwrap().clone());
            scratch.engine.ok("POST", "/_aliases", Some(json!({"actions": [{"add": add}]})));
            if narrow != json!({}) {
                let narrowed = Refusal::Narrowed { alias: scratch.alias.clone(), index: scratch.index(1) };
                assert_eq!(refusal().await, narrowed);
            }
        }
        scratch.engine.ok("POST", &format!("/{}/_close", scratch.index(1)), None);
        assert_eq!(refusal().await, Refusal::Closed { alias: scratch.alias.clone(), index: scratch.index(1) });
        scratch.engine.ok("POST", &format!("/{}/_open", scratch.index(1)), None);
        let opened = format!("/_cluster/health/{}?wait_for_status=yellow&timeout=30s", scratch.index(1));
        scratch.engine.ok("GET", &opened, None);
        // No node has this attribute, so that the index's shard is never allocated.
        let nowhere = json!({
            "settings": {"index.routing.allocation.require.nowhere": "x"},
            "aliases": {&scratch.alias: {"is_write_index": false}},
        });
        let path = format!("/{}?wait_for_active_shards=0", scratch.index(3));
        scratch.engine.ok("PUT", &path, Some(nowhere));
        assert_eq!(refusal().await, Refusal::Red { alias: scratch.alias.clone(), index: scratch.index(3) });
    }
}
