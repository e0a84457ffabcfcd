use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use uuid::Uuid;

use super::idempotency::{Given, KeyHeader, once};
use super::types::{Outcome, Path, Query, Run, RunLine, Runs, limit, page_of};
use crate::daemon::ledger::Asked;
use crate::http::App;
use crate::http::auth::{Operator, Reader};
use crate::http::glance::RUNS;
use crate::http::problem::Problem;
use crate::job::JobName;
use crate::units::Span;

/// The longest that a request waits for a run to end.
const LONGEST_WAIT: Span = Span::minutes(5);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// Which runs are wanted.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of this job only.
    #[param(inline)]
    job: Option<JobName>,
    /// That ended so, or are `running`.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// At most so many; 50 unless said otherwise.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Begun before this one: `next` of the page before.
    before: Option<Uuid>,
}

/// Whether to wait.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Wait for the end of the run, at most so long: `60s`, up to `5m`.
    #[param(value_type = Option<String>, example = "60s", pattern = "^([1-5]?[0-9]s|[1-5]m)$")]
    wait: Option<String>,
}

impl Wait {
    pub(super) fn duration(&self) -> Result<Option<Duration>, Problem> {
        let Some(text) = &self.wait else { return Ok(None) };
        let span: Span = text.parse().map_err(|error| Problem::bad_request(format!("`wait`: {error}")))?;
        match span <= LONGEST_WAIT {
            true => Ok(Some(span.into())),
            false => Err(Problem::bad_request(format!("`wait` is at most {LONGEST_WAIT}; ask again after that"))),
        }
    }
}

/// Runs, the newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", tag = "runs", params(Wanted),
    responses((status = 200, body = Runs), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Reader,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Runs>, Problem> {
    let limit = limit(wanted.limit)?;
    let is_first_page = wanted.job.is_none() && wanted.outcome.is_none() && wanted.before.is_none();
    let runs = if is_first_page && limit < RUNS {
        app.glance().await?.runs.iter().take(limit as usize + 1).cloned().collect()
    } else {
        app.ledger().runs(&asked(&wanted, limit + 1)).await?
    };
    let (runs, next) = page_of(runs, limit, |run| run.id);
    Ok(Json(Runs { runs: runs.into_iter().map(RunLine::from).collect(), next }))
}

fn asked(wanted: &Wanted, limit: u32) -> Asked {
    Asked {
        job: wanted.job,
        outcome: wanted.outcome.map(|outcome| outcome.as_str().to_owned()),
        before: wanted.before,
        limit,
        brief: true,
    }
}

/// Waits for the end of a run; gives it as it is when the time is over.
pub(super) async fn wait_for(app: &App, id: Uuid, wait: Option<Duration>) -> Result<Run, Problem> {
    let began = std::time::Instant::now();
    loop {
        let run = app.ledger().one(id).await?.ok_or_else(|| Problem::not_found(format!("run {id}")))?;
        let left = wait.and_then(|wait| wait.checked_sub(began.elapsed())).filter(|left| !left.is_zero());
        let Some(left) = left.filter(|_| run.outcome == "running" && !app.stop.is_cancelled()) else {
            return Ok(run.into());
        };
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// One run, with its plan and report.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", tag = "runs", params(("id" = Uuid, Path, description = "The run"), Wait),
    responses((status = 200, body = Run), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn one(
    State(app): State<App>,
    _: Reader,
    Path(id): Path<Uuid>,
    Query(wait): Query<Wait>,
) -> Result<Json<Run>, Problem> {
    wait_for(&app, id, wait.duration()?).await.map(Json)
}

/// What a run has logged: its last 64 KiB.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/log", tag = "runs", params(("id" = Uuid, Path, description = "The run")),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 401, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn log(State(app): State<App>, _: Reader, Path(id): Path<Uuid>) -> Result<Response, Problem> {
    let log = app.ledger().log(id).await?.ok_or_else(|| Problem::not_found(format!("run {id}")))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], log).into_response())
}

/// Asks a run to stop at its next safe point.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/cancel", tag = "runs",
    params(("id" = Uuid, Path, description = "The run"), KeyHeader),
    responses((status = 202, description = "It was asked"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, description = "It has ended already", body = Problem), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Operator(by): Operator,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Given, Problem> {
    once(&app, &by.name, &headers, &[b"cancel", id.as_bytes()], async |_| {
        cancel_run(&app, id, &by.name).await?;
        Ok(Given {
            status: StatusCode::ACCEPTED,
            location: Some(format!("/api/v1/runs/{id}")),
            body: json!({ "id": id }),
        })
    })
    .await
}

/// The same for the page.
pub(in crate::http) async fn cancel_run(app: &App, id: Uuid, by: &str) -> Result<(), Problem> {
    if app.ledger().request_cancel(id, by).await? {
        app.changed();
        return Ok(());
    }
    match app.ledger().one(id).await? {
        Some(run) => Err(Problem::new(StatusCode::CONFLICT, format!("the run has ended already: {}", run.outcome))),
        None => Err(Problem::not_found(format!("run {id}"))),
    }
}

/// The runs that go on now.
pub(in crate::http) async fn running(app: &App) -> Result<Vec<RunLine>, Problem> {
    let asked = Asked { outcome: Some("running".to_owned()), limit: 50, brief: true, ..Asked::default() };
    Ok(app.ledger().runs(&asked).await?.into_iter().map(RunLine::from).collect())
}
