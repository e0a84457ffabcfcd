//! The deletion of an old index: what is looked at once more, and what saves it.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;
use sexton::context::Context;
use sexton::policy::visibility::{Delete, DriverChoice, Rollover, VisibilityPolicy};
use sexton::units::Span;
use sexton::visibility::{self, Step, VisibilityError, VisibilityPlan, VisibilityReport};

use super::Stage;
use crate::support::intercept::Intercept;
use crate::support::search::{Engine, document_body};

/// The plan of an hour from now, when every old index is due and the write index is not.
async fn due(stage: &Stage) -> VisibilityPlan {
    let rollover = Rollover { max_age: Span::days(365), max_size: None, max_docs: None };
    let delete = Delete { after: Span::seconds(1), ..Delete::default() };
    let policy = VisibilityPolicy { rollover, delete, driver: DriverChoice::Daemon, ..stage.policy() };
    let plain = Context::plain();
    let ctx = Context { now: plain.now + SignedDuration::from_hours(1), ..plain };
    visibility::plan(&stage.ground().await.search, &policy, Some(Span::seconds(1)), &ctx).await.unwrap()
}

fn deletions(plan: &VisibilityPlan) -> usize {
    plan.steps.iter().filter(|step| matches!(step, Step::DeleteIndex { .. })).count()
}

async fn apply(stage: &Stage, plan: &VisibilityPlan) -> VisibilityReport {
    visibility::apply(plan, &stage.ground().await, &Context::plain()).await.unwrap()
}

/// Nothing was deleted, for this one reason.
#[track_caller]
fn held_back(stage: &Stage, report: &VisibilityReport, reason: &str) {
    assert!(report.deleted.is_empty(), "{report:?}");
    let reasons: Vec<&str> = report.held_back.iter().map(|held| held.reason.as_str()).collect();
    assert_eq!(reasons, [reason]);
    assert!(stage.scratch.exists(&stage.index(1)));
}

#[tokio::test]
async fn what_temporal_still_has_outlives_its_index_open_or_closed() {
    for engine in super::engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("open", true);
        stage.temporal.runs(["closed", "twice"], false);
        stage.document(1, "open", 5, true);
        stage.document(1, "closed", 6, false);
        stage.document(1, "twice", 7, true);
        stage.document(2, "twice", 8, false);
        stage.document(1, "ghost", 9, false);
        let plan = due(&stage).await;
        assert_eq!(deletions(&plan), 1, "{plan:?}");
        let report = apply(&stage, &plan).await;
        let deleted: Vec<&str> = report.deleted.iter().map(|deleted| deleted.index.as_str()).collect();
        assert_eq!(deleted, [stage.index(1)]);
        assert!(!stage.scratch.exists(&stage.index(1)));
        for (workflow, version) in [("open", 5), ("closed", 6), ("twice", 8)] {
            assert_eq!(stage.scratch.version(&stage.index(2), workflow), Some(version), "{workflow}");
            assert_eq!(stage.listed(workflow), 1, "{workflow}");
        }
        assert_eq!(stage.scratch.count(&stage.scratch.alias), 3);
        stage.is_settled().await;
    }
}

#[tokio::test]
async fn a_write_after_the_drain_saves_the_index_because_the_shards_are_asked_right_before_the_deletion() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.runs(["early", "late"], false);
    stage.document(1, "early", 5, false);
    let plan = due(&stage).await;
    let door = Intercept::new(stage.scratch.engine.clone());
    let writing = Arc::clone(&stage);
    // The survey asks the alias for its shards, the last look the index.
    door.before(&format!("GET /{}/_stats", stage.index(1)), "", move || {
        let body = document_body("late", 6, false, json!({})).to_string();
        writing.scratch.write(&writing.index(1), "late", 6, &body, false);
    });
    let ground = stage.ground_behind(&door).await;
    let report = visibility::apply(&plan, &ground, &Context::plain()).await.unwrap();
    door.all_happened();
    held_back(&stage, &report, "it was written to while it was looked at");
    assert_eq!(stage.versions("late"), [Some(6), None]);
    assert_eq!(apply(&stage, &due(&stage).await).await.deleted.len(), 1);
    assert_eq!(stage.scratch.version(&stage.index(2), "late"), Some(6));
}

#[tokio::test]
async fn a_write_that_is_not_yet_on_disk_saves_the_index_because_the_highest_number_counts_not_the_checkpoint() {
    // With an asynchronous translog the checkpoint comes after the write, here by an hour.
    let late = |_| json!({"index.translog.durability": "async", "index.translog.sync_interval": "1h"});
    let stage = Stage::with(Engine::opensearch(), 2, late);
    stage.temporal.run("w", false);
    stage.document(1, "w", 5, false);
    let report = apply(&stage, &due(&stage).await).await;
    held_back(&stage, &report, "it was written to while it was looked at");
    assert_eq!(stage.listed("w"), 1);
    // On disk: now it is seen and moved, and once that is on disk as well the index goes.
    for _ in 0..2 {
        stage.scratch.engine.ok("POST", &format!("/{}/_flush?force=true", stage.index(1)), None);
        apply(&stage, &due(&stage).await).await;
    }
    assert!(!stage.scratch.exists(&stage.index(1)));
    assert_eq!(stage.scratch.version(&stage.index(2), "w"), Some(5));
}

#[tokio::test]
async fn an_index_with_documents_that_name_no_run_stays() {
    let stage = Stage::new(Engine::opensearch(), 2);
    let foreign = format!("/{}/_doc/foreign?refresh=true", stage.index(1));
    stage.scratch.engine.ok("PUT", &foreign, Some(json!({"CloseTime": "2026-01-01T00:00:00Z"})));
    stage.document(1, "ghost", 5, false);
    let report = apply(&stage, &due(&stage).await).await;
    held_back(&stage, &report, "1 documents in it name no run of Temporal's");
}

#[tokio::test]
async fn the_write_index_is_never_deleted_whatever_it_was_when_the_plan_was_made() {
    let stage = Stage::new(Engine::opensearch(), 2);
    let plan = due(&stage).await;
    let write = |number: u32, write: bool| json!({"add": {"index": stage.index(number), "alias": stage.scratch.alias, "is_write_index": write}});
    let actions = json!({"actions": [write(2, false), write(1, true)]});
    stage.scratch.engine.ok("POST", "/_aliases", Some(actions));
    held_back(&stage, &apply(&stage, &plan).await, "it has become the write index");
}

#[tokio::test]
async fn an_index_that_left_the_alias_or_is_another_of_the_same_name_is_not_deleted() {
    let stage = Stage::new(Engine::opensearch(), 2);
    let plan = due(&stage).await;
    let remove = json!({"remove": {"index": stage.index(1), "alias": stage.scratch.alias}});
    stage.scratch.engine.ok("POST", "/_aliases", Some(json!({"actions": [remove]})));
    held_back(&stage, &apply(&stage, &plan).await, "it is no longer behind the alias");
    stage.scratch.engine.ok("DELETE", &format!("/{}", stage.index(1)), None);
    stage.scratch.member(1, false);
    held_back(&stage, &apply(&stage, &plan).await, "it is another index of the same name");
}

#[tokio::test]
async fn an_index_is_not_deleted_on_the_word_of_a_database_that_is_behind_it() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "w", u64::from(u32::MAX), false);
    let plan = due(&stage).await;
    let refused = visibility::apply(&plan, &stage.ground().await, &Context::plain()).await.unwrap_err();
    // Steps before it were done.
    let VisibilityError::Partly { cause, report } = refused else { panic!("{refused:?}") };
    assert!(matches!(*cause, VisibilityError::Refused(visibility::Refusal::Behind { .. })), "{cause:?}");
    assert!(report.deleted.is_empty(), "{report:?}");
    assert_eq!(stage.versions("w"), [Some(u64::from(u32::MAX)), None]);
}

#[tokio::test]
async fn no_more_than_ten_indices_go_in_one_run() {
    let stage = Stage::new(Engine::opensearch(), 13);
    let plan = due(&stage).await;
    assert_eq!((deletions(&plan), plan.held_back.len()), (10, 2));
    assert_eq!(apply(&stage, &plan).await.deleted.len(), 10);
    let left: Vec<u32> = (1..=13).filter(|number| stage.scratch.exists(&stage.index(*number))).collect();
    assert_eq!(left, [11, 12, 13], "the oldest go first");
    assert_eq!(apply(&stage, &due(&stage).await).await.deleted.len(), 2);
    assert!(stage.scratch.exists(&stage.index(13)));
}
