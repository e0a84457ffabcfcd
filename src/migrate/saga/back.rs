//! Back: what was done, undone in reverse. It asks the operation to undo whatever may have happened, wholly or in part.

use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::forward::Halt;
use super::{Hands, MigrationOutcome, MigrationReport, Run, StepOutcome, StepReport};
use crate::failure::chain;
use crate::migrate::entry::{BY_HAND, MigrationState, StepEntry, StepState};
use crate::migrate::error::MigrateError;
use crate::migrate::migration::MigrationStep;
use crate::migrate::steps::{Reversal, StepError, child};
use crate::units::millis_since;

/// How a migration stands whose way back ended with this: where it can go on by itself, it goes on.
pub(super) const fn left_by(error: &MigrateError) -> MigrationState {
    match error {
        MigrateError::LockLost { .. }
        | MigrateError::CutOff { .. }
        | MigrateError::Journal(_)
        | MigrateError::JournalTimeout(_)
        | MigrateError::UndoFailed { .. } => MigrationState::Undoing,
        _ => MigrationState::Failed,
    }
}

/// Waits for an undoing, which nobody's word to stop ends, and says that to who gives it.
async fn goes_on<T>(name: &str, stop: &CancellationToken, undoing: impl Future<Output = T>) -> T {
    tokio::pin!(undoing);
    tokio::select! {
        done = &mut undoing => return done,
        () = stop.cancelled() => {}
    }
    tracing::warn!(migration = name, "it goes on being undone: it is not left half undone");
    undoing.await
}

/// The steps that may have happened, the last one first. What happened in this very run is in the journal, too.
async fn happened<'a>(hands: &Hands<'a>) -> Result<Vec<(&'a MigrationStep, StepEntry)>, MigrateError> {
    let known = hands.journal.read(hands.migration.name()).await?.map(|entry| entry.steps).unwrap_or_default();
    let steps = hands.migration.steps.iter().rev();
    let known = steps.filter_map(|step| known.get(&step.key).map(|entry| (step, entry.clone())));
    Ok(known.filter(|(_, entry)| entry.may_have_happened()).collect())
}

/// Whether every step that may have happened can be undone. Asked before any is, and before a run at work is called back,
/// so that a refusal changes nothing. The step that somebody has undone by hand is not asked.
pub(super) async fn lets_back(hands: &mut Hands<'_>, by_hand: Option<&str>) -> Result<(), MigrateError> {
    let mut happened = happened(hands).await?;
    happened.retain(|(step, _)| by_hand != Some(step.key.as_str()));
    let name = hands.migration.name().to_owned();
    let failed = |step: &MigrationStep, source| MigrateError::UndoFailed {
        name: name.clone(),
        step: step.key.clone(),
        source,
        cause: None,
    };
    for (step, entry) in &happened {
        if step.operation.reversal() != Reversal::Never {
            continue;
        }
        // What the server has taken back need not be undone.
        let is_begun = entry.state == StepState::Intended;
        let took_effect = match is_begun {
            true => step.operation.act().took_effect(hands, &entry.noted).await.map_err(|error| failed(step, error))?,
            false => None,
        };
        if took_effect != Some(false) {
            return Err(MigrateError::NoWayBack { name: name.clone(), step: step.key.clone() });
        }
    }
    for (step, _) in happened {
        hands.step.clone_from(&step.key);
        if let Err(source) = step.operation.act().lets_back(hands).await {
            return Err(match source {
                StepError::WayBackClosed(_) => closed(&name, step, source),
                source => failed(step, source),
            });
        }
    }
    Ok(())
}

fn closed(name: &str, step: &MigrationStep, source: StepError) -> MigrateError {
    let (name, step) = (name.to_owned(), step.key.clone());
    MigrateError::WayBackClosed { name, step, source, again: false, cause: None }
}

impl Run<'_> {
    /// Undoes a migration that failed (or that somebody wants undone), and says what came of it.
    pub(super) async fn back(&mut self, cause: Option<MigrateError>, reports: &mut Vec<StepReport>) -> MigrateError {
        let name = self.migration.name().to_owned();
        let before = reports.len();
        let reversed = match lets_back(&mut self.hands, self.by_hand).await {
            Ok(()) => self.reverse(reports).await,
            Err(error) => Err(error),
        };
        match reversed {
            Ok(()) => {
                let steps = reports.len() - before;
                let error = MigrateError::Undone { name, steps, cause: cause.map(Box::new) };
                self.end(MigrationState::Undone, error).await
            }
            Err(back) => {
                if matches!(back, MigrateError::NoWayBack { .. } | MigrateError::WayBackClosed { .. })
                    && let Err(error) = self.journal.forget_undo(&name).await
                {
                    return error;
                }
                let error = match (back, cause) {
                    // There is nothing wrong with going back: there just is none.
                    (MigrateError::NoWayBack { step, .. }, Some(cause)) => {
                        MigrateError::OnlyForward { name, step, cause: Box::new(cause) }
                    }
                    (MigrateError::WayBackClosed { step, source, again, .. }, cause) => {
                        MigrateError::WayBackClosed { name, step, source, again, cause: cause.map(Box::new) }
                    }
                    (MigrateError::CutOff { step, source, .. }, cause) => {
                        MigrateError::CutOff { name, step, source, cause: cause.map(Box::new) }
                    }
                    (MigrateError::UndoFailed { step, source, .. }, cause) => {
                        MigrateError::UndoFailed { name, step, source, cause: cause.map(Box::new) }
                    }
                    (other, _) => other,
                };
                let state = left_by(&error);
                self.end(state, error).await
            }
        }
    }

    /// Undoes it, as somebody wants. Refused, it stands as it stood.
    pub(super) async fn undo(&mut self, report: &mut MigrationReport) -> Result<(), MigrateError> {
        let (journal, name) = (self.journal, self.migration.name());
        let stood = journal.read(name).await?.map(|entry| entry.state);
        let allowed = match self.hands.world.distinct(&mut self.hands).await {
            Ok(()) => lets_back(&mut self.hands, self.by_hand).await,
            Err(error) => Err(error),
        };
        if let Err(error) = allowed {
            journal.forget_undo(name).await?;
            // What an earlier undo has begun and cannot go on with can go forward again.
            let is_stuck =
                stood == Some(MigrationState::Undoing) && matches!(error, MigrateError::WayBackClosed { .. });
            return Err(if is_stuck { self.end(MigrationState::Failed, error).await } else { error });
        }
        match self.reverse(&mut report.steps).await {
            Ok(()) => {
                report.outcome = MigrationOutcome::Undone;
                journal.end(name, MigrationState::Undone, None).await
            }
            // Written to in the last moment. It served before, and is not left stopped.
            Err(closed @ MigrateError::WayBackClosed { .. }) if stood == Some(MigrationState::Applied) => {
                Err(self.again(closed, &mut report.steps).await)
            }
            Err(error) => {
                let state = left_by(&error);
                Err(self.end(state, error).await)
            }
        }
    }

    /// Does again what was undone before the way back turned out to be closed, and gives back what there is to tell. Whatever
    /// wanted it to stop while it went back does not stop it now: half way is where it must not be left.
    async fn again(&mut self, closed: MigrateError, reports: &mut Vec<StepReport>) -> MigrateError {
        let name = self.migration.name();
        let was_undone = !reports.is_empty();
        self.is_again = true;
        self.cancel = CancellationToken::new();
        let done = self.all_again(reports).await;
        // Of whoever wanted it undone meanwhile: it cannot be, and left, the word would turn a later run around.
        if let Err(error) = self.journal.forget_undo(name).await {
            tracing::warn!(error = %chain(&error), "the word that it is to be undone could not be taken back");
        }
        let error = match done {
            Ok(()) => return if was_undone { closed.with_again() } else { closed },
            Err(Halt::UndoRequested) => return self.end(MigrationState::Failed, closed).await,
            Err(Halt::Failed(error) | Halt::Stopped(error)) => error,
        };
        let (name, closed) = (name.to_owned(), Box::new(closed));
        let error = MigrateError::NotDoneAgain { name, closed, source: Box::new(error) };
        self.end(MigrationState::Failed, error).await
    }

    async fn all_again(&mut self, reports: &mut Vec<StepReport>) -> Result<(), Halt> {
        let name = self.migration.name();
        self.known = self.journal.read(name).await?.map(|entry| entry.steps).unwrap_or_default();
        self.forward(reports).await?;
        Ok(self.journal.end(name, MigrationState::Applied, None).await?)
    }

    /// Undoes every step that may have happened, the last one first; [`lets_back`] has been asked.
    async fn reverse(&mut self, reports: &mut Vec<StepReport>) -> Result<(), MigrateError> {
        let happened = happened(&self.hands).await?;
        let name = self.migration.name().to_owned();
        self.journal.undoing(&name).await?;
        // Not the hands' own, which a step's deadline ends, too.
        let stop = self.cancel.clone();
        let reversed = goes_on(&name, &stop, self.all_back(happened, reports)).await;
        reversed.map_err(|error| match error {
            MigrateError::LockLost { .. }
            | MigrateError::Journal(_)
            | MigrateError::JournalTimeout(_)
            | MigrateError::NoJournal => {
                MigrateError::CutOff { name, step: self.hands.step.clone(), source: Box::new(error), cause: None }
            }
            error => error,
        })
    }

    async fn all_back(
        &mut self,
        happened: Vec<(&MigrationStep, StepEntry)>,
        reports: &mut Vec<StepReport>,
    ) -> Result<(), MigrateError> {
        let name = self.migration.name().to_owned();
        // A process that is asked to stop while it goes back leaves things half done for longer than it needs to: only
        // its end in earnest stops it.
        self.hands.ctx.cancel = CancellationToken::new();
        for (step, entry) in happened {
            let clock = Instant::now();
            self.hands.step.clone_from(&step.key);
            if !self.lock.is_held().await {
                return Err(MigrateError::LockLost { name, step: step.key.clone() });
            }
            self.hands.told = Value::Null;
            self.ctx.progress.note(&format!("undoing {}", step.key));
            match self.one_back(step, &entry).await? {
                Ok(()) => {}
                Err(source @ StepError::WayBackClosed(_)) => {
                    // It stands as it was, and what comes after it can be done again.
                    let (evidence, text) = (entry.evidence(), source.to_string());
                    self.journal.evidence(self.migration, step, StepState::Done, &evidence, Some(&text)).await?;
                    return Err(closed(&name, step, source));
                }
                Err(source) => {
                    self.journal.not_undone(&name, &step.key, &source.to_string()).await?;
                    return Err(MigrateError::UndoFailed { name, step: step.key.clone(), source, cause: None });
                }
            }
            let mut evidence = entry.evidence();
            if let Some(by_hand) = self.hands.told.get(BY_HAND) {
                evidence[BY_HAND] = by_hand.clone();
            }
            self.journal.evidence(self.migration, step, StepState::Undone, &evidence, None).await?;
            reports.push(StepReport {
                step: step.key.clone(),
                stage: step.stage.to_string(),
                outcome: StepOutcome::Undone,
                attempts: 1,
                milliseconds: millis_since(clock),
                found: std::mem::take(&mut self.hands.told),
            });
        }
        Ok(())
    }

    /// Undoes one step, unless the world says that there is nothing to undo.
    async fn one_back(
        &mut self,
        step: &MigrationStep,
        entry: &StepEntry,
    ) -> Result<Result<(), StepError>, MigrateError> {
        self.hands.renew().await;
        if matches!(entry.state, StepState::Intended | StepState::Undoing) {
            child::end_left_over(&entry.noted).await;
        }
        if self.by_hand == Some(step.key.as_str()) {
            self.hands.told = json!({ BY_HAND: true });
            return Ok(Ok(()));
        }
        let is_over = match self.is_over(step, entry).await {
            Ok(is_over) => is_over,
            Err(error) => return Ok(Err(error)),
        };
        if is_over {
            return Ok(Ok(()));
        }
        self.journal.evidence(self.migration, step, StepState::Undoing, &entry.evidence(), None).await?;
        Ok(step.operation.act().undo(&mut self.hands, &entry.undo).await)
    }

    /// Whether a step that was begun never happened, or one whose undoing was begun is undone.
    async fn is_over(&mut self, step: &MigrationStep, entry: &StepEntry) -> Result<bool, StepError> {
        let act = step.operation.act();
        match entry.state {
            StepState::Undoing => Ok(act.took_effect(&mut self.hands, &entry.noted).await? == Some(true)),
            StepState::Intended => match act.took_effect(&mut self.hands, &entry.noted).await? {
                Some(took_effect) => Ok(!took_effect),
                // It happened wholly or not at all: what tells whether it holds tells that, too.
                None if step.operation.rolls_back() => {
                    let holds = match act.check(&mut self.hands).await? {
                        None => act.verify(&mut self.hands).await?,
                        holds => holds,
                    };
                    Ok(holds == Some(false))
                }
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }
}
