use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::idempotency::{Given, KeyHeader, once};
use super::runs::{Wait, wait_for};
use super::types::{OfJob, Query, Run, RunLine};
use crate::daemon::ledger::JobStats;
use crate::http::App;
use crate::http::auth::{Operator, Principal, Reader};
use crate::http::body;
use crate::http::glance::Glance;
use crate::http::problem::Problem;
use crate::http::settings::Role;
use crate::http::start;
use crate::job::JobName;
use crate::retention::Consent;

/// A job and what its runs come to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct JobState {
    /// Its name.
    pub job: String,
    /// Whether everything that it needs is configured.
    pub configured: bool,
    /// When it is due, as a cron expression in UTC.
    pub schedule: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// Seconds after which a run is cancelled.
    pub deadline_seconds: u64,
    /// The last run.
    pub last: Option<RunLine>,
    /// When a run last ended well.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success: Option<Timestamp>,
    /// Runs that have ended since one ended well.
    pub failures: i64,
    /// How the last run that has ended did so.
    pub last_outcome: Option<String>,
    /// Why, when it did not end well.
    pub last_error: Option<String>,
}

/// All jobs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Jobs {
    /// In the order in which `once all` runs them.
    pub jobs: Vec<JobState>,
}

/// What is said with a start.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// With `retention`: agree to retentions that become shorter, which makes closed runs deletable. Needs the role
    /// `approve`.
    #[serde(default)]
    shorten: bool,
}

/// Every job, with its last run.
pub(in crate::http) async fn states(app: &App) -> Result<Vec<JobState>, Problem> {
    Ok(states_of(app, &*app.glance().await?))
}

/// The same from a look at the ledger.
pub(super) fn states_of(app: &App, glance: &Glance) -> Vec<JobState> {
    let now = Timestamp::now();
    let one = |stats: &JobStats| {
        let schedule = app.site.policies.schedule.jobs.get(&stats.job).and_then(|schedule| schedule.cron.as_ref());
        let last = glance.last.iter().find(|run| run.job == stats.job.as_str());
        JobState {
            job: stats.job.to_string(),
            configured: app.site.is_configured(stats.job),
            schedule: schedule.map(ToString::to_string),
            next: schedule.and_then(|cron| cron.next_after(now)),
            deadline_seconds: app.site.policies.schedule.deadline(stats.job).as_secs(),
            last: last.cloned().map(RunLine::from),
            last_success: stats.last_success,
            failures: stats.failures,
            last_outcome: stats.last_outcome.clone(),
            last_error: stats.last_error.clone(),
        }
    };
    glance.stats.iter().map(one).collect()
}

/// Every job: its schedule, its last run, when it last ended well.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "runs",
    responses((status = 200, body = Jobs), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn list(State(app): State<App>, _: Reader) -> Result<Json<Jobs>, Problem> {
    Ok(Json(Jobs { jobs: states(&app).await? }))
}

/// Starts a job for somebody.
pub(in crate::http) async fn start_job(
    app: &App,
    run: Uuid,
    job: JobName,
    shorten: bool,
    by: &Principal,
) -> Result<Uuid, Problem> {
    let mut site = app.site.clone();
    if shorten {
        if job != JobName::Retention {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "`shorten` is for the job `retention` only"));
        }
        by.may(Role::Approve)?;
        site = site.with_consent(Consent::Given);
    }
    start::start(app, run, site.job(job), &by.name).await
}

/// Starts a job. With `wait` the answer comes when it has ended, or when the time is over.
#[utoipa::path(
    post, path = "/api/v1/jobs/{job}/runs", tag = "runs",
    params(("job" = inline(JobName), Path, description = "The job"), Wait, KeyHeader),
    request_body = Option<Start>,
    responses(
        (status = 200, description = "It has ended", body = Run),
        (status = 202, description = "It goes on; `Location` says where to look", body = Run),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "Another run of the job is in progress", body = Problem),
        (status = 415, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)
    )
)]
pub(super) async fn start(
    State(app): State<App>,
    Operator(by): Operator,
    OfJob(job): OfJob,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
    body::Json { value, bytes }: body::Json<Start>,
) -> Result<Given, Problem> {
    let request: &[&[u8]] = &[b"start", job.as_str().as_bytes(), &bytes];
    begun(&app, &by.name, &headers, &wait, request, async |run| start_job(&app, run, job, value.shorten, &by).await)
        .await
}

/// A start that is made once for each key and may be waited for. `begin` begins a run under the id that it is given, and says
/// which run it is.
pub(super) async fn begun<F: Future<Output = Result<Uuid, Problem>>>(
    app: &App,
    who: &str,
    headers: &HeaderMap,
    wait: &Wait,
    request: &[&[u8]],
    begin: impl FnOnce(Uuid) -> F,
) -> Result<Given, Problem> {
    let wait = wait.duration()?;
    let given = once(app, who, headers, request, |run| async move { started(app, begin(run).await?).await }).await?;
    waited(app, given, wait).await
}

/// The answer to a start, which is kept: the run as it has begun.
pub(super) async fn started(app: &App, id: Uuid) -> Result<Given, Problem> {
    let run = wait_for(app, id, None).await?;
    let location = Some(format!("/api/v1/runs/{id}"));
    Ok(Given { status: StatusCode::ACCEPTED, location, body: serde_json::json!(run) })
}

/// The answer to a start that is waited for. The run is the one of the answer, so that a request that is sent again waits
/// for the same run.
async fn waited(app: &App, given: Given, wait: Option<Duration>) -> Result<Given, Problem> {
    let id = given.body.get("id").and_then(|id| id.as_str()).and_then(|id| id.parse().ok());
    let (Some(id), Some(wait)) = (id, wait) else { return Ok(given) };
    let run = wait_for(app, id, Some(wait)).await?;
    let status = if run.line.outcome == "running" { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(Given { status, location: given.location, body: serde_json::json!(run) })
}
