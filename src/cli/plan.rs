use clap::Args;
use serde::Serialize;

use super::failures::{self, Shown};
use super::{args, output};
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::job::JobName;
use crate::plan::Plan;
use crate::units::counted;

/// `sexton plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Only this job
    #[arg(value_parser = args::job_name(), value_name = "JOB")]
    job: Option<JobName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One job's part of the answer; the JSON shape is documented in docs/json.md.
#[derive(Debug, Serialize)]
pub(super) struct JobPlan {
    job: JobName,
    digest: Option<String>,
    plan: Option<Plan>,
    error: Option<Failure>,
}

impl JobPlan {
    /// What a job would do, or why it could not be told.
    pub(super) fn of(job: JobName, result: Result<Plan, Failure>) -> Self {
        let (plan, error) = match result {
            Ok(plan) => (Some(plan), None),
            Err(error) => (None, Some(error)),
        };
        Self { job, digest: plan.as_ref().map(Plan::digest), plan, error }
    }
}

pub(super) async fn plan(site: Site, args: &PlanArgs) -> Result<Exit, Shown> {
    let ctx = Context::plain();
    let mut plans = Vec::new();
    for job in site.configured(args.job) {
        plans.push(JobPlan::of(job.name(), job.overview(&ctx).await));
    }
    Ok(show(&plans, args.json))
}

/// Shows plans that nobody executes, and gives their exit code: that of the first job that could not be planned, else
/// whether there is something to do.
pub(super) fn show(plans: &[JobPlan], json: bool) -> Exit {
    let changes: usize = plans.iter().filter_map(|p| p.plan.as_ref()).map(|p| p.changes.len()).sum();
    if json {
        output::json(&serde_json::json!({ "dry_run": true, "plans": plans, "changes": changes }));
    } else {
        for part in plans {
            match (&part.plan, &part.error) {
                (Some(plan), _) => {
                    output::text(part.job);
                    output::text(output::plan(plan));
                }
                // Standard output is for plans; what could not be planned is told where errors are.
                (None, Some(error)) if plans.len() > 1 => failures::tell_of(part.job, error),
                (None, Some(error)) => failures::tell(error),
                (None, None) => {}
            }
        }
        let failed = plans.iter().filter(|p| p.error.is_some()).count();
        let left_out = if failed == 0 { String::new() } else { format!(", {failed} of {} not planned", plans.len()) };
        let summary = match changes {
            0 if failed > 0 => "no change in the jobs that could be planned".to_owned(),
            n => said_of(n),
        };
        if failed == 0 || failed < plans.len() {
            output::text(format_args!("\n{summary}{left_out}"));
        }
    }
    exit_of(plans).0
}

/// How many changes, in words.
pub(super) fn said_of(changes: usize) -> String {
    match changes {
        0 => "nothing to do".to_owned(),
        n => counted(n, "change", "changes"),
    }
}

/// The exit code of plans, and how many changes are in them.
pub(super) fn exit_of(plans: &[JobPlan]) -> (Exit, usize) {
    let changes: usize = plans.iter().filter_map(|p| p.plan.as_ref()).map(|p| p.changes.len()).sum();
    let exit = match (plans.iter().find_map(|p| p.error.as_ref()), changes) {
        (Some(failure), _) => Exit::of(failure.kind),
        (None, 0) => Exit::Done,
        (None, _) => Exit::ChangesPresent,
    };
    (exit, changes)
}
