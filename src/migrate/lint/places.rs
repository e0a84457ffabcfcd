//! Where things stand in a recipe's file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};

use crate::document::Document;
use crate::migrate::recipe::Part;

/// The lines of a recipe's parameters, requirements, stages, steps and statements. Of a text that is no recipe there are none.
#[derive(Debug, Default, Deserialize)]
pub(in crate::migrate) struct Places {
    #[serde(default)]
    description: Option<Spanned<String>>,
    #[serde(default)]
    stages: Option<Spanned<Vec<Stage>>>,
    #[serde(default)]
    requires: Vec<Requirement>,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<IgnoredAny>>,
    /// Stage and position of each step: a recipe may have thousands.
    #[serde(skip)]
    by_name: BTreeMap<String, (usize, usize)>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    that: Spanned<String>,
}

#[derive(Debug, Deserialize)]
struct Stage {
    name: Spanned<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    name: Spanned<String>,
    #[serde(rename = "do")]
    operation: Operation,
}

#[derive(Debug, Default, Deserialize)]
struct Operation {
    #[serde(default)]
    sql: Option<Statements>,
}

#[derive(Debug, Default, Deserialize)]
struct Statements {
    #[serde(default)]
    run: Vec<Spanned<String>>,
    #[serde(default)]
    undo: Vec<Spanned<String>>,
}

/// Which list of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migrate) enum List {
    /// What is done.
    Run,
    /// What undoes it.
    Undo,
}

impl Places {
    /// Reads them.
    pub(in crate::migrate) fn of(document: &Document) -> Self {
        let mut places: Self = document.parse().unwrap_or_default();
        let mut by_name = BTreeMap::new();
        for (at, stage) in places.stages().iter().enumerate() {
            for (position, step) in stage.steps.iter().enumerate() {
                by_name.entry(step.name.value.clone()).or_insert((at, position));
            }
        }
        places.by_name = by_name;
        places
    }

    /// Where a part stands.
    pub(in crate::migrate) fn part(&self, part: &Part) -> Option<Location> {
        let stage = |at: usize| self.stages().get(at);
        match part {
            Part::Description => self.description.as_ref().map(|text| text.referenced),
            Part::Parameter(name) => self.parameter(name.as_str()),
            Part::Requirement(at) => self.requires.get(*at).map(|one| one.that.referenced),
            Part::Stages => self.stages.as_ref().map(|stages| stages.referenced),
            Part::Stage(at) => stage(*at).map(|stage| stage.name.referenced),
            Part::Step(at, position) => stage(*at)?.steps.get(*position).map(|step| step.name.referenced),
        }
    }

    /// Where a step's name stands.
    pub(super) fn step(&self, name: &str) -> Option<Location> {
        self.find(name).map(|step| step.name.referenced)
    }

    /// Where a statement of a step begins.
    pub(super) fn statement(&self, step: &str, list: List, position: usize) -> Option<Location> {
        let step = self.find(step)?;
        let statements = step.operation.sql.as_ref().map(|sql| match list {
            List::Run => &sql.run,
            List::Undo => &sql.undo,
        });
        Some(statements.and_then(|all| all.get(position)).map_or(step.name.referenced, |one| one.referenced))
    }

    /// Where a parameter is declared.
    pub(super) fn parameter(&self, name: &str) -> Option<Location> {
        self.parameters.get(name).map(|parameter| parameter.referenced)
    }

    fn stages(&self) -> &[Stage] {
        self.stages.as_ref().map_or(&[], |stages| &stages.value)
    }

    fn find(&self, name: &str) -> Option<&Step> {
        let (at, position) = *self.by_name.get(name)?;
        self.stages().get(at)?.steps.get(position)
    }
}
