//! What somebody sees who lists through the alias all the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sexton::context::Context;
use sexton::visibility::reconcile::carry_forward;

use super::Stage;
use crate::support::search::Engine;

const RUNS: usize = 2_000;

/// Lists until it is told to stop; how often, and the lists that lacked a run.
fn read(stage: &Stage, stop: &AtomicBool) -> (usize, Vec<usize>) {
    let (mut lists, mut short) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let query = json!({"size": 10_000, "_source": false, "query": {"match_all": {}}});
        let body = stage.scratch.engine.ok("POST", &format!("/{}/_search", stage.scratch.alias), Some(query));
        let hits = body["hits"]["hits"].as_array().unwrap();
        let ids: BTreeSet<&str> = hits.iter().map(|hit| hit["_id"].as_str().unwrap()).collect();
        lists += 1;
        if ids.len() != RUNS {
            short.push(ids.len());
        }
    }
    (lists, short)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_during_a_carry_has_every_run_because_the_copy_is_refreshed_before_the_original_goes() {
    // A removal is seen at once, a copy only when it is refreshed.
    let refresh = |number| if number == 1 { json!({"index.refresh_interval": "20ms"}) } else { json!({}) };
    let stage = Stage::with(Engine::opensearch(), 2, refresh);
    let names: Vec<String> = (0..RUNS).map(|i| format!("w{i}")).collect();
    stage.temporal.runs(&names, true);
    stage.scratch.documents(&stage.index(1), names.iter().map(|w| (w, 5, true)));
    let stop = Arc::new(AtomicBool::new(false));
    let (reading, told) = (Arc::clone(&stage), Arc::clone(&stop));
    let reader = std::thread::spawn(move || read(&reading, &told));
    let report = carry_forward(&stage.ground().await, &stage.scratch.alias, &Context::plain()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (lists, short) = reader.join().unwrap();
    println!("{lists} lists during the carry");
    assert_eq!(report.carried, RUNS as u64);
    assert!(short.is_empty() && lists > 3, "of {lists} lists these were short: {short:?}");
    assert_eq!(stage.scratch.count(&stage.scratch.alias), RUNS as u64, "each is listed once in the end");
    assert_eq!(stage.scratch.count(&stage.index(2)), RUNS as u64);
}
