//! The search for ghosts, a part in each run.

use std::collections::BTreeMap;

use serde_json::json;
use sexton::policy::visibility::Reconcile;
use sexton::visibility::reconcile::Bookmarks;

use super::Stage;
use crate::support::search::Engine;

/// 60 documents in each of two indices, every third of which is a ghost.
fn haunted(shards: u32) -> (std::sync::Arc<Stage>, Vec<String>) {
    let stage = Stage::with(Engine::opensearch(), 2, |_| json!({"index.number_of_shards": shards}));
    let names: Vec<String> = (0..120).map(|i| format!("w{i}")).collect();
    let (ghosts, alive): (Vec<_>, Vec<_>) = names.iter().cloned().enumerate().partition(|(i, _)| i % 3 == 0);
    stage.temporal.runs(alive.into_iter().map(|(_, name)| name), false);
    for (number, half) in [(1, &names[..60]), (2, &names[60..])] {
        stage.scratch.documents(&stage.index(number), half.iter().map(|w| (w, 5, false)));
    }
    (stage, ghosts.into_iter().map(|(_, name)| name).collect())
}

#[tokio::test]
async fn every_document_is_looked_at_once_in_a_round() {
    let (stage, ghosts) = haunted(1);
    let policy = stage.policy_with(Reconcile { sweep: 10, ..Reconcile::default() });
    let mut marks = Bookmarks::default();
    for round in 0..2 {
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..12 {
            // Only looked for, so that a second look at one would be seen.
            let plan = stage.try_plan(&policy, &marks).await.unwrap();
            marks = plan.bookmarks.clone();
            for ghost in &plan.found.ghosts {
                *found.entry(ghost.id.clone()).or_default() += 1;
            }
        }
        assert!(found.values().all(|times| *times == 1), "round {round}: {found:?}");
        assert_eq!(found.len(), ghosts.len(), "round {round}");
    }
}

#[tokio::test]
async fn after_enough_runs_every_ghost_is_gone_also_from_several_shards() {
    let (stage, ghosts) = haunted(3);
    let policy = stage.policy_with(Reconcile { sweep: 10, ..Reconcile::default() });
    let mut marks = Bookmarks::default();
    let mut removed = 0;
    // Of each shard the last part may be a smaller one: two indices of three shards.
    for _ in 0..12 + 6 {
        let (plan, report) = stage.go_on(&policy, &mut marks).await;
        assert!(plan.found.ghosts.len() <= 10, "{:?}", plan.found);
        removed += report.ghosts;
    }
    assert_eq!(removed, ghosts.len() as u64);
    assert_eq!(stage.scratch.count(&stage.scratch.alias), 80);
    assert!(ghosts.iter().all(|ghost| stage.listed(ghost) == 0));
}

/// What was written since the last look is looked at by itself, and then in its turn: it is one document all the same.
#[tokio::test]
async fn a_document_that_is_looked_at_twice_counts_once() {
    let (stage, _) = haunted(3);
    let plan = stage.try_plan(&stage.policy(), &Bookmarks::default()).await.unwrap();
    assert_eq!((plan.found.documents, plan.found.executions), (120, 80));
}
