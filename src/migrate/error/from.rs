//! What errors of others become.

use super::MigrateError;
use crate::clients::postgres::PostgresError;
use crate::migrate::steps::StepError;

impl MigrateError {
    pub(crate) fn step(name: &str, step: &str, source: StepError) -> Self {
        let (name, step) = (name.to_owned(), step.to_owned());
        match source {
            StepError::Cancelled => Self::Cancelled { name, step },
            StepError::Outside(error) => *error,
            StepError::Awaits(question) => Self::Awaits { name, step, question },
            source => Self::Step { name, step, source },
        }
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
