use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::failures::Shown;
use super::output;
use crate::daemon::LEADER;
use crate::daemon::jobs::Site;
use crate::daemon::ledger::Run;
use crate::exit::Exit;
use crate::job::JobName;

/// `sexton status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// How many of the latest runs to show
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A job's line; the JSON shape is documented in docs/json.md.
#[derive(Debug, Serialize)]
struct JobStatus {
    job: JobName,
    schedule: Option<String>,
    next: Option<Timestamp>,
    last: Option<Run>,
}

pub(super) async fn status(site: Site, args: &StatusArgs) -> Result<Exit, Shown> {
    let ledger = site.ledger().await.map_err(Shown::of)?;
    let now = Timestamp::now();
    let mut jobs = Vec::new();
    for job in JobName::ALL {
        let cron = site.policies.schedule.jobs.get(&job).and_then(|schedule| schedule.cron.as_ref());
        jobs.push(JobStatus {
            job,
            schedule: cron.map(ToString::to_string),
            next: cron.and_then(|cron| cron.next_after(now)),
            last: ledger.recent(Some(job), 1).await.map_err(Shown::of)?.pop(),
        });
    }
    let led = ledger.is_locked(LEADER).await.map_err(Shown::of)?;
    let runs = ledger.recent(None, args.runs).await.map_err(Shown::of)?;
    if args.json {
        output::json(&serde_json::json!({ "now": now, "daemon": { "leads": led }, "jobs": jobs, "runs": runs }));
        return Ok(Exit::Done);
    }
    let rows = jobs.iter().map(|job| {
        vec![
            job.job.to_string(),
            job.last.as_ref().map_or_else(|| "never ran".into(), |run| run.outcome.clone()),
            job.last.as_ref().map_or_else(String::new, |run| format!("{} ago", output::distance(run.started_at, now))),
            job.schedule.clone().unwrap_or_else(|| "on request".into()),
            job.next.map_or_else(String::new, |at| format!("in {}", output::distance(now, at))),
        ]
    });
    output::text(output::table(&["job", "last outcome", "started", "schedule (UTC)", "next due"], rows.collect()));
    output::text(if led { "\na daemon leads" } else { "\nno daemon leads: nothing runs by itself" });
    if !runs.is_empty() {
        let rows = runs.iter().map(|run| {
            let message = run.error.as_ref().and_then(|e| e.get("message")).and_then(|m| m.as_str());
            vec![
                output::instant(run.started_at),
                run.job.clone(),
                run.trigger.clone(),
                run.outcome.clone(),
                run.finished_at.map_or_else(String::new, |end| output::distance(run.started_at, end)),
                run.id.to_string(),
                message.or(run.summary.as_deref()).unwrap_or("").to_owned(),
            ]
        });
        let header = ["started", "job", "trigger", "outcome", "took", "run", "summary"];
        output::text(format_args!("\n{}", output::table(&header, rows.collect())));
    }
    Ok(Exit::Done)
}
