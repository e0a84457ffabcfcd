use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::idempotency::{Given, KeyHeader, once};
use super::jobs::begun;
use super::runs::{Wait, running};
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
use crate::migrate::{self, Granted, MigrateError, Migration, Name, Options, Overview, RecipeSet, Reversal};
use crate::units::Span;

/// For how long an approval is good unless said otherwise.
const EXPIRES: Span = Span::hours(24);
/// The longest.
const LONGEST: Span = Span::days(30);

/// A recipe and how far it was applied.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Recipe {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// `not_begun`, `running`, `applied`, `failed`, `stopped`, `undoing` or `undone`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// True of a migration that was begun from a recipe that is not there any more.
    pub recipe_missing: bool,
}

impl Recipe {
    fn of(recipe: &migrate::Recipe, entry: Option<&migrate::Entry>) -> Self {
        Self {
            name: recipe.name.to_string(),
            description: recipe.description.clone(),
            state: entry.map_or("not_begun", |entry| entry.state.as_str()).to_owned(),
            error: entry.and_then(|entry| entry.error.clone()),
            recipe_missing: false,
        }
    }
}

/// All recipes, and what was begun from others.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Recipes {
    /// By name.
    pub migrations: Vec<Recipe>,
}

/// A step of a migration.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Step {
    /// The stage.
    pub stage: String,
    /// Its key.
    pub step: String,
    /// Its operation.
    pub operation: String,
    /// What a run would do about it: `finished`, `note`, `run`, `undo`, `drifted`.
    #[schema(value_type = String)]
    pub work: migrate::Work,
    /// `undo`, `nothing` to undo, or `never`.
    #[schema(value_type = String)]
    pub reversal: Reversal,
    /// What it is for.
    pub description: Option<String>,
    /// What the journal has of it.
    pub state: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A migration as it stands here and now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct MigrationState {
    #[serde(flatten)]
    pub recipe: Recipe,
    /// The digest of its plan: what an approval is for.
    pub digest: String,
    /// The digest of the source's fingerprint.
    pub source_digest: String,
    /// Its parameters.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, String>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The step behind which there is no way back.
    pub point_of_no_return: Option<String>,
    /// `not_needed`, `needed`, `given` or `stale`.
    #[schema(value_type = String)]
    pub approval: migrate::ApprovalState,
    /// Whether exactly this was rehearsed, and passed.
    pub rehearsed: bool,
    /// The approvals, the newest first.
    #[schema(value_type = Vec<Object>)]
    pub approvals: Vec<migrate::Approval>,
}

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

fn recipes(app: &App) -> Result<RecipeSet, Problem> {
    RecipeSet::load(app.site.config.recipes.as_deref()).map_err(|error| Failure::from(error).into())
}

/// The recipes of a site, and how far each is.
pub(in crate::http) async fn all(app: &App) -> Result<Vec<Recipe>, Problem> {
    let recipes = recipes(app)?;
    let journal = app.journal();
    let entries = journal.list().await?;
    let of_recipe =
        |recipe: &migrate::Recipe| Recipe::of(recipe, entries.iter().find(|entry| entry.name == recipe.name.as_str()));
    let of_entry = |entry: &migrate::Entry| Recipe {
        name: entry.name.clone(),
        description: migrate::RECIPE_MISSING.to_owned(),
        state: entry.state.as_str().to_owned(),
        error: entry.error.clone(),
        recipe_missing: true,
    };
    let missing = entries.iter().filter(|entry| recipes.get(&entry.name).is_none()).map(of_entry);
    Ok(recipes.iter().map(|(recipe, _)| of_recipe(recipe)).chain(missing).collect())
}

/// A recipe that cannot be planned: parameters without a default have no value.
#[derive(Debug)]
pub(in crate::http) struct Needy {
    pub recipe: Recipe,
    pub parameters: Unset,
}

/// Names of parameters, and what they are for.
type Unset = Vec<(String, Option<String>)>;

/// Parameters of a recipe that have neither a default nor a value.
fn unset(app: &App, recipe: &migrate::Recipe) -> Unset {
    let given = app.site.config.parameters.get(recipe.name.as_str());
    let has_value = |name: &str| given.is_some_and(|given| given.contains_key(name));
    let unset = recipe.parameters.iter().filter(|(name, of)| of.default.is_none() && !has_value(name.as_str()));
    unset.map(|(name, of)| (name.to_string(), of.description.clone())).collect()
}

/// The migration of that name with the parameters of the configuration, or what it lacks.
fn found(app: &App, name: &str) -> Result<Result<Migration, (migrate::Recipe, Unset)>, Problem> {
    let recipes = recipes(app)?;
    let unknown = || Problem::not_found("migration of that name");
    let recipe = recipes.get(name).ok_or_else(unknown)?;
    let unset = unset(app, recipe);
    if !unset.is_empty() {
        return Ok(Err((recipe.clone(), unset)));
    }
    let selected = recipes.select(&[name.to_owned()], &app.site.config.parameters);
    selected?.pop().map(Ok).ok_or_else(unknown)
}

/// The migration of that name; one that lacks parameters is told as a mistake.
fn named(app: &App, name: &str) -> Result<Migration, Problem> {
    found(app, name)?.map_err(|(_, unset)| {
        let names = unset.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let problem = Problem::new(StatusCode::CONFLICT, format!("`{name}` needs parameters: {names}"));
        problem.with_hint(format!("set {names} under `migrations.parameters.{name}` in sexton.yaml"))
    })
}

/// How a migration stands here and now, or the recipe, if that is all that can be said of it yet.
pub(in crate::http) async fn look(app: &App, name: &str) -> Result<Result<MigrationState, Needy>, Problem> {
    match found(app, name)? {
        Ok(migration) => state(app, migration).await.map(Ok),
        Err((recipe, parameters)) => {
            let entry = app.journal().read(name).await?;
            Ok(Err(Needy { recipe: Recipe::of(&recipe, entry.as_ref()), parameters }))
        }
    }
}

/// To plan it asks the source much: whoever asks within a second shares the answer.
async fn state(app: &App, migration: Migration) -> Result<MigrationState, Problem> {
    let plans = app.plans.of(migration.name());
    let seen = plans.get(planned(app, migration)).await?;
    Ok(MigrationState::clone(&seen))
}

async fn planned(app: &App, migration: Migration) -> Result<MigrationState, Problem> {
    let seen = Overview::of(&migration, &app.journal(), &app.site.world(), &Context::plain()).await?;
    let steps = migration.steps.iter().zip(&seen.planned.steps).map(|(step, planned)| {
        let entry = seen.entry.as_ref().and_then(|entry| entry.steps.get(&step.key));
        Step {
            stage: step.stage.to_string(),
            step: step.key.clone(),
            operation: step.operation.kind().to_owned(),
            work: planned.work,
            reversal: step.operation.reversal(),
            description: step.description.as_ref().map(ToString::to_string),
            state: entry.map(|entry| entry.state.as_str().to_owned()),
            error: entry.and_then(|entry| entry.error.clone()),
        }
    });
    Ok(MigrationState {
        recipe: Recipe::of(&migration.recipe, seen.entry.as_ref()),
        digest: seen.planned.digest().to_string(),
        source_digest: seen.source.digest().to_string(),
        parameters: migration.values.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        steps: steps.collect(),
        point_of_no_return: migration.point_of_no_return().map(|step| step.key.clone()),
        approval: seen.approval(),
        rehearsed: seen.is_rehearsed,
        approvals: seen.approvals,
    })
}

/// Approves a migration for somebody.
pub(in crate::http) async fn grant(app: &App, name: &str, granted: &Granted<'_>) -> Result<migrate::Approval, Problem> {
    if granted.expires.is_zero() || granted.expires > Duration::from(LONGEST) {
        return Err(Problem::bad_request("an approval is good for a moment up to 30 days"));
    }
    let migration = named(app, name)?;
    let journal = app.journal();
    let approved = migrate::approve(&migration, &journal, &app.site.world(), granted, &Context::plain()).await;
    app.changed();
    Ok(approved?)
}

/// Takes back every approval of a migration that was not used yet.
pub(in crate::http) async fn take_back(app: &App, name: &str) -> Result<u64, Problem> {
    let migration = named(app, name)?;
    let journal = app.journal();
    let revoked = migrate::revoke(migration.name(), &journal).await;
    app.changed();
    Ok(revoked?)
}

/// Runs a migration for somebody.
pub(in crate::http) async fn run_it(
    app: &App,
    run: Uuid,
    name: &str,
    until: Option<&str>,
    by: &str,
) -> Result<Uuid, Problem> {
    let migration = named(app, name)?;
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
        return Err(Problem::not_found("migration of that name"));
    }
    // What it was begun with need not be what is configured now.
    let never = || Failure::from(MigrateError::NeverBegun { name: name.to_owned() });
    let begun = begun_with(&app.site, name).await?.ok_or_else(never)?;
    let migration = MigrateJob::named(app.site.clone(), name, begun).migrations()?.pop();
    let migration = migration.ok_or_else(|| Problem::not_found("migration of that name"))?;
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
    state(&app, named(&app, &name)?).await.map(Json)
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
