//! A real cluster whose index is rolled over again and again under load, and reconciled beside it. The judge compares
//! Temporal's own lists and counts with its `executions` table.
//!
//! A short one in every test run; `SEXTON_SOAK` (set by `make soak`) makes it ten minutes long, with 20 looks.

use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Index};
use crate::support::judge::Judge;
use crate::support::load::{Load, LoadOptions};
use crate::support::postgres::Scratch;
use crate::support::site::Site;

const RECONCILE: Duration = Duration::from_secs(5);

/// How many looks, how long between two, and the age at which the index rolls.
fn shape() -> (u32, Duration, u64) {
    match std::env::var("SEXTON_SOAK") {
        Ok(_) => (20, Duration::from_secs(30), 20),
        Err(_) => (3, Duration::from_secs(8), 5),
    }
}

fn indices(cluster: &Cluster) -> usize {
    let members = cluster.engine.ok("GET", &format!("/_alias/{}", cluster.index), None);
    members.as_object().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_counts_stay_exact_while_the_index_rolls_under_load() {
    let (looks, between, max_age) = shape();
    let cluster = Cluster::start("soak", Index::Alias).await;
    let ledger = Scratch::new("ledger");
    let policy = format!("index: {}\nrollover: {{max_age: {max_age}s}}\n", cluster.index);
    let site = Site::of_cluster(&cluster, &ledger).policy("visibility", &policy);
    let reconcile = || site.run(&["once", "reconcile", "-q"]).expect(0);

    let options = LoadOptions { per_second: 40, operations: 100_000, ..LoadOptions::default() };
    let within = between * looks * 4 + Duration::from_secs(300);
    let mut load = Load::start(&cluster, LoadOptions { within, ..options });
    let judge = Judge::of(&cluster);
    let mut runs = 0;
    for look in 1..=looks {
        let end = Instant::now() + between;
        while Instant::now() < end {
            site.run(&["once", "visibility", "-q"]).expect(0);
            reconcile();
            tokio::time::sleep(RECONCILE.min(end.saturating_duration_since(Instant::now()))).await;
        }
        load.quiesce().await;
        let said = reconcile();
        runs = judge.agree().await;
        println!("look {look}: {runs} runs, {} indices; {}", indices(&cluster), said.out.lines().next().unwrap_or(""));
        load.resume();
    }
    let tally = load.stop().await;
    println!("{tally}");
    reconcile();
    judge.agree().await;
    judge.agree_by_cli();
    assert!(indices(&cluster) > 2, "the index was rolled over");
    assert!(runs > 0 && tally.errors.is_empty(), "{tally:?}");
    let again = site.run(&["once", "reconcile", "--dry-run"]);
    assert_eq!(again.code, 0, "a second reconcile finds nothing: {again:?}");
}
