//! The real binary, killed at random instants while it carries documents forward: after the next run every run has one
//! document, with the version that Temporal gave it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Stage;
use crate::kills::{Seed, kills};
use crate::support::postgres::Scratch;
use crate::support::search::Engine;
use crate::support::site::{Site, postgres_sections};

const RUNS: u64 = 4_000;

const RECONCILE: [&str; 3] = ["once", "reconcile", "-q"];

/// The versions behind the alias, by document.
fn versions(stage: &Stage) -> BTreeMap<String, Vec<u64>> {
    stage.scratch.engine.ok("POST", &format!("/{}/_refresh", stage.scratch.alias), None);
    let query = json!({"size": 10_000, "_source": false, "version": true, "query": {"match_all": {}}});
    let body = stage.scratch.engine.ok("POST", &format!("/{}/_search", stage.scratch.alias), Some(query));
    let mut versions: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for hit in body["hits"]["hits"].as_array().unwrap() {
        let id = hit["_id"].as_str().unwrap().to_owned();
        versions.entry(id).or_default().push(hit["_version"].as_u64().unwrap());
    }
    versions
}

#[test]
fn a_killed_reconcile_loses_no_run_and_the_next_one_leaves_one_document_of_each() {
    let (stage, ledger) = (Stage::new(Engine::opensearch(), 2), Scratch::new("ledger"));
    let names: Vec<String> = (0..RUNS).map(|i| format!("w{i}")).collect();
    stage.temporal.runs(&names, true);
    stage.scratch.documents(&stage.index(1), names.iter().zip(1..).map(|(w, version)| (w, version, true)));
    let expected = versions(&stage);
    assert_eq!(expected.len() as u64, RUNS);

    let sections = postgres_sections(&ledger, &stage.temporal.database.name);
    let site = Site::new(&format!("{sections}search: {{url: {}}}\n", stage.scratch.engine.url))
        .policy("visibility", &format!("index: {}\n", stage.scratch.alias));
    site.run(&["ledger", "init"]).expect(0);
    let clock = Instant::now();
    site.run(&RECONCILE).expect(0);
    let whole = clock.elapsed();
    assert_eq!(versions(&stage), expected);

    let mut seed = Seed::new("reconcile");
    let mut left = [0, 0];
    for _ in 0..kills() {
        // All of them are in an old index again.
        stage.scratch.engine.ok("POST", &format!("/{}/_rollover", stage.scratch.alias), None);
        let mut running = site.start(&RECONCILE, "killed.log");
        std::thread::sleep(seed.part_of(whole));
        running.signal("KILL");
        running.wait();
        // The engine ends what it was told.
        std::thread::sleep(Duration::from_millis(300));
        let between = versions(&stage);
        assert!(between.keys().eq(expected.keys()), "a run is not listed");
        let carried = stage.scratch.count(&stage.scratch.write_index());
        left[usize::from(carried > 0 && carried < RUNS)] += 1;
        println!("killed with {carried} copies, {} listed twice", between.values().filter(|v| v.len() > 1).count());
        site.run(&RECONCILE).expect(0);
        assert_eq!(versions(&stage), expected, "one document of each run, with its version");
        assert_eq!(stage.scratch.count(&stage.scratch.write_index()), RUNS);
    }
    println!("{} of {} kills came in the middle of the carry", left[1], left[0] + left[1]);
    assert_eq!(
        ledger.psql("SELECT count(*) FROM runs WHERE outcome NOT IN ('changed', 'unchanged', 'interrupted')"),
        "0"
    );
}
