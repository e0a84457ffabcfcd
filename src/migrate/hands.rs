//! What a step acts with: the systems, the sessions of this run, and what earlier steps have left.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::error::MigrateError;
use super::journal::Journal;
use super::migration::Migration;
use super::names::Database;
use super::steps::StepError;
use super::world::{Place, Server, World};
use crate::clients::kubernetes::Kubernetes;
use crate::context::Context;
use crate::failure::Kind;

/// A session and its process on the server.
struct Session {
    connection: PgConnection,
    pid: i32,
    /// When that process started, in microseconds: ids are used again. `None` where the role that sexton acts as may not
    /// see it.
    started: Option<i64>,
}

/// A session that does not answer for so long is taken for broken.
const PING: Duration = Duration::from_secs(10);
const MYSELF: &str = "SELECT pg_backend_pid(), (SELECT (extract(epoch FROM backend_start) * 1000000)::int8 \
    FROM pg_stat_activity WHERE pid = pg_backend_pid())";
/// Ends a session of sexton's, and no other that has got its process id since.
const END: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
    WHERE pid = $1 AND usename = session_user AND datname = current_database() \
      AND ($2::int8 IS NULL OR (extract(epoch FROM backend_start) * 1000000)::int8 = $2)";
/// When this end is gone the server ends what it does for it, such as an index of hours.
const CHECK: &str = "SET client_connection_check_interval = '2s'";

/// The journal entry of the step at work.
pub(crate) struct Noting<'a> {
    journal: &'a Journal,
    migration: &'a Migration,
    step: String,
    acts: bool,
}

impl Noting<'_> {
    /// Notes something about the step. Hands that only look have none at work.
    pub(crate) async fn note(&self, what: &Value) -> Result<(), MigrateError> {
        match self.acts {
            true => self.journal.note(self.migration.name(), &self.step, what).await,
            false => Ok(()),
        }
    }
}

/// The hands of one run, or of a plan that only looks.
pub(crate) struct Hands<'a> {
    /// The systems.
    pub(crate) world: &'a World,
    /// The migration.
    pub(crate) migration: &'a Migration,
    /// Its journal.
    pub(crate) journal: &'a Journal,
    /// The surroundings of the step; its token ends with the deadline of the stage too.
    pub(crate) ctx: Context,
    /// The step that is at work.
    pub(crate) step: String,
    /// What finished steps have found, by their keys.
    pub(crate) evidence: BTreeMap<String, Value>,
    /// What there is to tell of the step that was undone last.
    pub(crate) told: Value,
    /// True for a run: every session takes the migration's lock, so that a statement that outlives its session keeps
    /// the next run away.
    claims: bool,
    kubernetes: Option<Kubernetes>,
    sessions: BTreeMap<(Server, String), Session>,
}

impl<'a> Hands<'a> {
    /// Hands that only look.
    pub(crate) fn looking(world: &'a World, migration: &'a Migration, journal: &'a Journal, ctx: &Context) -> Self {
        let (evidence, sessions) = (BTreeMap::new(), BTreeMap::new());
        Self {
            world,
            migration,
            journal,
            ctx: ctx.clone(),
            step: String::new(),
            evidence,
            told: Value::Null,
            claims: false,
            kubernetes: None,
            sessions,
        }
    }

    /// Hands that act.
    pub(crate) fn acting(world: &'a World, migration: &'a Migration, journal: &'a Journal, ctx: &Context) -> Self {
        Self { claims: true, ..Self::looking(world, migration, journal, ctx) }
    }

    /// The session of this run on a database. A migration never shares one, so that what it sets cannot leak.
    pub(crate) async fn session(
        &mut self,
        server: Server,
        database: &Database,
    ) -> Result<&mut PgConnection, MigrateError> {
        let place = self.world.place(server)?;
        let key = (server, place.name(database)?.to_owned());
        // A session that broke is of no use to the next step.
        if let Some(session) = self.sessions.get_mut(&key)
            && !matches!(tokio::time::timeout(PING, session.connection.ping()).await, Ok(Ok(())))
        {
            self.sessions.remove(&key);
        }
        if !self.sessions.contains_key(&key) {
            let mut session = place.postgres.connect(&key.1).await?;
            let _ = sqlx::query(CHECK).execute(&mut session).await;
            if self.claims {
                self.journal.claim(&mut session, self.migration.name(), &self.ctx.cancel).await?;
            }
            let asked = sqlx::query_as(MYSELF).fetch_one(&mut session).await;
            let (pid, started) =
                asked.map_err(|error| place.postgres.error(&key.1, "asking for the session's process", error))?;
            self.sessions.insert(key.clone(), Session { connection: session, pid, started });
        }
        self.sessions.get_mut(&key).map(|session| &mut session.connection).ok_or(MigrateError::NoTarget)
    }

    /// Takes back what an earlier step has set in the sessions. One that is broken is found out when it is needed.
    pub(crate) async fn renew(&mut self) {
        for session in self.sessions.values_mut() {
            // Whatever the first makes of the role that sexton acts as, the second gives it back.
            for reset in ["RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL", CHECK] {
                let _ = tokio::time::timeout(PING, sqlx::query(reset).execute(&mut session.connection)).await;
            }
        }
    }

    /// Where the step at work notes things, also while it holds a session of these hands.
    pub(crate) fn noting(&self) -> Noting<'a> {
        Noting { journal: self.journal, migration: self.migration, step: self.step.clone(), acts: self.claims }
    }

    /// A place, for steps that make connections of their own.
    pub(crate) fn place(&self, server: Server) -> Result<&'a Place, StepError> {
        Ok(self.world.place(server)?)
    }

    /// Kubernetes, logged in to when it is first needed.
    pub(crate) async fn kubernetes(&mut self) -> Result<&Kubernetes, StepError> {
        if self.kubernetes.is_none() {
            let settings = self.world.kubernetes.as_ref().ok_or_else(|| {
                let message = "the recipe acts on Kubernetes, and the configuration has no `kubernetes:`";
                StepError::new(Kind::Config, message, "add `kubernetes: {namespace: temporal}`")
            })?;
            self.kubernetes = Some(Kubernetes::connect(settings).await?);
        }
        self.kubernetes.as_ref().ok_or(StepError::Cancelled)
    }

    /// What a finished step has found.
    pub(crate) fn found(&self, step: &str, field: &str) -> Option<&str> {
        self.evidence.get(step).and_then(|evidence| evidence.get(field)).and_then(Value::as_str)
    }

    /// Ends sessions that may be in the middle of a statement nobody waits for any more, and the statement with them.
    pub(crate) async fn abandon(&mut self) {
        for ((server, database), session) in std::mem::take(&mut self.sessions) {
            drop(session.connection);
            let Ok(place) = self.world.place(server) else { continue };
            let ended = async {
                let mut other = place.postgres.connect(&database).await?;
                // As who it logs in as, it may see and end its own.
                let _ = sqlx::query("SET ROLE NONE").execute(&mut other).await;
                let ended = sqlx::query(END).bind(session.pid).bind(session.started).execute(&mut other).await;
                let _ = other.close().await;
                ended.map_err(|error| place.postgres.error(&database, "ending an abandoned statement", error))
            };
            if let Err(error) = ended.await {
                tracing::warn!(%error, "an abandoned statement may go on for some seconds");
            }
        }
    }

    /// Ends the sessions.
    pub(crate) async fn close(self) {
        for session in self.sessions.into_values() {
            let _ = session.connection.close().await;
        }
    }
}
