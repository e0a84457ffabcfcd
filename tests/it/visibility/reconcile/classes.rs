//! Each class by itself, on both engines.

use serde_json::{Value, json};
use sexton::clients::persistence::RunKey;
use sexton::visibility::reconcile::{Bookmarks, ReconcileReport};

use super::{Stage, engines, keep_ghosts};
use crate::support::executions::{NAMESPACE, SHARD, run_of};
use crate::support::search::document_body;

#[tokio::test]
async fn an_open_document_is_carried_with_its_version_and_byte_by_byte() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("w", true);
        // Nothing that a reader of JSON would write again like this.
        let known = document_body("w", 17, true, json!({"Memo": "CgsKA2tleRIEdmFs"})).to_string();
        let odd = r#"  "Ratio" : 1.0, "Big": 123456789012345678901234567890,"Exp":1E+2, "Tags":[ "é","\u00e9\/" ] ,"Nothing":null"#;
        let body = format!("{},{odd} }}", known.strip_suffix('}').unwrap());
        stage.scratch.write(&stage.index(1), "w", 17, &body, true);
        let plan = stage.plan().await;
        assert_eq!((plan.found.open.len(), plan.found.changes()), (1, 1), "{:?}", plan.found);
        assert_eq!(stage.apply(&plan).await, ReconcileReport { carried: 1, ..ReconcileReport::default() });
        assert_eq!(stage.versions("w"), [None, Some(17)]);
        assert_eq!(stage.scratch.source(&stage.index(2), "w").unwrap(), body);
        assert_eq!(stage.listed("w"), 1);
        stage.is_settled().await;
    }
}

#[tokio::test]
async fn a_search_attribute_that_the_write_index_lacks_is_there_before_the_copy() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("w", true);
        let (old, engine) = (stage.index(1), &stage.scratch.engine);
        let field = json!({"properties": {"OrderId": {"type": "keyword"}}});
        // Elasticsearch 6 names the type of a mapping unless it is told not to.
        engine.ok("PUT", &engine.typeless(&format!("/{old}/_mapping")), Some(field));
        stage.scratch.document(&old, "w", 3, true, json!({"OrderId": "a"}));
        assert_eq!(stage.reconcile().await.carried, 1);
        assert_eq!(stage.scratch.found(&stage.index(2), "OrderId", "a"), 1);
    }
}

#[tokio::test]
async fn stale_documents_go_and_the_newest_stays_wherever_it_lies() {
    for engine in engines() {
        let stage = Stage::new(engine, 3);
        for workflow in ["closed", "open", "late", "middle"] {
            stage.temporal.run(workflow, false);
        }
        // Both closed, as after an upsert that came late.
        stage.document(1, "closed", 5, false);
        stage.document(3, "closed", 9, false);
        // Open across a rollover, closed afterwards.
        stage.document(1, "open", 5, true);
        stage.document(3, "open", 9, false);
        // The close was under way during the rollover and came to the old index.
        stage.document(1, "late", 9, false);
        stage.document(3, "late", 5, true);
        stage.document(1, "middle", 4, true);
        stage.document(2, "middle", 6, false);
        stage.document(3, "middle", 5, true);
        let report = stage.reconcile().await;
        assert_eq!(report, ReconcileReport { stale: 5, ..ReconcileReport::default() });
        assert_eq!(stage.versions("closed"), [None, None, Some(9)]);
        assert_eq!(stage.versions("open"), [None, None, Some(9)]);
        assert_eq!(stage.versions("late"), [Some(9), None, None]);
        assert_eq!(stage.versions("middle"), [None, Some(6), None]);
        assert_eq!(stage.scratch.count(&stage.scratch.alias), 4, "searches see it when the run has ended");
        stage.is_settled().await;
    }
}

/// Four ghosts, closed and open, in an old index and in the write index, and a run that lives.
fn haunted(engine: crate::support::search::Engine) -> std::sync::Arc<Stage> {
    let stage = Stage::new(engine, 2);
    stage.document(1, "old closed", 5, false);
    stage.document(1, "old open", 6, true);
    stage.document(2, "new closed", 7, false);
    stage.document(2, "new open", 8, true);
    stage.temporal.run("alive", false);
    stage.document(1, "alive", 9, false);
    stage
}

#[tokio::test]
async fn ghosts_go() {
    for engine in engines() {
        let stage = haunted(engine);
        assert_eq!(stage.reconcile().await, ReconcileReport { ghosts: 4, ..ReconcileReport::default() });
        assert_eq!(stage.scratch.count(&stage.scratch.alias), 1);
        assert_eq!(stage.versions("alive"), [Some(9), None]);
    }
}

#[tokio::test]
async fn closed_ghosts_stay_when_the_policy_keeps_them_and_open_ones_go_all_the_same() {
    for engine in engines() {
        let stage = haunted(engine);
        let policy = stage.policy_with(keep_ghosts());
        let (_, report) = stage.go_on(&policy, &mut Bookmarks::default()).await;
        assert_eq!(report, ReconcileReport { ghosts: 2, ..ReconcileReport::default() });
        assert_eq!(stage.versions("old closed"), [Some(5), None]);
        assert_eq!(stage.versions("new closed"), [None, Some(7)]);
        assert_eq!(stage.listed("old open") + stage.listed("new open"), 0);
    }
}

#[tokio::test]
async fn missing_and_outdated_documents_are_only_reported_while_temporal_cannot_be_asked() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("lost", true);
        stage.temporal.run("ended", false);
        stage.document(2, "ended", 5, true);
        let plan = stage.plan().await;
        let key = |workflow: &str| RunKey {
            shard: SHARD,
            namespace: NAMESPACE,
            workflow: workflow.into(),
            run: run_of(workflow),
        };
        assert_eq!((&plan.found.missing, &plan.found.outdated), (&vec![key("lost")], &vec![key("ended")]));
        let shown = plan.plan();
        assert!(shown.changes.is_empty() && !plan.repair, "{shown:?}");
        assert!(shown.notes.iter().all(|note| note.ends_with("only reported")) && shown.notes.len() == 2, "{shown:?}");
        assert_eq!(stage.apply(&plan).await, ReconcileReport::default());
        assert_eq!(stage.versions("ended"), [None, Some(5)]);
    }
}

#[tokio::test]
async fn documents_that_name_no_run_are_counted_and_left_alone() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        let put = |id: &str, index: u32, body: Value| {
            stage.scratch.engine.ok("PUT", &format!("/{}/_doc/{id}?refresh=true", stage.index(index)), Some(body));
        };
        put("empty", 1, json!({}));
        put("empty-closed", 1, json!({"CloseTime": "2026-01-01T00:00:00Z"}));
        put("empty-new", 2, json!({}));
        let mut body = document_body("w", 5, true, json!({"RunId": "no-run"}));
        put("no-run", 1, body.clone());
        body["RunId"] = json!(run_of("w"));
        body["VisibilityTaskKey"] = json!(5);
        put("no-shard", 1, body);
        let plan = stage.plan().await;
        assert_eq!((plan.found.unreadable, plan.found.changes()), (5, 0), "{:?}", plan.found);
        assert_eq!(stage.apply(&plan).await, ReconcileReport::default());
        assert_eq!(stage.scratch.count(&stage.scratch.alias), 5);
    }
}
