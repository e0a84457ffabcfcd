//! Staged migrations: the recipes, one with its stages and what can be done about it, and its rehearsals.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::format::{Prose, Row as RunRow, When, tone};
use super::frame::{Frame, may_run};
use super::sign_in::Signed;
use super::{Form, Oops, Visitor, render, see};
use crate::http::App;
use crate::http::api::{self, Look, Path, Recipe, running};
use crate::http::auth::Principal;
use crate::http::problem::Problem;
use crate::http::settings::Role;
use crate::migrate::{self, ApprovalState, Granted, Reversal, Work, rehearsals};
use crate::units::{Span, took};

/// Rehearsals that are listed.
const REHEARSALS: u32 = 20;

#[derive(askama::Template)]
#[template(path = "migrations.html")]
struct MigrationsPage {
    frame: Frame,
    recipes: Vec<RecipeRow>,
}

struct RecipeRow {
    name: String,
    state: String,
    tone: &'static str,
    description: Prose,
    error: Option<Prose>,
    recipe_missing: bool,
}

impl From<Recipe> for RecipeRow {
    fn from(recipe: Recipe) -> Self {
        let Recipe { name, description, state, error, recipe_missing } = recipe;
        // Why an earlier try failed is nothing to one that was applied since.
        let error = error.filter(|_| state != "applied").map(Prose::from);
        Self {
            tone: tone(&state),
            state: state.replace('_', " "),
            name,
            description: description.into(),
            error,
            recipe_missing,
        }
    }
}

pub(super) async fn list(State(app): State<App>, Visitor(visitor): Visitor) -> Result<Response, Oops> {
    let recipes = api::all(&app).await?.into_iter().map(RecipeRow::from).collect();
    Ok(render(&MigrationsPage { frame: Frame::of(&visitor, "Migrations", "/migrations"), recipes }))
}

#[derive(askama::Template)]
#[template(path = "migration.html")]
struct MigrationPage {
    frame: Frame,
    name: String,
    state: String,
    tone: &'static str,
    description: Prose,
    error: Option<Prose>,
    digest: String,
    source: String,
    approval: &'static str,
    approval_tone: &'static str,
    rehearsal: &'static str,
    rehearsal_tone: &'static str,
    parameters: BTreeMap<String, String>,
    stages: Vec<Stage>,
    approvals: Vec<ApprovalRow>,
    rehearsals: Vec<RehearsalRow>,
    running: Vec<RunRow>,
    /// Steps at which it waits for somebody.
    waits: Vec<String>,
    can_begin: bool,
    can_undo: bool,
    has_open: bool,
    may_run: bool,
    may_approve: bool,
    me: String,
}

struct Stage {
    name: String,
    steps: Vec<StepRow>,
}

struct StepRow {
    key: String,
    operation: String,
    now: &'static str,
    state: Option<String>,
    tone: &'static str,
    error: Option<Prose>,
    back: &'static str,
    no_return: bool,
    description: Option<Prose>,
}

struct ApprovalRow {
    by: String,
    what: String,
    at: When,
    expires: When,
    state: String,
    plan: String,
}

struct RehearsalRow {
    id: Uuid,
    ended: When,
    word: &'static str,
    tone: &'static str,
    said: String,
}

/// A recipe that cannot be planned yet.
#[derive(askama::Template)]
#[template(path = "needy.html")]
struct NeedyPage {
    frame: Frame,
    name: String,
    state: String,
    tone: &'static str,
    description: Prose,
    missing: String,
    parameters: Vec<(String, Option<Prose>)>,
}

impl NeedyPage {
    fn of(needy: api::Needy, visitor: &Principal) -> Self {
        let api::Needy { recipe, parameters } = needy;
        let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        Self {
            frame: Frame::of(visitor, format!("Migration {}", recipe.name), "/migrations"),
            tone: tone(&recipe.state),
            state: recipe.state.replace('_', " "),
            description: recipe.description.into(),
            name: recipe.name,
            missing: names.join(", "),
            parameters: parameters.into_iter().map(|(name, about)| (name, about.map(Prose::from))).collect(),
        }
    }
}

fn step(step: &api::Step, no_return: Option<&str>) -> StepRow {
    StepRow {
        key: step.step.clone(),
        operation: step.operation.clone(),
        now: match step.work {
            Work::Finished => "finished",
            Work::Note => "holds already",
            Work::Run => "would be run",
            Work::Undo => "would be undone",
            Work::Drifted => "was changed since",
        },
        tone: step.state.as_deref().map_or("", tone),
        state: step.state.clone(),
        error: step.error.as_ref().map(Prose::from),
        back: match step.reversal {
            // What holds without sexton's doing is not taken back.
            _ if step.work == Work::Note => "nothing to undo",
            Reversal::Undo => "can be undone",
            Reversal::Nothing => "nothing to undo",
            Reversal::Never => "cannot be undone",
        },
        no_return: no_return == Some(step.step.as_str()),
        description: step.description.as_ref().map(Prose::from),
    }
}

fn short(digest: &str) -> String {
    digest.get(..12).unwrap_or(digest).to_owned()
}

pub(super) async fn one(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    name: Result<Path<String>, Problem>,
) -> Result<Response, Oops> {
    let Path(name) = name?;
    let seen = match api::look(&app, &name).await? {
        Look::Stands(seen) => *seen,
        Look::Needs(needy) => return Ok(render(&NeedyPage::of(needy, &visitor))),
    };
    let mut stages: Vec<Stage> = Vec::new();
    for one in &seen.steps {
        let row = step(one, seen.point_of_no_return.as_deref());
        match stages.last_mut().filter(|stage| stage.name == one.stage) {
            Some(stage) => stage.steps.push(row),
            None => stages.push(Stage { name: one.stage.clone(), steps: vec![row] }),
        }
    }
    let (journal, now) = (app.journal(), Timestamp::now());
    let kept = rehearsals(&name, None, REHEARSALS, &journal).await?;
    let rehearsals = kept.into_iter().map(|kept| RehearsalRow {
        id: kept.id,
        ended: When::of(kept.ended, now),
        word: if kept.passed { "passed" } else { "failed" },
        tone: if kept.passed { "good" } else { "bad" },
        said: kept.report.map_or_else(String::new, |report| {
            let window = took(report.window_milliseconds);
            let lock = report.longest_lock().map_or_else(String::new, |lock| {
                format!(", longest lock {} on {} for {}", lock.mode, lock.relation, took(lock.milliseconds))
            });
            format!("window to expect {window}{lock}")
        }),
    });
    let (approval, approval_tone) = match seen.approval {
        ApprovalState::NotNeeded => ("not needed", ""),
        ApprovalState::Needed => ("needed", "warn"),
        ApprovalState::Given => ("given", "good"),
        ApprovalState::Stale => ("stale: it has ended, or the plan or the source is another now", "warn"),
    };
    let (rehearsal, rehearsal_tone) =
        if seen.rehearsed { ("passed", "good") } else { ("none of this plan and source", "") };
    let state = seen.recipe.state.clone();
    let begun = matches!(state.as_str(), "running" | "stopped" | "failed");
    let waits = seen.steps.iter().filter(|step| step.operation == "approve" && step.state.as_deref() != Some("done"));
    let running = running(&app).await?;
    Ok(render(&MigrationPage {
        frame: Frame::of(&visitor, format!("Migration {name}"), "/migrations"),
        tone: tone(&state),
        waits: if begun { waits.map(|step| step.step.clone()).collect() } else { vec![] },
        can_begin: state != "applied",
        can_undo: !matches!(state.as_str(), "not_begun" | "undone"),
        state: state.replace('_', " "),
        description: seen.recipe.description.into(),
        error: seen.recipe.error.filter(|_| state != "applied").map(Prose::from),
        digest: seen.digest,
        source: short(&seen.source_digest),
        approval,
        approval_tone,
        rehearsal,
        rehearsal_tone,
        parameters: seen.parameters,
        stages,
        has_open: seen.approvals.iter().any(|approval| approval.state == "open"),
        approvals: seen
            .approvals
            .into_iter()
            .map(|approval| ApprovalRow {
                what: approval.step.map_or_else(|| "the beginning".to_owned(), |step| format!("step {step}")),
                by: approval.by,
                at: When::of(approval.at, now),
                expires: When::of(approval.expires, now),
                state: approval.state,
                plan: short(approval.plan.as_str()),
            })
            .collect(),
        rehearsals: rehearsals.collect(),
        running: running.iter().filter(|run| run.job == "migrate").map(|run| RunRow::of(run, now)).collect(),
        may_run: may_run(&visitor),
        may_approve: visitor.role >= Role::Approve,
        me: visitor.name.clone(),
        name,
    }))
}

#[derive(Deserialize)]
pub(super) struct Agreed {
    csrf: String,
    plan: String,
    read: Option<String>,
    step: Option<String>,
    expires: Option<String>,
}

pub(super) async fn approve(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    name: Result<Path<String>, Problem>,
    Form(form): Form<Agreed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Approve)?;
    let Path(name) = name?;
    if form.read.as_deref() != Some("yes") {
        return Err(Problem::bad_request("nobody has said that the plan was read").into());
    }
    let expires: Span = form
        .expires
        .as_deref()
        .unwrap_or("24h")
        .parse()
        .map_err(|error: crate::units::UnitError| Problem::bad_request(error.to_string()))?;
    let (step, seen) = (form.step.as_deref(), Some(form.plan.as_str()));
    let granted = Granted { id: Uuid::now_v7(), by: &visitor.name, expires: expires.into(), step, seen };
    api::grant(&app, &name, &granted).await?;
    Ok(see(&format!("/migrations/{name}")))
}

pub(super) async fn revoke(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    name: Result<Path<String>, Problem>,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Approve)?;
    let Path(name) = name?;
    api::take_back(&app, &name).await?;
    Ok(see(&format!("/migrations/{name}")))
}

pub(super) async fn run(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    name: Result<Path<String>, Problem>,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Run)?;
    let Path(name) = name?;
    let id = api::run_it(&app, Uuid::now_v7(), &name, None, &visitor.name).await?;
    Ok(see(&format!("/runs/{id}")))
}

#[derive(Deserialize)]
pub(super) struct Back {
    csrf: String,
    sure: Option<String>,
}

pub(super) async fn undo(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    name: Result<Path<String>, Problem>,
    Form(form): Form<Back>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Approve)?;
    let Path(name) = name?;
    if form.sure.as_deref() != Some("yes") {
        return Err(Problem::bad_request("nobody has said that it is to be undone").into());
    }
    let id = api::undo_it(&app, Uuid::now_v7(), &name, &visitor.name).await?;
    Ok(see(&format!("/runs/{id}")))
}

/// The report of a rehearsal as it is written to a file. It has its style inside, which this one page may have.
pub(super) async fn rehearsal(
    State(app): State<App>,
    Visitor(_): Visitor,
    path: Result<Path<(String, Uuid)>, Problem>,
) -> Result<Response, Oops> {
    let Path((name, id)) = path?;
    let journal = app.journal();
    let kept = rehearsals(&name, Some(id), 1, &journal).await?;
    let report = kept.into_iter().next().and_then(|kept| kept.report);
    let report = report.ok_or_else(|| Problem::not_found("such rehearsal"))?;
    let mut response = Html(migrate::rehearse::html(&report)).into_response();
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox",
    );
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}
