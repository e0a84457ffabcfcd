//! What Temporal, a rollover or a kill does between two steps of a reconcile. Each test names the guard that it is for
//! and fails without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sexton::visibility::reconcile::ReconcileReport;

use super::Stage;
use crate::support::intercept::Intercept;
use crate::support::search::{Engine, document_body};

/// An open run in the old of two indices, whose write index forgets what was deleted at once, as it does after a minute.
fn forgetful(workflow: &str) -> Arc<Stage> {
    let gc = |number| if number == 2 { json!({"index.gc_deletes": "0s"}) } else { json!({}) };
    let stage = Stage::with(Engine::opensearch(), 2, gc);
    stage.temporal.run(workflow, true);
    stage.document(1, workflow, 10, true);
    stage
}

/// Temporal deletes a run: its document in the write index, and then its row. The engine measures the age of a deletion
/// by a clock that it reads five times a second, and has forgotten this one only after a tick of it.
fn delete(stage: &Stage, workflow: &str, version: u64) {
    stage.scratch.remove(&stage.write_index(), workflow, version);
    stage.temporal.remove(workflow);
    std::thread::sleep(std::time::Duration::from_millis(600));
}

#[tokio::test]
async fn a_run_deleted_while_it_is_copied_does_not_come_back_because_it_is_looked_up_after_the_copy_too() {
    let stage = forgetful("w");
    let plan = stage.plan().await;
    let door = Intercept::new(stage.scratch.engine.clone());
    let (deleting, looking) = (Arc::clone(&stage), Arc::clone(&stage));
    door.before("POST /_bulk", &stage.index(2), move || delete(&deleting, "w", 11));
    let came_back = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&came_back);
    door.after("POST /_bulk", &stage.index(2), move || {
        seen.store(looking.scratch.version(&looking.index(2), "w") == Some(10), Ordering::Relaxed);
    });
    stage.apply_behind(&door, &plan).await;
    assert!(came_back.load(Ordering::Relaxed), "the engine had forgotten the deletion, so that the copy was made");
    assert_eq!(stage.versions("w"), [None, None]);
    assert_eq!(stage.listed("w"), 0);
}

#[tokio::test]
async fn a_run_deleted_before_the_copy_is_not_copied_because_it_is_looked_up_before_it() {
    let stage = forgetful("w");
    let plan = stage.plan().await;
    delete(&stage, "w", 11);
    let door = Intercept::new(stage.scratch.engine.clone());
    let report = stage.apply_behind(&door, &plan).await;
    assert_eq!(report, ReconcileReport { changed_meanwhile: 1, ..ReconcileReport::default() });
    assert!(!door.calls().contains(&"POST /_bulk".to_owned()), "{:?}", door.calls());
    assert_eq!(stage.versions("w"), [Some(10), None]);
    assert_eq!(stage.reconcile().await.ghosts, 1);
    assert_eq!(stage.listed("w"), 0);
}

#[tokio::test]
async fn a_close_that_comes_before_the_copy_is_not_overwritten_because_copies_are_external_versions() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", true);
    stage.document(1, "w", 10, true);
    let plan = stage.plan().await;
    let door = Intercept::new(stage.scratch.engine.clone());
    let closing = Arc::clone(&stage);
    door.before("POST /_bulk", &stage.index(2), move || closing.document(2, "w", 20, false));
    stage.apply_behind(&door, &plan).await;
    assert_eq!(stage.versions("w"), [None, Some(20)]);
    assert!(stage.scratch.source(&stage.index(2), "w").unwrap().contains("CloseTime"));
    stage.is_settled().await;
}

#[tokio::test]
async fn a_close_that_comes_after_the_copy_wins_over_it_because_the_copy_keeps_its_version() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", true);
    stage.document(1, "w", 10, true);
    let plan = stage.plan().await;
    let door = Intercept::new(stage.scratch.engine.clone());
    let closing = Arc::clone(&stage);
    door.after("POST /_bulk", &stage.index(2), move || closing.document(2, "w", 11, false));
    stage.apply_behind(&door, &plan).await;
    assert_eq!(stage.versions("w"), [None, Some(11)]);
}

#[tokio::test]
async fn a_late_write_to_the_old_index_outlives_the_carry_because_the_original_is_removed_by_version() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", true);
    stage.document(1, "w", 10, true);
    let plan = stage.plan().await;
    let door = Intercept::new(stage.scratch.engine.clone());
    let writing = Arc::clone(&stage);
    // Under way since before the rollover; searches do not see it yet.
    door.before("POST /_bulk", &stage.index(2), move || {
        let body = document_body("w", 12, true, json!({})).to_string();
        writing.scratch.write(&writing.index(1), "w", 12, &body, false);
    });
    let report = stage.apply_behind(&door, &plan).await;
    assert_eq!(report, ReconcileReport { changed_meanwhile: 1, ..ReconcileReport::default() });
    assert_eq!(stage.versions("w"), [Some(12), Some(10)]);
    stage.reconcile().await;
    assert_eq!(stage.versions("w"), [None, Some(12)]);
    assert_eq!(stage.listed("w"), 1);
}

#[tokio::test]
async fn a_document_that_changed_after_the_look_is_left_for_the_next_run() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", true);
    stage.document(1, "w", 10, true);
    let plan = stage.plan().await;
    stage.document(1, "w", 12, true);
    let report = stage.apply(&plan).await;
    assert_eq!(report, ReconcileReport { changed_meanwhile: 1, ..ReconcileReport::default() });
    assert_eq!(stage.versions("w"), [Some(12), None]);
    assert_eq!(stage.reconcile().await.carried, 1);
    assert_eq!(stage.versions("w"), [None, Some(12)]);
}

#[tokio::test]
async fn a_conflict_with_a_tombstone_leaves_the_original_because_only_a_document_replaces_it() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", true);
    stage.document(1, "w", 10, true);
    // Temporal deletes the document first, and the run's row some time later.
    stage.scratch.remove(&stage.index(2), "w", 11);
    let report = stage.reconcile().await;
    assert_eq!(report, ReconcileReport { changed_meanwhile: 1, ..ReconcileReport::default() });
    assert_eq!(stage.versions("w"), [Some(10), None]);
    stage.temporal.remove("w");
    assert_eq!(stage.reconcile().await, ReconcileReport { ghosts: 1, ..ReconcileReport::default() });
    assert_eq!(stage.versions("w"), [None, None]);
}

#[tokio::test]
async fn a_kill_between_copy_and_removal_leaves_two_of_which_the_newest_index_s_stays() {
    let stage = Stage::new(Engine::opensearch(), 3);
    for (workflow, open) in [("open", true), ("closed", false)] {
        stage.temporal.run(workflow, open);
        for number in [1, 3] {
            stage.document(number, workflow, 5, open);
        }
    }
    let report = stage.reconcile().await;
    assert_eq!(report, ReconcileReport { stale: 2, ..ReconcileReport::default() });
    for workflow in ["open", "closed"] {
        assert_eq!(stage.versions(workflow), [None, None, Some(5)]);
    }
}

#[tokio::test]
async fn after_a_rollover_documents_go_to_the_new_write_index_because_it_is_asked_for_before_each_batch() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.temporal.run("w", true);
    stage.document(1, "w", 10, true);
    let plan = stage.plan().await;
    stage.scratch.engine.ok("POST", &format!("/{}/_rollover", stage.scratch.alias), None);
    assert_eq!(stage.scratch.write_index(), stage.index(3));
    assert_eq!(stage.apply(&plan).await.carried, 1);
    assert_eq!(stage.versions("w"), [None, None]);
    assert_eq!(stage.scratch.version(&stage.index(3), "w"), Some(10));
    assert_eq!(stage.listed("w"), 1);
}

#[tokio::test]
async fn two_reconciles_at_the_same_time_end_in_the_state_of_one() {
    let stage = Stage::new(Engine::opensearch(), 3);
    let names = |what: &str| (0..150).map(|i| format!("{what}{i}")).collect::<Vec<_>>();
    let (open, ended, ghosts) = (names("open"), names("ended"), names("ghost"));
    stage.temporal.runs(&open, true);
    stage.temporal.runs(&ended, false);
    stage.scratch.documents(&stage.index(1), open.iter().map(|w| (w, 5, true)));
    stage.scratch.documents(&stage.index(1), ended.iter().map(|w| (w, 6, true)));
    stage.scratch.documents(&stage.index(3), ended.iter().map(|w| (w, 9, false)));
    stage.scratch.documents(&stage.index(2), ghosts.iter().map(|w| (w, 7, false)));
    let (first, second) = (stage.plan().await, stage.plan().await);
    let (first, second) = tokio::join!(stage.apply(&first), stage.apply(&second));
    // Both may take part in one carry; a removal is one's alone.
    assert_eq!((first.ghosts + second.ghosts, first.stale + second.stale), (150, 150), "{first:?} {second:?}");
    assert_eq!(stage.scratch.count(&stage.scratch.alias), 300);
    assert_eq!(stage.scratch.count(&stage.index(3)), 300);
    for (workflow, version) in [("open0", 5), ("open149", 5), ("ended7", 9)] {
        assert_eq!(stage.versions(workflow), [None, None, Some(version)]);
    }
    stage.is_settled().await;
}
