//! Starts a run that somebody asked for. It goes on when they leave.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tracing::error;
use uuid::Uuid;

use super::App;
use super::problem::Problem;
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::Request;
use crate::failure::chain;
use crate::job::Job;
use crate::progress;

/// How long the job's lock is waited for: a daemon that starts holds each for a moment, to see what was left behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// Begins a run under this id, and gives it back once it stands in the ledger.
pub(super) async fn start(app: &App, id: Uuid, job: Arc<dyn Job>, by: &str) -> Result<Uuid, Problem> {
    if app.stop.is_cancelled() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this daemon is stopping"));
    }
    let request = Request {
        trigger: Trigger::Http,
        by: Some(by.to_owned()),
        deadline: app.site.policies.schedule.deadline(job.name()).into(),
        patience: PATIENCE,
        cancel: app.stop.clone(),
        progress: progress::silent(),
    };
    let begun = app.runner.begin(id, job.name(), &request).await??;
    let runner = app.runner.clone();
    let after = app.clone();
    app.runs.spawn(async move {
        if let Err(error) = runner.finish(begun, &*job, &request).await {
            error!(job = %job.name(), error = %chain(&error), "the run could not be written to the ledger");
        }
        after.changed();
    });
    app.changed();
    Ok(id)
}
