//! Workflow ids as people choose them.

use sexton::visibility::reconcile::ReconcileReport;

use super::{Stage, engines};

fn awkward() -> Vec<String> {
    let mut ids: Vec<String> = [
        "order~1~2",
        "~",
        " leading and trailing ",
        "it's \"quoted\"",
        "a/b\\c?d#e&f=g",
        "100%25 %2F %",
        "line\nbreak\r\tand tab",
        "[{\"json\": 1}]",
        "<b>*(x OR y)*</b>",
        "日本語のワークフロー",
        "e\u{301}\u{202e}\u{200b}",
    ]
    .map(str::to_owned)
    .to_vec();
    // Temporal's column takes 255 characters, an engine's id 512 bytes, of which a tilde and the run take 37.
    ids.push("a".repeat(255));
    ids.push("é".repeat(237));
    ids.push("é".repeat(238));
    ids.push("é".repeat(255));
    ids.push(format!("x{}", "語".repeat(200)));
    ids.push("😀".repeat(255));
    ids
}

#[tokio::test]
async fn documents_of_awkward_workflow_ids_are_carried_kept_and_removed_like_others() {
    for engine in engines() {
        let (stage, ids) = (Stage::new(engine, 2), awkward());
        let all = ids.len() as u64;
        stage.temporal.runs(&ids, true);
        stage.scratch.documents(&stage.index(1), ids.iter().map(|w| (w, 5, true)));
        let plan = stage.plan().await;
        assert!(plan.found.missing.is_empty() && plan.found.unreadable == 0, "{:?}", plan.found);
        assert_eq!(stage.apply(&plan).await, ReconcileReport { carried: all, ..ReconcileReport::default() });
        for id in &ids {
            assert_eq!(stage.versions(id), [None, Some(5)], "{id}");
        }
        stage.is_settled().await;

        stage.scratch.documents(&stage.index(2), ids.iter().map(|w| (w, 9, true)));
        stage.scratch.documents(&stage.index(1), ids.iter().map(|w| (w, 8, true)));
        assert_eq!(stage.reconcile().await, ReconcileReport { stale: all, ..ReconcileReport::default() });

        for id in &ids {
            stage.temporal.remove(id);
        }
        assert_eq!(stage.reconcile().await, ReconcileReport { ghosts: all, ..ReconcileReport::default() });
        assert_eq!(stage.scratch.count(&stage.scratch.alias), 0);
    }
}
