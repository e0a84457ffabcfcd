//! Where the databases of migrations are.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::error::MigrateError;
use super::recipe::Database;

/// One PostgreSQL server and the names its databases have for Temporal.
#[derive(Clone)]
pub struct Targets {
    options: PgConnectOptions,
    main: String,
    visibility: Option<String>,
    connect_timeout: Duration,
}

impl fmt::Debug for Targets {
    // The options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Targets")
            .field("main", &self.main)
            .field("visibility", &self.visibility)
            .finish_non_exhaustive()
    }
}

impl Targets {
    /// A server and the names of its databases; `visibility` is `None` where a search engine does that.
    #[must_use]
    pub fn new(options: PgConnectOptions, main: impl Into<String>, visibility: Option<String>) -> Self {
        Self { options, main: main.into(), visibility, connect_timeout: Duration::from_secs(10) }
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
        let name = self.name(database)?;
        let options = self.options.clone().database(name).application_name("sexton migrate");
        let failed = |source| MigrateError::Connect { database: name.to_owned(), source };
        match tokio::time::timeout(self.connect_timeout, PgConnection::connect_with(&options)).await {
            Ok(connected) => connected.map_err(failed),
            Err(_) => Err(failed(sqlx::Error::PoolTimedOut)),
        }
    }
}
