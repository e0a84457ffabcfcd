//! Writes that were under way during a rollover and came to the old index after it had been looked at.

use serde_json::json;
use sexton::visibility::reconcile::{Bookmarks, ReconcileReport};

use super::Stage;
use crate::support::search::Engine;

/// Long after every index here was created, so that nothing but its place tells that the document is of two.
const LATER: &str = "2100-01-01T00:00:00Z";

/// Documents of two workflows in the write index, looked at; then the old index of this number gets an older one of the
/// first workflow and a newer one of the second.
async fn late_writes(stage: &Stage, number: u32) {
    let write = stage.write_index();
    let extra = || json!({"StartTime": LATER});
    for workflow in ["older", "newer"] {
        stage.temporal.run(workflow, false);
        stage.scratch.document(&write, workflow, 10, false, extra());
    }
    let (policy, mut marks) = (stage.policy(), Bookmarks::default());
    let (_, report) = stage.go_on(&policy, &mut marks).await;
    assert_eq!(report, ReconcileReport::default());
    stage.scratch.document(&stage.index(number), "older", 9, false, extra());
    stage.scratch.document(&stage.index(number), "newer", 11, false, extra());
    let (_, report) = stage.go_on(&policy, &mut marks).await;
    assert_eq!(report, ReconcileReport { stale: 2, ..ReconcileReport::default() });
    assert_eq!(stage.scratch.version(&stage.index(number), "older"), None);
    assert_eq!(stage.scratch.version(&write, "older"), Some(10));
    assert_eq!(stage.scratch.version(&stage.index(number), "newer"), Some(11));
    assert_eq!(stage.scratch.version(&write, "newer"), None);
    assert_eq!(stage.listed("older") + stage.listed("newer"), 2);
}

#[tokio::test]
async fn a_late_write_to_an_old_index_is_found_because_all_that_is_written_there_is_looked_up_whenever_it_started() {
    for number in [1, 2] {
        let stage = Stage::new(Engine::opensearch(), 3);
        stage.temporal.run("other", false);
        stage.document(number, "other", 1, false);
        late_writes(&stage, number).await;
    }
}

#[tokio::test]
async fn a_late_write_to_an_old_index_that_was_empty_is_found_because_empty_is_not_the_same_as_never_looked_at() {
    for number in [1, 2] {
        late_writes(&Stage::new(Engine::opensearch(), 3), number).await;
    }
}
