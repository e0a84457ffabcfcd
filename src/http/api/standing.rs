//! How migrations stand: the recipes there are, what was begun, and what a run of one would do here and now.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Context;
use crate::failure::Failure;
use crate::http::App;
use crate::http::problem::Problem;
use crate::migrate::{self, Migration, Name, Overview, RecipeSet, Reversal};

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

pub(super) fn recipes(app: &App) -> Result<RecipeSet, Problem> {
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

/// A recipe with the parameters of the configuration.
enum Found {
    Migration(Box<Migration>),
    /// Some parameters without a default have no value.
    Lacks(Box<migrate::Recipe>, Unset),
}

async fn found(app: &App, name: &str) -> Result<Found, Problem> {
    let recipes = recipes(app)?;
    let Some(recipe) = recipes.get(name) else { return Err(missing(app, name).await) };
    let unset = unset(app, recipe);
    if !unset.is_empty() {
        return Ok(Found::Lacks(Box::new(recipe.clone()), unset));
    }
    let selected = recipes.select(&[name.to_owned()], &app.site.config.parameters);
    selected?.pop().map(|migration| Found::Migration(Box::new(migration))).ok_or_else(unknown)
}

pub(super) fn unknown() -> Problem {
    Problem::not_found("migration of that name")
}

/// What there is to say of a name without a recipe.
pub(super) async fn missing(app: &App, name: &str) -> Problem {
    if Name::try_from(name.to_owned()).is_err() {
        return unknown();
    }
    match app.journal().recipe_gone(name).await {
        Ok(None) => unknown(),
        Ok(Some(error)) | Err(error) => error.into(),
    }
}

/// The migration of that name; one that lacks parameters is told as a mistake.
pub(super) async fn named(app: &App, name: &str) -> Result<Migration, Problem> {
    match found(app, name).await? {
        Found::Migration(migration) => Ok(*migration),
        Found::Lacks(_, unset) => {
            let names = unset.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let problem = Problem::new(StatusCode::CONFLICT, format!("`{name}` needs parameters: {names}"));
            Err(problem.with_hint(format!("set {names} under `migrations.parameters.{name}` in sexton.yaml")))
        }
    }
}

/// What a page shows of a migration.
#[derive(Debug)]
pub(in crate::http) enum Look {
    /// How it stands here and now.
    Stands(Box<MigrationState>),
    /// It cannot be planned yet.
    Needs(Needy),
}

/// What there is to show of a migration.
pub(in crate::http) async fn look(app: &App, name: &str) -> Result<Look, Problem> {
    match found(app, name).await? {
        Found::Migration(migration) => Ok(Look::Stands(Box::new(state(app, *migration).await?))),
        Found::Lacks(recipe, parameters) => {
            let entry = app.journal().read(name).await?;
            Ok(Look::Needs(Needy { recipe: Recipe::of(&recipe, entry.as_ref()), parameters }))
        }
    }
}

/// How a migration stands. Planning it costs the source some queries for each step: whoever asks within a second shares them.
pub(super) async fn state(app: &App, migration: Migration) -> Result<MigrationState, Problem> {
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
