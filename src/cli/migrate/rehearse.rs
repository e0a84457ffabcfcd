use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{NamedArgs, check, output, progress, signals};
use crate::backup::BackupId;
use crate::cli::Global;
use crate::cli::failures::{self, Shown};
use crate::cli::page::Page;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::migrate::rehearse::{self, Felt, Rehearsal, Rehearse, ServerLog};
use crate::units::{counted, human_bytes, took};

/// Rows of each table that is shown; `--json` has all.
const SHOWN: usize = 12;

/// `sexton migrate rehearse`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RehearseArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// The backup to rehearse on [default: the newest that a drill has proven]
    #[arg(long, value_name = "BACKUP")]
    backup: Option<BackupId>,
    /// Write a page with a time line to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Tables that are restored at once
    #[arg(long, value_name = "TABLES", default_value = "2")]
    jobs: NonZeroUsize,
    /// Leave the databases on the scratch server for a look
    #[arg(long)]
    keep: bool,
}

pub(super) async fn rehearse(site: &Site, args: &RehearseArgs, global: &Global) -> Result<Exit, Shown> {
    let migration = check(site, &args.named).await?;
    let scratch = site.config.scratch.clone().ok_or_else(|| {
        Failure::new(Kind::Config, "a rehearsal needs the section `scratch:` in the configuration")
            .with_hint("sexton.example.yaml shows every section")
    })?;
    // Before anything is done: a file that cannot be written is not found out afterwards.
    let page = args.html.as_deref().map(Page::begin).transpose()?;
    let journal = site.journal().await.map_err(Shown::of)?;
    let how = Rehearse {
        scratch: Postgres::new(scratch),
        backup: args.backup.clone(),
        jobs: args.jobs.get(),
        keep: args.keep,
    };
    let ctx = Context { cancel: signals::stop_token(), progress: progress::sink(global.quiet), ..Context::plain() };
    let rehearsal = rehearse::rehearse(&migration, &journal, &site.world(), &how, &ctx).await.map_err(Shown::of)?;
    if let Some(page) = page {
        page.write(&rehearse::html(&rehearsal))?;
    }
    if args.named.json {
        output::json(&rehearsal);
    } else {
        show(&rehearsal);
    }
    if let Err(failure) = rehearsal.verdict() {
        failures::tell(&failure);
        return Ok(Exit::of(failure.kind));
    }
    Ok(Exit::Done)
}

fn show(rehearsal: &Rehearsal) {
    let bytes = |bytes: i64| human_bytes(bytes.unsigned_abs());
    output::text(format_args!(
        "{} on backup {} ({}, restored in {}): {}",
        rehearsal.migration,
        rehearsal.backup,
        bytes(rehearsal.copy_bytes),
        took(rehearsal.restored_milliseconds),
        if rehearsal.passed { "passed" } else { "failed" }
    ));
    output::text(format_args!("window to expect in production: {}\n", took(rehearsal.window_milliseconds)));
    let steps = rehearsal.steps.iter().map(|step| {
        let rewritten = step.cost.rewrites.iter().filter(|one| one.kind == "table").map(|one| one.relation.clone());
        vec![
            step.stage.clone(),
            step.step.clone(),
            took(step.milliseconds),
            took(step.expected_milliseconds),
            bytes(step.cost.wal_bytes),
            rewritten.collect::<Vec<_>>().join(", "),
        ]
    });
    output::text(output::table(&["stage", "step", "took", "expected", "WAL", "tables written anew"], steps.collect()));
    let mut locks: Vec<_> = rehearsal.locks.iter().collect();
    locks.sort_by_key(|held| std::cmp::Reverse((held.keeps_writers_waiting(), held.milliseconds)));
    if !locks.is_empty() {
        let rows = locks.iter().take(SHOWN).map(|held| {
            let writers = if held.keeps_writers_waiting() { "wait" } else { "go on" };
            vec![held.relation.clone(), held.mode.clone(), took(held.milliseconds), writers.to_owned()]
        });
        output::text("");
        output::text(output::table(&["locked", "mode", "held", "writers"], rows.collect()));
        if locks.len() > SHOWN {
            output::text(format_args!("and {} more; --json has all", locks.len() - SHOWN));
        }
    }
    show_log(&rehearsal.server_log);
    output::text(format_args!("\n{}", felt_in_all(&rehearsal.felt)));
    let felt = rehearsal.felt.iter().filter(|felt| felt.slow > 0 || felt.errors > 0);
    let rows: Vec<Vec<String>> = felt
        .map(|felt| {
            vec![felt.table.clone(), took(felt.longest_milliseconds), felt.slow.to_string(), felt.errors.to_string()]
        })
        .collect();
    if !rows.is_empty() {
        output::text("");
        output::text(output::table(&["the load waited on", "longest", "over 100 ms", "refused"], rows));
    }
    if !rehearsal.skipped.is_empty() {
        let names: Vec<&str> = rehearsal.skipped.iter().map(|skipped| skipped.step.as_str()).collect();
        output::text(format_args!("\nnot rehearsed: {}", names.join(", ")));
    }
}

/// What the load felt, in a line: that nothing waited is worth as much as what did.
fn felt_in_all(felt: &[Felt]) -> String {
    let Some(longest) = felt.iter().max_by_key(|felt| felt.longest_milliseconds) else {
        return "the load had nothing to read or write: no table has rows".to_owned();
    };
    let sum = |part: fn(&Felt) -> u64| felt.iter().map(part).sum::<u64>();
    let (operations, slow, errors) = (sum(|felt| felt.operations), sum(|felt| felt.slow), sum(|felt| felt.errors));
    format!(
        "the load: {} on {}, {slow} over 100 ms, {errors} refused; the longest waited {} on {}",
        counted(operations, "operation", "operations"),
        counted(felt.len(), "table", "tables"),
        took(longest.longest_milliseconds),
        longest.table
    )
}

/// What the server's own log says of the waits, or why nobody asked it.
fn show_log(log: &ServerLog) {
    output::text("");
    match &log.not_read {
        Some(why) => output::text(format_args!("the server's log was not read: {why}")),
        None if log.waits.is_empty() => output::text("the server's log: nobody waited for a lock"),
        None => {
            let rows = log.waits.iter().take(SHOWN).map(|wait| {
                let (relation, mode, who) = (wait.relation.clone(), wait.mode.clone(), wait.waiter().to_owned());
                vec![relation, mode, who, wait.waits.to_string(), took(wait.longest_milliseconds)]
            });
            output::text(output::table(
                &["the server logged waits for", "mode", "who", "waits", "longest"],
                rows.collect(),
            ));
        }
    }
    if !log.statements.is_empty() {
        let rows = log.statements.iter().take(SHOWN).map(|one| vec![took(one.milliseconds), one.statement.clone()]);
        output::text("");
        output::text(output::table(&["the server says it took", "statement"], rows.collect()));
    }
    for note in &log.notes {
        output::text(format_args!("  note: {note}"));
    }
}
