//! Recipes, and the migrations that name them. None of this connects to anything.

use super::{Case, GOOD, TODO, Table, with};
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
        .case(recipe("unknown step kind", "sql:", "sqll:").says(78, TODO))
        .case(recipe("unknown field", "description: d", "descriptoin: d").says(78, TODO))
        .case(recipe("parameter not declared", "${rows}", "${row}").says(78, TODO))
        .case(recipe("default of another type", "default: 5", "default: many").says(78, TODO))
        .case(recipe("unknown parameter type", "type: integer", "type: int").says(78, TODO))
        .case(recipe("name that is none", "name: mine", "name: My Recipe").says(78, TODO))
        .case(recipe("empty statement", "SELECT ${rows}", " ").says(78, TODO))
        .case(recipe("syntax error", "run: [", "run: ").says(78, TODO))
        .case(Case::new("one name twice", twice, "migrate plan mine").says(78, TODO))
        .check();
}

#[test]
fn names_and_parameters() {
    let plan = |name, args: &str| Case::new(name, site(FOLDER, RECIPE), format!("migrate plan {args}"));
    let applied = site("migrations: {recipes: recipes, apply: [theirs]}\n", RECIPE);
    let parameters = site("migrations: {recipes: recipes, parameters: {mine: {row: '5'}}}\n", RECIPE);
    Table::default()
        .case(plan("unknown recipe", "mien").says(64, TODO))
        .case(plan("unknown parameter", "mine --set row=5").says(64, TODO))
        .case(plan("parameter of another type", "mine --set rows=many").says(64, TODO))
        .case(Case::new("unknown recipe in the configuration", applied, "once migrate --dry-run").says(78, TODO))
        .case(Case::new("unknown parameter in the configuration", parameters, "migrate plan mine").says(78, TODO))
        .check();
}
