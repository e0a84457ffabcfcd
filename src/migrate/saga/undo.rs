//! A migration taken back because somebody wants that: what would be undone, the word to a run that is at it, and the
//! undoing itself.

use super::report::{FailedStep, MigrateReport, MigrationOutcome, MigrationReport, StepReport};
use super::{Hands, Options, Run, back, pinned, unchanged};
use crate::context::Context;
use crate::migrate::entry::{Entry, MigrationState, StepEntry, StepState};
use crate::migrate::error::MigrateError;
use crate::migrate::journal::Journal;
use crate::migrate::migration::{Migration, MigrationStep};
use crate::migrate::pin::Pin;
use crate::migrate::plan::same;
use crate::migrate::world::World;
use crate::plan::{Action, Change, Plan};

/// What undoing a migration would undo, as the journal says: the steps that may have happened, the last one first.
/// Whether they let it go back is looked at by [`undo`], under the migration's lock. `by_hand` is the step that somebody has
/// undone already.
///
/// # Errors
/// When it was never begun, or as another recipe, on another database or with other parameters;
/// [`MigrateError::NotByHand`] as [`undo`].
pub async fn plan_back(
    migration: &Migration,
    journal: &Journal,
    world: &World,
    by_hand: Option<&str>,
) -> Result<Plan, MigrateError> {
    let (name, entry) = (migration.name(), begun(migration, journal, world).await?);
    may_be_by_hand(name, &entry, by_hand)?;
    let mut plan = Plan::default();
    if entry.state == MigrationState::Undone {
        let steps: Vec<&str> = undone(migration, &entry).map(|step| step.key.as_str()).collect();
        let which = if steps.is_empty() { String::new() } else { format!(": {}", steps.join(", ")) };
        plan.notes.push(format!("migration {name} is undone{which}"));
        return Ok(plan);
    }
    let happened = |step: &&MigrationStep| entry.steps.get(&step.key).is_some_and(StepEntry::may_have_happened);
    for step in migration.steps.iter().rev().filter(happened) {
        let reason = if by_hand == Some(step.key.as_str()) { "journal it as undone by hand" } else { "undo it" };
        plan.changes.push(Change::new(Action::Run, format!("migration {name} step {}", step.key), reason));
    }
    if plan.is_empty() {
        let reason = "nothing of it has happened; journal it as undone";
        plan.changes.push(Change::new(Action::Run, format!("migration {name}"), reason));
    }
    Ok(plan)
}

/// Leaves word for whoever is at a migration, or about to be, that it is to be undone; false when it is undone already.
/// A run at work is not disturbed for what is refused anyway.
///
/// # Errors
/// As [`undo`], before anything is done.
pub async fn call_back(
    migration: &Migration,
    journal: &Journal,
    world: &World,
    by_hand: Option<&str>,
    ctx: &Context,
) -> Result<bool, MigrateError> {
    let entry = begun(migration, journal, world).await?;
    may_be_by_hand(migration.name(), &entry, by_hand)?;
    if entry.state == MigrationState::Undone {
        return Ok(false);
    }
    may_go_back(migration, &entry, journal, world, ctx).await?;
    journal.request_undo(migration.name()).await?;
    Ok(true)
}

/// Takes the word back when nobody is at the migration who would find it: left, it would turn a later run around. True when
/// somebody is.
///
/// # Errors
/// When the ledger cannot be used.
pub async fn settle_call(migration: &Migration, journal: &Journal) -> Result<bool, MigrateError> {
    let name = migration.name();
    let is_held = journal.is_held(name).await?;
    if !is_held {
        journal.forget_undo(name).await?;
    }
    Ok(is_held)
}

/// Undoes a migration: its finished steps in reverse. Whoever is at it is asked to do that. The step that is `by_hand` is
/// taken for undone: somebody has done that, since its own undo cannot succeed.
///
/// The report's `error` says why it did not come to its end: it was never begun, or stands behind a step that cannot be undone;
/// [`MigrateError::UndoAsked`] when another process is at it and was asked; [`MigrateError::NotByHand`] when the undoing of
/// that step was not tried. What was undone by then is in the report.
pub async fn undo(
    migration: &Migration,
    journal: &Journal,
    world: &World,
    by_hand: Option<&str>,
    ctx: &Context,
) -> MigrateReport {
    let mut done = unchanged(migration);
    let error = undo_into(&mut done, migration, journal, world, by_hand, ctx).await.err();
    if let Some(error) = &error {
        done.outcome = MigrationOutcome::of(error);
        done.failed = FailedStep::of(migration, error);
    }
    let changed = usize::from(done.outcome != MigrationOutcome::Unchanged);
    MigrateReport { migrations: vec![done], changed, error }
}

async fn undo_into(
    report: &mut MigrationReport,
    migration: &Migration,
    journal: &Journal,
    world: &World,
    by_hand: Option<&str>,
    ctx: &Context,
) -> Result<(), MigrateError> {
    let (name, entry) = (migration.name(), begun(migration, journal, world).await?);
    may_be_by_hand(name, &entry, by_hand)?;
    if entry.state == MigrationState::Undone {
        return Ok(());
    }
    let things = world.locked(migration)?;
    may_go_back(migration, &entry, journal, world, ctx).await?;
    journal.request_undo(name).await?;
    let mut lock = match journal.lock(name, &things, &ctx.cancel).await {
        Err(MigrateError::Busy { .. }) => return Err(MigrateError::UndoAsked { name: name.to_owned() }),
        Err(error) => {
            // Nobody is at it who would do it: left, the word would turn a later run around.
            journal.forget_undo(name).await?;
            return Err(error);
        }
        Ok(lock) => lock,
    };
    let hands = Hands::acting(world, migration, journal, ctx);
    let options = Options::default();
    let mut run = Run::new(migration, journal, ctx, &mut lock, hands, &options);
    run.by_hand = by_hand;
    let result = match journal.read(name).await {
        // The run that was at it has done it meanwhile.
        Ok(Some(entry)) if entry.state == MigrationState::Undone => {
            report.steps = undone(migration, &entry).map(StepReport::undone).collect();
            report.outcome = MigrationOutcome::Undone;
            Ok(())
        }
        // Whoever was at it meanwhile may have begun it anew, and elsewhere.
        Ok(Some(entry)) => match run.is_as_begun(&entry, by_hand).await {
            Ok(()) => run.undo(report).await,
            Err(error) => journal.forget_undo(name).await.and(Err(error)),
        },
        Ok(None) => Err(MigrateError::NeverBegun { name: name.to_owned() }),
        Err(error) => Err(error),
    };
    run.hands.close().await;
    lock.release().await;
    result
}

/// That the undoing of a step was tried and did not come to its end: of another, to say that it is undone would leave it as it
/// is. What was said before may be said again.
fn may_be_by_hand(name: &str, entry: &Entry, by_hand: Option<&str>) -> Result<(), MigrateError> {
    let Some(key) = by_hand else { return Ok(()) };
    let step = entry.steps.get(key);
    let is_under_way = matches!(entry.state, MigrationState::Undoing | MigrationState::Undone);
    let stands = match step {
        Some(step) if is_under_way && step.is_undone_by_hand() => return Ok(()),
        Some(step) if entry.state == MigrationState::Undoing && step.was_undo_tried() => return Ok(()),
        Some(step) if entry.state == MigrationState::Undoing => format!("it is {}", step.state.as_str()),
        Some(_) => format!("the migration is {}", entry.state.as_str()),
        None => "the journal has none of that name".to_owned(),
    };
    Err(MigrateError::NotByHand { name: name.to_owned(), step: key.to_owned(), stands })
}

/// Its entry, when it was begun as it is given.
async fn begun(migration: &Migration, journal: &Journal, world: &World) -> Result<Entry, MigrateError> {
    let name = migration.name();
    let Some(entry) = journal.read(name).await? else {
        return Err(MigrateError::NeverBegun { name: name.to_owned() });
    };
    same(migration, &entry, world.source.name(migration.database())?)?;
    Ok(entry)
}

impl Run<'_> {
    /// That the journal speaks of what is to be undone, and of where it is to be undone.
    async fn is_as_begun(&mut self, entry: &Entry, by_hand: Option<&str>) -> Result<(), MigrateError> {
        may_be_by_hand(self.migration.name(), entry, by_hand)?;
        same(self.migration, entry, self.hands.world.source.name(self.migration.database())?)?;
        let now = Pin::now(self.migration, &mut self.hands).await?;
        pinned(self.migration, self.journal, &now).await
    }
}

/// That it is where it was begun, and that every step lets it go back. What an earlier undo has begun is for the lock to
/// decide.
async fn may_go_back(
    migration: &Migration,
    entry: &Entry,
    journal: &Journal,
    world: &World,
    ctx: &Context,
) -> Result<(), MigrateError> {
    let mut looking = Hands::looking(world, migration, journal, ctx);
    let result = async {
        let now = Pin::now(migration, &mut looking).await?;
        pinned(migration, journal, &now).await?;
        let allowed = back::lets_back(&mut looking, None).await;
        if entry.state == MigrationState::Undoing { Ok(()) } else { allowed }
    };
    let result = result.await;
    looking.close().await;
    result
}

/// The steps that are undone, the last one first.
fn undone<'m>(migration: &'m Migration, entry: &'m Entry) -> impl Iterator<Item = &'m MigrationStep> {
    let is_undone =
        |step: &&MigrationStep| entry.steps.get(&step.key).is_some_and(|one| one.state == StepState::Undone);
    migration.steps.iter().rev().filter(is_undone)
}
