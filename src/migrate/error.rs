//! What can go wrong with a migration, and what to do about it.

mod explain;
mod from;

use super::entry::MigrationState;
use super::names::Digest;
use super::parameters::ParameterError;
use super::steps::StepError;
use crate::clients::postgres::PostgresError;

/// Why a migration was not planned or not applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The configuration names a recipe that is not there.
    #[error("there is no recipe `{name}`; there are: {known}")]
    UnknownRecipe {
        /// As configured.
        name: String,
        /// Those that are there.
        known: String,
    },
    /// It was begun from a recipe that is not there any more.
    #[error("the recipe of migration `{name}`, which is {}, is not there any more", state.as_str())]
    RecipeGone {
        /// Of the migration.
        name: String,
        /// How far it is.
        state: MigrationState,
    },
    /// A parameter was set wrongly.
    #[error("migration `{name}`: {source}")]
    Parameter {
        /// Of the migration.
        name: String,
        /// How.
        source: ParameterError,
    },
    /// The recipe acts on the visibility database, and none is configured.
    #[error("the recipe acts on the `visibility` database, and none is configured")]
    NoVisibility,
    /// The recipe acts on a target, and none is configured.
    #[error("the recipe moves databases to another server, and none is configured")]
    NoTarget,
    /// The target does not have the databases that the source has.
    #[error("`target.databases` must name the same as `postgres.databases`: `visibility` in both or in neither")]
    OtherTarget,
    /// Source and target are one.
    #[error("the target is the source itself: database `{database}` at {address}")]
    SameTarget {
        /// The source's main database.
        database: String,
        /// The source's server.
        address: String,
    },
    /// The journal holds another recipe under this name.
    #[error(
        "migration `{name}` was begun from another recipe: the journal has digest {journaled}, the recipe is {given}"
    )]
    Edited {
        /// Of the migration.
        name: String,
        /// What was begun or applied.
        journaled: Digest,
        /// What was given now.
        given: Digest,
    },
    /// The journal knows this migration from other servers.
    #[error("migration `{name}` was begun elsewhere: {differences}")]
    OtherServers {
        /// Of the migration.
        name: String,
        /// What was, and what is.
        differences: String,
    },
    /// The journal knows this migration from another database.
    #[error("migration `{name}` was begun on database `{journaled}`, not on `{given}`")]
    OtherDatabase {
        /// Of the migration.
        name: String,
        /// Where it was begun.
        journaled: String,
        /// Where it would be applied now.
        given: String,
    },
    /// The journal holds other parameters for this migration.
    #[error("migration `{name}` was begun with other parameters: {differences}")]
    OtherParameters {
        /// Of the migration.
        name: String,
        /// Each as `name: old -> new`.
        differences: String,
    },
    /// A requirement of the recipe does not hold.
    #[error("migration `{name}` is not for database `{database}` as it is: {that} does not hold")]
    Requirement {
        /// Of the migration.
        name: String,
        /// The database's name.
        database: String,
        /// What is required.
        that: String,
    },
    /// Another session applies this migration.
    #[error("migration `{name}` is being applied by another session")]
    Busy {
        /// Of the migration.
        name: String,
    },
    /// Another migration changes one of the same things.
    #[error("migration `{name}` changes {thing}, which another migration is changing now")]
    BusyThing {
        /// Of the migration.
        name: String,
        /// What both change.
        thing: String,
    },
    /// The session that holds the migration's lock was lost.
    #[error("the lock on migration `{name}` was lost; stopped before `{step}`")]
    LockLost {
        /// Of the migration.
        name: String,
        /// The step that was not begun.
        step: String,
    },
    /// A step, or its undoing, was begun earlier and nothing can tell whether it happened.
    #[error(
        "step `{step}` of `{name}`, or its undoing, was begun and not finished, and the recipe has no query that tells \
         whether it happened"
    )]
    Unknown {
        /// Of the migration.
        name: String,
        /// The step.
        step: String,
    },
    /// A step did not succeed.
    #[error("step `{step}` of `{name}`: {source}")]
    Step {
        /// Of the migration.
        name: String,
        /// The step.
        step: String,
        /// Why.
        source: StepError,
    },
    /// A step succeeded and its verification says it did not.
    #[error("step `{step}` of `{name}` ran, and its `verify` query says that it did not take effect")]
    NotVerified {
        /// Of the migration.
        name: String,
        /// The step.
        step: String,
    },
    /// A step waits for a person.
    #[error("migration `{name}` waits at `{step}` for an approval: {question}")]
    Awaits {
        /// Of the migration.
        name: String,
        /// The step.
        step: String,
        /// What is to be approved.
        question: String,
    },
    /// It may not begin without an approval.
    #[error("migration `{name}` waits for an approval: {why}")]
    AwaitsApproval {
        /// Of the migration.
        name: String,
        /// How it stands with approvals.
        why: String,
    },
    /// The plan is not the one that was read.
    #[error("the plan of migration `{name}` is not the one that was seen: its digest is {now}, not {seen}")]
    OtherPlan {
        /// Of the migration.
        name: String,
        /// The digest that was given.
        seen: String,
        /// The digest now.
        now: Digest,
    },
    /// A step is approved at which nothing waits.
    #[error("migration `{name}` does not wait at step `{step}`, nor is it on the way there")]
    NothingWaits {
        /// Of the migration.
        name: String,
        /// Of the step.
        step: String,
    },
    /// There is an approval, and not for this.
    #[error("migration `{name}` was approved, and not as it is now: {why}")]
    StaleApproval {
        /// Of the migration.
        name: String,
        /// What has changed.
        why: String,
    },
    /// It must be rehearsed first.
    #[error("migration `{name}` has no rehearsal that passed, of this plan and for this source")]
    NotRehearsed {
        /// Of the migration.
        name: String,
    },
    /// The recipe has no such step that asks.
    #[error("migration `{name}` has no step `{step}` that waits for an approval; those that do: {known}")]
    NoApproveStep {
        /// Of the migration.
        name: String,
        /// As given.
        step: String,
        /// Those that do.
        known: String,
    },
    /// It failed, or somebody wanted that, and what it had done was undone.
    #[error("{}; {}", match cause { Some(cause) => cause.to_string(), None => format!("migration `{name}` was to be undone") },
        match steps { 0 => "nothing had to be undone".to_owned(), 1 => "one step was undone".to_owned(), n => format!("{n} steps were undone") })]
    Undone {
        /// Of the migration.
        name: String,
        /// How many were undone.
        steps: usize,
        /// Why.
        cause: Option<Box<MigrateError>>,
    },
    /// It failed, and so did its undoing.
    #[error("{}undoing step `{step}` of `{name}`: {source}", cause.as_ref().map_or_else(String::new, |cause| format!("{cause}; ")))]
    UndoFailed {
        /// Of the migration.
        name: String,
        /// The step that could not be undone.
        step: String,
        /// Why it could not.
        source: StepError,
        /// Why it was to be undone.
        cause: Option<Box<MigrateError>>,
    },
    /// Its ledger, or its lock there, was gone while it was undone.
    #[error("{}{source}; migration `{name}` was being undone, and stands half undone at step `{step}`",
        cause.as_ref().map_or_else(String::new, |cause| format!("{cause}; ")))]
    CutOff {
        /// Of the migration.
        name: String,
        /// The step that was being undone, or was next.
        step: String,
        /// What was gone.
        source: Box<MigrateError>,
        /// Why it was to be undone.
        cause: Option<Box<MigrateError>>,
    },
    /// Said to be undone by hand, and it did not fail to be undone.
    #[error("step `{step}` of migration `{name}` is not one whose undoing failed: {stands}")]
    NotByHand {
        /// Of the migration.
        name: String,
        /// As given.
        step: String,
        /// How it stands.
        stands: String,
    },
    /// On its way back it came to where the way back ends.
    #[error("{}the way back ends at step `{step}` of `{name}`: {source}{}", cause.as_ref().map_or_else(String::new, |cause| format!("{cause}; ")),
        if *again { "; what was undone before that was seen has been done again" } else { "" })]
    WayBackClosed {
        /// Of the migration.
        name: String,
        /// The step.
        step: String,
        /// What would be lost.
        source: StepError,
        /// Whether steps had been undone, and were done again.
        again: bool,
        /// Why it was to be undone.
        cause: Option<Box<MigrateError>>,
    },
    /// The way back was closed, and what had been undone before that was seen could not be done again.
    #[error("{closed}; what was undone before that was seen could not be done again: {source}")]
    NotDoneAgain {
        /// Of the migration.
        name: String,
        /// What closed the way back.
        closed: Box<MigrateError>,
        /// Why it could not be done again.
        source: Box<MigrateError>,
    },
    /// It failed behind a step that cannot be undone.
    #[error("{cause}; step `{step}` cannot be undone, so there is only forward")]
    OnlyForward {
        /// Of the migration.
        name: String,
        /// The step behind which it failed.
        step: String,
        /// Why it failed.
        cause: Box<MigrateError>,
    },
    /// Somebody wanted it undone, and a step of it cannot be.
    #[error("migration `{name}` cannot be undone: there is no way back behind step `{step}`")]
    NoWayBack {
        /// Of the migration.
        name: String,
        /// The step.
        step: String,
    },
    /// There is nothing to undo.
    #[error("migration `{name}` was never begun")]
    NeverBegun {
        /// Of the migration.
        name: String,
    },
    /// Another process is at it, and was told.
    #[error("migration `{name}` is at work in another process, which was asked to undo it")]
    UndoAsked {
        /// Of the migration.
        name: String,
    },
    /// Asked to stop.
    #[error("migration `{name}` was stopped before `{step}`; what was done is journaled")]
    Cancelled {
        /// Of the migration.
        name: String,
        /// The step that comes next.
        step: String,
    },
    /// It cannot be rehearsed.
    #[error("the rehearsal: {0}")]
    Rehearsal(#[source] StepError),
    /// The journal's tables are not there.
    #[error("the ledger has no journal of migrations")]
    NoJournal,
    /// The ledger's database failed.
    #[error("the journal of migrations: {0}")]
    Journal(#[source] sqlx::Error),
    /// The ledger's database did not answer in time.
    #[error("the journal of migrations did not answer within {0:?}")]
    JournalTimeout(std::time::Duration),
    /// The journal holds a value this version does not know.
    #[error("the journal of migrations holds `{0}`, which this version of sexton does not know")]
    JournalValue(String),
    /// The migration's database could not be reached.
    #[error(transparent)]
    Connect(Box<PostgresError>),
}

impl MigrateError {
    /// The same of a way back that was closed, when what had been undone is done again.
    pub(crate) fn with_again(self) -> Self {
        match self {
            Self::WayBackClosed { name, step, source, cause, .. } => {
                Self::WayBackClosed { name, step, source, cause, again: true }
            }
            other => other,
        }
    }

    /// The step that did not succeed, also when its failure had others undone.
    pub(crate) fn failed_at(&self) -> Option<&str> {
        match self {
            Self::Step { step, .. } | Self::NotVerified { step, .. } | Self::Unknown { step, .. } => Some(step),
            Self::Undone { cause, .. }
            | Self::UndoFailed { cause, .. }
            | Self::CutOff { cause, .. }
            | Self::WayBackClosed { cause, .. } => cause.as_ref()?.failed_at(),
            Self::OnlyForward { cause, .. } => cause.failed_at(),
            Self::NotDoneAgain { closed, .. } => closed.failed_at(),
            _ => None,
        }
    }

    /// How the migration stands after it ended with this.
    pub(crate) const fn leaves(&self) -> MigrationState {
        match self {
            Self::Cancelled { .. }
            | Self::LockLost { .. }
            | Self::CutOff { .. }
            | Self::Awaits { .. }
            | Self::AwaitsApproval { .. }
            | Self::StaleApproval { .. }
            | Self::NotRehearsed { .. }
            | Self::Busy { .. }
            | Self::BusyThing { .. }
            | Self::Journal(_)
            | Self::JournalTimeout(_) => MigrationState::Stopped,
            _ => MigrationState::Failed,
        }
    }
}
