//! A recipe bound to its parameters: the final list of steps.

use std::collections::{BTreeMap, BTreeSet};

use super::error::MigrateError;
use super::names::{Database, Digest, Name};
use super::parameters::{ParameterError, Values};
use super::recipe::{Recipe, Requirement};
use super::steps::{Operation, Reversal};
use super::world::{Place, Server, World};
use crate::units::Span;

/// A recipe with every parameter filled in: exactly what is planned, shown and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// As written.
    pub recipe: Recipe,
    /// Of the recipe.
    pub digest: Digest,
    /// The value of every parameter.
    pub values: BTreeMap<String, String>,
    /// What must hold before anything is done.
    pub requires: Vec<Requirement>,
    /// The steps, in order.
    pub steps: Vec<MigrationStep>,
}

/// One step with its final SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStep {
    /// Unique in the migration: the step's name, with `[value]` when it is repeated.
    pub key: String,
    /// The stage it belongs to.
    pub stage: Name,
    /// What it does.
    pub description: Option<String>,
    /// How.
    pub operation: Operation,
}

impl Migration {
    /// Fills the parameters in.
    ///
    /// # Errors
    /// A value that is missing, unknown or of another type.
    pub fn new(recipe: &Recipe, given: &BTreeMap<String, String>) -> Result<Self, ParameterError> {
        let values = Values::new(recipe.parameters.iter().map(|(name, p)| (name.as_str(), p)), given)?;
        let mut steps = Vec::new();
        for stage in &recipe.stages {
            for step in &stage.steps {
                let mut push = |key: String, values: &Values| {
                    let operation = step.operation.render(values)?;
                    let description = step.description.clone();
                    steps.push(MigrationStep { key, stage: stage.name.clone(), description, operation });
                    Ok(())
                };
                match &step.each {
                    None => push(step.name.to_string(), &values)?,
                    Some(each) => {
                        for value in &each.of {
                            let own = values.with_identifier(each.parameter.as_str(), value)?;
                            push(format!("{}[{value}]", step.name), &own)?;
                        }
                    }
                }
            }
        }
        let requires = recipe
            .requires
            .iter()
            .map(|r| Ok(Requirement { that: r.that.clone(), query: r.query.render(&values)? }))
            .collect::<Result<_, ParameterError>>()?;
        let values = values.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Self { digest: recipe.digest(), recipe: recipe.clone(), values, requires, steps })
    }

    /// The name it is journaled under.
    #[must_use]
    pub fn name(&self) -> &str {
        self.recipe.name.as_str()
    }

    /// How long a stage may take.
    pub(crate) fn deadline(&self, stage: &Name) -> Option<Span> {
        self.recipe.stages.iter().find(|one| one.name == *stage).and_then(|one| one.deadline)
    }

    /// Every database it acts on.
    pub(crate) fn databases(&self) -> BTreeSet<(Server, Database)> {
        let own = (Server::Source, self.database().clone());
        let steps = self.steps.iter().flat_map(|step| step.operation.databases(self.database()));
        std::iter::once(own).chain(steps).collect()
    }

    /// Whether it acts on the databases of the target.
    pub(crate) fn has_target(&self) -> bool {
        self.databases().iter().any(|(server, _)| *server == Server::Target)
    }

    /// The target, when it acts on that or tells somebody of it: a Secret, a program of the operator's.
    ///
    /// # Errors
    /// When it needs one and there is none.
    pub(crate) fn target<'a>(&self, world: &'a World) -> Result<Option<&'a Place>, MigrateError> {
        let tells = |step: &MigrationStep| match step.operation {
            Operation::SetSecret(_) => true,
            Operation::Exec(_) => world.target.is_some(),
            _ => false,
        };
        let is_meant = self.has_target() || self.steps.iter().any(tells);
        is_meant.then(|| world.place(Server::Target)).transpose()
    }

    /// The digest of what would be run: every step with its final texts, and the rules around it. It does not depend on
    /// how far the migration is, nor on where: a rehearsal of it has the same.
    #[must_use]
    pub fn plan_digest(&self) -> Digest {
        let steps: Vec<_> = self.steps.iter().map(|step| (&step.key, &step.stage, &step.operation)).collect();
        Digest::of(&(&self.digest, &self.values, &self.requires, steps))
    }

    /// The first step behind which there is no way back.
    #[must_use]
    pub fn point_of_no_return(&self) -> Option<&MigrationStep> {
        self.steps.iter().find(|step| step.operation.reversal() == Reversal::Never)
    }

    /// The database it acts on, unless a step says otherwise.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.recipe.database
    }
}
