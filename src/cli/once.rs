use std::time::Duration;

use clap::Args;

use super::failures::{self, Shown};
use super::plan::{self, JobPlan};
use super::{Global, args, output, progress, signals};
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::{Finished, Request};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::job::JobName;
use crate::retention::Consent;
use crate::units::Span;

/// `sexton once`.
#[derive(Debug, Args)]
pub(super) struct OnceArgs {
    /// One job, or all of them in this order
    #[arg(value_parser = args::job_or_all(), value_name = "JOB|all")]
    job: args::Which,
    /// Show what would be done and write nothing anywhere; exits 2 when there is something
    #[arg(long)]
    dry_run: bool,
    /// With retention or overdue: look at every closed run afterwards, and say of each namespace whether it holds;
    /// exits 3 when one does not
    #[arg(long, conflicts_with = "dry_run")]
    prove: bool,
    /// With retention or all: agree to retentions that become shorter, which make closed runs deletable; `--dry-run`
    /// shows how many
    #[arg(long)]
    yes: bool,
    /// How long to wait for another run of the same job to end
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Span,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn once(site: Site, args: &OnceArgs, global: &Global) -> Result<Exit, Shown> {
    let only = args.job.only();
    if args.prove && !matches!(only, Some(JobName::Retention | JobName::Overdue)) {
        let failure = Failure::new(Kind::Usage, "`--prove` is about retention: it goes with `retention` or `overdue`");
        return Err(failure.with_hint("sexton once retention --prove").into());
    }
    if args.yes && !matches!(only, None | Some(JobName::Retention)) {
        let failure = Failure::new(Kind::Usage, "`--yes` is about retention: it goes with `retention` or `all`");
        return Err(failure.with_hint("sexton once retention --yes").into());
    }
    let site = site.with_consent(if args.yes { Consent::Given } else { Consent::Policy });
    let stop = signals::stop_token();
    let jobs = site.configured(only);
    if args.dry_run {
        return Ok(dry_run(&jobs, args.json, Context { cancel: stop, ..Context::plain() }).await);
    }
    let runner = site.runner().await.map_err(Shown::of)?;
    let wanted = jobs.len();
    let mut results = Vec::new();
    for job in jobs {
        if stop.is_cancelled() {
            break;
        }
        let request = Request {
            trigger: Trigger::Cli,
            by: None,
            deadline: site.policies.schedule.deadline(job.name()).into(),
            patience: Duration::from(args.wait),
            cancel: stop.clone(),
            progress: progress::sink(global.quiet),
        };
        // One job's failure does not keep the others from running; the first one that did not end well decides
        // the exit code.
        let finished = runner.run(&*job, &request).await.map_err(Shown::of)?;
        if !args.json {
            show(&finished);
        }
        results.push(finished);
    }
    let proof = match args.prove && !stop.is_cancelled() {
        true => Some(site.prove(&Context { cancel: stop.clone(), ..Context::plain() }).await),
        false => None,
    };
    if args.json {
        let mut said = serde_json::json!({ "runs": results });
        if let Some(proof) = &proof {
            said["proof"] = serde_json::json!(proof.as_ref().ok());
        }
        output::json(&said);
    }
    let proven = match &proof {
        None => Exit::Done,
        Some(Ok(proofs)) => {
            if !args.json {
                super::audit::show_proof(proofs);
            }
            if proofs.iter().all(|proof| proof.holds) { Exit::Done } else { Exit::VerificationFailed }
        }
        Some(Err(failure)) => {
            failures::tell(failure);
            Exit::of(failure.kind)
        }
    };
    runner.deliver(&stop).await;
    // Jobs that a signal left out did not run: whatever the others came to, that is no success.
    Ok(match worst(&results) {
        Exit::Done if results.len() < wanted => Exit::of(Kind::Cancelled),
        Exit::Done => proven,
        exit => exit,
    })
}

/// Shows the one run of a verb that makes one, and gives its exit code.
pub(super) fn conclude(finished: &Finished, json: bool) -> Exit {
    if json {
        output::json(&serde_json::json!({ "runs": [finished] }));
    } else {
        show(finished);
    }
    finished.error.as_ref().map_or(Exit::Done, |failure| Exit::of(failure.kind))
}

/// Shows what the jobs would do. A job that cannot be planned does not keep the others from being shown.
pub(super) async fn dry_run(jobs: &[std::sync::Arc<dyn crate::job::Job>], json: bool, ctx: Context) -> Exit {
    let mut plans = Vec::new();
    for job in jobs {
        // Planning writes nothing, so it may be dropped anywhere.
        let Some(planned) = ctx.cancel.run_until_cancelled(job.plan(&ctx)).await else {
            plans.push(JobPlan::of(job.name(), Err(Failure::new(Kind::Cancelled, "it was asked to stop"))));
            break;
        };
        plans.push(JobPlan::of(job.name(), planned.map(|planned| planned.preview())));
    }
    plan::show(&plans, json)
}

fn show(finished: &Finished) {
    let what = finished.summary.as_deref().unwrap_or("");
    output::text(format_args!(
        "{}: {}{}{what}",
        finished.job,
        finished.outcome.as_str(),
        if what.is_empty() { "" } else { ", " }
    ));
    if let Some(plan) = finished.plan.as_ref().filter(|plan| !plan.is_empty() || !plan.notes.is_empty()) {
        // That there was nothing to do is the outcome; it is not said twice.
        output::text(output::rest_of_plan(plan));
    }
    if let Some(error) = &finished.error {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{}", failures::render(error));
    }
}

/// The exit code of several runs: that of the first one that did not end well.
fn worst(results: &[Finished]) -> Exit {
    results.iter().find_map(|r| r.error.as_ref()).map_or(Exit::Done, |failure| Exit::of(failure.kind))
}
