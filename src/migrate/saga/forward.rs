//! Forward: every step that is not done, in order.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::watch::{Reason, look, watched};
use super::{Observer, Run, StepOutcome, StepReport};
use crate::failure::chain;
use crate::migrate::approval;
use crate::migrate::entry::{ROLLED_BACK, StepEntry, StepState};
use crate::migrate::error::MigrateError;
use crate::migrate::journal;
use crate::migrate::migration::MigrationStep;
use crate::migrate::plan::MigrationPlan;
use crate::migrate::steps::{Operation, Reversal, StepError, child};
use crate::progress::Unit;
use crate::units::Span;

/// Why a run did not reach its end.
pub(super) enum Halt {
    /// A step failed.
    Failed(MigrateError),
    /// It stopped where it may go on later: it was asked to, its journal or its lock is gone, or it waits for a person.
    Stopped(MigrateError),
    /// Somebody wants it undone.
    UndoRequested,
}

impl From<MigrateError> for Halt {
    fn from(error: MigrateError) -> Self {
        let is_failure = matches!(error, MigrateError::Step { .. } | MigrateError::NotVerified { .. });
        if is_failure { Self::Failed(error) } else { Self::Stopped(error) }
    }
}

impl Run<'_> {
    /// Runs what is not done; true when it was to go no further than it came.
    pub(super) async fn forward(&mut self, reports: &mut Vec<StepReport>) -> Result<bool, Halt> {
        let total = u64::try_from(self.migration.steps.len()).ok();
        let name = self.migration.name().to_owned();
        self.ctx.progress.stage(&name, total, Unit::Items);
        let mut stage = None;
        let mut deadline = None;
        for (position, step) in self.migration.steps.iter().enumerate() {
            if stage != Some(&step.stage) {
                if stage.is_some() && stage == self.options.until.as_ref() {
                    return Ok(true);
                }
                stage = Some(&step.stage);
                let limit = self.migration.deadline(&step.stage);
                deadline = limit.map(|limit| (limit, Instant::now() + Duration::from(limit)));
            }
            let key = step.key.clone();
            if self.cancel.is_cancelled() {
                return Err(MigrateError::Cancelled { name, step: key }.into());
            }
            let finished = self.known.get(&key).map(|s| s.state);
            let is_finished = matches!(finished, Some(StepState::Done | StepState::Present));
            if let Some((limit, _)) = deadline.filter(|(_, at)| !is_finished && Instant::now() >= *at) {
                return Err(MigrateError::step(&name, &key, StepError::Deadline(limit)).into());
            }
            if is_finished {
                if let Some(found) = self.known.get(&key).map(|s| s.found.clone()) {
                    self.hands.evidence.insert(key, found);
                }
            } else {
                if !self.lock.is_held().await {
                    return Err(MigrateError::LockLost { name, step: key }.into());
                }
                if !self.is_again && self.journal.undo_requested(&name).await? {
                    return Err(Halt::UndoRequested);
                }
                reports.push(match self.known.get(&step.key).filter(|_| self.is_agreed_to(step)) {
                    Some(entry) => self.taken_as_given(step, entry).await?,
                    None => self.one(position, step, deadline).await?,
                });
            }
            self.ctx.progress.advance(1);
        }
        Ok(false)
    }

    /// Whether it only asks for what was agreed to before it was undone and done again.
    fn is_agreed_to(&self, step: &MigrationStep) -> bool {
        self.is_again && matches!(step.operation, Operation::Approve(_))
    }

    async fn taken_as_given(&self, step: &MigrationStep, entry: &StepEntry) -> Result<StepReport, MigrateError> {
        self.journal.evidence(self.migration, step, StepState::Done, &entry.evidence(), None).await?;
        Ok(StepReport {
            step: step.key.clone(),
            stage: step.stage.to_string(),
            outcome: StepOutcome::Present,
            attempts: 0,
            milliseconds: 0,
            found: Value::Null,
        })
    }

    /// One step, under watch: its stage's deadline, the lock, and whoever wants it undone end it early.
    async fn one(
        &mut self,
        position: usize,
        step: &MigrationStep,
        deadline: Option<(Span, Instant)>,
    ) -> Result<StepReport, Halt> {
        let (journal, name) = (self.journal, self.migration.name().to_owned());
        let token = self.cancel.child_token();
        self.hands.ctx.cancel = token.clone();
        self.hands.step.clone_from(&step.key);
        let (lock, known, observer) = (&mut *self.lock, &self.known, self.options.observer.as_deref());
        let asks = self.asks;
        let mut acting = Acting { name: &name, position, step, known, observer, asks, hands: &mut self.hands };
        let is_again = self.is_again;
        let asked = || {
            let name = name.as_str();
            async move { !is_again && journal.undo_requested(name).await.unwrap_or(false) }
        };
        let (done, reason) = watched(acting.act(), &token, deadline, look(lock, asked)).await;
        if done.is_none() {
            self.hands.abandon().await;
        }
        let outcome = match (done, reason) {
            (Some(Ok(report)), _) => return Ok(report),
            (Some(Err(error)), None) => return Err(error.into()),
            // Cut off at a safe point, or in the middle when it had none.
            (outcome, Some(Reason::UndoRequested)) => {
                drop(outcome);
                return Err(Halt::UndoRequested);
            }
            (_, Some(Reason::LockLost)) => {
                return Err(MigrateError::LockLost { name, step: step.key.clone() }.into());
            }
            (Some(Err(error)), Some(Reason::Deadline(_))) if !matches!(error, MigrateError::Cancelled { .. }) => error,
            (_, Some(Reason::Deadline(limit))) => MigrateError::step(&name, &step.key, StepError::Deadline(limit)),
            (None, None) => MigrateError::Cancelled { name, step: step.key.clone() },
        };
        Err(outcome.into())
    }
}

/// One step at work.
struct Acting<'r, 'h, 'w> {
    name: &'r str,
    position: usize,
    step: &'r MigrationStep,
    known: &'r std::collections::BTreeMap<String, StepEntry>,
    observer: Option<&'r dyn Observer>,
    asks: Option<&'r MigrationPlan>,
    hands: &'h mut super::Hands<'w>,
}

impl Acting<'_, '_, '_> {
    async fn act(&mut self) -> Result<StepReport, MigrateError> {
        let (name, step, act) = (self.name, self.step, self.step.operation.act());
        let (journal, migration) = (self.hands.journal, self.hands.migration);
        let started = Instant::now();
        // What looking on takes is not the step's.
        let mut looked_on = Duration::ZERO;
        let report = |outcome, attempts, found: Value, looked_on: Duration| StepReport {
            step: step.key.clone(),
            stage: step.stage.to_string(),
            outcome,
            attempts,
            milliseconds: Span::from(started.elapsed().saturating_sub(looked_on)).as_millis(),
            found,
        };
        let failed = |source: StepError| MigrateError::step(name, &step.key, source);

        self.hands.renew().await;
        // What an earlier try may have done; `interrupted` when it is not known what became of it or of its undoing.
        let tried = self.known.get(&step.key).filter(|entry| entry.may_have_happened());
        let mut interrupted = tried.filter(|entry| entry.state == StepState::Intended);
        // Whether nothing of an earlier try is left, for certain.
        let mut is_clean = tried.is_none();
        if let Some(entry) = tried.filter(|entry| entry.state == StepState::Undoing) {
            child::end_left_over(&entry.noted).await;
            match act.took_effect(self.hands, &entry.noted).await.map_err(failed)? {
                // An undo that never took effect: what it was to undo is still there.
                Some(false) => {
                    self.hands.evidence.insert(step.key.clone(), entry.found.clone());
                    let evidence = json!({ "recovered": true, "found": entry.found });
                    journal.evidence(migration, step, StepState::Done, &evidence, None).await?;
                    return Ok(report(StepOutcome::Recovered, 0, Value::Null, looked_on));
                }
                Some(true) => is_clean = true,
                // Perhaps half undone.
                None => interrupted = Some(entry),
            }
        }
        let mut took_effect = None;
        if let Some(entry) = interrupted.filter(|entry| entry.state == StepState::Intended) {
            child::end_left_over(&entry.noted).await;
            took_effect = act.took_effect(self.hands, &entry.noted).await.map_err(failed)?;
            is_clean = took_effect == Some(false);
        }
        // The world is asked, not the memory; after a kill `verify` can tell as well as `check`.
        let mut present = act.check(self.hands).await.map_err(failed)?;
        // Committed for certain, in the run that was killed or in one that did not like what came of it.
        let is_committed = took_effect == Some(true)
            || step.operation.rolls_back()
                && tried.is_some_and(|entry| entry.noted.get("verified") == Some(&json!(false)));
        if present.is_none() && is_committed {
            if act.verify(self.hands).await.map_err(failed)? == Some(false) {
                let error = MigrateError::NotVerified { name: name.to_owned(), step: step.key.clone() };
                self.fail(&json!({ "verified": false }), &error).await;
                return Err(error);
            }
            present = Some(true);
        } else if present.is_none() && interrupted.is_some() {
            present = took_effect.or(act.verify(self.hands).await.map_err(failed)?);
        }
        if present.is_none() && interrupted.is_some() && !act.is_repeatable() {
            return Err(MigrateError::Unknown { name: name.to_owned(), step: step.key.clone() });
        }
        if present == Some(true) {
            // What holds because of an earlier try is undone on the way back; what held before is not.
            if let Some(entry) = tried.filter(|_| took_effect != Some(false)) {
                let found = match entry.state {
                    StepState::Undoing => entry.found.clone(),
                    _ => act.found_again(&entry.undo),
                };
                let evidence = json!({ "recovered": true, "found": found });
                self.hands.evidence.insert(step.key.clone(), found);
                journal.evidence(migration, step, StepState::Done, &evidence, None).await?;
                return Ok(report(StepOutcome::Recovered, 0, Value::Null, looked_on));
            }
            journal.present(migration, self.position, step).await?;
            return Ok(report(StepOutcome::Present, 0, Value::Null, looked_on));
        }
        self.agree().await?;

        // What an earlier try has kept is what was there before; what is there now may be that try's own.
        let undo = match tried {
            Some(entry) => entry.undo.clone(),
            None => act.prepare(self.hands).await.map_err(failed)?,
        };
        journal.intend(migration, self.position, step, &undo).await?;
        if let Some(observer) = self.observer {
            let clock = Instant::now();
            observer.before(step).await;
            looked_on += clock.elapsed();
        }
        let ran = act.run(self.hands, &undo).await;
        if let Some(observer) = self.observer {
            let clock = Instant::now();
            observer.after(step).await;
            looked_on += clock.elapsed();
        }
        let ran = match ran {
            Ok(ran) => ran,
            Err(source) => {
                // Without an answer it is not known whether the step happened: it stays intended.
                let unclear = source.is_lost() || matches!(source, StepError::Cancelled | StepError::Awaits(_));
                let error = failed(source);
                if !unclear {
                    // What an earlier try has committed is not taken back with this one.
                    let rolled_back = step.operation.rolls_back() && is_clean
                        || act.undoes_itself() && matches!(act.check(self.hands).await, Ok(Some(false)));
                    self.fail(&json!({ ROLLED_BACK: rolled_back }), &error).await;
                }
                return Err(error);
            }
        };
        let verified = act.verify(self.hands).await.map_err(failed);
        let evidence = |verified| journal::ran(ran.attempts, started.elapsed(), verified, &ran.found);
        match verified {
            Ok(Some(false)) => {
                let error = MigrateError::NotVerified { name: name.to_owned(), step: step.key.clone() };
                self.fail(&evidence(Some(false)), &error).await;
                Err(error)
            }
            // It ran, and whether it holds is not known: it stays intended, so that the next run asks before it acts.
            Err(error) => Err(error),
            Ok(verified) => {
                journal.evidence(migration, step, StepState::Done, &evidence(verified), None).await?;
                self.hands.evidence.insert(step.key.clone(), ran.found.clone());
                let found = if ran.found == json!({}) { Value::Null } else { ran.found };
                Ok(report(StepOutcome::Done, ran.attempts, found, looked_on))
            }
        }
    }

    /// A step that cannot be undone, and that held when it was planned and asked about, is asked about now.
    async fn agree(&mut self) -> Result<(), MigrateError> {
        match self.asks.filter(|_| self.step.operation.reversal() == Reversal::Never) {
            Some(planned) => {
                let (journal, world) = (self.hands.journal, self.hands.world);
                let approval = approval::open(planned, journal, world, &self.hands.ctx).await?;
                journal.agree(self.name, approval).await
            }
            None => Ok(()),
        }
    }

    async fn fail(&self, evidence: &Value, error: &MigrateError) {
        let text = chain(error);
        let journaled =
            self.hands.journal.evidence(self.hands.migration, self.step, StepState::Failed, evidence, Some(&text));
        if let Err(second) = journaled.await {
            tracing::warn!(error = %chain(&second), "the failure of the step could not be journaled");
        }
    }
}
