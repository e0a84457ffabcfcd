//! Applying a plan: intent, act, verify, evidence, step by step, under the migration's lock; and back again, step by
//! step in reverse, when one fails.

mod back;
mod forward;
mod report;
mod undo;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::forward::Halt;
pub use self::report::{FailedStep, MigrateReport, MigrationOutcome, MigrationReport, StepOutcome, StepReport};
pub use self::undo::{call_back, plan_back, settle_call, undo};
use super::approval::{self, Agreement};
use super::entry::{MigrationState, StepEntry};
use super::error::MigrateError;
use super::hands::Hands;
use super::journal::{Journal, Lock};
use super::migration::{Migration, MigrationStep};
use super::names::Name;
use super::pin::Pin;
use super::plan::{MigratePlan, MigrationPlan, require, same};
use super::recipe::OnFailure;
use super::world::{Server, World};
use crate::context::Context;
use crate::failure::chain;

/// How a run is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The last stage that is run.
    pub(crate) until: Option<Name>,
    /// Who looks on. Such a run is a rehearsal: nothing is at stake, and nobody is asked for an approval.
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// Looks on while a step runs.
#[async_trait]
pub(crate) trait Observer: std::fmt::Debug + Send + Sync {
    /// Right before it acts.
    async fn before(&self, step: &MigrationStep);
    /// Right after it has, or has failed.
    async fn after(&self, step: &MigrationStep);
}

impl Options {
    /// Goes no further than to the end of this stage.
    #[must_use]
    pub fn until(stage: Option<Name>) -> Self {
        Self { until: stage, observer: None }
    }

    /// A run that somebody looks on at.
    pub(crate) fn observed(observer: Arc<dyn Observer>) -> Self {
        Self { until: None, observer: Some(observer) }
    }
}

/// Applies what the plan says remains. The journal is read again under the lock: what another session finished in the
/// meantime is not done again, and a recipe begun from another text in the meantime is refused.
///
/// It ends with the first migration that fails, which the report's `error` tells; what was done is journaled and, unless
/// the recipe says otherwise, undone. After [`MigrateError::Undone`] the world is as before, after anything else a later
/// run goes on.
pub async fn apply(
    plan: &MigratePlan,
    journal: &Journal,
    world: &World,
    options: &Options,
    ctx: &Context,
) -> MigrateReport {
    let mut report = MigrateReport::default();
    for planned in &plan.migrations {
        let migration = &planned.migration;
        let mut done = unchanged(migration);
        let result =
            if planned.is_applied() { Ok(()) } else { one(planned, journal, world, options, ctx, &mut done).await };
        if let Err(error) = result {
            done.outcome = MigrationOutcome::of(&error);
            done.failed = FailedStep::of(migration, &error);
            report.error = Some(error);
        }
        let goes_on = matches!(done.outcome, MigrationOutcome::Applied | MigrationOutcome::Unchanged);
        report.changed += usize::from(done.outcome != MigrationOutcome::Unchanged);
        report.migrations.push(done);
        if !goes_on {
            break;
        }
    }
    report
}

fn unchanged(migration: &Migration) -> MigrationReport {
    let (name, digest) = (migration.name().to_owned(), migration.digest.to_string());
    MigrationReport { name, digest, outcome: MigrationOutcome::Unchanged, steps: Vec::new(), failed: None }
}

async fn one(
    planned: &MigrationPlan,
    journal: &Journal,
    world: &World,
    options: &Options,
    ctx: &Context,
    report: &mut MigrationReport,
) -> Result<(), MigrateError> {
    let migration = &planned.migration;
    let mut lock = journal.lock(migration.name(), &world.locked(migration)?, &ctx.cancel).await?;
    let hands = Hands::acting(world, migration, journal, ctx);
    let mut run = Run::new(migration, journal, ctx, &mut lock, hands, options);
    let done = run.all(planned, report).await;
    run.hands.close().await;
    lock.release().await;
    done
}

/// That a migration that was begun is where it was begun.
async fn pinned(migration: &Migration, journal: &Journal, now: &Pin) -> Result<(), MigrateError> {
    let servers = journal.servers(migration.name()).await?;
    servers.map_or(Ok(()), |servers| servers.holds(now, migration.name()))
}

/// One run of one migration.
struct Run<'a> {
    migration: &'a Migration,
    journal: &'a Journal,
    ctx: &'a Context,
    /// What stops it between two steps and in one.
    cancel: CancellationToken,
    lock: &'a mut Lock,
    hands: Hands<'a>,
    known: BTreeMap<String, StepEntry>,
    options: &'a Options,
    /// The plan that nobody was asked about, since no step of it that was left could not be undone. When one comes all the
    /// same, it is asked about.
    asks: Option<&'a MigrationPlan>,
    /// The step that somebody has undone without sexton.
    by_hand: Option<&'a str>,
    /// True while it does again what it has undone: nobody's word turns it around, and what was agreed to is agreed to.
    is_again: bool,
}

impl<'a> Run<'a> {
    /// A run that has done nothing yet and knows nothing yet.
    fn new(
        migration: &'a Migration,
        journal: &'a Journal,
        ctx: &'a Context,
        lock: &'a mut Lock,
        hands: Hands<'a>,
        options: &'a Options,
    ) -> Self {
        let (cancel, known) = (ctx.cancel.clone(), BTreeMap::new());
        let (asks, by_hand, is_again) = (None, None, false);
        Self { migration, journal, ctx, cancel, lock, hands, known, options, asks, by_hand, is_again }
    }

    /// The whole run, under the lock.
    async fn all(&mut self, planned: &'a MigrationPlan, report: &mut MigrationReport) -> Result<(), MigrateError> {
        let (migration, journal, world) = (self.migration, self.journal, self.hands.world);
        let name = migration.name();
        let entry = journal.read(name).await?;
        let undone = entry.as_ref().is_some_and(|entry| entry.state == MigrationState::Undone);
        if let Some(entry) = entry.as_ref().filter(|_| !undone) {
            same(migration, entry, world.source.name(migration.database())?)?;
        }
        let servers = Pin::now(migration, &mut self.hands).await?;
        if entry.is_some() && !undone {
            pinned(migration, journal, &servers).await?;
        }
        match entry.as_ref().map(|entry| entry.state) {
            Some(MigrationState::Applied) => return Ok(()),
            // What was begun backwards is not run forwards from the middle.
            Some(MigrationState::Undoing) => return Err(self.back(None, &mut report.steps).await),
            _ => {}
        }
        let begun = entry.filter(|_| !undone);
        world.distinct(&mut self.hands).await?;
        // Nobody begins while a statement of a run that is gone is still at work.
        self.hands.session(Server::Source, migration.database()).await?;
        require(migration, &mut self.hands).await?;
        let agreement = match begun {
            _ if self.options.observer.is_some() => Agreement::NotNeeded,
            None => approval::ask(planned, journal, world, self.ctx).await?,
            Some(_) if approval::was_taken(migration, journal).await? => Agreement::NotNeeded,
            Some(_) => Agreement::NotYet,
        };
        self.asks = (agreement == Agreement::NotYet).then_some(planned);
        let approval = if let Agreement::By(id) = agreement { Some(id) } else { None };
        journal.begin(migration, world.source.name(migration.database())?, &servers, approval).await?;
        self.known = begun.map(|entry| entry.steps).unwrap_or_default();
        Err(match self.forward(&mut report.steps).await {
            Ok(true) => {
                report.outcome = MigrationOutcome::Stopped;
                return journal.end(name, MigrationState::Stopped, None).await;
            }
            Ok(false) if journal.applied(name).await? => {
                report.outcome = MigrationOutcome::Applied;
                return Ok(());
            }
            // Somebody has asked for that while the last step ran.
            Ok(false) => self.back(None, &mut report.steps).await,
            Err(Halt::Failed(error)) if migration.recipe.on_failure == OnFailure::Undo => {
                self.back(Some(error), &mut report.steps).await
            }
            Err(Halt::UndoRequested) => self.back(None, &mut report.steps).await,
            Err(Halt::Failed(error)) => self.end(MigrationState::Failed, error).await,
            Err(Halt::Stopped(error)) => self.end(error.leaves(), error).await,
        })
    }

    /// Journals how it ended. The first error is the one to tell; that the journal could not take it may be its very
    /// reason.
    async fn end(&self, state: MigrationState, error: MigrateError) -> MigrateError {
        let state = match error {
            // Whatever undid it half stays half undone.
            MigrateError::UndoFailed { .. } => MigrationState::Undoing,
            _ => state,
        };
        if let Err(second) = self.journal.end(self.migration.name(), state, Some(&chain(&error))).await {
            tracing::warn!(error = %chain(&second), "the end of the migration could not be journaled");
        }
        error
    }
}
