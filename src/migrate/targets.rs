//! Where the databases of migrations are.

use sqlx::PgConnection;

use super::error::MigrateError;
use super::recipe::Database;
use crate::clients::postgres::Postgres;

/// One PostgreSQL server and the names its databases have for Temporal.
#[derive(Debug, Clone)]
pub struct Targets {
    postgres: Postgres,
    main: String,
    visibility: Option<String>,
}

impl Targets {
    /// A server and the names of its databases; `visibility` is `None` where a search engine does that.
    #[must_use]
    pub fn new(postgres: Postgres, main: impl Into<String>, visibility: Option<String>) -> Self {
        Self { postgres, main: main.into(), visibility }
    }

    /// The name of a database.
    ///
    /// # Errors
    /// When the role is not configured.
    pub fn name<'a>(&'a self, database: &'a Database) -> Result<&'a str, MigrateError> {
        match database {
            Database::Main => Ok(&self.main),
            Database::Visibility => self.visibility.as_deref().ok_or(MigrateError::NoVisibility),
            Database::Named(name) => Ok(name),
        }
    }

    /// A session of its own: a migration never shares one, so that what it sets cannot leak to others.
    pub(crate) async fn connect(&self, database: &Database) -> Result<PgConnection, MigrateError> {
        Ok(self.postgres.connect(self.name(database)?).await?)
    }
}
