//! The command line: arguments as typed, one file per verb, and the way results and errors are shown.
//!
//! Standard output is data (tables, or JSON with `--json`), standard error is talk (logs, progress, errors).

mod adopt;
mod args;
mod audit;
mod backup;
mod backup_store;
mod completions;
mod doctor;
mod failures;
mod keygen;
mod ledger;
mod man;
mod migrate;
mod once;
mod output;
mod page;
mod plan;
mod progress;
mod run;
mod signals;
mod status;
mod telemetry;
mod visibility;
mod webhooks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::clients::install_crypto_provider;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::Failure;

/// Maintenance for self-hosted Temporal on PostgreSQL: retention, visibility index, backups, migrations.
#[derive(Debug, Parser)]
#[command(name = "sexton", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = exit_codes())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What each exit code means, for the help and the manual page.
const EXIT_CODES: [(u8, &str); 9] = [
    (0, "done or nothing to do"),
    (1, "failed or refused"),
    (2, "changes present"),
    (3, "verification failed"),
    (4, "could not verify"),
    (5, "stale plan or approval"),
    (6, "failed and compensated"),
    (64, "usage"),
    (78, "config or policy error"),
];

fn exit_codes() -> String {
    format!("Exit codes: {}", EXIT_CODES.map(|(code, meaning)| format!("{code} {meaning}")).join(", "))
}

/// Options of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The configuration file [default: ./sexton.yaml, else /etc/sexton/sexton.yaml]
    #[arg(long, short, global = true, env = "SEXTON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How logs are written to standard error
    #[arg(long, global = true, env = "SEXTON_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "auto")]
    log_format: telemetry::Format,
    /// More logs; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Only errors, no progress
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon: every job on its schedule, until SIGTERM
    Run,
    /// Run one job, or all of them, once; what a CronJob calls
    Once(once::OnceArgs),
    /// Show what the jobs would change now, and change nothing
    Plan(plan::PlanArgs),
    /// Show the last runs and when each job is due next
    Status(status::StatusArgs),
    /// Check every connection, version and privilege, and say what is missing
    Doctor(doctor::DoctorArgs),
    /// Show what fills Temporal's tables: namespaces, types, ages, what is overdue, orphaned, growing
    Audit(audit::AuditArgs),
    /// List, show, verify and restore backups
    #[command(subcommand)]
    Backup(backup::BackupVerb),
    /// Show the visibility index: each of its indices, what is due next and why; bring a lost one back
    Visibility(visibility::VisibilityArgs),
    /// List, plan and run staged migrations
    #[command(subcommand)]
    Migrate(migrate::MigrateVerb),
    /// Turn the live visibility index into an alias that can be rolled over
    Adopt(adopt::AdoptArgs),
    /// Lift the write block of an adoption whose process died; started by `adopt` itself
    #[command(hide = true, name = crate::daemon::jobs::GUARD_VERB)]
    AdoptGuard(adopt::GuardArgs),
    /// Show whom runs' ends are told to, and what could not be delivered
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksVerb),
    /// sexton's own database
    #[command(subcommand)]
    Ledger(ledger::LedgerVerb),
    /// Print the manual page: `sexton man | man -l -`
    Man,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Verb {
    /// The daemon and its kin tell what they do; the others answer on standard output.
    fn is_service(&self) -> bool {
        matches!(self, Self::Run)
    }
}

/// The whole program.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too; they belong on standard output and are a success.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit;
        }
    };
    install_crypto_provider();
    telemetry::init(&cli.global, cli.verb.is_service());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failures::show(&failures::Shown::from(Failure::new(
                crate::failure::Kind::Failed,
                format!("starting the runtime: {error}"),
            )));
        }
    };
    let exit = runtime.block_on(dispatch(&cli)).unwrap_or_else(|error| failures::show(&error));
    // A blocking task that hangs must not keep the process: what it did is bounded and repeatable.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if exit != Exit::Failed && output::is_incomplete() {
        let failure = Failure::new(crate::failure::Kind::Failed, "standard output could not be written to")
            .with_hint("look whether its disk is full; what was to be done has been done");
        let shown = failures::show(&failures::Shown::from(failure));
        // What the command found out weighs more than that it could not be told.
        return if matches!(exit, Exit::Done | Exit::ChangesPresent) { shown } else { exit };
    }
    exit
}

async fn dispatch(cli: &Cli) -> Result<Exit, failures::Shown> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Run => run::run(site(global)?).await,
        Verb::Once(args) => once::once(site(global)?, args, global).await,
        Verb::Plan(args) => plan::plan(site(global)?, args).await,
        Verb::Status(args) => status::status(site(global)?, args).await,
        Verb::Doctor(args) => doctor::doctor(site(global)?, args).await,
        Verb::Audit(args) => audit::audit(site(global)?, args, global).await,
        // A key is best made where nothing else is configured.
        Verb::Backup(backup::BackupVerb::Keygen(args)) => keygen::keygen(args),
        Verb::Backup(verb) => backup::backup(site(global)?, verb, global).await,
        Verb::Visibility(args) => visibility::visibility(site(global)?, args, global).await,
        // A recipe is examined where it is written.
        Verb::Migrate(migrate::MigrateVerb::Lint(args)) => migrate::lint::run(args),
        Verb::Migrate(verb) => migrate::migrate(site(global)?, verb, global).await,
        Verb::Adopt(args) => adopt::adopt(site(global)?, args, global).await,
        Verb::AdoptGuard(args) => adopt::guard(site(global)?, args).await,
        Verb::Webhooks(verb) => webhooks::webhooks(site(global)?, verb).await,
        Verb::Ledger(verb) => ledger::ledger(site(global)?, verb).await,
        Verb::Man => man::man(),
        Verb::Completions(args) => Ok(completions::completions(args)),
    }
}

/// The configuration and policies of this invocation.
fn site(global: &Global) -> Result<Site, failures::Shown> {
    Ok(Site::load(global.config.as_deref())?)
}
