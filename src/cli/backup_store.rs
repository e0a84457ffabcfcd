//! `sexton backup check` and `stats`: the store over all backups.

use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use super::backup::proven;
use super::failures::Shown;
use super::output;
use crate::backup::check::{self, Sample};
use crate::backup::seal::Identities;
use crate::backup::stats;
use crate::backup::store::Store;
use crate::context::Context;
use crate::exit::Exit;
use crate::units::{counted, human_bytes, took};

/// `sexton backup check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Read only a random share of the chunks, such as 5%; that they are there, with their size, is looked at of all
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<f64>,
    /// Choose the share as an earlier check did, which has printed its seed
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('%').parse().ok();
    let inside = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    inside.ok_or_else(|| "give a share above 0% and up to 100%, such as 5%".to_owned())
}

pub(super) async fn check(
    store: &dyn Store,
    identities: &Arc<Identities>,
    args: &CheckArgs,
    ctx: &Context,
) -> Result<Exit, Shown> {
    // Half of the digits, so that a JSON reader which knows only floating point reads it back.
    let new_seed = || uuid::Uuid::new_v4().as_u64_pair().0 >> 32;
    let sample = args.sample.map(|percent| Sample { percent, seed: args.seed.unwrap_or_else(new_seed) });
    let report = check::check(store, identities, sample, ctx).await.map_err(Shown::of)?;
    if args.json {
        output::json(&report);
    } else {
        if let Some(Sample { percent, seed }) = report.sample {
            output::text(format_args!("a sample of {percent}% was read, chosen by --seed {seed}"));
        }
        output::text(format_args!(
            "{} with {}: {} read and good ({}), {} bad, {} unread",
            counted(report.backups, "backup", "backups"),
            counted(report.chunks, "chunk", "chunks"),
            report.good_chunks,
            human_bytes(report.read_bytes),
            report.bad.len(),
            report.unread.len()
        ));
        let rows: Vec<Vec<String>> = report
            .bad
            .iter()
            .chain(&report.unread)
            .map(|found| {
                let backups: Vec<String> = found.backups.iter().map(ToString::to_string).collect();
                let chunk = found.chunk.clone().unwrap_or_else(|| "manifest".to_owned());
                vec![chunk, found.problem.clone(), found.tables.join(", "), backups.join(", ")]
            })
            .collect();
        if !rows.is_empty() {
            output::text(output::table(&["chunk", "problem", "tables", "backups"], rows));
        }
    }
    report.verdict().map_err(Shown::of)?;
    Ok(Exit::Done)
}

pub(super) async fn stats(store: &dyn Store, json: bool, ctx: &Context) -> Result<Exit, Shown> {
    let stats = stats::stats(store, ctx).await.map_err(Shown::of)?;
    if json {
        output::json(&stats);
        return Ok(Exit::Done);
    }
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"));
    let now = Timestamp::now();
    let rows = stats.backups.iter().map(|backup| {
        vec![
            backup.id.to_string(),
            human_bytes(backup.raw_bytes),
            human_bytes(backup.alone_bytes),
            human_bytes(backup.shared_bytes),
            ratio(backup.dedup_ratio),
            took(backup.milliseconds),
            format!("{}/s", human_bytes(backup.bytes_per_second)),
            proven(backup.proven, now),
        ]
    });
    let header = ["backup", "size", "alone", "shared", "ratio", "took", "rate", "proven"];
    output::text(output::table(&header, rows.collect()));
    for (id, why) in &stats.unreadable {
        output::text(format_args!("{id} UNREADABLE: {why}"));
    }
    output::text(format_args!(
        "\n{} in {}: {} of rows in {} ({}), ratio {}; {} ({}) that no backup names, {} missing",
        counted(stats.backups.len() as u64, "backup", "backups"),
        stats.store,
        human_bytes(stats.raw_bytes),
        counted(stats.chunks, "chunk", "chunks"),
        human_bytes(stats.chunk_bytes),
        ratio(stats.dedup_ratio),
        counted(stats.orphaned_chunks, "chunk", "chunks"),
        human_bytes(stats.orphaned_bytes),
        stats.missing_chunks,
    ));
    Ok(Exit::Done)
}
