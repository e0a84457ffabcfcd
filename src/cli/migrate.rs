use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::failures::Shown;
use super::{Global, once, output, progress, signals};
use crate::context::Context;
use crate::daemon::jobs::{MigrateJob, Site};
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::{Request, Runner};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::job::{Job, JobName};
use crate::migrate::{Journal, RecipeSet};

/// `sexton migrate`.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateVerb {
    /// List the recipes and how far each was applied
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a migration would still do; exits 2 when there is something
    Plan(NamedArgs),
    /// Apply a migration once; a second time there is nothing to do
    Run(NamedArgs),
}

/// A migration and its parameters.
#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The recipe's name
    name: String,
    /// A parameter of the recipe; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn migrate(site: Site, verb: &MigrateVerb, global: &Global) -> Result<Exit, Shown> {
    match verb {
        MigrateVerb::List { json } => list(&site, *json).await,
        MigrateVerb::Plan(args) => plan(site, args).await,
        MigrateVerb::Run(args) => run(site, args, global).await,
    }
}

async fn list(site: &Site, json: bool) -> Result<Exit, Shown> {
    let recipes = RecipeSet::load(site.config.recipes.as_deref()).map_err(Shown::of)?;
    let journal = Journal::new(site.ledger().await.map_err(Shown::of)?.pool().clone());
    let entries = journal.list().await.map_err(Shown::of)?;
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for (recipe, path) in recipes.iter() {
        let entry = entries.iter().find(|entry| entry.name == recipe.name.to_string());
        let state = entry.map_or("not_begun", |entry| entry.state.as_str());
        let source = path.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
        shown.push(serde_json::json!({
            "name": recipe.name.to_string(), "description": recipe.description, "state": state, "source": source,
        }));
        rows.push(vec![recipe.name.to_string(), state.replace('_', " "), source, recipe.description.clone()]);
    }
    if json {
        output::json(&serde_json::json!({ "recipes": shown }));
    } else {
        output::text(output::table(&["recipe", "state", "from", "description"], rows));
    }
    Ok(Exit::Done)
}

/// What was typed is checked before anything is connected, and is a mistake of the command line, not of a file.
fn check(site: &Site, args: &NamedArgs) -> Result<(), Shown> {
    let recipes = RecipeSet::load(site.config.recipes.as_deref()).map_err(Shown::of)?;
    let mut parameters = site.config.parameters.clone();
    parameters.entry(args.name.clone()).or_default().extend(args.set.iter().cloned());
    let Err(error) = recipes.select(std::slice::from_ref(&args.name), &parameters) else { return Ok(()) };
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
    failure.hint = Some(known.unwrap_or_else(|| "`sexton migrate list` shows what each of them does".into()));
    Err(failure.into())
}

fn job(site: Site, args: &NamedArgs) -> MigrateJob {
    MigrateJob::named(site, &args.name, args.set.iter().cloned().collect::<BTreeMap<_, _>>())
}

async fn plan(site: Site, args: &NamedArgs) -> Result<Exit, Shown> {
    check(&site, args)?;
    let job: std::sync::Arc<dyn Job> = std::sync::Arc::new(job(site, args));
    Ok(once::dry_run(&[job], args.json, Context { cancel: signals::stop_token(), ..Context::plain() }).await)
}

async fn run(site: Site, args: &NamedArgs, global: &Global) -> Result<Exit, Shown> {
    check(&site, args)?;
    let runner = Runner::new(site.ledger().await.map_err(Shown::of)?);
    let request = Request {
        trigger: Trigger::Cli,
        deadline: site.policies.schedule.deadline(JobName::Migrate).into(),
        patience: Duration::ZERO,
        cancel: signals::stop_token(),
        progress: progress::sink(global.quiet),
    };
    let finished = runner.run(&job(site, args), &request).await.map_err(Shown::of)?;
    Ok(once::conclude(&finished, args.json))
}
