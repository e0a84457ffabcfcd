//! The journal: what was begun and what came of it, in the ledger's database (`migrations/ledger/0002_migrations.sql`).

mod lock;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub use self::lock::Lock;
use super::approval;
use super::entry::{Entry, MigrationState, StepEntry, StepState};
use super::error::MigrateError;
use super::migration::{Migration, MigrationStep};
use super::names::Digest;
use super::pin::Pin;
use crate::clients::postgres::Postgres;
use crate::units::Span;

/// No call to the ledger takes longer.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(30);

/// Access to the journal.
#[derive(Debug, Clone)]
pub struct Journal {
    ledger: PgPool,
    lock_wait: Duration,
}

impl Journal {
    /// A journal in the ledger's database, whose tables `sexton ledger init` makes.
    #[must_use]
    pub fn new(ledger: PgPool) -> Self {
        Self { ledger, lock_wait: Duration::from_secs(10) }
    }

    /// A journal for a rehearsal, in an empty database of its own.
    ///
    /// # Errors
    /// When its tables cannot be made.
    pub(crate) async fn practice(postgres: &Postgres, database: &str) -> Result<Self, MigrateError> {
        static TABLES: sqlx::migrate::Migrator = sqlx::migrate!("migrations/ledger");
        let pool = postgres.pool(database, 4);
        TABLES.run(&pool).await.map_err(|error| MigrateError::Journal(sqlx::Error::Migrate(Box::new(error))))?;
        Ok(Self::new(pool))
    }

    /// The same journal, waiting so long for a migration that another session applies.
    #[must_use]
    pub fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// What is known of a migration; `None` when it was never begun.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn read(&self, name: &str) -> Result<Option<Entry>, MigrateError> {
        Ok(self.entries(Some(name)).await?.pop())
    }

    /// What to say of a name that no recipe has: [`MigrateError::RecipeGone`] of a migration that was begun under it.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn recipe_gone(&self, name: &str) -> Result<Option<MigrateError>, MigrateError> {
        let gone = |entry: Entry| MigrateError::RecipeGone { name: entry.name, state: entry.state };
        Ok(self.read(name).await?.map(gone))
    }

    /// Every migration that was ever begun, by name.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn list(&self) -> Result<Vec<Entry>, MigrateError> {
        self.entries(None).await
    }

    async fn entries(&self, name: Option<&str>) -> Result<Vec<Entry>, MigrateError> {
        type Row = (String, String, Json<BTreeMap<String, String>>, String, String, Option<String>);
        let rows: Vec<Row> = bounded(
            sqlx::query_as(
                "SELECT name, digest, parameters, target, state, error FROM migrations
                 WHERE $1::text IS NULL OR name = $1 ORDER BY name",
            )
            .bind(name)
            .fetch_all(&self.ledger),
        )
        .await?;
        let mut entries = Vec::with_capacity(rows.len());
        for (name, digest, Json(parameters), target, state, error) in rows {
            let steps = self.steps(&name).await?;
            let (digest, state) = (Digest::stored(digest), MigrationState::parse(&state)?);
            entries.push(Entry { name, digest, parameters, target, state, error, steps });
        }
        Ok(entries)
    }

    async fn steps(&self, name: &str) -> Result<BTreeMap<String, StepEntry>, MigrateError> {
        type Row = (String, String, Json<Value>, Option<Json<Value>>, Option<String>);
        let rows: Vec<Row> = bounded(
            sqlx::query_as("SELECT step, state, undo, evidence, error FROM migration_steps WHERE migration = $1")
                .bind(name)
                .fetch_all(&self.ledger),
        )
        .await?;
        let entry = |(step, state, Json(undo), evidence, error): Row| {
            let evidence = evidence.map(|Json(evidence)| evidence).unwrap_or_default();
            let found = evidence.get("found").cloned().unwrap_or_default();
            Ok((step, StepEntry { state: StepState::parse(&state)?, undo, found, noted: evidence, error }))
        };
        rows.into_iter().map(entry).collect()
    }

    /// Begins it, or goes on with it. What was undone is begun anew: its steps are forgotten. The approval is used up in
    /// the same instant.
    pub(super) async fn begin(
        &self,
        migration: &Migration,
        target: &str,
        servers: &Pin,
        approval: Option<Uuid>,
    ) -> Result<(), MigrateError> {
        let mut transaction = bounded(self.ledger.begin()).await?;
        if let Some(id) = approval {
            used_up(migration.name(), id, &mut transaction).await?;
        }
        let forget = sqlx::query(
            "DELETE FROM migration_steps s USING migrations m
             WHERE s.migration = $1 AND m.name = $1 AND m.state = 'undone'",
        );
        bounded(forget.bind(migration.name()).execute(&mut *transaction)).await?;
        let query = sqlx::query(
            "INSERT INTO migrations (name, digest, recipe, parameters, target, servers, approval, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'running')
             ON CONFLICT (name) DO UPDATE SET state = 'running', error = NULL, ended_at = NULL, resumed_at = now(),
               undo_requested_at = CASE WHEN migrations.state = 'undone' THEN NULL ELSE migrations.undo_requested_at END,
               digest = excluded.digest, recipe = excluded.recipe,
               parameters = excluded.parameters, target = excluded.target,
               servers = CASE WHEN migrations.state = 'undone' OR migrations.servers IS NULL THEN excluded.servers
                              ELSE migrations.servers END,
               approval = CASE WHEN migrations.state = 'undone' THEN excluded.approval ELSE migrations.approval END,
               begun_at = CASE WHEN migrations.state = 'undone' THEN now() ELSE migrations.begun_at END",
        )
        .bind(migration.name())
        .bind(migration.digest.as_str())
        .bind(Json(&migration.recipe))
        .bind(Json(&migration.values))
        .bind(target)
        .bind(Json(servers))
        .bind(approval);
        bounded(query.execute(&mut *transaction)).await?;
        bounded(transaction.commit()).await
    }

    /// Uses up an approval for a migration that has begun without one.
    pub(super) async fn agree(&self, name: &str, approval: Uuid) -> Result<(), MigrateError> {
        let mut transaction = bounded(self.ledger.begin()).await?;
        used_up(name, approval, &mut transaction).await?;
        let query = sqlx::query("UPDATE migrations SET approval = $2 WHERE name = $1").bind(name).bind(approval);
        bounded(query.execute(&mut *transaction)).await?;
        bounded(transaction.commit()).await
    }

    /// Where a migration was begun; `None` where that was not kept.
    pub(super) async fn servers(&self, name: &str) -> Result<Option<Pin>, MigrateError> {
        let query = sqlx::query_scalar("SELECT servers FROM migrations WHERE name = $1").bind(name);
        let servers: Option<Option<Json<Pin>>> = bounded(query.fetch_optional(&self.ledger)).await?;
        Ok(servers.flatten().map(|Json(servers)| servers))
    }

    /// Written before a step acts. The undo of an earlier try is kept unless that one was rolled back: the step may
    /// have happened, and the former values that its undo names would be gone.
    pub(crate) async fn intend(
        &self,
        migration: &Migration,
        position: usize,
        step: &MigrationStep,
        undo: &Value,
    ) -> Result<(), MigrateError> {
        self.write(migration, position, step, StepState::Intended, undo).await
    }

    /// Written of a step that holds although nothing was tried: there is nothing to undo.
    pub(crate) async fn present(
        &self,
        migration: &Migration,
        position: usize,
        step: &MigrationStep,
    ) -> Result<(), MigrateError> {
        self.write(migration, position, step, StepState::Present, &json!([])).await
    }

    async fn write(
        &self,
        migration: &Migration,
        position: usize,
        step: &MigrationStep,
        state: StepState,
        undo: &Value,
    ) -> Result<(), MigrateError> {
        let query = sqlx::query(
            "INSERT INTO migration_steps (migration, step, position, stage, operation, state, undo)
             VALUES ($1, $2, $3, $4, $5, $7, $6)
             ON CONFLICT (migration, step)
             DO UPDATE SET state = excluded.state, intended_at = now(), ended_at = NULL, evidence = NULL, error = NULL,
               undo = CASE WHEN migration_steps.state = 'undone' OR migration_steps.state = 'failed'
                            AND migration_steps.evidence @> '{\"rolled_back\": true}'
                           THEN excluded.undo ELSE migration_steps.undo END",
        )
        .bind(migration.name())
        .bind(&step.key)
        .bind(i32::try_from(position).unwrap_or(i32::MAX))
        .bind(step.stage.as_str())
        .bind(step.operation.kind())
        .bind(Json(undo))
        .bind(state.as_str());
        bounded(query.execute(&self.ledger)).await.map(drop)
    }

    /// Written after a step: what was seen.
    pub(crate) async fn evidence(
        &self,
        migration: &Migration,
        step: &MigrationStep,
        state: StepState,
        evidence: &Value,
        error: Option<&str>,
    ) -> Result<(), MigrateError> {
        let query = sqlx::query(
            "UPDATE migration_steps SET state = $3, evidence = $4, error = $5, ended_at = now()
             WHERE migration = $1 AND step = $2",
        )
        .bind(migration.name())
        .bind(&step.key)
        .bind(state.as_str())
        .bind(Json(evidence))
        .bind(error);
        bounded(query.execute(&self.ledger)).await.map(drop)
    }

    /// Adds to what is known of a step at work.
    pub(crate) async fn note(&self, name: &str, step: &str, what: &Value) -> Result<(), MigrateError> {
        let query = sqlx::query(
            "UPDATE migration_steps SET evidence = coalesce(evidence, '{}') || $3 WHERE migration = $1 AND step = $2",
        );
        bounded(query.bind(name).bind(step).bind(Json(what)).execute(&self.ledger)).await.map(drop)
    }

    /// Why a step could not be undone. All else that is known of it stays, above all what was noted: the next try asks the
    /// world by that.
    pub(crate) async fn not_undone(&self, name: &str, step: &str, error: &str) -> Result<(), MigrateError> {
        let query = sqlx::query("UPDATE migration_steps SET error = $3 WHERE migration = $1 AND step = $2");
        bounded(query.bind(name).bind(step).bind(error).execute(&self.ledger)).await.map(drop)
    }

    /// That the migration is going back from now on, as somebody may have wanted.
    pub(crate) async fn undoing(&self, name: &str) -> Result<(), MigrateError> {
        let query = sqlx::query(
            "UPDATE migrations SET state = 'undoing', ended_at = NULL, undo_requested_at = NULL WHERE name = $1",
        );
        bounded(query.bind(name).execute(&self.ledger)).await.map(drop)
    }

    /// Leaves word for whoever is at it that it is to be undone.
    pub(crate) async fn request_undo(&self, name: &str) -> Result<(), MigrateError> {
        let query = sqlx::query("UPDATE migrations SET undo_requested_at = now() WHERE name = $1").bind(name);
        bounded(query.execute(&self.ledger)).await.map(drop)
    }

    /// Takes that word back: there is no way to do it.
    pub(crate) async fn forget_undo(&self, name: &str) -> Result<(), MigrateError> {
        let query = sqlx::query("UPDATE migrations SET undo_requested_at = NULL WHERE name = $1").bind(name);
        bounded(query.execute(&self.ledger)).await.map(drop)
    }

    /// Whether somebody left that word.
    pub(crate) async fn undo_requested(&self, name: &str) -> Result<bool, MigrateError> {
        let asked =
            sqlx::query_scalar("SELECT undo_requested_at IS NOT NULL FROM migrations WHERE name = $1").bind(name);
        Ok(bounded(asked.fetch_optional(&self.ledger)).await?.unwrap_or(false))
    }

    /// The ledger, for what else is kept about migrations.
    pub(crate) const fn ledger(&self) -> &PgPool {
        &self.ledger
    }

    /// That every step holds; false when somebody wants it undone all the same.
    pub(crate) async fn applied(&self, name: &str) -> Result<bool, MigrateError> {
        let query = sqlx::query(
            "UPDATE migrations SET state = 'applied', error = NULL, ended_at = now() \
             WHERE name = $1 AND undo_requested_at IS NULL",
        );
        Ok(bounded(query.bind(name).execute(&self.ledger)).await?.rows_affected() == 1)
    }

    /// How a run ended that did not come to the end.
    pub(crate) async fn end(&self, name: &str, state: MigrationState, error: Option<&str>) -> Result<(), MigrateError> {
        let query = sqlx::query("UPDATE migrations SET state = $2, error = $3, ended_at = now() WHERE name = $1")
            .bind(name)
            .bind(state.as_str())
            .bind(error);
        bounded(query.execute(&self.ledger)).await.map(drop)
    }
}

async fn used_up(name: &str, approval: Uuid, session: &mut PgConnection) -> Result<(), MigrateError> {
    match approval::use_up(approval, session).await? {
        true => Ok(()),
        false => {
            let why = "the approval was used meanwhile".to_owned();
            Err(MigrateError::AwaitsApproval { name: name.to_owned(), why })
        }
    }
}

/// The evidence of a step that ran.
pub(crate) fn ran(attempts: u32, elapsed: Duration, verified: Option<bool>, found: &Value) -> Value {
    let milliseconds = Span::from(elapsed).as_millis();
    json!({ "attempts": attempts, "milliseconds": milliseconds, "verified": verified, "found": found })
}

pub(super) async fn bounded<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, MigrateError> {
    match tokio::time::timeout(LEDGER_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(MigrateError::from),
        Err(_) => Err(MigrateError::JournalTimeout(LEDGER_TIMEOUT)),
    }
}
