//! What can go wrong with a migration, and what to do about it.

use super::parameters::ParameterError;
use super::recipe::Digest;
use super::steps::SqlFailure;
use crate::clients::postgres::PostgresError;
use crate::failure::{Explain, Kind};

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
    /// The session that holds the migration's lock was lost.
    #[error("the lock on migration `{name}` was lost; stopped before `{step}`")]
    LockLost {
        /// Of the migration.
        name: String,
        /// The step that was not begun.
        step: String,
    },
    /// A step was begun earlier and nothing can tell whether it happened.
    #[error(
        "step `{step}` of `{name}` was begun and not finished, and the recipe has no query that tells whether it happened"
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
    /// Asked to stop.
    #[error("migration `{name}` was stopped before `{step}`; what was done is journaled")]
    Cancelled {
        /// Of the migration.
        name: String,
        /// The step that comes next.
        step: String,
    },
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

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StepError(pub(crate) SqlFailure);

impl StepError {
    /// True when others held the lock in every attempt.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self.0, SqlFailure::Locked { .. })
    }
}

impl MigrateError {
    pub(crate) fn step(name: &str, step: &str, source: SqlFailure) -> Self {
        if matches!(source, SqlFailure::Cancelled) {
            return Self::Cancelled { name: name.to_owned(), step: step.to_owned() };
        }
        Self::Step { name: name.to_owned(), step: step.to_owned(), source: StepError(source) }
    }
}

impl From<PostgresError> for MigrateError {
    fn from(error: PostgresError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        // undefined_table, or the whole database is missing.
        let code = error.as_database_error().and_then(|e| e.code()).map(|c| c.into_owned());
        match code.as_deref() {
            Some("42P01" | "3D000") => Self::NoJournal,
            _ => Self::Journal(error),
        }
    }
}

impl Explain for MigrateError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownRecipe { .. } | Self::Parameter { .. } | Self::NoVisibility => Kind::Config,
            Self::Edited { .. }
            | Self::OtherDatabase { .. }
            | Self::OtherParameters { .. }
            | Self::Requirement { .. }
            | Self::Busy { .. } => Kind::Refused,
            Self::Unknown { .. } => Kind::CouldNotVerify,
            Self::NotVerified { .. } => Kind::VerificationFailed,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Connect(error) => error.kind(),
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownRecipe { .. } => {
                "correct `migrations.apply`, or put the recipe into the folder of recipes".to_owned()
            }
            Self::Parameter { .. } => "see the recipe's `parameters` for names and types".to_owned(),
            Self::NoVisibility => "set `postgres.databases.visibility`".to_owned(),
            Self::OtherDatabase { .. } => {
                "give a copy a ledger of its own (`ledger.database` in its configuration), so that what was tried there \
                 does not count here"
                    .to_owned()
            }
            Self::OtherParameters { .. } => {
                "run it with the former parameters; to apply others, copy the recipe under a new name into the folder \
                 `migrations.recipes`"
                    .to_owned()
            }
            Self::Edited { name, .. } => format!(
                "give the edited recipe a new name (`{name}-2`), or take back the edit; steps that hold already are \
                 not run again"
            ),
            Self::Requirement { .. } => "check `database` in the recipe and `postgres.databases`".to_owned(),
            Self::Busy { .. } => "wait for the other session; `sexton migrate list` shows how far it is".to_owned(),
            Self::LockLost { .. } | Self::Cancelled { .. } => {
                "run the migration again; it goes on where it stopped".to_owned()
            }
            Self::Unknown { .. } => "look whether it took effect, then give the recipe a `check` query and a new \
                                     name"
                .to_owned(),
            Self::Step { source, .. } if source.is_locked() => {
                "find who holds the lock (pg_locks, pg_stat_activity), then run the migration again; a step in a \
                 transaction has done nothing, CREATE INDEX CONCURRENTLY may leave an invalid index"
                    .to_owned()
            }
            Self::Step { .. } => "correct the cause, then run the migration again; finished steps are kept".to_owned(),
            Self::NotVerified { .. } => "look at the object the step names; its undo is in the journal".to_owned(),
            Self::NoJournal => "run `sexton ledger init`".to_owned(),
            Self::JournalValue(_) => "use the newer version of sexton that wrote it".to_owned(),
            Self::Connect(error) => return error.hint(),
            Self::Journal(_) | Self::JournalTimeout(_) => "run `sexton doctor`".to_owned(),
        };
        Some(hint)
    }
}
