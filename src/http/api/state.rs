use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::jobs::{JobState, states_of};
use crate::doctor::Verdict;
use crate::http::App;
use crate::http::auth::Reader;
use crate::http::problem::Problem;
use crate::http::views::Seen;

/// How it is on the whole.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Status {
    /// `ok`, `warning` or `failed`: the worst of what follows.
    pub health: &'static str,
    /// One line for each thing that is not as it should be.
    pub problems: Vec<String>,
    /// Whether some daemon leads, so that schedules are kept.
    pub daemon_leads: bool,
    /// The version that answers.
    pub version: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// Every job.
    pub jobs: Vec<JobState>,
}

/// A look at something outside the ledger.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Look {
    /// When it was seen; `null` when it was not yet.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub seen_at: Option<Timestamp>,
    /// What was seen; `null` when nothing is configured there, or it was not seen yet.
    #[schema(value_type = Value)]
    pub value: Option<Value>,
    /// Why the last look told nothing: `kind`, `message`, perhaps `hint`.
    #[schema(value_type = Option<Object>)]
    pub error: Option<Value>,
}

impl<T: Serialize> From<Seen<T>> for Look {
    fn from(seen: Seen<T>) -> Self {
        let value = seen.value.as_ref().map(|(_, value)| json!(**value));
        Self { seen_at: seen.value.as_ref().map(|(at, _)| *at), value, error: seen.error.map(|error| json!(error)) }
    }
}

/// How it is on the whole, for the API and the page.
pub(in crate::http) async fn overall(app: &App) -> Result<Status, Problem> {
    let glance = app.glance().await?;
    let (jobs, daemon_leads) = (states_of(app, &glance), glance.leads);
    let (mut problems, mut worst) = (Vec::new(), Verdict::Ok);
    let mut add = |verdict: Verdict, text: String| {
        worst = worst.max(verdict);
        problems.push(text);
    };
    if !daemon_leads {
        add(Verdict::Failed, "no daemon leads: nothing runs by itself".to_owned());
    }
    for job in jobs.iter().filter(|job| job.failures > 0) {
        // The last one that has ended: while the next one goes on, the job is as bad as before.
        let outcome = job.last_outcome.as_deref().unwrap_or_default();
        let why = job.last_error.as_deref().unwrap_or_default();
        let verdict = if outcome == "failed" { Verdict::Failed } else { Verdict::Warning };
        let runs = crate::units::counted(job.failures, "run", "runs");
        add(
            verdict,
            format!(
                "{}: {runs} did not end well, the last {outcome}{}{why}",
                job.job,
                if why.is_empty() { "" } else { ": " }
            ),
        );
    }
    let connections = app.views.connections.seen();
    for connection in connections.get().into_iter().flatten().filter(|connection| connection.verdict == Verdict::Failed)
    {
        let failed = connection.findings.iter().find(|finding| finding.verdict == Verdict::Failed);
        let detail = failed.map_or("", |finding| finding.detail.as_str());
        add(Verdict::Failed, format!("{}: {detail}", connection.system));
    }
    let views = [
        ("connections", connections.error.clone()),
        ("retention", app.views.retention.seen().error),
        ("visibility", app.views.visibility.seen().error),
        ("backups", app.views.backups.seen().error),
    ];
    for (name, error) in views.into_iter().filter_map(|(name, error)| Some((name, error?))) {
        add(Verdict::Warning, format!("{name}: {}", error.message));
    }
    let health = match worst {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "failed",
    };
    Ok(Status { health, problems, daemon_leads, version: env!("CARGO_PKG_VERSION"), now: Timestamp::now(), jobs })
}

/// How it is on the whole: every job, and whatever is not as it should be.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "state",
    responses((status = 200, body = Status), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn status(State(app): State<App>, _: Reader) -> Result<Json<Status>, Problem> {
    overall(&app).await.map(Json)
}

/// The connections, as `sexton doctor` examines them; looked at every minute.
#[utoipa::path(
    get, path = "/api/v1/connections", tag = "state",
    responses((status = 200, body = Look), (status = 401, body = Problem))
)]
pub(super) async fn connections(State(app): State<App>, _: Reader) -> Json<Look> {
    Json(app.views.connections.seen().into())
}

/// The namespaces beside the policy, those that it says nothing of with `in_scope` false; looked at every minute.
#[utoipa::path(
    get, path = "/api/v1/retention", tag = "state",
    responses((status = 200, body = Look), (status = 401, body = Problem))
)]
pub(super) async fn retention(State(app): State<App>, _: Reader) -> Json<Look> {
    Json(app.views.retention.seen().into())
}

/// The visibility index; looked at every minute.
#[utoipa::path(
    get, path = "/api/v1/visibility", tag = "state",
    responses((status = 200, body = Look), (status = 401, body = Problem))
)]
pub(super) async fn visibility(State(app): State<App>, _: Reader) -> Json<Look> {
    Json(app.views.visibility.seen().into())
}

/// The backups, the newest first, each as `sexton backup list --json` tells it; looked at every two minutes, and after each run that changes them.
#[utoipa::path(
    get, path = "/api/v1/backups", tag = "state",
    responses((status = 200, body = Look), (status = 401, body = Problem))
)]
pub(super) async fn backups(State(app): State<App>, _: Reader) -> Json<Look> {
    Json(app.views.backups.seen().into())
}
