//! How much one run does, and how much it looks at.

use serde_json::json;
use sexton::policy::visibility::Reconcile;
use sexton::visibility::reconcile::{Bookmarks, Found};

use super::Stage;
use crate::support::search::Engine;

fn names(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{what}{i}")).collect()
}

/// So many of each class: open, stale (open and closed ones), ghosts, missing.
fn mixed(stage: &Stage, count: usize) {
    let (open, ended, late, ghosts) =
        (names("open", count), names("ended", count), names("late", count), names("ghost", count));
    stage.temporal.runs(&open, true);
    stage.temporal.runs(&ended, false);
    stage.temporal.runs(&late, false);
    stage.scratch.documents(&stage.index(1), open.iter().map(|w| (w, 5, true)));
    stage.scratch.documents(&stage.index(1), ended.iter().map(|w| (w, 5, true)));
    stage.scratch.documents(&stage.index(1), late.iter().map(|w| (w, 5, false)));
    stage.scratch.documents(&stage.write_index(), ended.iter().map(|w| (w, 9, false)));
    stage.scratch.documents(&stage.write_index(), late.iter().map(|w| (w, 9, false)));
    stage.scratch.documents(&stage.index(1), ghosts.iter().map(|w| (w, 5, false)));
}

fn is_true(stage: &Stage, count: u64) {
    assert_eq!(stage.scratch.count(&stage.scratch.alias), 3 * count, "one document of each run");
    assert_eq!(stage.scratch.count(&stage.write_index()), 3 * count);
    for (workflow, version) in [("open0", 5), ("ended1", 9), ("late2", 9)] {
        assert_eq!(stage.scratch.version(&stage.write_index(), workflow), Some(version), "{workflow}");
    }
}

#[tokio::test]
async fn one_run_changes_no_more_than_it_may_and_the_next_ones_go_on() {
    let stage = Stage::new(Engine::opensearch(), 2);
    mixed(&stage, 12);
    let policy = stage.policy_with(Reconcile { max_changes: 10, ..Reconcile::default() });
    let mut marks = Bookmarks::default();
    let mut runs = 0;
    loop {
        let (plan, report) = stage.go_on(&policy, &mut marks).await;
        assert!(plan.found.changes() <= 10, "{:?}", plan.found);
        assert_eq!(report.carried + report.stale + report.ghosts, plan.found.changes() as u64);
        if !plan.more {
            break;
        }
        runs += 1;
        assert!(plan.plan().notes.iter().any(|note| note.contains("the next one goes on")));
        assert!(runs < 10, "it comes to no end");
    }
    assert_eq!(runs, 4, "48 changes");
    is_true(&stage, 12);
}

#[tokio::test]
async fn indices_with_several_shards_are_looked_at_shard_by_shard() {
    let stage = Stage::with(Engine::opensearch(), 2, |_| json!({"index.number_of_shards": 3}));
    mixed(&stage, 40);
    let mut marks = Bookmarks::default();
    let (_, report) = stage.go_on(&stage.policy(), &mut marks).await;
    assert_eq!((report.carried, report.stale, report.ghosts), (40, 80, 40));
    is_true(&stage, 40);
    assert!(marks.indices.values().all(|marks| marks.written.len() == 3), "{marks:?}");
    stage.is_settled().await;
}

/// Documents that a run looks at, without those it looks at in turn.
fn looked_at(found: &Found) -> u64 {
    found.documents - 1
}

#[tokio::test]
async fn with_bookmarks_only_what_was_written_since_is_looked_at_and_losing_them_costs_only_time() {
    let stage = Stage::new(Engine::opensearch(), 2);
    let ended = names("ended", 300);
    stage.temporal.runs(&ended, false);
    stage.scratch.documents(&stage.index(1), ended[..100].iter().map(|w| (w, 5, false)));
    stage.scratch.documents(&stage.index(2), ended[100..].iter().map(|w| (w, 6, false)));
    // One document in turn, so that the rest is what bookmarks are about.
    let policy = stage.policy_with(Reconcile { sweep: 1, ..Reconcile::default() });
    let mut marks = Bookmarks::default();
    let (first, _) = stage.go_on(&policy, &mut marks).await;
    assert_eq!(looked_at(&first.found), 200, "the write index, whose runs may have documents in the old one");
    let (second, _) = stage.go_on(&policy, &mut marks).await;
    assert_eq!(looked_at(&second.found), 0);

    stage.scratch.documents(&stage.index(2), ended[..3].iter().map(|w| (w, 9, false)));
    // The same from the beginning, kept for later.
    let (kept, lost) = (stage.try_plan(&policy, &marks).await.unwrap(), Bookmarks::default());
    let lost = stage.try_plan(&policy, &lost).await.unwrap();
    assert_eq!((looked_at(&kept.found), looked_at(&lost.found)), (3, 203));
    assert_eq!((kept.found.stale.len(), &kept.found.stale), (3, &lost.found.stale));
    assert_eq!(stage.apply(&lost).await.stale, 3);
    assert_eq!(stage.scratch.count(&stage.scratch.alias), 300);
}

#[tokio::test]
async fn a_bookmark_of_an_index_that_is_gone_is_forgotten() {
    let stage = Stage::new(Engine::opensearch(), 3);
    mixed(&stage, 3);
    let (policy, mut marks) = (stage.policy(), Bookmarks::default());
    stage.go_on(&policy, &mut marks).await;
    assert_eq!(marks.indices.len(), 3);
    stage.scratch.engine.ok("DELETE", &format!("/{}", stage.index(2)), None);
    stage.go_on(&policy, &mut marks).await;
    assert_eq!(marks.indices.len(), 2);
}
