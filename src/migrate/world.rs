//! The systems that the steps of a migration act on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::error::MigrateError;
use super::hands::Hands;
use super::migration::Migration;
use super::names::Database;
use crate::backup::seal::Identities;
use crate::backup::store;
use crate::clients::postgres::Postgres;
use crate::clients::{kubernetes, temporal};
use crate::context::Context;
use crate::failure::Failure;
use crate::policy::backup::BackupPolicy;
use crate::units::Span;

/// Bytes from which on a value of the environment is blotted out; a shorter one would blot out parts of words.
const SECRET: usize = 6;

/// One PostgreSQL server and the names its databases have for Temporal.
#[derive(Debug, Clone)]
pub struct Place {
    /// The server.
    pub postgres: Postgres,
    /// Temporal's default store.
    pub main: String,
    /// Temporal's SQL visibility store; `None` where a search engine does that.
    pub visibility: Option<String>,
}

impl Place {
    /// A server and the names of its databases.
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

    /// All of Temporal's databases, the main one first.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        std::iter::once(&self.main).chain(&self.visibility).cloned().collect()
    }
}

/// Which server a step acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// Where Temporal's databases are: `postgres:` of the configuration.
    #[default]
    Source,
    /// Where they are moved to: `target:` of the configuration.
    Target,
}

/// Where backups go and how they are made.
#[derive(Debug, Clone)]
pub struct Backups {
    /// The store.
    pub store: store::Settings,
    /// What opens encrypted ones.
    pub identities: Arc<Identities>,
    /// How they are made.
    pub policy: BackupPolicy,
}

/// The adoption of the visibility index, which is made as a run of its own job: nothing rolls or deletes beside it.
#[async_trait]
pub trait Adoption: std::fmt::Debug + Send + Sync {
    /// Whether it is an alias that can be rolled over already.
    async fn is_adopted(&self) -> Result<bool, Failure>;
    /// Adopts it, with writes blocked no longer than that; what was found.
    async fn adopt(&self, deadline: Span, ctx: &Context) -> Result<serde_json::Value, Failure>;
}

/// Everything a step may act on. What is not configured is `None`, and the steps that need it are refused.
#[derive(Debug, Clone)]
pub struct World {
    /// Where Temporal's databases are.
    pub source: Place,
    /// Where they are moved to.
    pub target: Option<Place>,
    /// Backups.
    pub backups: Option<Backups>,
    /// Temporal's frontend.
    pub temporal: Option<temporal::Settings>,
    /// Kubernetes.
    pub kubernetes: Option<kubernetes::Settings>,
    /// The visibility index in a search engine.
    pub adoption: Option<Arc<dyn Adoption>>,
    /// `temporal-sql-tool`; `None` looks on `PATH`.
    pub sql_tool: Option<PathBuf>,
}

impl World {
    /// Only the databases; nothing else is configured.
    #[must_use]
    pub const fn of(source: Place) -> Self {
        Self { source, target: None, backups: None, temporal: None, kubernetes: None, adoption: None, sql_tool: None }
    }

    /// What a migration changes, by names that are the same wherever it is run: two migrations that have one in
    /// common are never run at once.
    pub(crate) fn locked(&self, migration: &Migration) -> Result<BTreeSet<String>, MigrateError> {
        let mut things = BTreeSet::new();
        for (server, database) in migration.databases() {
            let place = self.place(server)?;
            match place.name(&database) {
                Ok(name) => drop(things.insert(format!("database {} {name}", place.postgres.address()))),
                // A step that is for both databases passes over one that is not there.
                Err(MigrateError::NoVisibility) if database != *migration.database() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(things)
    }

    /// That a migration which acts on the target has one that is not the source under another address.
    ///
    /// # Errors
    /// [`MigrateError::SameTarget`], or when the source cannot be asked. A target that cannot be is told by the step that
    /// needs it.
    pub(crate) async fn distinct(&self, hands: &mut Hands<'_>) -> Result<(), MigrateError> {
        if !hands.migration.has_target() {
            return Ok(());
        }
        let target = self.place(Server::Target)?;
        let Ok(there) = hands.session(Server::Target, &Database::Main).await else { return Ok(()) };
        let there = identity(there).await;
        let here = identity(hands.session(Server::Source, &Database::Main).await?).await;
        if target.main == self.source.main && here.is_some() && here == there {
            let (database, address) = (self.source.main.clone(), self.source.postgres.address());
            return Err(MigrateError::SameTarget { database, address });
        }
        Ok(())
    }

    /// What no message may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let places = std::iter::once(&self.source).chain(&self.target);
        let passwords = places.filter_map(|place| place.postgres.settings().password.as_ref());
        // A program inherits the environment, which is where the configuration has its secrets.
        let is_secret =
            |name: &str| ["PASSWORD", "SECRET", "TOKEN", "KEY"].iter().any(|word| name.to_uppercase().contains(word));
        let inherited =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let inherited =
            inherited.filter(|(name, value)| is_secret(name) && value.len() >= SECRET).map(|(_, value)| value);
        passwords.map(|password| password.expose_secret().to_owned()).chain(inherited).collect()
    }

    /// The place of a server.
    ///
    /// # Errors
    /// When there is no target.
    pub fn place(&self, server: Server) -> Result<&Place, MigrateError> {
        match server {
            Server::Source => Ok(&self.source),
            Server::Target => match &self.target {
                Some(target) if target.visibility.is_some() == self.source.visibility.is_some() => Ok(target),
                Some(_) => Err(MigrateError::OtherTarget),
                None => Err(MigrateError::NoTarget),
            },
        }
    }
}

/// Which cluster of databases a session is in; `None` where the role may not know.
pub(super) async fn identity(session: &mut PgConnection) -> Option<String> {
    let asked = sqlx::query_scalar("SELECT system_identifier::text FROM pg_control_system()");
    asked.fetch_one(session).await.ok()
}
