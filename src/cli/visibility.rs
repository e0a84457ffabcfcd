use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::failures::{self, Shown};
use super::{Global, once, output, progress, signals};
use crate::context::Context;
use crate::daemon::jobs::{RebuildJob, Site};
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::Request;
use crate::exit::Exit;
use crate::job::Job;
use crate::units::human_bytes;
use crate::visibility::{Explanation, Line};

/// How many requests to Temporal a rebuild has under way at one time.
const LANES: u32 = 8;

/// A rebuild of a large cluster takes hours; it is stopped by a signal, and goes on where it was.
const REBUILD_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// `sexton visibility`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct VisibilityArgs {
    #[command(subcommand)]
    verb: Option<VisibilityVerb>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum VisibilityVerb {
    /// Bring a lost index back: Temporal writes every document again that is missing
    Rebuild(RebuildArgs),
}

/// `sexton visibility rebuild`.
#[derive(Debug, Args)]
struct RebuildArgs {
    /// Show what is missing and write nothing anywhere; exits 2 when there is something
    #[arg(long)]
    dry_run: bool,
    /// At most so many documents a second [default: as fast as Temporal answers]
    #[arg(long, value_name = "DOCUMENTS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn visibility(site: Site, args: &VisibilityArgs, global: &Global) -> Result<Exit, Shown> {
    match &args.verb {
        Some(VisibilityVerb::Rebuild(args)) => rebuild(site, args, global).await,
        None => explain(&site, args.json).await,
    }
}

async fn rebuild(site: Site, args: &RebuildArgs, global: &Global) -> Result<Exit, Shown> {
    let pause = args.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * LANES / rate);
    let cancel = signals::stop_token();
    if args.dry_run {
        let job: std::sync::Arc<dyn Job> = std::sync::Arc::new(RebuildJob::new(site, pause));
        return Ok(once::dry_run(&[job], args.json, Context { cancel, ..Context::plain() }).await);
    }
    let runner = site.runner().await.map_err(Shown::of)?;
    let request = Request {
        trigger: Trigger::Cli,
        by: None,
        deadline: REBUILD_DEADLINE,
        patience: Duration::from_secs(60),
        cancel: cancel.clone(),
        progress: progress::sink(global.quiet),
    };
    let finished = runner.run(&RebuildJob::new(site, pause), &request).await.map_err(Shown::of)?;
    let exit = once::conclude(&finished, args.json);
    runner.deliver(&cancel).await;
    Ok(exit)
}

async fn explain(site: &Site, json: bool) -> Result<Exit, Shown> {
    let ctx = Context { cancel: signals::stop_token(), ..Context::plain() };
    if site.config.search.is_none() {
        let notes = site.explain_sql_visibility(&ctx).await;
        if json {
            output::json(&serde_json::json!({ "kind": "postgresql", "notes": notes }));
        } else {
            notes.iter().for_each(output::text);
        }
        return Ok(Exit::Done);
    }
    let explanation = site.explain_visibility(&ctx).await?;
    if json {
        output::json(&explanation);
    } else {
        show(&explanation, ctx.now);
    }
    Ok(match (&explanation.refusal, &explanation.not_compared) {
        (Some(refusal), _) => Exit::of(refusal.kind),
        (None, Some(_)) => Exit::CouldNotVerify,
        (None, None) => Exit::Done,
    })
}

fn show(explanation: &Explanation, now: Timestamp) {
    let Explanation { index, kind, engine, driver, deletion, .. } = explanation;
    let rolled = driver.map_or_else(String::new, |driver| format!(", rolled by {}", word(&driver)));
    output::text(format_args!("{index}: {kind} on {engine}{rolled}, deletion {}", word(deletion)));
    if !explanation.indices.is_empty() {
        let header = ["index", "docs", "open", "stale", "ghosts", "size", "created", "rolled", "deleted", ""];
        let rows = explanation.indices.iter().map(|line| row(line, now)).collect();
        output::text(format_args!("\n{}", output::table(&header, rows)));
    }
    if let Some(found) = explanation.documents {
        output::text(format_args!(
            "\ndocuments: {} missing, {} outdated; compared {} documents and {} runs",
            found.missing, found.outdated, found.documents, found.executions
        ));
    }
    if let Some(plan) = explanation.plan.as_ref().filter(|plan| !plan.is_empty() || !plan.notes.is_empty()) {
        output::text(format_args!("\nthe job `visibility` would now:\n{}", output::plan(plan)));
    }
    if !explanation.next.is_empty() {
        output::text("\nnext:");
    }
    for event in &explanation.next {
        let at = event.at.map_or_else(
            || "some time".into(),
            |at| match at <= now {
                true => format!("due since {}", output::instant(at)),
                false => format!("in {} ({})", output::distance(now, at), output::instant(at)),
            },
        );
        output::text(format_args!("  {at}: {}", event.what));
    }
    for failure in explanation.refusal.iter().chain(&explanation.not_compared) {
        failures::tell(failure);
    }
}

fn row(line: &Line, now: Timestamp) -> Vec<String> {
    let number = |number: Option<u64>| number.map_or_else(|| "?".into(), |number| number.to_string());
    let ago = |at: Timestamp| format!("{} ago", output::distance(at, now));
    let deleted = match line.deleted_at {
        Some(at) if at <= now => "due".to_owned(),
        Some(at) => format!("in {}", output::distance(now, at)),
        None => "-".to_owned(),
    };
    vec![
        line.index.clone(),
        number(line.documents),
        number(line.open),
        number(line.stale),
        number(line.ghosts),
        line.bytes.map_or_else(|| "?".into(), human_bytes),
        ago(line.created),
        line.rolled.map_or_else(|| "-".into(), ago),
        deleted,
        line.stays.clone().unwrap_or_default(),
    ]
}

/// The word a value is written as in policies and JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
