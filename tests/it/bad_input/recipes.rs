//! Recipes, and the migrations that name them. None of this connects to anything.

use super::{Case, GOOD, Table, with};
use crate::support::site::Site;

const RECIPE: &str = "\
name: mine
description: d
database: main
parameters:
  rows: {type: integer, default: 5}
stages:
  - name: s
    steps:
      - name: t
        do:
          sql:
            run: [\"SELECT ${rows}\"]
";

fn site(config: &str, recipe: &str) -> Site {
    let site = Site::new(&format!("{GOOD}{config}"));
    std::fs::create_dir(site.path().join("recipes")).unwrap();
    site.file("recipes/mine.yaml", recipe)
}

const FOLDER: &str = "migrations: {recipes: recipes}\n";

fn recipe(name: &'static str, from: &str, to: &str) -> Case {
    Case::new(name, site(FOLDER, &with(RECIPE, from, to)), "migrate plan mine")
}

#[test]
fn files() {
    let twice = site(FOLDER, RECIPE).file("recipes/second.yaml", RECIPE);
    Table::default()
        .case(recipe("unknown step kind", "sql:", "sqll:").says(
            78,
            "\
error: recipes/mine.yaml:11:11: `sqll` is not known here
  hint: did you mean `sql`?",
        ))
        .case(recipe("unknown field", "description: d", "descriptoin: d").says(
            78,
            "\
error: recipes/mine.yaml:2:1: unknown key `descriptoin`
  hint: did you mean `description`?",
        ))
        .case(recipe("parameter not declared", "${rows}", "${row}").says(
            78,
            "\
error: recipes/mine.yaml:9:15: step `t`: `${row}` is not a parameter of the recipe
  hint: declare it under `parameters`",
        ))
        .case(recipe("default of another type", "default: 5", "default: many").says(
            78,
            "\
error: recipes/mine.yaml:5:9: parameter `rows`: `many` is not an integer
  hint: write a default that fits its `type`",
        ))
        .case(recipe("unknown parameter type", "type: integer", "type: int").says(
            78,
            "\
error: recipes/mine.yaml:5:16: `int` is not known here
  hint: write one of: integer, number, identifier, version, text, command",
        ))
        .case(recipe("name that is none", "name: mine", "name: My Recipe").says(
            78,
            "\
error: recipes/mine.yaml:1:7: `My Recipe` is not a name
  hint: use lower-case letters, digits, `-` and `_`, a letter first, 63 at most",
        ))
        .case(recipe("empty statement", "SELECT ${rows}", " ").says(
            78,
            "\
error: recipes/mine.yaml:12:19: a statement must not be empty
  hint: write SQL, or leave it out",
        ))
        .case(recipe("syntax error", "run: [", "run: ").says(
            78,
            "\
error: recipes/mine.yaml:12:34: this is not YAML: invalid trailing content after double-quoted scalar
  hint: check indentation, quotes and brackets here and in the line above",
        ))
        .case(Case::new("one name twice", twice, "migrate plan mine").says(
            78,
            "\
error: the recipe `mine` is in two files: recipes/mine.yaml and recipes/second.yaml
  hint: give one of them another name",
        ))
        .check();
}

#[test]
fn names_and_parameters() {
    let plan = |name, args: &str| Case::new(name, site(FOLDER, RECIPE), format!("migrate plan {args}"));
    let applied = site("migrations: {recipes: recipes, apply: [theirs]}\n", RECIPE);
    let parameters = site("migrations: {recipes: recipes, parameters: {mine: {row: '5'}}}\n", RECIPE);
    Table::default()
        .case(plan("unknown recipe", "mien").says(
            64,
            "\
error: there is no recipe `mien`; there are: add-index, adopt-rollover, first-day, mine, move-database, move-database-kubernetes, move-database-live, tune-autovacuum, upgrade-schema, upgrade-visibility-schema
  hint: `sexton migrate list` shows what each of them does",
        ))
        .case(plan("unknown parameter", "mine --set row=5").says(
            64,
            "\
error: migration `mine`: the recipe has no parameter `row`
  hint: the parameters of `mine` are: rows",
        ))
        .case(plan("parameter of another type", "mine --set rows=many").says(
            64,
            "\
error: migration `mine`: parameter `rows`: `many` is not an integer
  hint: the parameters of `mine` are: rows",
        ))
        .case(Case::new("unknown recipe in the configuration", applied, "once migrate --dry-run").says(
            78,
            "\
error: there is no recipe `theirs`; there are: add-index, adopt-rollover, first-day, mine, move-database, move-database-kubernetes, move-database-live, tune-autovacuum, upgrade-schema, upgrade-visibility-schema
  hint: correct `migrations.apply` or `migrations.parameters`, or put the recipe into the folder of recipes",
        ))
        .case(Case::new("unknown parameter in the configuration", parameters, "migrate plan mine").says(
            78,
            "\
error: migration `mine`: the recipe has no parameter `row`
  hint: the parameters of `mine` are: rows",
        ))
        .check();
}
