//! A lost index: dropped under load, and brought back from PostgreSQL while workflows go on.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::{Cluster, Index};
use crate::support::judge::Judge;
use crate::support::load::{Load, LoadOptions};
use crate::support::postgres::Scratch;
use crate::support::site::Site;

/// How many workflows are started before the index is lost.
fn workflows() -> u64 {
    if std::env::var("SEXTON_SOAK").is_ok() { 5_000 } else { 250 }
}

/// Deletes every index of the cluster's name, behind everybody's back.
fn lose(cluster: &Cluster) {
    let path = format!("/_cat/indices/{}*?format=json&h=index", cluster.index);
    for index in cluster.engine.ok("GET", &path, None).as_array().unwrap() {
        cluster.engine.ok("DELETE", &format!("/{}", index["index"].as_str().unwrap()), None);
    }
}

fn site(cluster: &Cluster, ledger: &Scratch) -> Site {
    Site::of_cluster(cluster, ledger).policy("visibility", &format!("index: {}\n", cluster.index))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_rebuilt_from_postgresql_while_workflows_go_on() {
    let (cluster, ledger) = (Cluster::start("lost", Index::Alias).await, Scratch::new("ledger"));
    let site = site(&cluster, &ledger);
    let options =
        LoadOptions { clients: 6, pollers: 6, per_second: 250, operations: 100_000, ..LoadOptions::default() };
    let options = LoadOptions { within: Duration::from_secs(1_800), ..options };
    let mut load = Load::start(&cluster, options);
    let start = Instant::now();
    while load.tally().started < workflows() {
        assert!(start.elapsed() < Duration::from_secs(900), "too few workflows: {}", load.tally());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let judge = Judge::of(&cluster);
    load.quiesce().await;
    let before = judge.agree().await;
    load.resume();

    lose(&cluster);
    let planned = site.run(&["visibility", "rebuild", "--dry-run"]);
    assert!(planned.code == 2 && planned.out.contains("written again by Temporal"), "{planned:?}");
    let said = site.run(&["visibility", "rebuild", "-q"]).expect(0);
    println!("{}", said.out);
    load.quiesce().await;
    let after = judge.agree().await;
    let tally = load.stop().await;
    println!("{before} runs before, {after} after; {tally}");
    judge.agree_by_cli();
    site.run(&["visibility", "rebuild", "--dry-run"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_nobody_wrote_to_is_made_as_temporal_needs_it() {
    let (cluster, ledger) = (Cluster::start("remade", Index::Alias).await, Scratch::new("ledger"));
    let site = site(&cluster, &ledger);
    let options =
        LoadOptions { per_second: 100, operations: 150, within: Duration::from_secs(30), ..LoadOptions::default() };
    let load = Load::start(&cluster, options);
    load.until("some workflows", |tally| tally.started >= 30).await;
    load.stop().await;
    let judge = Judge::of(&cluster);
    judge.agree().await;

    lose(&cluster);
    let said = site.run(&["visibility", "rebuild", "-q", "--json"]).expect(0).json();
    assert_eq!(said["runs"][0]["report"]["created"], format!("{}-000001", cluster.index));
    cluster.refresh();
    judge.agree().await;
    // What is there already is not written again.
    let again = site.run(&["visibility", "rebuild", "-q", "--json"]).expect(0).json();
    assert_eq!(again["runs"][0]["outcome"], "unchanged", "{again}");
    // Part of it lost: only that part is written.
    let one = json!({"query": {"term": {"ExecutionStatus": "Running"}}});
    let gone = cluster.engine.ok("POST", &format!("/{}/_delete_by_query?refresh=true", cluster.index), Some(one));
    let said = site.run(&["visibility", "rebuild", "-q", "--json"]).expect(0).json();
    assert_eq!(said["runs"][0]["report"]["refreshed"], gone["deleted"]);
    cluster.refresh();
    judge.agree().await;
}
