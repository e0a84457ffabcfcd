//! Workflows that run longer than an index lives: under load, while indices are rolled over and deleted again and again,
//! Temporal's own list never misses one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sexton::clients::persistence::Persistence;
use sexton::context::Context;
use sexton::units::Span;
use sexton::visibility::reconcile::{Bookmarks, Ground};
use sexton::visibility::{self, reconcile};

use super::policy;
use crate::support::cluster::{Cluster, Index};
use crate::support::judge::Judge;
use crate::support::load::{Load, LoadOptions};
use crate::support::postgres::postgres15;
use crate::support::search::eventually;

/// The workflows that stay open, and those of them that Temporal lists.
const LONG: [&str; 12] = [
    "long-a", "long-b", "long-c", "long-d", "long-e", "long-f", "long-g", "long-h", "long-i", "long-j", "long-k",
    "long-l",
];

fn listed(cluster: &Cluster) -> usize {
    let query = "WorkflowType = 'Long' AND ExecutionStatus = 'Running'";
    let list = cluster.server.cli(&[
        "workflow",
        "list",
        "--namespace",
        &cluster.namespace,
        "--query",
        query,
        "--limit",
        "200",
        "--output",
        "json",
    ]);
    LONG.iter().filter(|id| list.contains(&format!("\"{id}\""))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_workflow_is_never_missing_from_the_list_though_its_indices_are_deleted() {
    let cluster = Arc::new(Cluster::start("long", Index::Alias).await);
    for id in LONG {
        cluster.server.cli(&[
            "workflow",
            "start",
            "--namespace",
            &cluster.namespace,
            "--workflow-id",
            id,
            "--type",
            "Long",
            "--task-queue",
            "nobody",
        ]);
    }
    eventually("all of them listed", async || (listed(&cluster) == LONG.len()).then_some(())).await;

    let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = {
        let (cluster, stop, looks) = (Arc::clone(&cluster), Arc::clone(&stop), Arc::clone(&looks));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let seen = listed(&cluster);
                assert_eq!(seen, LONG.len(), "after {} looks", looks.load(Ordering::Relaxed));
                looks.fetch_add(1, Ordering::Relaxed);
            }
        })
    };

    let mut load = Load::start(&cluster, LoadOptions { per_second: 30, ..LoadOptions::default() });
    // Shorter than any namespace's retention, which only a test may pretend not to know.
    let policy = policy(&cluster.index, Span::seconds(2), Span::seconds(2));
    let search = cluster.engine.client().await;
    let persistence = Persistence::new(postgres15(), &cluster.database.name);
    let ground = Ground { search, persistence, temporal: None };
    let (mut deleted, start) = (0, Instant::now());
    while deleted < 3 {
        assert!(start.elapsed() < Duration::from_secs(120), "{deleted} indices deleted");
        let ctx = Context::plain();
        let plan = visibility::plan(&ground.search, &policy, Some(Span::seconds(1)), &ctx).await.unwrap();
        deleted += visibility::apply(&plan, &ground, &ctx).await.unwrap().deleted.len();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let first = format!("/{}-000001", cluster.index);
    assert_eq!(cluster.engine.http("GET", &first, None).0, 404, "it is among those deleted");

    load.quiesce().await;
    let ctx = Context::plain();
    let plan = reconcile::plan(&ground, &policy, &Bookmarks::default(), &ctx).await.unwrap();
    reconcile::apply(&plan, &ground, &ctx).await.unwrap();
    Judge::of(&cluster).agree().await;
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    println!("{} looks at the list, {deleted} indices deleted", looks.load(Ordering::Relaxed));
    assert!(looks.load(Ordering::Relaxed) > 5);
}
