//! Why a step did not succeed.

use super::statements::SqlFailure;
use crate::failure::{Explain, Failure, Kind};
use crate::migrate::error::MigrateError;
use crate::units::Span;

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// SQL.
    #[error(transparent)]
    Sql(SqlFailure),
    /// Not of the step: another process is at it, the journal does not answer, or an approval does not fit.
    #[error(transparent)]
    Outside(Box<MigrateError>),
    /// Anything else that failed, with its kind and what to do about it.
    #[error("{0}")]
    Failed(Failure),
    /// It waits for a person.
    #[error("it waits for an approval: {0}")]
    Awaits(String),
    /// Going back would lose what the target has taken.
    #[error("the target has been written to, which going back would lose ({0})")]
    WayBackClosed(String),
    /// Asked to stop at a safe point.
    #[error("asked to stop")]
    Cancelled,
    /// It was not done in the time its stage has.
    #[error("its stage was not done within its deadline of {0}")]
    Deadline(Span),
}

impl StepError {
    /// Of a kind, with what to do about it.
    pub(crate) fn new(kind: Kind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed(Failure::new(kind, message).with_hint(hint))
    }

    /// True when others held the lock in every attempt.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Sql(SqlFailure::Locked { .. }))
    }

    /// True when the server may have done it although no answer came.
    pub(crate) fn is_lost(&self) -> bool {
        let Self::Sql(failure) = self else { return false };
        matches!(failure, SqlFailure::NoAnswer(_))
            || failure.database().is_some_and(|error| error.as_database_error().is_none())
    }

    /// Of what kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Failed(failure) => failure.kind,
            Self::Outside(error) => error.kind(),
            Self::Cancelled => Kind::Cancelled,
            Self::WayBackClosed(_) => Kind::Refused,
            Self::Awaits(_) => Kind::Awaited,
            Self::Sql(_) | Self::Deadline(_) => Kind::Failed,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed(failure) => failure.hint.clone(),
            Self::Outside(error) => error.hint(),
            Self::WayBackClosed(_) => {
                Some("correct what failed and run the migration again: it goes forward".to_owned())
            }
            Self::Sql(SqlFailure::Locked { .. }) => Some(
                "find who holds the lock (pg_locks, pg_stat_activity), then run the migration again; a step in a \
                 transaction has done nothing, CREATE INDEX CONCURRENTLY may leave an invalid index"
                    .to_owned(),
            ),
            // insufficient_privilege: `must be owner of table …`, `permission denied for …`.
            Self::Sql(failure) if failure.has_code("42501") => Some(
                "only its owner may change it: let a superuser run `GRANT OWNER TO ROLE` with the owner of the tables and \
                 the role under `postgres:`, as docs/roles/postgres-role.sql does with `-v purpose=migrate`; then run the \
                 migration again"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<SqlFailure> for StepError {
    fn from(error: SqlFailure) -> Self {
        match error {
            SqlFailure::Cancelled => Self::Cancelled,
            SqlFailure::Journal(error) => Self::Outside(error),
            error => Self::Sql(error),
        }
    }
}

impl From<MigrateError> for StepError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Cancelled { .. } => Self::Cancelled,
            outside @ (MigrateError::Busy { .. }
            | MigrateError::BusyThing { .. }
            | MigrateError::Journal(_)
            | MigrateError::JournalTimeout(_)
            | MigrateError::StaleApproval { .. }) => Self::Outside(Box::new(outside)),
            error => Self::Failed(error.into()),
        }
    }
}

macro_rules! failures_of {
    ($($error:ty),*) => { $(
        impl From<$error> for StepError {
            fn from(error: $error) -> Self {
                match error.kind() {
                    Kind::Cancelled => Self::Cancelled,
                    _ => Self::Failed(error.into()),
                }
            }
        }
    )* };
}
failures_of!(
    crate::backup::BackupError,
    crate::backup::store::StoreError,
    crate::clients::kubernetes::KubernetesError,
    crate::clients::postgres::PostgresError,
    crate::clients::temporal::TemporalError
);
