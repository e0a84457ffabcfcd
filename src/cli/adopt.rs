use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::failures::Shown;
use super::{Global, args, once, output, progress, signals};
use crate::clients::search::Search;
use crate::context::Context;
use crate::daemon::jobs::{ADOPT_DEADLINE, AdoptJob, GUARD_VERB, Site};
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::Request;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::job::Job;
use crate::units::Span;
use crate::visibility::adopt::{Method, Wanted, guard};

/// `sexton adopt`.
#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// Show what would be done and write nothing anywhere; exits 2 when there is something
    #[arg(long)]
    dry_run: bool,
    /// How long writes may be blocked; past it everything is undone
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = args::block)]
    deadline: Span,
    /// How the documents get over: by a clone, by a copy, or by what the engine can
    #[arg(long, value_enum, default_value = "auto")]
    method: MethodArg,
    /// How long to wait for a run of the job `visibility` to end
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    wait: Span,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodArg {
    Auto,
    Clone,
    Copy,
}

/// What the guard is told on its command line; everything else comes from the configuration.
#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    /// The live index
    index: String,
}

pub(super) async fn adopt(site: Site, args: &AdoptArgs, global: &Global) -> Result<Exit, Shown> {
    let method = match args.method {
        MethodArg::Auto => Method::Auto,
        MethodArg::Clone => Method::Clone,
        MethodArg::Copy => Method::Copy,
    };
    let wanted = Wanted { method, deadline: args.deadline };
    let job = AdoptJob::new(site.clone(), wanted, site.guard_command().map_err(Shown::from)?);
    let stop = signals::stop_token();
    if args.dry_run {
        let job: Arc<dyn Job> = Arc::new(job);
        return Ok(once::dry_run(&[job], args.json, Context { cancel: stop, ..Context::plain() }).await);
    }
    let runner = site.runner().await.map_err(Shown::of)?;
    let request = Request {
        trigger: Trigger::Cli,
        by: None,
        deadline: ADOPT_DEADLINE,
        patience: args.wait.into(),
        cancel: stop.clone(),
        progress: progress::sink(global.quiet),
    };
    let finished = runner.run(&job, &request).await.map_err(Shown::of)?;
    let exit = once::conclude(&finished, args.json);
    runner.deliver(&stop).await;
    Ok(exit)
}

/// The guard's process. It takes no signals: its life is bounded by the adoption's deadline and by its input.
pub(super) async fn guard(site: Site, args: &GuardArgs) -> Result<Exit, Shown> {
    let settings = site.config.search.as_ref().ok_or_else(|| {
        Shown::from(Failure::new(Kind::Config, "the guard needs the section `search:` in the configuration"))
    })?;
    let search = Search::connect(settings).await.map_err(Shown::of)?;
    let say = |word: &str| {
        output::text(word);
        let _ = std::io::stdout().flush();
    };
    let input = input().map_err(|error| {
        let message = format!("`{GUARD_VERB}` is started by `sexton adopt`, through a pipe: {error}");
        Shown::from(Failure::new(Kind::Usage, crate::failure::without_errno(&message)))
    })?;
    guard::watch(&search, &args.index, input, say).await.map_err(Shown::of)?;
    Ok(Exit::Done)
}

/// Standard input as the pipe it is: no thread is left reading from it when the guard ends.
fn input() -> std::io::Result<tokio::io::BufReader<tokio::net::unix::pipe::Receiver>> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(tokio::io::BufReader::new(tokio::net::unix::pipe::Receiver::from_owned_fd(descriptor)?))
}
