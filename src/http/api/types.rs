//! What the API answers with. These are promises to programs: fields are added, never taken away or given another meaning.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::daemon::ledger;
use crate::http::body::cut;
use crate::http::problem::Problem;
use crate::job::JobName;

/// How a run ended, or that it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Outcome {
    Running,
    Unchanged,
    Changed,
    Refused,
    Failed,
    Cancelled,
    Interrupted,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How far the current stage of a run is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Progress {
    /// What is done.
    pub stage: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is of it, where that is known.
    pub total: Option<u64>,
    /// `bytes` or `items`.
    pub unit: &'static str,
    /// What else is to be said of it.
    pub detail: String,
    /// When the stage began.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

impl From<crate::progress::Stage> for Progress {
    fn from(stage: crate::progress::Stage) -> Self {
        let unit = match stage.unit {
            crate::progress::Unit::Bytes => "bytes",
            crate::progress::Unit::Items => "items",
        };
        let crate::progress::Stage { name, done, total, detail, since, .. } = stage;
        Self { stage: name, done, total, unit, detail, since }
    }
}

/// A run without its plan and its report.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct RunLine {
    /// Its id; ids sort by the start of their run.
    pub id: Uuid,
    /// Of which job.
    pub job: String,
    /// What started it: `schedule`, `catch-up`, `cli`, `http`.
    pub trigger: String,
    /// Who asked for it, where that is known.
    pub requested_by: Option<String>,
    /// `running`, or how it ended: `unchanged`, `changed`, `refused`, `failed`, `cancelled`, `interrupted`.
    pub outcome: String,
    /// On which host.
    pub host: String,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// Who has asked it to stop.
    pub cancel_requested_by: Option<String>,
    /// One line on what it did.
    pub summary: Option<String>,
    /// Why it did not reach its end: `kind`, `message`, perhaps `hint`.
    #[schema(value_type = Option<Object>)]
    pub error: Option<Value>,
}

/// A run with everything that is known of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Run {
    #[serde(flatten)]
    pub line: RunLine,
    /// The version of sexton that made it.
    pub version: String,
    /// Its last sign of life.
    #[schema(value_type = String, format = DateTime)]
    pub heartbeat_at: Timestamp,
    /// BLAKE3 of its plan's changes.
    pub plan_digest: Option<String>,
    /// What it set out to do: `changes` and `notes`.
    #[schema(value_type = Option<Object>)]
    pub plan: Option<Value>,
    /// What it did, in the form of its job.
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}

impl From<ledger::Run> for Run {
    fn from(run: ledger::Run) -> Self {
        let line = RunLine {
            id: run.id,
            job: run.job,
            trigger: run.trigger,
            requested_by: run.requested_by,
            outcome: run.outcome,
            host: run.host,
            started_at: run.started_at,
            finished_at: run.finished_at,
            progress: run.progress.map(Progress::from),
            cancel_requested_by: run.cancel_requested_by,
            summary: run.summary,
            error: run.error,
        };
        let (version, heartbeat_at, plan_digest) = (run.version, run.heartbeat_at, run.plan_digest);
        Self { line, version, heartbeat_at, plan_digest, plan: run.plan, report: run.report }
    }
}

impl From<ledger::Run> for RunLine {
    fn from(run: ledger::Run) -> Self {
        Run::from(run).line
    }
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Runs {
    /// The runs, the newest first.
    pub runs: Vec<RunLine>,
    /// What to give as `before` for the next page; `null` on the last.
    pub next: Option<Uuid>,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Page {
    /// At most so many; 50 unless said otherwise.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Those before this one: `next` of the page before.
    pub before: Option<Uuid>,
}

/// Entries of one page.
const LIMIT: u32 = 50;
/// Entries of the longest page.
const MOST: u32 = 500;

/// How many entries of a page are wanted. Who asks the ledger for one more knows whether there is another page.
pub(super) fn limit(given: Option<u32>) -> Result<u32, Problem> {
    match given.unwrap_or(LIMIT) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(Problem::bad_request(format!("`limit` is from 1 to {MOST}"))),
    }
}

/// The entries of a page, of one more than it shows, and where the next page begins.
pub(in crate::http) fn page_of<T>(mut entries: Vec<T>, limit: u32, id: impl Fn(&T) -> Uuid) -> (Vec<T>, Option<Uuid>) {
    let shown = limit as usize;
    let more = entries.len() > shown;
    entries.truncate(shown);
    let next = entries.last().filter(|_| more).map(id);
    (entries, next)
}

/// A query string that does not fit is told in the same form as every other error.
#[derive(Debug)]
pub(in crate::http) struct Query<T>(pub T);

impl<T: serde::de::DeserializeOwned> axum::extract::FromRequestParts<crate::http::App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &crate::http::App) -> Result<Self, Problem> {
        let text = parts.uri.query().unwrap_or_default();
        let value = serde_urlencoded::from_str(text);
        value.map(Self).map_err(|error| Problem::bad_request(format!("the query string does not fit: {}", cut(error))))
    }
}

/// The same for a part of the path.
#[derive(Debug)]
pub(in crate::http) struct Path<T>(pub T);

impl<T: serde::de::DeserializeOwned + Send> axum::extract::FromRequestParts<crate::http::App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &crate::http::App,
    ) -> Result<Self, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        found
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|_| Problem::new(axum::http::StatusCode::NOT_FOUND, "nothing has this name"))
    }
}

/// A job named in the path; of one that there is not it is told which there are.
#[derive(Debug)]
pub(in crate::http) struct OfJob(pub JobName);

impl axum::extract::FromRequestParts<crate::http::App> for OfJob {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &crate::http::App,
    ) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, app).await?;
        JobName::parse(&name).map(Self).ok_or_else(|| {
            let jobs = JobName::ALL.map(JobName::as_str).join(", ");
            Problem::not_found("job of that name").with_hint(format!("the jobs are: {jobs}"))
        })
    }
}
