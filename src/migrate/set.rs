//! The recipes there are: those that come with sexton, and those of a folder, which go before them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, NamedSource, SourceSpan};

use super::error::MigrateError;
use super::migration::Migration;
use super::recipe::Recipe;
use crate::failure::{Explain, Kind};

/// The recipes that come with sexton: file name and text.
const BUILT_IN: [(&str, &str); 1] =
    [("tune-autovacuum.yaml", include_str!("../../migrations/recipes/tune-autovacuum.yaml"))];

/// Recipes by name.
#[derive(Debug, Clone, Default)]
pub struct RecipeSet {
    recipes: BTreeMap<String, Source>,
}

#[derive(Debug, Clone)]
struct Source {
    recipe: Recipe,
    /// `None` for one that comes with sexton.
    path: Option<PathBuf>,
}

/// A recipe that cannot be used. As a [`Diagnostic`] it shows the place in the file.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum RecipeError {
    /// The folder or a file in it cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a recipe.
    #[error("{place}: {message}")]
    Invalid {
        /// `file:line:column`, or the file where there is no line.
        place: String,
        /// What is wrong.
        message: String,
        /// The file.
        #[source_code]
        text: Arc<NamedSource<String>>,
        /// Where in it.
        #[label("here")]
        at: Option<SourceSpan>,
    },
    /// Two files of the folder hold recipes of one name.
    #[error("the recipe `{name}` is in two files: {} and {}", first.display(), second.display())]
    Twice {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

impl Explain for RecipeError {
    fn kind(&self) -> Kind {
        Kind::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } => "check the path and who may read it".to_owned(),
            Self::Invalid { .. } => "compare it with migrations/recipes/tune-autovacuum.yaml".to_owned(),
            Self::Twice { .. } => "give one of them another name".to_owned(),
        })
    }
}

impl RecipeSet {
    /// The built-in recipes, and every `*.yaml` and `*.yml` of the folder. A recipe of the folder takes the place of a
    /// built-in one of the same name.
    ///
    /// # Errors
    /// When the folder cannot be read, a file in it is not a recipe, or two have the same name.
    pub fn load(folder: Option<&Path>) -> Result<Self, RecipeError> {
        let mut recipes = BTreeMap::new();
        for (file, text) in BUILT_IN {
            let recipe = parse(Path::new(file), text)?;
            recipes.insert(recipe.name.to_string(), Source { recipe, path: None });
        }
        for path in folder.map(files).transpose()?.unwrap_or_default() {
            let text =
                std::fs::read_to_string(&path).map_err(|source| RecipeError::Read { path: path.clone(), source })?;
            let recipe = parse(&path, &text)?;
            let name = recipe.name.to_string();
            if let Some(Source { path: Some(first), .. }) = recipes.get(&name) {
                return Err(RecipeError::Twice { name, first: first.clone(), second: path });
            }
            recipes.insert(name, Source { recipe, path: Some(path) });
        }
        Ok(Self { recipes })
    }

    /// The recipe of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Recipe> {
        self.recipes.get(name).map(|s| &s.recipe)
    }

    /// Every recipe by name, and the file of those that do not come with sexton.
    pub fn iter(&self) -> impl Iterator<Item = (&Recipe, Option<&Path>)> {
        self.recipes.values().map(|s| (&s.recipe, s.path.as_deref()))
    }

    /// The migrations of the given names, in that order, with parameters by recipe and name.
    ///
    /// # Errors
    /// A name without a recipe, or a parameter that is missing, unknown or of another type.
    pub fn select(
        &self,
        names: &[String],
        parameters: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Vec<Migration>, MigrateError> {
        let none = BTreeMap::new();
        let one = |name: &String| {
            let recipe = self.get(name).ok_or_else(|| MigrateError::UnknownRecipe {
                name: name.clone(),
                known: self.recipes.keys().cloned().collect::<Vec<_>>().join(", "),
            })?;
            Migration::new(recipe, parameters.get(name).unwrap_or(&none))
                .map_err(|source| MigrateError::Parameter { name: name.clone(), source })
        };
        names.iter().map(one).collect()
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, RecipeError> {
    let read = |source| RecipeError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        // A mounted ConfigMap shows its keys as links to files, beside folders whose names begin with a dot.
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Parses and validates one recipe; `path` is only shown.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Recipe, RecipeError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let invalid = |place: String, message: String, at| RecipeError::Invalid {
        place,
        message,
        text: Arc::new(NamedSource::new(path.display().to_string(), text.to_owned())),
        at,
    };
    let recipe: Recipe = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        let message = message.lines().next().unwrap_or_default();
        let message = message.rfind(" at line ").map_or(message, |cut| message.get(..cut).unwrap_or(message));
        match error.location().filter(|l| l.line() > 0) {
            Some(at) => invalid(
                format!("{}:{}:{}", path.display(), at.line(), at.column()),
                message.trim_end_matches([':', ' ']).to_owned(),
                offset(text, at.line(), at.column()).map(|o| SourceSpan::new(o.into(), 1)),
            ),
            None => invalid(path.display().to_string(), message.to_owned(), None),
        }
    })?;
    recipe.validate().map_err(|message| invalid(path.display().to_string(), message, None))?;
    Ok(recipe)
}

/// The byte at a line and column that count from 1.
fn offset(text: &str, line: u64, column: u64) -> Option<usize> {
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(before).map(str::len).sum();
    let within = usize::try_from(column).ok()?.checked_sub(1)?;
    let rest = text.get(start..)?;
    Some(start + rest.chars().take(within).map(char::len_utf8).sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: mine\ndescription: d\ndatabase: main\nstages: [{name: s, steps: [{name: t, do: {sql: {run: [SELECT 1]}}}]}]\n";

    #[test]
    fn the_recipe_that_comes_with_it_becomes_one_step_per_table() {
        let set = RecipeSet::load(None).unwrap();
        let given = BTreeMap::from([("queue_rows".to_owned(), "1000".to_owned())]);
        let parameters = BTreeMap::from([("tune-autovacuum".to_owned(), given)]);
        let migration = set.select(&["tune-autovacuum".to_owned()], &parameters).unwrap().remove(0);
        let keys: Vec<_> = migration.steps.iter().map(|s| s.key.as_str()).collect();
        assert_eq!(keys.len(), 18);
        assert_eq!(keys.first(), Some(&"append-tables[history_node]"));
        let super::super::steps::Operation::Sql(sql) = &migration.steps.last().unwrap().operation;
        let run = sql.run.first().unwrap().as_str();
        assert!(run.starts_with("ALTER TABLE IF EXISTS \"signals_requested_sets\" SET"), "{run}");
        assert!(run.contains("autovacuum_vacuum_threshold = 1000"), "{run}");
        assert!(migration.steps.iter().all(|s| s.operation.can_be_undone()));
    }

    #[test]
    fn bad_files_are_told_with_their_place() {
        let check = |text: &str, expect: &str| {
            let error = parse(Path::new("r.yaml"), text).unwrap_err();
            assert!(error.to_string().contains(expect), "{error}");
            assert_eq!(error.kind(), Kind::Config);
        };
        check(&GOOD.replace("description", "descriptoin"), "r.yaml:2:1");
        check(&GOOD.replace("sql:", "sqll:"), "r.yaml:4:");
        check(&GOOD.replace("run:", "rum:"), "rum");
        check(&GOOD.replace("name: mine", "name: My Recipe"), "is not a name");
        check(&GOOD.replace("SELECT 1", "' '"), "must not be empty");
        check("name: [", "r.yaml:");
        check("", "r.yaml");
    }

    #[test]
    fn a_folder_goes_before_the_built_in_and_no_name_is_there_twice() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        write("a.yaml", &GOOD.replace("mine", "tune-autovacuum"));
        write("notes.txt", "not a recipe");
        let set = RecipeSet::load(Some(folder.path())).unwrap();
        assert_eq!(set.get("tune-autovacuum").unwrap().description, "d");
        write("b.yml", &GOOD.replace("mine", "tune-autovacuum"));
        let error = RecipeSet::load(Some(folder.path())).unwrap_err();
        assert!(matches!(error, RecipeError::Twice { .. }), "{error}");
        let none = RecipeSet::load(Some(Path::new("does/not/exist"))).unwrap_err();
        assert!(matches!(none, RecipeError::Read { .. }), "{none}");
    }

    #[test]
    fn an_unknown_name_or_parameter_is_a_mistake_of_the_configuration() {
        let set = RecipeSet::load(None).unwrap();
        let error = set.select(&["tune".to_owned()], &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "there is no recipe `tune`; there are: tune-autovacuum");
        let wrong = BTreeMap::from([("history_share".to_owned(), "0.1); DROP TABLE x".to_owned())]);
        let parameters = BTreeMap::from([("tune-autovacuum".to_owned(), wrong)]);
        let error = set.select(&["tune-autovacuum".to_owned()], &parameters).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
    }
}
