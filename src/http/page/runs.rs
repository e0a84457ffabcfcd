//! Runs: the list, one with everything about it, and the forms that start and stop one.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::format::{Prose, Row, clock};
use super::frame::{Frame, may_run};
use super::sign_in::Signed;
use super::{Form, Oops, Visitor, render, see};
use crate::daemon::ledger::Asked;
use crate::http::App;
use crate::http::api::{OfJob, Path, Query, Run, cancel_run, page_of, start_job};
use crate::http::problem::Problem;
use crate::http::settings::Role;
use crate::job::JobName;

/// Runs on one page.
const SHOWN: u32 = 50;
/// Changes of a plan that are shown.
const CHANGES: usize = 200;
/// Bytes of a report that is shown at once.
const SHORT: usize = 2_000;
/// Bytes of a report that is shown at all.
const LONGEST: usize = 200_000;

#[derive(askama::Template)]
#[template(path = "runs.html")]
struct RunsPage {
    frame: Frame,
    job: Option<String>,
    names: Vec<String>,
    runs: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    job: Option<JobName>,
    before: Option<Uuid>,
}

pub(super) async fn list(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    wanted: Result<Query<Wanted>, Problem>,
) -> Result<Response, Oops> {
    let Query(wanted) = wanted?;
    let job = wanted.job;
    let asked = Asked { job, before: wanted.before, limit: SHOWN + 1, brief: true, ..Asked::default() };
    let (runs, next) = page_of(app.ledger().runs(&asked).await?, SHOWN, |run| run.id);
    let of_job = job.map_or_else(String::new, |job| format!("job={job}&"));
    let next = next.map(|run| format!("/runs?{of_job}before={run}"));
    let now = Timestamp::now();
    Ok(render(&RunsPage {
        frame: Frame::of(&visitor, "Runs", "/runs"),
        job: job.map(|job| job.to_string()),
        names: JobName::ALL.iter().map(ToString::to_string).collect(),
        runs: runs.into_iter().map(|run| Row::of(&run.into(), now)).collect(),
        next,
    }))
}

#[derive(askama::Template)]
#[template(path = "run.html")]
struct RunPage {
    frame: Frame,
    run: Row,
    host: String,
    version: String,
    summary: Option<Prose>,
    error: Option<Prose>,
    hint: Option<Prose>,
    cancel_by: Option<String>,
    changes: Vec<ChangeRow>,
    more_changes: usize,
    notes: Vec<Prose>,
    report: Option<String>,
    short_report: bool,
    log: String,
    may_run: bool,
}

struct ChangeRow {
    action: String,
    subject: String,
    from: String,
    to: String,
    reason: Prose,
    destructive: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl From<&Value> for ChangeRow {
    fn from(change: &Value) -> Self {
        let field = text(&change["field"]);
        let subject = text(&change["subject"]);
        Self {
            action: text(&change["action"]),
            subject: if field.is_empty() { subject } else { format!("{subject}, {field}") },
            from: text(&change["from"]),
            to: text(&change["to"]),
            reason: text(&change["reason"]).into(),
            destructive: change["destructive"] == true,
        }
    }
}

pub(super) async fn one(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    id: Result<Path<Uuid>, Problem>,
) -> Result<Response, Oops> {
    let Path(id) = id?;
    let found = app.ledger().one(id).await?.ok_or_else(|| Problem::not_found(format!("run {id}")))?;
    let log = app.ledger().log(id).await?.unwrap_or_default();
    let Run { line, version, plan, report, .. } = Run::from(found);
    let of_plan = |key: &str| plan.as_ref().and_then(|plan| plan[key].as_array()).cloned().unwrap_or_default();
    let changes = of_plan("changes");
    let report = report.filter(|report| report.as_object().is_none_or(|fields| !fields.is_empty()));
    let report = report.and_then(|report| serde_json::to_string_pretty(&report).ok()).map(|mut report| {
        let end = report.floor_char_boundary(LONGEST);
        if end < report.len() {
            report.truncate(end);
            report.push_str("\n… the API has all of it");
        }
        report
    });
    let title = format!("{} of {}", line.job, clock(line.started_at));
    let of_error = |key: &str| line.error.as_ref().and_then(|error| error[key].as_str()).map(Prose::from);
    Ok(render(&RunPage {
        frame: Frame::of(&visitor, title, "/runs"),
        host: line.host.clone(),
        version,
        summary: line.summary.as_ref().map(Prose::from),
        error: of_error("message"),
        hint: of_error("hint"),
        cancel_by: line.cancel_requested_by.clone(),
        more_changes: changes.len().saturating_sub(CHANGES),
        changes: changes.iter().take(CHANGES).map(ChangeRow::from).collect(),
        notes: of_plan("notes").iter().map(|note| Prose::from(text(note))).collect(),
        short_report: report.as_ref().is_some_and(|report| report.len() <= SHORT),
        report,
        log,
        may_run: may_run(&visitor),
        run: Row::of(&line, Timestamp::now()),
    }))
}

pub(super) async fn start(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    job: Result<OfJob, Problem>,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Run)?;
    let OfJob(job) = job?;
    let id = start_job(&app, Uuid::now_v7(), job, false, &visitor).await?;
    Ok(see(&format!("/runs/{id}")))
}

pub(super) async fn cancel(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    id: Result<Path<Uuid>, Problem>,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Run)?;
    let Path(id) = id?;
    cancel_run(&app, id, &visitor.name).await?;
    Ok(see(&format!("/runs/{id}")))
}
