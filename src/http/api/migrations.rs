use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::idempotency::{Given, KeyHeader, once};
use super::jobs::begun;
use super::runs::{Wait, running};
use super::standing::{MigrationState, Recipes, all, missing, named, recipes, state, unknown};
use super::types::{Path, Query, Run};
use crate::context::Context;
use crate::daemon::jobs::{MigrateJob, UndoJob, begun_with};
use crate::failure::Failure;
use crate::http::App;
use crate::http::auth::{Approver, Operator, Reader};
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::start;
use crate::job::JobName;
use crate::migrate::{self, Granted, MigrateError, Name, Options};
use crate::units::Span;

/// For how long an approval is good unless said otherwise.
const EXPIRES: Span = Span::hours(24);
/// The longest.
const LONGEST: Span = Span::days(30);

/// What is approved.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    /// The digest of the plan that was seen, or its first 8 characters or more.
    #[schema(min_length = 8, max_length = 64, pattern = "^[0-9a-f]{8,64}$")]
    plan: String,
    /// A step at which the migration waits, instead of its beginning.
    step: Option<String>,
    /// For how long it is good: `24h`, up to `30d`.
    #[schema(pattern = "^([1-9][0-9]?h|[1-9]d|[12][0-9]d|30d)$", example = "24h")]
    expires: Option<String>,
}

/// How it is run.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunIt {
    /// Stop when this stage is done.
    until: Option<String>,
}

/// Approves a migration for somebody.
pub(in crate::http) async fn grant(app: &App, name: &str, granted: &Granted<'_>) -> Result<migrate::Approval, Problem> {
    if granted.expires.is_zero() || granted.expires > Duration::from(LONGEST) {
        return Err(Problem::bad_request("an approval is good for a moment up to 30 days"));
    }
    let migration = named(app, name).await?;
    let journal = app.journal();
    let approved = migrate::approve(&migration, &journal, &app.site.world(), granted, &Context::plain()).await;
    app.changed();
    Ok(approved?)
}

/// Takes back every approval of a migration that was not used yet, also when its recipe is not there any more or lacks
/// parameters: whoever is in doubt is not to be held up.
pub(in crate::http) async fn take_back(app: &App, name: &str) -> Result<u64, Problem> {
    Name::try_from(name.to_owned()).map_err(|_| unknown())?;
    let revoked = migrate::revoke(name, &app.journal()).await?;
    if revoked == 0 && recipes(app)?.get(name).is_none() {
        return Err(missing(app, name).await);
    }
    app.changed();
    Ok(revoked)
}

/// Runs a migration for somebody.
pub(in crate::http) async fn run_it(
    app: &App,
    run: Uuid,
    name: &str,
    until: Option<&str>,
    by: &str,
) -> Result<Uuid, Problem> {
    let migration = named(app, name).await?;
    let wrong = |message: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message);
    let until = until.map(|stage| Name::try_from(stage.to_owned())).transpose().map_err(wrong)?;
    let has = |until: &Name| migration.recipe.stages.iter().any(|stage| stage.name == *until);
    if let Some(until) = until.as_ref().filter(|until| !has(until)) {
        return Err(wrong(format!("`{name}` has no stage `{until}`")));
    }
    let job = MigrateJob::named(app.site.clone(), name, BTreeMap::new()).with_options(Options::until(until));
    start::start(app, run, Arc::new(job), by).await
}

/// Undoes a migration for somebody; the run that does it. One that is at it is asked to turn around.
pub(in crate::http) async fn undo_it(app: &App, run: Uuid, name: &str, by: &str) -> Result<Uuid, Problem> {
    if recipes(app)?.get(name).is_none() {
        return Err(missing(app, name).await);
    }
    // What it was begun with need not be what is configured now.
    let never = || Failure::from(MigrateError::NeverBegun { name: name.to_owned() });
    let begun = begun_with(&app.site, name).await?.ok_or_else(never)?;
    let migration = MigrateJob::named(app.site.clone(), name, begun).migrations()?.pop();
    let migration = migration.ok_or_else(unknown)?;
    let job = UndoJob::new(app.site.clone(), migration);
    if app.runner.is_busy(JobName::Migrate).await? {
        job.call_back(&Context::plain()).await?;
        if job.settle_call().await?.is_some() {
            let at_it = running(app).await?.into_iter().find(|line| line.job == JobName::Migrate.as_str());
            return at_it.map(|line| line.id).ok_or_else(|| Problem::not_found("run any more: it has just ended"));
        }
    }
    start::start(app, run, Arc::new(job), by).await
}

/// The recipes and how far each is.
#[utoipa::path(
    get, path = "/api/v1/migrations", tag = "migrations",
    responses((status = 200, body = Recipes), (status = 401, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn list(State(app): State<App>, _: Reader) -> Result<Json<Recipes>, Problem> {
    Ok(Json(Recipes { migrations: all(&app).await? }))
}

/// One migration: its steps, whether it is approved and rehearsed, what a run would do now.
#[utoipa::path(
    get, path = "/api/v1/migrations/{name}", tag = "migrations", params(("name" = String, Path, description = "The recipe's name")),
    responses((status = 200, body = MigrationState), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 409, description = "It cannot be planned here", body = Problem), (status = 502, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn one(
    State(app): State<App>,
    _: Reader,
    Path(name): Path<String>,
) -> Result<Json<MigrationState>, Problem> {
    state(&app, named(&app, &name).await?).await.map(Json)
}

/// Agrees to exactly the plan that was seen, in the name of the token.
#[utoipa::path(
    post, path = "/api/v1/migrations/{name}/approvals", tag = "migrations",
    params(("name" = String, Path, description = "The recipe's name"), KeyHeader),
    request_body = Approve,
    responses((status = 201, description = "It is approved", body = Object), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, description = "The plan is another now, or it must be rehearsed first", body = Problem), (status = 415, body = Problem), (status = 422, body = Problem), (status = 502, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn approve(
    State(app): State<App>,
    Approver(by): Approver,
    Path(name): Path<String>,
    headers: HeaderMap,
    body::Json { value, bytes }: body::Json<Approve>,
) -> Result<Given, Problem> {
    let expires: Span = match &value.expires {
        Some(text) => text.parse().map_err(|error| Problem::bad_request(format!("`expires`: {error}")))?,
        None => EXPIRES,
    };
    let is_digest = value.plan.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest || !(migrate::SHORTEST_DIGEST..=64).contains(&value.plan.len()) {
        return Err(Problem::bad_request("`plan` is the digest of a plan, or its first 8 characters or more"));
    }
    once(&app, &by.name, &headers, &[b"approve", name.as_bytes(), &bytes], async |id| {
        let (step, seen) = (value.step.as_deref(), Some(value.plan.as_str()));
        let granted = Granted { id, by: &by.name, expires: expires.into(), step, seen };
        let approval = grant(&app, &name, &granted).await?;
        let location = Some(format!("/api/v1/migrations/{name}"));
        Ok(Given { status: StatusCode::CREATED, location, body: json!(approval) })
    })
    .await
}

/// Takes back every approval that was not used yet.
#[utoipa::path(
    delete, path = "/api/v1/migrations/{name}/approvals", tag = "migrations", params(("name" = String, Path, description = "The recipe's name")),
    responses((status = 200, description = "How many", body = Object), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 502, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    _: Approver,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "revoked": take_back(&app, &name).await? })))
}

/// Runs a migration, or goes on with it.
#[utoipa::path(
    post, path = "/api/v1/migrations/{name}/runs", tag = "migrations",
    params(("name" = String, Path, description = "The recipe's name"), Wait, KeyHeader),
    request_body = Option<RunIt>,
    responses((status = 200, description = "It has ended", body = Run), (status = 202, description = "It goes on", body = Run), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn run(
    State(app): State<App>,
    Operator(by): Operator,
    Path(name): Path<String>,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
    body::Json { value, bytes }: body::Json<RunIt>,
) -> Result<Given, Problem> {
    let request: &[&[u8]] = &[b"migrate", name.as_bytes(), &bytes];
    let run = async |run| run_it(&app, run, &name, value.until.as_deref(), &by.name).await;
    begun(&app, &by.name, &headers, &wait, request, run).await
}

/// Undoes what a migration has done, in reverse. A run that is at it turns around, and is the answer.
#[utoipa::path(
    post, path = "/api/v1/migrations/{name}/undo", tag = "migrations",
    params(("name" = String, Path, description = "The recipe's name"), Wait, KeyHeader),
    responses((status = 200, description = "It has ended", body = Run), (status = 202, description = "It goes on", body = Run), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, description = "It was never begun, there is no way back, or a run of another one is in progress", body = Problem), (status = 422, body = Problem), (status = 502, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn undo(
    State(app): State<App>,
    Approver(by): Approver,
    Path(name): Path<String>,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
) -> Result<Given, Problem> {
    let request: &[&[u8]] = &[b"undo", name.as_bytes()];
    begun(&app, &by.name, &headers, &wait, request, async |run| undo_it(&app, run, &name, &by.name).await).await
}
