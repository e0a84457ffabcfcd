//! What a run did.

use serde::Serialize;

use crate::migrate::entry::MigrationState;
use crate::migrate::error::MigrateError;
use crate::migrate::migration::{Migration, MigrationStep};

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct MigrateReport {
    /// Each migration of the plan that it came to, in order.
    pub migrations: Vec<MigrationReport>,
    /// How many migrations were applied, went on or went back.
    pub changed: usize,
    /// Why it did not come to its end.
    #[serde(skip)]
    pub error: Option<MigrateError>,
}

impl MigrateReport {
    /// The report, or why the run did not come to its end.
    ///
    /// # Errors
    /// The error of the migration at which it ended.
    pub fn verdict(self) -> Result<Self, MigrateError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}

/// What a run did about one migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationReport {
    /// Its name.
    pub name: String,
    /// Of its recipe.
    pub digest: String,
    /// How it ended.
    pub outcome: MigrationOutcome,
    /// The steps that this run came to, in the order of time; none when it had been applied before.
    pub steps: Vec<StepReport>,
    /// The step at which it failed, when it failed at one; it is not among `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedStep>,
}

/// The step at which a migration failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedStep {
    /// Its key.
    pub step: String,
    /// The stage it belongs to.
    pub stage: String,
}

impl FailedStep {
    /// The step of a migration that an error is about.
    pub(super) fn of(migration: &Migration, error: &MigrateError) -> Option<Self> {
        let step = error.failed_at()?;
        let stage = &migration.steps.iter().find(|one| one.key == step)?.stage;
        Some(Self { step: step.to_owned(), stage: stage.to_string() })
    }
}

/// How a run of a migration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationOutcome {
    /// It had been applied (or undone) before.
    Unchanged,
    /// Every step is done.
    Applied,
    /// It was to go no further, or waits; the next run goes on.
    Stopped,
    /// A step failed, and what is done stays.
    Failed,
    /// What was done was undone.
    Undone,
}

impl MigrationOutcome {
    /// How a run ended with this.
    pub(super) fn of(error: &MigrateError) -> Self {
        match error {
            MigrateError::Undone { .. } => Self::Undone,
            error if error.leaves() == MigrationState::Stopped => Self::Stopped,
            _ => Self::Failed,
        }
    }
}

/// What a run did about one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// Its key.
    pub step: String,
    /// The stage it belongs to.
    pub stage: String,
    /// What came of it.
    pub outcome: StepOutcome,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took, waiting for locks included.
    pub milliseconds: u64,
    /// What it found.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub found: serde_json::Value,
}

impl StepReport {
    /// Of a step that another run has undone.
    pub(super) fn undone(step: &MigrationStep) -> Self {
        Self {
            step: step.key.clone(),
            stage: step.stage.to_string(),
            outcome: StepOutcome::Undone,
            attempts: 0,
            milliseconds: 0,
            found: serde_json::Value::Null,
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It ran.
    Done,
    /// It held already.
    Present,
    /// An earlier run had begun it and was killed; it had happened.
    Recovered,
    /// It was undone.
    Undone,
}
