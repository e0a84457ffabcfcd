//! Temporal numbers its writes with task ids that grow by one at least, and an engine drops a write whose number is not
//! higher than what it remembers, without an error. So nothing may raise a version, not even a removal's tombstone.

use serde_json::json;

use super::{Stage, engines};
use crate::support::search::document_body;

/// Temporal's next write of this workflow, with the very next task id, is taken by every index.
fn the_next_write_wins_everywhere(stage: &Stage, workflow: &str, version: u64) {
    for number in 1..=stage.indices {
        let body = document_body(workflow, version + 1, false, json!({})).to_string();
        stage.scratch.write(&stage.index(number), workflow, version + 1, &body, true);
        assert_eq!(stage.scratch.version(&stage.index(number), workflow), Some(version + 1));
    }
}

#[tokio::test]
async fn the_next_task_id_wins_after_a_carry_which_internal_versioning_would_prevent() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("w", true);
        stage.document(1, "w", 17, true);
        assert_eq!(stage.reconcile().await.carried, 1);
        the_next_write_wins_everywhere(&stage, "w", 17);
    }
}

#[tokio::test]
async fn the_next_task_id_wins_after_a_stale_removal_which_internal_versioning_would_prevent() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.temporal.run("w", false);
        stage.document(1, "w", 17, false);
        stage.document(2, "w", 17, false);
        assert_eq!(stage.reconcile().await.stale, 1);
        the_next_write_wins_everywhere(&stage, "w", 17);
    }
}

#[tokio::test]
async fn the_next_task_id_wins_after_a_ghosts_removal_which_internal_versioning_would_prevent() {
    for engine in engines() {
        let stage = Stage::new(engine, 2);
        stage.document(1, "w", 17, false);
        stage.document(2, "v", 17, true);
        assert_eq!(stage.reconcile().await.ghosts, 2);
        the_next_write_wins_everywhere(&stage, "w", 17);
        the_next_write_wins_everywhere(&stage, "v", 17);
    }
}
