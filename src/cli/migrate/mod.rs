//! `sexton migrate`: list, plan, approve, run and undo staged migrations.

mod approve;
pub(super) mod lint;
mod list;
mod plan;
mod rehearse;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::failures::Shown;
use super::{Global, once, output, progress, signals};
use crate::context::Context;
use crate::daemon::jobs::{MigrateJob, Site, UndoJob, begun_with};
use crate::daemon::ledger::{Outcome, Trigger};
use crate::daemon::runner::{Finished, Request};
use crate::exit::Exit;
use crate::failure::{Explain, Failure, Kind};
use crate::job::JobName;
use crate::migrate::{BY_HAND, MigrateError, Migration, Name, Options, ParameterError, RecipeSet, UNDONE_BY};
use crate::units::took;

/// `sexton migrate`.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateVerb {
    /// List the recipes and how far each was applied
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look through recipes for what is likely to go wrong, with file and line; exits 3 when something is sure to
    Lint(lint::LintArgs),
    /// Show what a migration would still do, step by step; exits 2 when there is something
    Plan(NamedArgs),
    /// Run a migration on a restored backup, under load, and tell what production has to expect
    Rehearse(rehearse::RehearseArgs),
    /// Agree, by name, to a migration exactly as `plan` shows it now
    Approve(approve::ApproveArgs),
    /// Apply a migration once; a second time there is nothing to do
    Run(RunArgs),
    /// Undo what a migration has done, in reverse; asks a run that is at it to do so
    Undo(UndoArgs),
}

/// How long `undo` waits for a run that it has asked to turn around.
const UNDO_PATIENCE: Duration = Duration::from_secs(10);

/// A migration and its parameters.
#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The recipe's name
    #[arg(value_name = "RECIPE")]
    name: String,
    /// A parameter of the recipe; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `sexton migrate run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Stop when this stage is done; the next run goes on
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    until: Option<Name>,
}

/// `sexton migrate undo`.
#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// You have undone this step yourself, since its own undo fails: take it for undone, and go on
    #[arg(long, value_name = "STEP")]
    by_hand: Option<String>,
}

fn stage(text: &str) -> Result<Name, String> {
    Name::try_from(text.to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn migrate(site: Site, verb: &MigrateVerb, global: &Global) -> Result<Exit, Shown> {
    match verb {
        MigrateVerb::List { json } => list::list(&site, *json).await,
        MigrateVerb::Lint(args) => lint::run(args),
        MigrateVerb::Plan(args) => plan::plan(&site, args).await,
        MigrateVerb::Rehearse(args) => rehearse::rehearse(&site, args, global).await,
        MigrateVerb::Approve(args) => approve::approve(&site, args).await,
        MigrateVerb::Run(args) => run(site, args, global).await,
        MigrateVerb::Undo(args) => undo(site, args, global).await,
    }
}

/// What was typed is a mistake of the command line, not of a file. Only of a recipe that is not there the ledger is asked.
async fn check(site: &Site, args: &NamedArgs) -> Result<Migration, Shown> {
    let recipes = RecipeSet::load(site.config.recipes.as_deref()).map_err(Shown::of)?;
    let mut parameters = site.config.parameters.clone();
    parameters.entry(args.name.clone()).or_default().extend(args.set.iter().cloned());
    let error = match recipes.select(std::slice::from_ref(&args.name), &parameters) {
        Ok(mut migrations) => match migrations.pop() {
            Some(migration) => return Ok(migration),
            None => return Err(Failure::new(Kind::Usage, "no migration is named").into()),
        },
        Err(error) => error,
    };
    if recipes.get(&args.name).is_none()
        && let Some(failure) = gone(site, &args.name).await
    {
        return Err(failure.into());
    }
    let hint = match &error {
        MigrateError::Parameter { source: ParameterError::Missing(_), .. } => error.hint(),
        _ => None,
    };
    let known = recipes.get(&args.name).map(|recipe| {
        let names: Vec<&str> = recipe.parameters.keys().map(|name| name.as_str()).collect();
        format!(
            "the parameters of `{}` are: {}",
            args.name,
            if names.is_empty() { "none".into() } else { names.join(", ") }
        )
    });
    // What the configuration alone gets wrong stays a mistake of the configuration.
    let typed = known.is_none() || recipes.select(std::slice::from_ref(&args.name), &site.config.parameters).is_ok();
    let mut failure = Failure::from(error);
    failure.kind = if typed { Kind::Usage } else { Kind::Config };
    let known = hint.or(known);
    failure.hint = Some(known.unwrap_or_else(|| "`sexton migrate list` shows what each of them does".into()));
    Err(failure.into())
}

/// What to say of a migration that was begun and whose recipe is not there any more. A ledger that cannot be read knows of
/// none.
async fn gone(site: &Site, name: &str) -> Option<Failure> {
    let gone = site.journal().await.ok()?.recipe_gone(name).await.ok()??;
    let folder = site
        .config
        .recipes
        .as_ref()
        .map_or_else(|| "a folder that `migrations.recipes` names".to_owned(), |folder| folder.display().to_string());
    let hint = format!(
        "put its file back into {folder}; the ledger's database has kept it, as JSON, which is YAML too: SELECT recipe \
         FROM migrations WHERE name = '{name}'"
    );
    Some(Failure::from(gone).with_hint(hint))
}

fn job(site: Site, args: &NamedArgs) -> MigrateJob {
    MigrateJob::named(site, &args.name, args.set.iter().cloned().collect::<BTreeMap<_, _>>())
}

async fn run(site: Site, args: &RunArgs, global: &Global) -> Result<Exit, Shown> {
    let named = &args.named;
    let migration = check(&site, named).await?;
    let has = |until: &Name| migration.recipe.stages.iter().any(|stage| stage.name == *until);
    if let Some(until) = args.until.as_ref().filter(|until| !has(until)) {
        let known: Vec<&str> = migration.recipe.stages.iter().map(|stage| stage.name.as_str()).collect();
        let failure = Failure::new(Kind::Usage, format!("`{}` has no stage `{until}`", named.name));
        return Err(failure.with_hint(format!("its stages are: {}", known.join(", "))).into());
    }
    let runner = site.runner().await.map_err(Shown::of)?;
    let request = request(&site, Duration::ZERO, global);
    let options = Options::until(args.until.clone());
    let job = job(site, named).with_options(options);
    let finished = runner.run(&job, &request).await.map_err(Shown::of)?;
    let exit = conclude(finished, named.json);
    runner.deliver(&request.cancel).await;
    Ok(exit)
}

fn request(site: &Site, patience: Duration, global: &Global) -> Request {
    Request {
        trigger: Trigger::Cli,
        by: None,
        deadline: site.policies.schedule.deadline(JobName::Migrate).into(),
        patience,
        cancel: signals::stop_token(),
        progress: progress::sink(global.quiet),
    }
}

/// Shows a run, and gives its exit code.
fn conclude(mut finished: Finished, json: bool) -> Exit {
    if !json {
        // What was done says more than what was to be done, and of a run that failed that alone is true.
        let steps = steps(finished.report.as_ref());
        if !steps.is_empty() || finished.error.is_some() {
            finished.plan = None;
        }
        if !steps.is_empty() {
            output::text(output::table(&["stage", "step", "outcome", "took"], steps));
        }
    }
    once::conclude(&finished, json)
}

/// The steps that a run came to, for people. The one that failed stands where it was tried: before those that were undone
/// for its sake.
fn steps(report: Option<&Value>) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = |step: &Value| took(step["milliseconds"].as_u64().unwrap_or(0));
    let mut rows = Vec::new();
    for migration in report.and_then(|report| report["migrations"].as_array()).into_iter().flatten() {
        let steps = migration["steps"].as_array().map_or(&[][..], Vec::as_slice);
        let tried = steps.iter().position(|step| step["outcome"] == "undone").unwrap_or(steps.len());
        let row = |step: &Value| vec![text(&step["stage"]), text(&step["step"]), outcome(step), time(step)];
        let (forward, back) = steps.split_at(tried);
        rows.extend(forward.iter().map(row));
        let failed = migration.get("failed");
        rows.extend(failed.map(|at| vec![text(&at["stage"]), text(&at["step"]), "failed".to_owned(), String::new()]));
        rows.extend(back.iter().map(row));
    }
    rows
}

/// What came of a step, for people.
fn outcome(step: &Value) -> String {
    let outcome = step["outcome"].as_str().unwrap_or_default();
    match &step["found"] {
        found if found[BY_HAND] == true => format!("{outcome} by hand"),
        // What it had found to be undone was nothing, which may surprise.
        found if outcome == "undone" && found[UNDONE_BY] == 0 => format!("{outcome}: no statement did it"),
        _ => outcome.to_owned(),
    }
}

/// A run of the job like any other. One of the same job that is in progress may be at the very migration: it is asked to turn
/// around, and waited for.
async fn undo(site: Site, UndoArgs { named: args, by_hand }: &UndoArgs, global: &Global) -> Result<Exit, Shown> {
    // What it was begun with is in the journal; what is given all the same is held against that.
    let begun = begun_with(&site, &args.name).await?.unwrap_or_default();
    let given = args.set.iter().cloned();
    let set = begun.into_iter().chain(given).collect::<BTreeMap<_, _>>().into_iter().collect();
    let migration = check(&site, &NamedArgs { name: args.name.clone(), set, json: args.json }).await?;
    let runner = site.runner().await.map_err(Shown::of)?;
    let request = request(&site, UNDO_PATIENCE, global);
    let job = UndoJob::new(site, migration).by_hand(by_hand.clone());
    let called = match runner.is_busy(JobName::Migrate).await.map_err(Shown::of)? {
        true => {
            let (cancel, progress) = (request.cancel.clone(), Arc::clone(&request.progress));
            job.call_back(&Context { cancel, progress, ..Context::plain() }).await
        }
        false => Ok(()),
    };
    let finished = match called {
        Ok(()) => runner.run(&job, &request).await.map_err(Shown::of),
        Err(failure) => Err(failure.into()),
    };
    // Whatever it came to, no word is left that nobody is there to find.
    let asked = match &finished {
        Ok(finished) if finished.error.is_none() => None,
        _ => job.settle_call().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the word that it is to be undone may be left");
            None
        }),
    };
    let mut finished = finished?;
    if let Some(asked) = asked.filter(|_| finished.run.is_none()) {
        finished.outcome = Outcome::of(asked.kind);
        finished.error = Some(asked);
    }
    let exit = conclude(finished, args.json);
    runner.deliver(&request.cancel).await;
    Ok(exit)
}
