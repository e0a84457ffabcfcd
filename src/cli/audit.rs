use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::failures::Shown;
use super::page::Page;
use super::{Global, once, output, progress, signals};
use crate::context::Context;
use crate::daemon::jobs::{AuditJob, Site};
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::Request;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::job::JobName;
use crate::retention::audit::{self, Audit, Example, NamespaceSum, Proof};
use crate::units::{Span, counted, human_bytes};

/// Rows of each table that is shown; `--json` has more.
const SHOWN: usize = 10;

/// `sexton audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Write a page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Do not note the audit in the ledger; later ones then cannot say how the database has grown since
    #[arg(long)]
    no_ledger: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn audit(site: Site, args: &AuditArgs, global: &Global) -> Result<Exit, Shown> {
    // Before anything is read: a file that cannot be written is not found out afterwards.
    let page = args.html.as_deref().map(Page::begin).transpose()?;
    let cancel = signals::stop_token();
    let progress = progress::sink(global.quiet);
    let mut runs = None;
    let audit = if args.no_ledger {
        site.audit(&Context { now: Timestamp::now(), cancel: cancel.clone(), progress }).await?
    } else {
        let deadline: Duration = site.policies.schedule.deadline(JobName::Audit).into();
        let request = Request {
            trigger: Trigger::Cli,
            by: None,
            deadline,
            patience: Duration::ZERO,
            cancel: cancel.clone(),
            progress,
        };
        let runner = site.runner().await.map_err(Shown::of)?;
        let finished = runner.run(&AuditJob::new(site), &request).await.map_err(Shown::of)?;
        let Some(report) = finished.report.clone().filter(|_| finished.error.is_none()) else {
            let exit = once::conclude(&finished, args.json);
            runner.deliver(&cancel).await;
            return Ok(exit);
        };
        runs = Some(runner);
        serde_json::from_value(report)
            .map_err(|error| Failure::new(Kind::Failed, format!("reading the audit: {error}")))?
    };
    if args.json {
        output::json(&audit);
    } else {
        show(&audit);
    }
    if let Some(page) = page {
        page.write(&audit::html(&audit))?;
    }
    if let Some(runner) = runs {
        runner.deliver(&cancel).await;
    }
    Ok(Exit::Done)
}

fn show(audit: &Audit) {
    let now = audit.at;
    let schema = audit.schema.as_deref().unwrap_or("of unknown version");
    output::text(format_args!(
        "{}: {} in {}, schema {schema}, {}",
        audit.database,
        human_bytes(audit.bytes),
        counted(audit.runs, "run", "runs"),
        counted(u64::try_from(audit.shards).unwrap_or_default(), "history shard", "history shards"),
    ));
    let header = ["namespace", "retention", "open", "closed", "histories", "rows", "oldest closed", "overdue"];
    let rows = audit.namespaces.iter().map(|namespace| of_namespace(namespace, now)).collect();
    section("", &header, rows);
    let types = audit.types().into_iter().filter(|(_, group)| !group.name.is_empty());
    let of_type = |(namespace, group): (&str, &audit::Group)| {
        let sum = &group.sum;
        vec![
            group.name.clone(),
            namespace.to_owned(),
            sum.runs.to_string(),
            human_bytes(sum.history_bytes),
            human_bytes(sum.history_bytes.checked_div(sum.runs).unwrap_or(0)),
        ]
    };
    let rows = types.take(SHOWN).map(of_type).collect();
    section("by workflow type", &["workflow type", "namespace", "runs", "histories", "each"], rows);
    let rows = ages(audit);
    section("closed runs by age", &["age", "runs", "histories"], rows);
    examples("the largest histories", &audit.largest, now);
    examples("open for long: they have no end in sight, and so no retention", &audit.oldest_open, now);
    orphans(audit);
    tables(audit);
    for leak in &audit.leaks {
        output::text(format_args!("\n{}: {} {}", leak.table, leak.rows, leak.what));
    }
    output::text(format_args!("\n{}", growth(audit)));
    for note in &audit.notes {
        output::text(format_args!("note: {note}"));
    }
}

fn of_namespace(of: &NamespaceSum, now: Timestamp) -> Vec<String> {
    vec![
        of.namespace.clone(),
        of.retention.map_or_else(|| "?".into(), |retention| retention.to_string()),
        of.open.runs.to_string(),
        of.closed.runs.to_string(),
        human_bytes(of.open.history_bytes + of.closed.history_bytes),
        human_bytes(of.open.row_bytes + of.closed.row_bytes),
        of.oldest_closed.map_or_else(|| "-".into(), |oldest| format!("{} ago", output::distance(oldest, now))),
        of.overdue.runs.to_string(),
    ]
}

fn ages(audit: &Audit) -> Vec<Vec<String>> {
    let row = |of: audit::Group| vec![of.name, of.sum.runs.to_string(), human_bytes(of.sum.history_bytes)];
    audit.ages().into_iter().map(row).collect()
}

fn examples(title: &str, examples: &[Example], now: Timestamp) {
    let row = |example: &Example| {
        let age =
            |at: Option<Timestamp>| at.map_or_else(|| "-".into(), |at| format!("{} ago", output::distance(at, now)));
        vec![
            human_bytes(example.history_bytes),
            example.namespace.clone(),
            example.workflow_type.clone(),
            example.workflow.clone(),
            example.run.to_string(),
            age(example.started),
            age(example.closed),
        ]
    };
    let header = ["history", "namespace", "type", "workflow", "run", "started", "closed"];
    section(title, &header, examples.iter().take(SHOWN).map(row).collect());
}

fn orphans(audit: &Audit) {
    let found = &audit.orphans;
    output::text(format_args!(
        "\norphaned histories: {} branches without a run ({} nodes, {}), {} without a row ({} nodes, {}), {} too young to tell",
        found.branches,
        found.nodes,
        human_bytes(found.bytes),
        found.leftover_branches,
        found.leftover_nodes,
        human_bytes(found.leftover_bytes),
        found.young
    ));
    for (number, what) in [
        (found.not_measured, "of these branches are not in the figures of nodes and bytes"),
        (found.unreadable, "branches cannot be read"),
        (found.lost, "histories of runs have lost a row of history_tree; look at them before anything else"),
        (found.empty, "runs have no history"),
    ] {
        if number > 0 {
            output::text(format_args!("  {number} {what}"));
        }
    }
}

fn tables(audit: &Audit) {
    let row = |table: &audit::TableReport| {
        let facts = &table.facts;
        let vacuumed =
            facts.vacuumed.map_or_else(|| "never".into(), |at| format!("{} ago", output::distance(at, audit.at)));
        vec![
            facts.name.clone(),
            human_bytes(facts.bytes),
            human_bytes(facts.index_bytes),
            human_bytes(facts.toast_bytes),
            facts.rows.to_string(),
            facts.dead.to_string(),
            vacuumed,
        ]
    };
    let header = ["table", "size", "indexes", "toast", "rows", "dead", "vacuumed"];
    section("tables", &header, audit.tables.iter().take(SHOWN).map(row).collect());
    for table in &audit.tables {
        if let Some(advice) = &table.advice {
            output::text(format_args!("  {}: {advice}", table.facts.name));
        }
    }
}

fn growth(audit: &Audit) -> String {
    let Some(growth) = &audit.growth else {
        return "growth: not known before a second audit, some hours after the first".into();
    };
    let since = output::instant(growth.since);
    let rate = human_bytes(growth.bytes_per_day.unsigned_abs());
    let lasts = growth
        .disk_lasts_days
        .map_or_else(String::new, |days| format!("; the disk lasts {}", counted(days, "day", "days")));
    let way = if growth.bytes_per_day < 0 { "shrinks by" } else { "grows by" };
    format!("growth: {way} {rate} a day since {since}{lasts}")
}

fn section(title: &str, header: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let title = if title.is_empty() { String::new() } else { format!("{title}\n") };
    output::text(format_args!("\n{title}{}", output::table(header, rows)));
}

/// A line for each namespace: whether its retention holds.
pub(super) fn show_proof(proofs: &[Proof]) {
    let now = Timestamp::now();
    let row = |proof: &Proof| {
        let verdict = match (proof.holds, proof.retention) {
            (true, _) => "holds".to_owned(),
            (false, None) => "its retention is not known".to_owned(),
            (false, Some(_)) => format!("DOES NOT HOLD: {} overdue", counted(proof.overdue, "run", "runs")),
        };
        vec![
            proof.namespace.clone(),
            proof.retention.map_or_else(|| "?".into(), |retention: Span| retention.to_string()),
            proof.closed.to_string(),
            proof.oldest_closed.map_or_else(|| "-".into(), |at| format!("{} ago", output::distance(at, now))),
            verdict,
        ]
    };
    let header = ["namespace", "retention", "closed", "oldest closed", "verdict"];
    section("", &header, proofs.iter().map(row).collect());
}
