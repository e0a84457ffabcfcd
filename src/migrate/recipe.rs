//! A recipe: a migration as a file, parsed into types that cannot be wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::names::{Database, Digest, Name, Sql};
use super::parameters::{self, Parameter, Placed};
use super::steps::Operation;
use crate::units::Span;

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
    /// Where a failed step leads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Whether a person must have agreed to exactly this plan.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approval: ApprovalRule,
    /// Whether it must have been rehearsed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rehearsal: RehearsalRule,
    /// What a rehearsal may come to at most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// What must hold before anything is done; otherwise the migration is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// Where a failed step leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Back: the finished steps are undone in reverse, as long as every one of them can be.
    #[default]
    Undo,
    /// Nowhere: what is done stays, and the next run goes on with the step that failed.
    Stop,
}

/// Whether a person must have agreed to a plan before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalRule {
    /// When a step that remains cannot be undone.
    #[default]
    Destructive,
    /// Always.
    Required,
    /// Never.
    None,
}

/// Whether a plan must have been rehearsed before it is approved or run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RehearsalRule {
    /// As one likes.
    #[default]
    Optional,
    /// An approval needs one that has passed.
    Required,
}

/// What a rehearsal may come to at most; beyond it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The longest that a lock may be held which keeps writers or readers of a table waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Span>,
    /// The longest window to expect in production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

/// For fields that are left out of the canonical form at their default.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// How long it may take; beyond it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
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

/// A rule that a recipe breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What breaks it.
    pub(super) part: Part,
    /// A sentence; behind the semicolon what to do about it.
    pub(super) message: String,
}

/// A part of a recipe, by its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The recipe's own description.
    Description,
    /// A parameter's declaration.
    Parameter(Name),
    /// A requirement.
    Requirement(usize),
    /// The list of stages.
    Stages,
    /// A stage.
    Stage(usize),
    /// A step of a stage.
    Step(usize, usize),
}

impl Part {
    fn breaks(self, message: impl Into<String>) -> Broken {
        Broken { part: self, message: message.into() }
    }
}

impl Recipe {
    /// The digest of the canonical form: comments, white space and the order of keys do not change it; everything
    /// that changes what is done, said or journaled does.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// What types alone cannot say: unique names, something to do, known parameters, defaults that fit their type.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), Broken> {
        let mut steps = BTreeSet::new();
        let mut stages = BTreeSet::new();
        legible("the description", &self.description).map_err(|e| Part::Description.breaks(e))?;
        for (name, parameter) in &self.parameters {
            let text = parameter.description.as_deref().unwrap_or_default();
            legible(&format!("the description of parameter `{name}`"), text)
                .map_err(|e| Part::Parameter(name.clone()).breaks(e))?;
            let broken = |e| format!("parameter `{name}`: {e}; write a default that fits its `type`");
            parameter.validate().map_err(|e| Part::Parameter(name.clone()).breaks(broken(e)))?;
        }
        let none = BTreeSet::new();
        for (position, requirement) in self.requires.iter().enumerate() {
            let query = [Placed::Sql(requirement.query.as_str())];
            let broken = |e| Part::Requirement(position).breaks(format!("requirement `{}`: {e}", requirement.that));
            self.known(query, &none).map_err(broken)?;
            legible("`that`", &requirement.that).map_err(|e| Part::Requirement(position).breaks(e))?;
        }
        if self.stages.is_empty() {
            return Err(Part::Stages.breaks("a recipe needs at least one stage; write one under `stages`"));
        }
        for (at, stage) in self.stages.iter().enumerate() {
            let broken = |message: String| Err(Part::Stage(at).breaks(message));
            if !stages.insert(&stage.name) {
                return broken(format!("two stages are named `{}`; give one another name", stage.name));
            }
            if stage.deadline.is_some_and(|deadline| deadline.as_millis() == 0) {
                return broken(format!("stage `{}` has a deadline of nothing; write one such as `10m`", stage.name));
            }
            if stage.steps.is_empty() {
                return broken(format!("stage `{}` has no steps; write one, or leave the stage out", stage.name));
            }
            for (position, step) in stage.steps.iter().enumerate() {
                let part = Part::Step(at, position);
                if !steps.insert(&step.name) {
                    return Err(part.breaks(format!("two steps are named `{}`; give one another name", step.name)));
                }
                let text = step.description.as_deref().unwrap_or_default();
                let checked = legible("its description", text).and_then(|()| self.validate_step(step));
                checked.map_err(|e| part.breaks(format!("step `{}`: {e}", step.name)))?;
            }
        }
        self.validate_order()
    }

    /// A step that takes up what another one has found comes after it.
    fn validate_order(&self) -> Result<(), Broken> {
        let mut before: BTreeMap<&Name, &Step> = BTreeMap::new();
        let steps = |(at, stage): (usize, &'_ Stage)| (0..stage.steps.len()).map(move |position| (at, position));
        for (at, position) in self.stages.iter().enumerate().flat_map(steps) {
            let Some(step) = self.stages.get(at).and_then(|stage| stage.steps.get(position)) else { continue };
            if let Some((name, kind)) = step.operation.takes_up() {
                let fits = before.get(name).is_some_and(|one| one.operation.kind() == kind && one.each.is_none());
                if !fits {
                    let own = &step.name;
                    return Err(Part::Step(at, position).breaks(format!(
                        "step `{own}` takes up what step `{name}` has found, and before it there is no such `{kind}` \
                         step; name one"
                    )));
                }
            }
            before.insert(&step.name, step);
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
        self.known(step.operation.templates(), &own)
    }

    fn known<'t>(&self, texts: impl IntoIterator<Item = Placed<'t>>, own: &BTreeSet<&str>) -> Result<(), String> {
        for text in texts {
            for (name, form) in text.uses().map_err(|e| e.to_string())? {
                let declared = self.parameters.iter().find(|(p, _)| p.as_str() == name).map(|(_, p)| p.kind);
                let kind =
                    declared.or_else(|| own.contains(name.as_str()).then_some(parameters::ParameterKind::Identifier));
                let Some(kind) = kind else {
                    return Err(format!(
                        "`${{{name}}}` is not a parameter of the recipe; declare it under `parameters`"
                    ));
                };
                text.fits(&name, form, kind)?;
            }
        }
        Ok(())
    }
}

/// That a text for people is one: the journal keeps it, and PostgreSQL's JSON takes no NUL.
fn legible(what: &str, text: &str) -> Result<(), String> {
    match text.contains('\0') {
        true => Err(format!("{what} holds a NUL, which the ledger cannot keep; take it out")),
        false => Ok(()),
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
        let order = "- {name: r, do: {restore: {from: b}}}\n      - {name: b, do: {backup: {}}}\n      - name: t\n";
        check("- name: t\n", order, "step `r` takes up what step `b` has found");
        let wrong =
            "- {name: b, do: {wait: {for: 1s}}}\n      - {name: r, do: {restore: {from: b}}}\n      - name: t\n";
        check("- name: t\n", wrong, "no such `backup` step");
        let scale = "- {name: r, do: {scale: {deployments: x, to: {before: b}}}}\n      - name: t\n";
        check("- name: t\n", scale, "no such `scale` step");
        check("- name: t\n", "- {name: f, do: {fence: {databases: []}}}\n      - name: t\n", "`databases` is empty");
        check("  - name: s\n", "  - {name: s, steps: []}\n  - name: z\n", "has no steps");
    }
}
