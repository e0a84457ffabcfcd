//! What a reconcile must not touch.

use serde_json::json;
use sexton::visibility::reconcile::ReconcileReport;

use super::{Stage, engines};
use crate::support::search::Engine;

#[tokio::test]
async fn indices_outside_the_alias_are_not_touched() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        // Ghosts and open documents by every rule, but not behind the alias.
        let outside = stage.index(9);
        stage.scratch.create(&outside, json!({}));
        let other = format!("{}_other-000001", stage.scratch.alias);
        let alias = format!("{}_other", stage.scratch.alias);
        stage.scratch.create(&other, json!({"aliases": {alias: {"is_write_index": true}}}));
        for index in [&outside, &other] {
            stage.scratch.document(index, "ghost", 5, false, json!({}));
            stage.scratch.document(index, "open", 6, true, json!({}));
        }
        stage.document(1, "ghost", 5, false);
        assert_eq!(stage.reconcile().await.ghosts, 1);
        assert_eq!((stage.scratch.count(&outside), stage.scratch.count(&other)), (2, 2));
    }
}

#[tokio::test]
async fn the_only_document_of_a_run_that_exists_is_not_touched() {
    for engine in engines() {
        let stage = Stage::new(engine, 3);
        for (number, workflow, open) in [(1, "a", false), (2, "b", false), (3, "c", false), (3, "d", true)] {
            stage.temporal.run(workflow, open);
            stage.document(number, workflow, 5, open);
        }
        let plan = stage.plan().await;
        assert_eq!(plan.found.changes(), 0, "{:?}", plan.found);
        assert!(plan.found.documents >= 4 && plan.found.executions == 4, "all were looked at: {:?}", plan.found);
        assert_eq!(stage.apply(&plan).await, ReconcileReport::default());
        assert_eq!(stage.scratch.count(&stage.scratch.alias), 4);
    }
}

#[tokio::test]
async fn a_run_that_is_there_again_keeps_its_document_because_a_ghost_is_looked_up_once_more() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.document(1, "w", 5, false);
        let plan = stage.plan().await;
        assert_eq!(plan.found.ghosts.len(), 1);
        stage.temporal.run("w", false);
        let report = stage.apply(&plan).await;
        assert_eq!((report.ghosts, report.changed_meanwhile), (0, 1));
        assert_eq!(stage.versions("w"), [Some(5), None]);
    }
}

#[tokio::test]
async fn a_version_that_was_not_planned_is_not_removed_because_removals_name_the_version() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("stale", false);
        stage.document(1, "ghost", 5, false);
        stage.document(1, "stale", 5, false);
        stage.document(2, "stale", 7, false);
        let plan = stage.plan().await;
        assert_eq!((plan.found.ghosts.len(), plan.found.stale.len()), (1, 1));
        // Searches do not see these yet, so that only the engine can tell.
        for workflow in ["ghost", "stale"] {
            let body = crate::support::search::document_body(workflow, 9, false, json!({})).to_string();
            stage.scratch.write(&stage.index(1), workflow, 9, &body, false);
        }
        let report = stage.apply(&plan).await;
        assert_eq!((report.ghosts, report.stale, report.changed_meanwhile), (0, 0, 2));
        assert_eq!(stage.versions("ghost"), [Some(9), None]);
        assert_eq!(stage.versions("stale"), [Some(9), Some(7)]);
    }
}

#[tokio::test]
async fn a_stale_document_stays_when_the_newer_one_is_gone_by_then() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", false);
    stage.document(1, "w", 5, false);
    stage.document(2, "w", 7, false);
    let plan = stage.plan().await;
    stage.scratch.remove(&stage.index(2), "w", 8);
    let report = stage.apply(&plan).await;
    assert_eq!((report.stale, report.changed_meanwhile), (0, 1));
    assert_eq!(stage.versions("w"), [Some(5), None], "the last document of a run that exists");
}
