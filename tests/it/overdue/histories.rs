//! Histories that a worker made, with all that is in real ones. The judge of what is left is a slow reading of the tables
//! (`support::histories`), and Temporal's own history of each run that stays.

use std::time::Duration;

use super::{Stage, plain};
use crate::support::histories::Histories;
use crate::support::search::eventually;
use crate::support::workflows::{Run, Workflows, worker};

/// Runs of every kind; the first are closed and to go, the others are to stay.
async fn runs(stage: &Stage) -> (Vec<Run>, Vec<Run>) {
    let workflows = Workflows::on(&stage.cluster).await;
    let mut load = worker(&stage.cluster);
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    for name in ["old", "young", "open"] {
        let busy = workflows.start(&format!("{name}-busy")).await;
        workflows.activity(&busy).await;
        workflows.timer(&busy).await;
        workflows.signal(&busy, "something").await;
        let child = format!("{name}-child");
        let parent = workflows.start_with_child(&format!("{name}-parent"), &child).await;
        // A reset ends the run that it starts from; the new one goes on from its nodes.
        let base = workflows.start(&format!("{name}-reset")).await;
        workflows.signal(&base, "one").await;
        workflows.activity(&base).await;
        let fork = workflows.reset(&base, 1).await;
        // As a start that fails leaves it: a history that nothing refers to.
        workflows.refused_start(&fork.workflow).await;
        if name != "open" {
            for run in [&busy, &fork] {
                workflows.signal(run, "finish").await;
            }
            workflows.terminate(&parent).await;
        }
        let chain = workflows.start(&format!("{name}-chain")).await;
        workflows.signal(&chain, "again").await;
        // Of an open fork the base alone goes: what the fork goes on from has to stay.
        match name {
            "old" => gone.extend([busy, parent, base, fork, chain]),
            "young" => stay.extend([busy, parent, base, fork, chain]),
            _ => {
                gone.extend([base, chain]);
                stay.extend([busy, parent, fork]);
            }
        }
    }
    load.quiesce().await;
    (gone, stay)
}

async fn whole(action: &str) {
    let policy = format!("default: 1h\noverdue: {{action: {action}, slack: 5m, per_second: 10000}}\n");
    let stage = Stage::new(&format!("whole_{action}"), &policy).await;
    stage.retention("2160h");
    let (gone, stay) = runs(&stage).await;
    let ids = |runs: &[Run]| runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    let (gone_ids, stay_ids) = (ids(&gone), ids(&stay));
    let before = stage.runs();
    stage.backdate(&gone_ids.iter().collect::<Vec<_>>(), 180);
    stage.retention("1h");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let workflows = Workflows::on(&stage.cluster).await;
    let mut told = Vec::new();
    for run in &stay {
        told.push(workflows.history(run).await);
    }
    let orphans = Histories::read(&stage.cluster.database).orphaned();

    stage.site.run(&["once", "overdue", "-q"]).expect(0);
    let expected = &before - &plain(&gone_ids.iter().collect::<Vec<_>>());
    assert!(expected.is_superset(&plain(&stay_ids.iter().collect::<Vec<_>>())));
    eventually("Temporal's deletion", async || (stage.runs() == expected).then_some(())).await;
    for (run, told) in stay.iter().zip(told) {
        assert_eq!(workflows.history(run).await, told, "{run:?}");
    }
    // Nothing is left of the histories but what a run that stays goes on from; the orphans are others, and still there.
    eventually("whole histories are gone", async || {
        (Histories::read(&stage.cluster.database).orphaned() == orphans).then_some(())
    })
    .await;
    assert_eq!(stage.cluster.dlq(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_a_worker_go_whole_by_timers_derived_anew() {
    whole("refresh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_a_worker_go_whole_by_deletion() {
    whole("delete").await;
}
