//! The recipes there are: those that come with sexton, and those of a folder, which go before them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::MigrateError;
use super::lint::Places;
use super::migration::Migration;
use super::recipe::{Broken, Recipe};
use crate::document::{ConfigError, Document};
use crate::failure::{Explain, Kind};

/// The recipes that come with sexton: file name and text.
const BUILT_IN: [(&str, &str); 9] = [
    ("add-index.yaml", include_str!("../../migrations/recipes/add-index.yaml")),
    ("adopt-rollover.yaml", include_str!("../../migrations/recipes/adopt-rollover.yaml")),
    ("first-day.yaml", include_str!("../../migrations/recipes/first-day.yaml")),
    ("move-database.yaml", include_str!("../../migrations/recipes/move-database.yaml")),
    ("move-database-kubernetes.yaml", include_str!("../../migrations/recipes/move-database-kubernetes.yaml")),
    ("move-database-live.yaml", include_str!("../../migrations/recipes/move-database-live.yaml")),
    ("tune-autovacuum.yaml", include_str!("../../migrations/recipes/tune-autovacuum.yaml")),
    ("upgrade-schema.yaml", include_str!("../../migrations/recipes/upgrade-schema.yaml")),
    ("upgrade-visibility-schema.yaml", include_str!("../../migrations/recipes/upgrade-visibility-schema.yaml")),
];

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

/// A recipe that cannot be used.
#[derive(Debug, thiserror::Error)]
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
    #[error(transparent)]
    Invalid(#[from] ConfigError),
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
            Self::Invalid(error) => return error.hint(),
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
            let recipe = parse(&path, Document::read(&path)?.text())?;
            let name = recipe.name.to_string();
            if let Some(Source { path: Some(first), .. }) = recipes.get(&name) {
                return Err(RecipeError::Twice { name, first: first.clone(), second: path });
            }
            recipes.insert(name, Source { recipe, path: Some(path) });
        }
        Ok(Self { recipes })
    }

    /// The texts of the recipes that come with sexton, by the names of their files.
    pub fn built_in() -> impl Iterator<Item = (&'static Path, &'static str)> {
        BUILT_IN.iter().map(|(file, text)| (Path::new(*file), *text))
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

    fn unknown(&self, name: &str) -> MigrateError {
        let known = self.recipes.keys().cloned().collect::<Vec<_>>().join(", ");
        MigrateError::UnknownRecipe { name: name.to_owned(), known }
    }

    /// The migrations of the given names, in that order, with parameters by recipe and name.
    ///
    /// # Errors
    /// A name without a recipe, among those with parameters too, or a parameter that is missing, unknown or of another
    /// type.
    pub fn select(
        &self,
        names: &[String],
        parameters: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Vec<Migration>, MigrateError> {
        let none = BTreeMap::new();
        // A recipe's name with a slip in it would leave the defaults in force, for ever once it is begun.
        if let Some(unknown) = parameters.keys().find(|name| self.get(name).is_none()) {
            return Err(self.unknown(unknown));
        }
        let one = |name: &String| {
            let recipe = self.get(name).ok_or_else(|| self.unknown(name))?;
            Migration::new(recipe, parameters.get(name).unwrap_or(&none))
                .map_err(|source| MigrateError::Parameter { name: name.clone(), source })
        };
        names.iter().map(one).collect()
    }
}

/// The files of a folder that are recipes by their names.
///
/// # Errors
/// When it cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, RecipeError> {
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
    let document = Document::new(path, text);
    let recipe: Recipe = document.parse()?;
    recipe.validate().map_err(|Broken { part, message }| {
        let (message, hint) = message.split_once("; ").unwrap_or((&message, "compare it with a recipe that works"));
        match Places::of(&document).part(&part) {
            Some(at) => document.error_at(at, message, hint),
            None => ConfigError::about_file(path, message, hint),
        }
    })?;
    Ok(recipe)
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
        let super::super::steps::Operation::Sql(sql) = &migration.steps.last().unwrap().operation else { panic!() };
        let run = sql.run.first().unwrap().as_str();
        assert!(run.starts_with("ALTER TABLE IF EXISTS \"signals_requested_sets\" SET"), "{run}");
        assert!(run.contains("autovacuum_vacuum_threshold = 1000"), "{run}");
        assert!(migration.point_of_no_return().is_none());
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
        check(
            &GOOD.replace("[{name: s,", "[{name: s, deadline: 0s,"),
            "r.yaml:4:17: stage `s` has a deadline of nothing",
        );
        check(&GOOD.replace("[{name: s,", "[{name: s, steps: []}, {name: z,"), "r.yaml:4:17: stage `s` has no steps");
        check(&GOOD.replace("{name: t,", "{name: t, do: {wait: {for: 1s}}}, {name: t,"), ": two steps are named `t`");
        check("name: m\ndescription: d\ndatabase: main\nstages: []\n", "r.yaml:4:9: a recipe needs at least one stage");
        let more = "parameters:\n  rows: {type: integer, default: many}\nstages:";
        check(&GOOD.replace("stages:", more), "r.yaml:5:9: parameter `rows`");
        let more = "requires:\n  - that: it is so\n    query: SELECT ${x}\nstages:";
        check(&GOOD.replace("stages:", more), "r.yaml:5:11: requirement `it is so`");
        check(&GOOD.replace("description: d", "description: \"d\\0\""), "r.yaml:2:14: the description holds a NUL");
        check(&GOOD.replace("{name: t,", "{name: t, description: \"\\0\","), "step `t`: its description holds a NUL");
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
        assert_eq!(
            error.to_string(),
            "there is no recipe `tune`; there are: add-index, adopt-rollover, first-day, move-database, \
             move-database-kubernetes, move-database-live, tune-autovacuum, upgrade-schema, upgrade-visibility-schema"
        );
        let wrong = BTreeMap::from([("history_share".to_owned(), "0.1); DROP TABLE x".to_owned())]);
        let parameters = BTreeMap::from([("tune-autovacuum".to_owned(), wrong)]);
        let error = set.select(&["tune-autovacuum".to_owned()], &parameters).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
    }
}
