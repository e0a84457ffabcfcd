//! 100,000 open documents carried forward, beside `_reindex` with the same query, in turn.
//!
//! The peer only copies; carrying also looks each run up before and after, and removes the original. So a second
//! figure has `_reindex` followed by `_delete_by_query`, which moves the documents too, if nobody else writes.

use std::time::Instant;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::database::Database;
use crate::documents::{Run, load};
use crate::engine::Engine;
use crate::figures::{Figures, median, megabytes};
use crate::say;
use crate::sexton::{Sexton, Took};

const DOCUMENTS: usize = 100_000;
const ROUNDS: usize = 3;

/// What the peer took for each of its two parts, in seconds.
struct Peer {
    copy: f64,
    removal: f64,
}

pub(crate) fn run(figures: &mut Figures) -> Result<()> {
    let (engine, now) = (Engine::new()?, Timestamp::now());
    let started =
        |number: usize| now - SignedDuration::from_hours(60 * 24) + SignedDuration::from_secs(20 * number as i64);
    let runs: Vec<Run> = (0..DOCUMENTS).map(|number| Run { number, started: started(number), open: true }).collect();
    say(format_args!("{DOCUMENTS} open runs"));
    let database = Database::of(&runs)?;
    let sexton = Sexton::new(&engine, &database)?;
    let base = format!("{}_base", engine.alias);
    engine.create(&base, None, &json!({}))?;
    load(&engine, &base, &runs)?;
    engine.call("PUT", &format!("/{base}/_block/write"), None)?;

    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let peer = reindex(&engine, &base)?;
        let took = carry(&engine, &base, &sexton)?;
        say(format_args!(
            "round {round}: carried in {:.1} s with {:.0} MB, _reindex {:.1} s, _delete_by_query {:.1} s",
            took.seconds,
            megabytes(took.peak),
            peer.copy,
            peer.removal
        ));
        ours.push(took);
        peers.push(peer);
    }
    let rate = |seconds: f64| DOCUMENTS as f64 / seconds;
    let carried = rate(median(ours.iter().map(|took| took.seconds)));
    figures.rate("carry-vs-reindex", carried, rate(median(peers.iter().map(|peer| peer.copy))));
    let moved = median(peers.iter().map(|peer| peer.copy + peer.removal));
    figures.rate("carry-vs-reindex-and-delete", carried, rate(moved));
    figures.below("carry-memory", megabytes(ours.iter().map(|took| took.peak).max().unwrap_or(0)), 100.0, "MB");
    Ok(())
}

/// An old index with the documents, and an empty one that takes the writes.
fn prepare(engine: &Engine, base: &str) -> Result<(String, String)> {
    let (old, new) = (engine.index(1), engine.index(2));
    engine.clone(base, &old)?;
    engine.create(&new, None, &json!({}))?;
    let add =
        |index: &str, write: bool| json!({"add": {"index": index, "alias": engine.alias, "is_write_index": write}});
    engine.call("POST", "/_aliases", Some(&json!({"actions": [add(&old, false), add(&new, true)]})))?;
    Ok((old, new))
}

fn carry(engine: &Engine, base: &str, sexton: &Sexton) -> Result<Took> {
    let (old, new) = prepare(engine, base)?;
    let took = sexton.reconcile()?;
    moved(engine, &old, &new)?;
    Ok(took)
}

fn reindex(engine: &Engine, base: &str) -> Result<Peer> {
    let (old, new) = prepare(engine, base)?;
    let open: Value = json!({"bool": {"must_not": [{"exists": {"field": "CloseTime"}}]}});
    let body = json!({"source": {"index": old, "query": open}, "dest": {"index": new, "version_type": "external"}});
    let begun = Instant::now();
    engine.call("POST", "/_reindex?refresh=true", Some(&body))?;
    let copy = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    engine.call("POST", &format!("/{old}/_delete_by_query?refresh=true"), Some(&json!({"query": open})))?;
    let removal = begun.elapsed().as_secs_f64();
    moved(engine, &old, &new)?;
    Ok(Peer { copy, removal })
}

/// By the engine's own count, every document is in the new index and none in the old one. Then both go.
fn moved(engine: &Engine, old: &str, new: &str) -> Result<()> {
    let counts = (engine.count(old)?, engine.count(new)?);
    ensure!(counts == (0, DOCUMENTS as u64), "{counts:?} documents are in the old and the new index");
    engine.remove(old)?;
    engine.remove(new)
}
