//! A reconcile of an alias with five indices of 200,000 documents that finds nothing to do: what it costs every day.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::database::Database;
use crate::documents::{Run, load};
use crate::engine::Engine;
use crate::figures::{Figures, median, megabytes};
use crate::say;
use crate::sexton::{Sexton, Took};

const INDICES: usize = 5;
const EACH: usize = 200_000;

/// Runs that are older than the write index and still open: earlier reconciles carried their documents forward.
const LONG_RUNNING: usize = 3_000;

const ROUNDS: usize = 3;

pub(crate) fn run(figures: &mut Figures) -> Result<()> {
    let (engine, now) = (Engine::new()?, Timestamp::now());
    let days = |count: usize| SignedDuration::from_hours(24 * count as i64);
    let created = |index: usize| now - days(30 * (INDICES - index));
    let runs: Vec<Run> = (0..INDICES * EACH)
        .map(|number| {
            // Spread over the 30 days for which their index took the writes.
            let (index, place) = (number / EACH, number % EACH);
            let after = SignedDuration::from_secs(1_200 + (place * 2_580_000 / EACH) as i64);
            Run { number, started: created(index) + after, open: false }
        })
        .collect();
    let long: Vec<Run> = (runs.len()..runs.len() + LONG_RUNNING)
        .map(|number| Run { number, started: created(0) - SignedDuration::from_secs(number as i64), open: true })
        .collect();
    say(format_args!("{INDICES} indices of {EACH} documents, {LONG_RUNNING} of open runs beside"));
    let database = Database::of(&[&runs[..], &long[..]].concat())?;
    for (place, runs) in runs.chunks(EACH).enumerate() {
        let (index, write) = (engine.index(place + 1), place + 1 == INDICES);
        engine.create(&index, Some(created(place)), &json!({&engine.alias: {"is_write_index": write}}))?;
        load(&engine, &index, runs)?;
    }
    load(&engine, &engine.index(INDICES), &long)?;

    let sexton = Sexton::new(&engine, &database)?;
    let first = reconcile(&sexton)?;
    say(format_args!("first: {:.1} s with {:.0} MB", first.seconds, megabytes(first.peak)));
    let mut steady = Vec::new();
    for round in 1..=ROUNDS {
        let took = reconcile(&sexton)?;
        say(format_args!("round {round}: {:.1} s with {:.0} MB", took.seconds, megabytes(took.peak)));
        steady.push(took);
    }
    let documents = engine.count(&engine.alias)?;
    ensure!(documents == (INDICES * EACH + LONG_RUNNING) as u64, "{documents} documents are left");
    figures.below("reconcile-nothing", median(steady.iter().map(|took| took.seconds)), 5.0, "s");
    figures.known("reconcile-first", first.seconds, "s");
    let peak = steady.iter().chain([&first]).map(|took| took.peak).max().unwrap_or(0);
    figures.below("reconcile-memory", megabytes(peak), 100.0, "MB");
    Ok(())
}

fn reconcile(sexton: &Sexton) -> Result<Took> {
    let took = sexton.reconcile()?;
    ensure!(took.said.contains("unchanged"), "there was something to do:\n{}", took.said);
    Ok(took)
}
