//! Applying a plan: intent, act, verify, evidence, step by step, under the migration's lock.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::error::MigrateError;
use super::journal::{self, Entry, Journal, Lock, MigrationState, StepEntry, StepState};
use super::migration::{Migration, MigrationStep};
use super::plan::{MigratePlan, require, same};
use super::steps::{Operation, SqlFailure, SqlStep, holds, texts};
use super::targets::Targets;
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MigrateReport {
    /// Each migration of the plan, in order.
    pub migrations: Vec<MigrationReport>,
    /// How many migrations were applied or went on.
    pub changed: usize,
}

/// What a run did about one migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationReport {
    /// Its name.
    pub name: String,
    /// Of its recipe.
    pub digest: String,
    /// False when it had been applied before.
    pub changed: bool,
    /// The steps that this run looked at; none when it had been applied before.
    pub steps: Vec<StepReport>,
}

/// What a run did about one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// Its key.
    pub step: String,
    /// What came of it.
    pub outcome: StepOutcome,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took, waiting for locks included.
    pub milliseconds: u64,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It ran.
    Done,
    /// It held already.
    Present,
    /// An earlier run had begun it and was killed; it had happened.
    Recovered,
}

/// Applies what the plan says remains. The journal is read again under the lock: what another session finished in the
/// meantime is not done again, and a recipe begun from another text in the meantime is refused.
///
/// # Errors
/// At the first step that fails; what was done is journaled, and a later run goes on from there.
pub async fn apply(
    plan: &MigratePlan,
    journal: &Journal,
    targets: &Targets,
    ctx: &Context,
) -> Result<MigrateReport, MigrateError> {
    let mut report = MigrateReport::default();
    for planned in &plan.migrations {
        let migration = &planned.migration;
        let done = if planned.is_applied() {
            unchanged(migration)
        } else {
            let mut lock = journal.lock(migration.name(), &ctx.cancel).await?;
            let done = apply_locked(migration, journal, targets, ctx, &mut lock).await;
            lock.release().await;
            done?
        };
        report.changed += usize::from(done.changed);
        report.migrations.push(done);
    }
    Ok(report)
}

fn unchanged(migration: &Migration) -> MigrationReport {
    let (name, digest) = (migration.name().to_owned(), migration.digest.to_string());
    MigrationReport { name, digest, changed: false, steps: Vec::new() }
}

async fn apply_locked(
    migration: &Migration,
    journal: &Journal,
    targets: &Targets,
    ctx: &Context,
    lock: &mut Lock,
) -> Result<MigrationReport, MigrateError> {
    let entry = journal.read(migration.name()).await?;
    if let Some(entry) = &entry {
        same(migration, entry, targets.name(migration.database())?)?;
        if entry.state == MigrationState::Applied {
            return Ok(unchanged(migration));
        }
    }
    let mut session = targets.connect(migration.database()).await?;
    journal.claim(&mut session, migration.name(), &ctx.cancel).await?;
    require(migration, targets, &mut session).await?;
    journal.begin(migration, targets.name(migration.database())?).await?;

    let known = entry.map_or_else(BTreeMap::new, |e: Entry| e.steps);
    let mut run = Run { migration, journal, ctx, lock, session, known };
    match run.steps().await {
        Ok(steps) => {
            journal.end(migration.name(), MigrationState::Applied, None).await?;
            Ok(MigrationReport { changed: true, steps, ..unchanged(migration) })
        }
        Err(error) => {
            let stopped = matches!(error, MigrateError::Cancelled { .. });
            let state = if stopped { MigrationState::Stopped } else { MigrationState::Failed };
            // The first error is the one to tell; that the journal could not take it may be its very reason.
            if let Err(second) = journal.end(migration.name(), state, Some(&chain(&error))).await {
                tracing::warn!(error = %chain(&second), "the end of the migration could not be journaled");
            }
            Err(error)
        }
    }
}

/// One run of one migration.
struct Run<'a> {
    migration: &'a Migration,
    journal: &'a Journal,
    ctx: &'a Context,
    lock: &'a mut Lock,
    session: PgConnection,
    known: BTreeMap<String, StepEntry>,
}

impl Run<'_> {
    async fn steps(&mut self) -> Result<Vec<StepReport>, MigrateError> {
        let total = u64::try_from(self.migration.steps.len()).ok();
        self.ctx.progress.stage(self.migration.name(), total, Unit::Items);
        let mut reports = Vec::new();
        for (position, step) in self.migration.steps.iter().enumerate() {
            let (name, key) = (self.migration.name().to_owned(), step.key.clone());
            if self.ctx.is_cancelled() {
                return Err(MigrateError::Cancelled { name, step: key });
            }
            let finished = self.known.get(&key).map(|s| s.state);
            if !matches!(finished, Some(StepState::Done | StepState::Present)) {
                if !self.lock.is_held().await {
                    return Err(MigrateError::LockLost { name, step: key });
                }
                let Operation::Sql(sql) = &step.operation;
                reports.push(self.sql(position, step, sql).await?);
            }
            self.ctx.progress.advance(1);
        }
        Ok(reports)
    }

    async fn sql(&mut self, position: usize, step: &MigrationStep, sql: &SqlStep) -> Result<StepReport, MigrateError> {
        let name = self.migration.name();
        let started = Instant::now();
        let report = |outcome, attempts| StepReport {
            step: step.key.clone(),
            outcome,
            attempts,
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let failed = |source: SqlFailure| MigrateError::step(name, &step.key, source);

        let interrupted = self.known.get(&step.key).is_some_and(|s| s.state == StepState::Intended);
        // After a kill the world is asked, not the memory; `verify` can tell as well as `check`.
        let question = if interrupted { sql.check.as_ref().or(sql.verify.as_ref()) } else { sql.check.as_ref() };
        let present = match question {
            Some(query) => holds(&mut self.session, query, sql.limits()).await.map_err(failed)?,
            None if interrupted => return Err(MigrateError::Unknown { name: name.to_owned(), step: step.key.clone() }),
            None => false,
        };
        if present && interrupted {
            let evidence = json!({ "recovered": true });
            self.journal.evidence(self.migration, step, StepState::Done, &evidence, None).await?;
            return Ok(report(StepOutcome::Recovered, 0));
        }
        if present {
            self.journal.intend(self.migration, position, step, &[]).await?;
            self.journal.evidence(self.migration, step, StepState::Present, &json!({}), None).await?;
            return Ok(report(StepOutcome::Present, 0));
        }

        let undo = self.undo_text(sql).await.map_err(failed)?;
        self.journal.intend(self.migration, position, step, &undo).await?;
        let attempts = match sql.run(&mut self.session, &self.ctx.cancel).await {
            Ok(attempts) => attempts,
            Err(source) => {
                let (lost, error) = (lost(&source), failed(source));
                // Without an answer it is not known whether the step happened: it stays intended.
                if !lost {
                    self.fail(step, &json!({ "rolled_back": sql.transaction }), &error).await;
                }
                return Err(error);
            }
        };
        let verified = match &sql.verify {
            Some(query) => Some(holds(&mut self.session, query, sql.limits()).await.map_err(failed)),
            None => None,
        };
        let evidence = |verified| journal::ran(attempts, started.elapsed(), verified);
        match verified {
            Some(Ok(false)) => {
                let error = MigrateError::NotVerified { name: name.to_owned(), step: step.key.clone() };
                self.fail(step, &evidence(Some(false)), &error).await;
                Err(error)
            }
            // It ran, and whether it holds is not known: it stays intended, so that the next run asks before it acts.
            Some(Err(error)) => Err(error),
            Some(Ok(true)) | None => {
                let evidence = evidence(verified.map(|_| true));
                self.journal.evidence(self.migration, step, StepState::Done, &evidence, None).await?;
                Ok(report(StepOutcome::Done, attempts))
            }
        }
    }

    async fn undo_text(&mut self, sql: &SqlStep) -> Result<Vec<String>, SqlFailure> {
        match &sql.undo_query {
            Some(query) => texts(&mut self.session, query, sql.limits()).await,
            None => Ok(sql.undo.iter().map(|s| s.as_str().to_owned()).collect()),
        }
    }

    async fn fail(&self, step: &MigrationStep, evidence: &serde_json::Value, error: &MigrateError) {
        let text = chain(error);
        let journaled = self.journal.evidence(self.migration, step, StepState::Failed, evidence, Some(&text)).await;
        if let Err(second) = journaled {
            tracing::warn!(error = %chain(&second), "the failure of the step could not be journaled");
        }
    }
}

/// True when the server may have done it although no answer came.
fn lost(failure: &SqlFailure) -> bool {
    match failure {
        SqlFailure::NoAnswer(_) => true,
        SqlFailure::Database(error) => error.as_database_error().is_none(),
        SqlFailure::Locked { .. } | SqlFailure::NotBoolean(_) | SqlFailure::Cancelled => false,
    }
}
