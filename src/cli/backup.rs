mod cat;
mod compare;
mod preview;

use std::collections::HashMap;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::args;
use super::failures::Shown;
use super::keygen::{KeygenArgs, keygen};
use super::{Global, backup_store, output, progress, signals};
use crate::backup::store::{self, Store};
use crate::backup::{self, Chunks, Listed, Manifest, Target};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::units::{counted, human_bytes, took};

/// `sexton backup`. Making one is a job: `sexton once backup`.
#[derive(Debug, Subcommand)]
pub(super) enum BackupVerb {
    /// List the backups in the store, newest first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a backup holds
    Show {
        /// Its identifier, or `latest`
        #[arg(default_value = "latest", value_name = "BACKUP")]
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every chunk of a backup and check it; exits 3 when something is wrong, 4 when it could not be told
    Verify {
        /// Its identifier, or `latest`
        #[arg(default_value = "latest", value_name = "BACKUP")]
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at every chunk of all backups; exits 3 when something is wrong, 4 when it could not be told
    Check(backup_store::CheckArgs),
    /// What the store holds and what each backup costs
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore a database into an empty one and compare every table
    Restore(RestoreArgs),
    /// Compare a database with a backup or with another database; exits 3 when they differ, 4 when it could not be told
    Compare(compare::CompareArgs),
    /// Write the rows of one table to standard output, without a database server
    Cat(cat::CatArgs),
    /// Make a key pair for encrypted backups and print its public key; whoever loses the secret one loses the backups
    Keygen(KeygenArgs),
}

/// `sexton backup restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup's identifier, or `latest`
    #[arg(default_value = "latest", value_name = "BACKUP")]
    id: String,
    /// Which of the backup's databases [default: the one under postgres.databases.main]
    #[arg(long, value_name = "DATABASE", value_parser = args::database)]
    database: Option<String>,
    /// The database to restore into; it must exist and be empty
    #[arg(long, value_name = "DATABASE", value_parser = args::database)]
    into: String,
    /// Restore on the server under `scratch:` in the configuration instead of the one under `postgres:`
    #[arg(long)]
    scratch: bool,
    /// Only this table with its rows, indexes and own constraints; its schema must be empty or missing in the target
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Show what would be restored and how long that took before, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Connections that load at once
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn backup(site: Site, verb: &BackupVerb, global: &Global) -> Result<Exit, Shown> {
    let ctx = Context { cancel: signals::stop_token(), progress: progress::sink(global.quiet), ..Context::plain() };
    let store = match &site.config.store {
        Some(settings) => Some(store::open(settings).await.map_err(Shown::of)?),
        None => None,
    };
    let store = match (store, verb) {
        (Some(store), _) => store,
        // Two databases need no store.
        (None, BackupVerb::Compare(args)) => return compare::compare(&site, None, args, &ctx).await,
        (None, _) => return Err(no_store()),
    };
    match verb {
        BackupVerb::List { json } => until_stopped(&ctx, list(&*store, *json)).await,
        BackupVerb::Show { id, json } => until_stopped(&ctx, show(&*store, id, *json)).await,
        BackupVerb::Verify { id, json } => verify(&site, &*store, id, *json, &ctx).await,
        BackupVerb::Check(args) => backup_store::check(&*store, &site.config.identities, args, &ctx).await,
        BackupVerb::Stats { json } => until_stopped(&ctx, backup_store::stats(&*store, *json, &ctx)).await,
        BackupVerb::Restore(args) => restore(&site, &store, args, &ctx).await,
        BackupVerb::Keygen(args) => keygen(args),
        BackupVerb::Cat(args) => cat::cat(&site, &store, args, &ctx).await,
        BackupVerb::Compare(args) => compare::compare(&site, Some(&store), args, &ctx).await,
    }
}

fn no_store() -> Shown {
    let failure = Failure::new(Kind::Config, "no `store:` is configured");
    failure.with_hint("add one; sexton.example.yaml shows how").into()
}

/// Reading may be dropped anywhere when a signal asks for it.
async fn until_stopped(ctx: &Context, work: impl Future<Output = Result<Exit, Shown>>) -> Result<Exit, Shown> {
    let stopped = || Err(Failure::new(Kind::Cancelled, "it was asked to stop").into());
    ctx.cancel.run_until_cancelled(work).await.unwrap_or_else(stopped)
}

async fn list(store: &dyn Store, json: bool) -> Result<Exit, Shown> {
    let listed = backup::list(store).await.map_err(Shown::of)?;
    if json {
        output::json(&serde_json::json!({ "store": store.location(), "backups": listed }));
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        output::text(format_args!("no backups in {}", store.location()));
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let rows = listed.iter().map(|listed| match listed {
        Listed::Readable(s) => vec![
            s.id.to_string(),
            output::when(s.started, now),
            s.databases.join(", "),
            s.tables.to_string(),
            s.rows.to_string(),
            human_bytes(s.raw_bytes),
            human_bytes(s.stored_bytes),
            proven(s.proven, now),
        ],
        Listed::Unreadable { id, reason } => vec![id.to_string(), format!("UNREADABLE: {reason}")],
    });
    let header = ["backup", "taken", "databases", "tables", "rows", "size", "stored", "proven"];
    output::text(output::table(&header, rows.collect()));
    Ok(Exit::Done)
}

/// When a backup was proven; `-` when it was not.
pub(super) fn proven(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "-".to_owned(), |at| output::when(at, now))
}

/// Where chunks are, and what opens them.
fn chunks(site: &Site, store: &Arc<dyn Store>) -> Chunks {
    Chunks { store: Arc::clone(store), identities: Arc::clone(&site.config.identities) }
}

async fn show(store: &dyn Store, id: &str, json: bool) -> Result<Exit, Shown> {
    let manifest = backup::show(store, id).await.map_err(Shown::of)?;
    if json {
        output::json(&manifest);
        return Ok(Exit::Done);
    }
    let proof = backup::proofs(store).await.map_err(Shown::of)?.get(&manifest.id).map(|proof| proof.at);
    output::text(format_args!("backup {} in {}", manifest.id, store.location()));
    output::text(heading(&manifest, proof, Timestamp::now()));
    for database in &manifest.databases {
        let version = |number: u32| format!("{}.{}", number / 10_000, number % 10_000);
        let mut about = vec![format!("PostgreSQL {}", version(database.server_version))];
        about.extend(database.schema_versions.iter().map(|schema| format!("Temporal schema {}", schema.version)));
        output::text(format_args!("\ndatabase {} ({})", database.name, about.join(", ")));
        let rows = database.tables.iter().map(|table| {
            vec![
                table.name.to_string(),
                table.rows.to_string(),
                human_bytes(table.bytes),
                table.chunks.len().to_string(),
            ]
        });
        output::text(output::table(&["table", "rows", "bytes", "chunks"], rows.collect()));
    }
    Ok(Exit::Done)
}

/// What is to be known of a backup as a whole, a line each.
fn heading(manifest: &Manifest, proof: Option<Timestamp>, now: Timestamp) -> String {
    let about = backup::summary(manifest, proof);
    let took = took(about.finished.duration_since(about.started).unsigned_abs().as_millis().try_into().unwrap_or(0));
    let chunks: HashMap<_, _> = manifest.chunks().map(|(.., chunk)| (chunk.name(), chunk.sealed.is_some())).collect();
    let (all, sealed) = (chunks.len(), chunks.values().filter(|sealed| **sealed).count());
    let encrypted = match sealed {
        0 => "no".to_owned(),
        _ if sealed == all => "yes".to_owned(),
        _ => format!("{sealed} of {}; the others are from earlier backups", counted(all, "chunk", "chunks")),
    };
    [
        format!("taken      {}, in {took}", output::when(about.started, now)),
        format!(
            "holds      {} in {}, {}, {} in the store",
            counted(about.rows, "row", "rows"),
            counted(about.tables, "table", "tables"),
            human_bytes(about.raw_bytes),
            human_bytes(about.stored_bytes)
        ),
        format!("encrypted  {encrypted}"),
        format!("proven     {}", proof.map_or_else(|| "no".to_owned(), |at| output::when(at, now))),
    ]
    .join("\n")
}

async fn verify(site: &Site, store: &dyn Store, id: &str, json: bool, ctx: &Context) -> Result<Exit, Shown> {
    let manifest = backup::show(store, id).await.map_err(Shown::of)?;
    let report = backup::verify(store, &manifest, &site.config.identities, ctx).await.map_err(Shown::of)?;
    if json {
        output::json(&report);
    } else {
        output::text(format_args!(
            "backup {}: {} chunks good ({}), {} bad, {} unread",
            report.id,
            report.good_chunks,
            human_bytes(report.stored_bytes),
            report.bad.len(),
            report.unread.len()
        ));
    }
    report.verdict().map_err(Shown::of)?;
    Ok(Exit::Done)
}

async fn restore(site: &Site, store: &Arc<dyn Store>, args: &RestoreArgs, ctx: &Context) -> Result<Exit, Shown> {
    let manifest = backup::show(&**store, &args.id).await.map_err(Shown::of)?;
    let database = args.database.as_ref().unwrap_or(&site.config.databases.main);
    let target = Target { postgres: server(site, args.scratch)?, database: args.into.clone(), jobs: args.jobs.into() };
    let from = chunks(site, store);
    if args.dry_run {
        return preview::preview(site, &from, &manifest, database, &target, args, ctx).await;
    }
    let report = match &args.table {
        Some(table) => backup::restore_table(&from, &manifest, database, table, &target, ctx).await,
        None => backup::restore(&from, &manifest, database, &target, ctx).await,
    };
    let report = report.map_err(Shown::of)?;
    if args.json {
        output::json(&report);
    } else {
        output::text(format_args!(
            "backup {}: database {database} restored into {} at {}: {} tables, {} rows, {} in {}",
            report.id,
            report.target,
            target.postgres.address(),
            report.tables.len(),
            report.rows,
            human_bytes(report.bytes),
            took(report.milliseconds),
        ));
        for what in &report.left_out {
            output::text(format_args!("left out: {what}"));
        }
    }
    report.verdict().map_err(Shown::of)?;
    if !args.json {
        output::text("every table holds what the backup says");
    }
    Ok(Exit::Done)
}

fn server(site: &Site, scratch: bool) -> Result<Postgres, Shown> {
    match (&site.config.scratch, scratch) {
        (_, false) => Ok(site.postgres()),
        (Some(settings), true) => Ok(Postgres::new(settings.clone())),
        (None, true) => {
            let failure = Failure::new(Kind::Config, "no `scratch:` server is configured");
            Err(failure.with_hint("add one, or leave --scratch out").into())
        }
    }
}
