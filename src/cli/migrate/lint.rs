use std::path::{Path, PathBuf};

use clap::Args;

use super::output;
use crate::cli::failures::Shown;
use crate::document::Document;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::migrate::lint::{Finding, lint};
use crate::migrate::{RecipeSet, files};
use crate::units::counted;

/// `sexton migrate lint`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LintArgs {
    /// Recipes, or folders of them [default: the recipes that come with sexton]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Needs no configuration and no connection: it is for the check of a change before anybody merges it.
pub(in crate::cli) fn run(args: &LintArgs) -> Result<Exit, Shown> {
    let mut found: Vec<Finding> = Vec::new();
    let mut recipes = 0;
    let mut one = |path: &Path, text: &str| -> Result<(), Shown> {
        found.extend(lint(path, text).map_err(Shown::of)?);
        recipes += 1;
        Ok(())
    };
    if args.paths.is_empty() {
        for (path, text) in RecipeSet::built_in() {
            one(path, text)?;
        }
    }
    for path in &args.paths {
        let all = if path.is_dir() { files(path).map_err(Shown::of)? } else { vec![path.clone()] };
        for path in all {
            let unread = |error| Failure::from(error).with_hint("name a recipe's file, or a folder of recipes");
            let document = Document::read(&path).map_err(unread)?;
            one(&path, document.text())?;
        }
    }
    let errors = found.iter().filter(|one| one.error).count();
    let fails = errors > 0 || (args.strict && !found.is_empty());
    if args.json {
        output::json(&serde_json::json!({ "recipes": recipes, "findings": found }));
    } else {
        for Finding { file, line, rule, error, step, message } in &found {
            let level = if *error { "error" } else { "warning" };
            let step = step.as_ref().map_or_else(String::new, |step| format!("step `{step}`: "));
            output::text(format_args!("{file}:{line}: {level}[{}] {step}{message}", rule.name()));
        }
        output::text(format_args!(
            "{}: {}, {}",
            counted(recipes, "recipe", "recipes"),
            counted(errors, "error", "errors"),
            counted(found.len() - errors, "warning", "warnings")
        ));
    }
    Ok(if fails { Exit::of(Kind::VerificationFailed) } else { Exit::Done })
}
