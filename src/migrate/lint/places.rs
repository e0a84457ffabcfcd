//! Where things stand in a recipe's file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};

use crate::document::Document;

/// The lines of a recipe's parameters, steps and statements. Of a text that is no recipe there are none.
#[derive(Debug, Default, Deserialize)]
pub(in crate::migrate) struct Places {
    #[serde(default)]
    stages: Vec<Stage>,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct Stage {
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
        document.parse().unwrap_or_default()
    }

    /// Where a step's name stands.
    pub(in crate::migrate) fn step(&self, name: &str) -> Option<Location> {
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

    fn find(&self, name: &str) -> Option<&Step> {
        self.stages.iter().flat_map(|stage| &stage.steps).find(|step| step.name.value == name)
    }
}
