//! Staged migrations: recipes applied once, step by step, as sagas: with a journal that survives a kill, and a way back
//! as long as there is one.
//!
//! A [`Recipe`] is a YAML file; [`RecipeSet`] holds those that come with sexton and those of a folder. Bound to its
//! parameters it becomes a [`Migration`]: the list of steps with their final texts. [`plan`] looks at the journal and,
//! inside READ ONLY transactions, at the world, and [`decide`] says what remains; [`apply`] does that, writing the
//! intent of each step before it acts and the evidence afterwards. A step that fails makes it go back: what was done is
//! undone in reverse, unless a step is among it that cannot be. A migration that was applied is never applied again,
//! and a recipe edited after it was begun is refused.
//!
//! Every step is an [`Operation`] of a closed set, with the same parts: check, run, verify, undo. They act on a
//! [`World`]: the source, the target, the store, Temporal.

mod approval;
mod entry;
mod error;
mod fingerprint;
mod hands;
mod in_force;
mod journal;
pub mod lint;
mod migration;
mod names;
mod overview;
mod parameters;
mod pin;
mod plan;
mod recipe;
pub mod rehearse;
mod saga;
mod sealed;
mod set;
mod steps;
mod world;

pub use approval::{Approval, Granted, SHORTEST_DIGEST, approvals, approve, is_needed, rehearsal, revoke};
pub(crate) use entry::BY_HAND;
pub use entry::{Entry, MigrationState, StepEntry, StepState};
pub use error::MigrateError;
pub use fingerprint::{Fingerprint, fingerprint};
pub use in_force::{in_force, may_leave_in_force};
pub use journal::{Journal, Lock};
pub use migration::{Migration, MigrationStep};
pub use names::{Database, Digest, Name, Sql, Text};
pub use overview::{ApprovalState, KeptRehearsal, Overview, RECIPE_MISSING, rehearsals};
pub use parameters::{Parameter, ParameterError, ParameterKind, Values};
pub use plan::{MigratePlan, MigrationPlan, Standing, StepPlan, Work, decide, plan, unedited};
pub use recipe::{Each, Recipe, RehearsalRule, Requirement, Stage, Step};
pub use saga::{
    FailedStep, MigrateReport, MigrationOutcome, MigrationReport, Options, StepOutcome, StepReport, apply, call_back,
    plan_back, settle_call, undo,
};
pub use set::{RecipeError, RecipeSet, files};
pub(crate) use steps::UNDONE_BY;
pub use steps::{
    AdoptStep, ApproveStep, BackupStep, CompareStep, CopyStep, ExecStep, FenceStep, HealthStep, Operation, RestartStep,
    RestoreStep, Reversal, ScaleStep, ScaleTo, SecretKey, SecretOf, SetSecretStep, SqlStep, StepError,
    TemporalSchemaStep, WaitPodsGoneStep, WaitStep, WayBackStep,
};
pub use world::{Adoption, Backups, Place, Server, World};
