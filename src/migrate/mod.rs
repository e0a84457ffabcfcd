//! Staged migrations: recipes applied once, step by step, with a journal that survives a kill.
//!
//! A [`Recipe`] is a YAML file; [`RecipeSet`] holds those that come with sexton and those of a folder. Bound to its
//! parameters it becomes a [`Migration`]: the list of steps with their final SQL. [`plan`] looks at the journal and,
//! inside READ ONLY transactions, at the world, and [`decide`] says what remains; [`apply`] does that, writing the
//! intent of each step before it acts and the evidence afterwards. A migration that was applied is never applied
//! again, and a recipe edited after it was begun is refused.
//!
//! Every step is an [`Operation`] of a closed set, with the same four parts: check, run, undo, verify.

mod apply;
mod error;
mod journal;
mod migration;
mod parameters;
mod plan;
mod recipe;
mod set;
mod steps;
mod targets;

pub use apply::{MigrateReport, MigrationReport, StepOutcome, StepReport, apply};
pub use error::MigrateError;
pub use journal::{Entry, Journal, Lock, MigrationState, StepEntry, StepState};
pub use migration::{Migration, MigrationStep};
pub use parameters::{Parameter, ParameterError, ParameterKind, Values};
pub use plan::{MigratePlan, MigrationPlan, Standing, StepPlan, Work, decide, plan};
pub use recipe::{Database, Digest, Each, Name, Recipe, Requirement, Sql, Stage, Step};
pub use set::{RecipeError, RecipeSet};
pub use steps::{Operation, SqlStep};
pub use targets::Targets;
