//! A recipe: a migration as a file, parsed into types that cannot be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::parameters::{self, Parameter};
use super::steps::Operation;

/// A migration as written: what it is for, on which database it acts, and the stages of its steps.
///
/// The canonical form, from which the digest is taken, is this structure as JSON. A field that is added later must be
/// left out of it at its default; otherwise a new version of sexton would take every applied recipe for an edited one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Under which it is journaled, once and for all.
    pub name: Name,
    /// What it does and why, for the person who plans it.
    pub description: String,
    /// The database its steps act on.
    pub database: Database,
    /// Values that may be set from outside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<Name, Parameter>,
    /// What must hold before anything is done; otherwise the migration is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// A condition of the whole migration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// What is required, as the refusal says it.
    pub that: String,
    /// A query that returns one boolean.
    pub query: Sql,
}

/// Steps that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Unique in the recipe.
    pub name: Name,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One typed operation, or one per value of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the recipe.
    pub name: Name,
    /// What it does, for the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Repeats the step over a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// What is done.
    #[serde(rename = "do")]
    pub operation: Operation,
}

/// A list over which a step is repeated: each value becomes a step of its own, journaled as `step[value]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Each {
    /// How the step's SQL names the value; it is an identifier.
    pub parameter: Name,
    /// The values.
    pub of: Vec<String>,
}

/// A name of a recipe, stage, step or parameter: lower-case letters, digits, `-` and `_`, from a letter on, up to 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if starts && rest && text.len() <= 63 {
            return Ok(Self(text));
        }
        Err(format!("`{text}` is not a name; use lower-case letters, digits, `-` and `_`, a letter first, 63 at most"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A database by the role it has for Temporal, or by its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Database {
    /// Temporal's default store.
    Main,
    /// Temporal's SQL visibility store.
    Visibility,
    /// Any other database of the same server.
    Named(String),
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "main" => Ok(Self::Main),
            "visibility" => Ok(Self::Visibility),
            other if (1..=63).contains(&other.len()) && !other.contains('\0') => Ok(Self::Named(text)),
            _ => {
                Err("this is not a database; write `main`, `visibility`, or the name of one (1 to 63 bytes)".to_owned())
            }
        }
    }
}

impl From<Database> for String {
    fn from(database: Database) -> Self {
        database.to_string()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Visibility => "visibility",
            Self::Named(name) => name,
        })
    }
}

/// One SQL statement as written, without the white space around it; may hold `${parameter}` and
/// `${parameter:literal}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sql(String);

impl Sql {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn render(&self, values: &parameters::Values) -> Result<Self, parameters::ParameterError> {
        parameters::render(&self.0, values).map(Self)
    }
}

impl TryFrom<String> for Sql {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let trimmed = text.trim().trim_end_matches(';').trim_end();
        if trimmed.is_empty() {
            Err("a statement must not be empty; write SQL, or leave it out".to_owned())
        } else {
            Ok(Self(trimmed.to_owned()))
        }
    }
}

impl From<Sql> for String {
    fn from(sql: Sql) -> Self {
        sql.0
    }
}

/// BLAKE3 of a canonical form, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// As hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Recipe {
    /// The digest of the canonical form: comments, white space and the order of keys do not change it; everything
    /// that changes what is done, said or journaled does.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let canonical = serde_json::to_vec(self).unwrap_or_default();
        Digest(blake3::hash(&canonical).to_hex().to_string())
    }

    /// What types alone cannot say: unique names, something to do, known parameters, defaults that fit their type.
    ///
    /// # Errors
    /// The first rule that is broken, as a sentence.
    pub fn validate(&self) -> Result<(), String> {
        let mut steps = BTreeSet::new();
        let mut stages = BTreeSet::new();
        for (name, parameter) in &self.parameters {
            parameter
                .validate()
                .map_err(|e| format!("parameter `{name}`: {e}; write a default that fits its `type`"))?;
        }
        let none = BTreeSet::new();
        for requirement in &self.requires {
            self.known(&requirement.query, &none).map_err(|e| format!("requirement `{}`: {e}", requirement.that))?;
        }
        if self.stages.is_empty() {
            return Err("a recipe needs at least one stage; write one under `stages`".to_owned());
        }
        for stage in &self.stages {
            if !stages.insert(&stage.name) {
                return Err(format!("two stages are named `{}`; give one another name", stage.name));
            }
            if stage.steps.is_empty() {
                return Err(format!("stage `{}` has no steps; write one, or leave the stage out", stage.name));
            }
            for step in &stage.steps {
                if !steps.insert(&step.name) {
                    return Err(format!("two steps are named `{}`; give one another name", step.name));
                }
                self.validate_step(step).map_err(|e| format!("step `{}`: {e}", step.name))?;
            }
        }
        Ok(())
    }

    fn validate_step(&self, step: &Step) -> Result<(), String> {
        let mut own = BTreeSet::new();
        if let Some(each) = &step.each {
            if self.parameters.contains_key(&each.parameter) {
                return Err(format!("`each` uses the name of the parameter `{}`; take another one", each.parameter));
            }
            if each.of.is_empty() {
                return Err("`each` has no values; write them under `of`".to_owned());
            }
            let mut seen = BTreeSet::new();
            for value in &each.of {
                parameters::ParameterKind::Identifier.check(value).map_err(|e| e.to_string())?;
                if !seen.insert(value) {
                    return Err(format!("`each` names `{value}` twice; keep one"));
                }
            }
            own.insert(each.parameter.as_str());
        }
        step.operation.validate()?;
        step.operation.statements().try_for_each(|sql| self.known(sql, &own))
    }

    fn known(&self, sql: &Sql, own: &BTreeSet<&str>) -> Result<(), String> {
        for name in parameters::names(sql.as_str()).map_err(|e| e.to_string())? {
            let declared = self.parameters.keys().any(|p| p.as_str() == name);
            if !declared && !own.contains(name.as_str()) {
                return Err(format!("`${{{name}}}` is not a parameter of the recipe; declare it under `parameters`"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::set::parse;

    const SMALL: &str = "\
name: small
description: d
database: main
parameters: {rows: {type: integer, default: 5}}
stages:
  - name: s
    steps:
      - name: t
        do:
          sql:
            run: [\"SET x = ${rows}\"]
";

    fn digest(text: &str) -> String {
        parse(Path::new("r.yaml"), text).unwrap().digest().to_string()
    }

    #[test]
    fn the_digest_is_of_what_is_meant_and_not_of_how_it_is_written() {
        let base = digest(SMALL);
        let same = |text: &str| assert_eq!(digest(text), base, "{text}");
        let other = |text: &str| assert_ne!(digest(text), base, "{text}");
        same(&SMALL.replace("description: d\n", "# a comment\ndescription:   'd'\n\n"));
        same(&SMALL.replace("name: small\ndescription: d\n", "description: d\nname: small\n"));
        same(
            &SMALL.replace("run: [\"SET x = ${rows}\"]", "run:\n              - |\n                SET x = ${rows};\n"),
        );
        same(&SMALL.replace("sql:\n", "sql:\n            lock_timeout: 500ms\n"));
        other(&SMALL.replace("default: 5", "default: 6"));
        other(&SMALL.replace("x = ", "y = "));
        other(&SMALL.replace("sql:\n", "sql:\n            lock_timeout: 501ms\n"));
        other(&SMALL.replace("database: main", "database: visibility"));
    }

    #[test]
    fn a_digest_outlives_the_version_that_made_it() {
        // A journal holds digests for years. When this fails, applied recipes would be taken for edited ones.
        assert_eq!(digest(SMALL), "5b2089723d929c4d240275e37879eba39b30e20662fcbe480611dbab220e0df8");
    }

    #[test]
    fn what_types_cannot_say_is_validated() {
        let check = |from: &str, to: &str, expect: &str| {
            let error = parse(Path::new("r.yaml"), &SMALL.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("${rows}", "${row}", "`${row}` is not a parameter");
        check("${rows}", "${rows", "is not `${name}`");
        check("default: 5", "default: five", "`five` is not an integer");
        check("\n            run: [\"SET x = ${rows}\"]", "\n            run: []", "at least one statement");
        check("sql:\n", "sql:\n            attempts: 0\n", "`attempts`");
        check("sql:\n", "sql:\n            lock_timeout: 0s\n", "`lock_timeout`");
        check("sql:\n", "sql:\n            undo: [SELECT 1]\n            undo_query: SELECT 1\n", "exclude each other");
        check("- name: t\n", "- name: t\n        each: {parameter: rows, of: [a]}\n", "name of the parameter");
        check("- name: t\n", "- name: t\n        each: {parameter: p, of: [a b]}\n", "not an identifier");
        check("- name: t\n", "- name: t\n        each: {parameter: p, of: [a, a]}\n", "`a` twice");
        check("  - name: s\n", "  - {name: s, steps: []}\n  - name: z\n", "has no steps");
    }
}
