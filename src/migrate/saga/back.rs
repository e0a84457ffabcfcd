//! Back: what was done, undone in reverse. It asks the operation to undo whatever may have happened, wholly or in part.

use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Run, StepOutcome, StepReport};
use crate::failure::Kind;
use crate::migrate::error::MigrateError;
use crate::migrate::journal::{MigrationState, StepEntry, StepState};
use crate::migrate::migration::MigrationStep;
use crate::migrate::steps::{Operation, Reversal};
use crate::units::millis_since;

impl Run<'_> {
    /// Undoes a migration that failed (or that somebody wants undone), and says what came of it.
    pub(super) async fn back(&mut self, cause: Option<MigrateError>, reports: &mut Vec<StepReport>) -> MigrateError {
        let name = self.migration.name().to_owned();
        let before = reports.len();
        match self.reverse(reports).await {
            Ok(()) => {
                let steps = reports.len() - before;
                let error = MigrateError::Undone { name, steps, cause: cause.map(Box::new) };
                self.end(MigrationState::Undone, error).await
            }
            Err(back) => {
                let error = match (back, cause) {
                    // There is nothing wrong with going back: there just is none.
                    (MigrateError::NoWayBack { step, .. }, Some(cause)) => {
                        MigrateError::OnlyForward { name, step, cause: Box::new(cause) }
                    }
                    (MigrateError::WayBackClosed { step, source, .. }, cause) => {
                        MigrateError::WayBackClosed { name, step, source, cause: cause.map(Box::new) }
                    }
                    (MigrateError::UndoFailed { step, source, .. }, cause) => {
                        MigrateError::UndoFailed { name, step, source, cause: cause.map(Box::new) }
                    }
                    (other, _) => other,
                };
                self.end(MigrationState::Failed, error).await
            }
        }
    }

    /// Undoes every step that may have happened, the last one first. Before the first it is known that each can be.
    pub(super) async fn reverse(&mut self, reports: &mut Vec<StepReport>) -> Result<(), MigrateError> {
        let name = self.migration.name().to_owned();
        // What happened in this very run is in the journal, too.
        let known = self.journal.read(&name).await?.map(|entry| entry.steps).unwrap_or_default();
        let happened: Vec<(&MigrationStep, StepEntry)> = (self.migration.steps.iter().rev())
            .filter_map(|step| known.get(&step.key).map(|entry| (step, entry.clone())))
            .filter(|(_, entry)| entry.may_have_happened())
            .collect();
        let never = happened.iter().find(|(step, _)| step.operation.reversal() == Reversal::Never);
        if let Some((step, _)) = never {
            return Err(MigrateError::NoWayBack { name, step: step.key.clone() });
        }
        self.journal.undoing(&name).await?;
        // A process that is asked to stop while it goes back leaves things half done for longer than it needs to: only
        // its end in earnest stops it.
        self.hands.ctx.cancel = CancellationToken::new();
        for (step, entry) in happened {
            let clock = Instant::now();
            if !self.lock.is_held().await {
                return Err(MigrateError::LockLost { name, step: step.key.clone() });
            }
            self.hands.step.clone_from(&step.key);
            self.journal.evidence(self.migration, step, StepState::Undoing, &entry.evidence(), None).await?;
            self.ctx.progress.note(&format!("undoing {}", step.key));
            if let Err(source) = step.operation.act().undo(&mut self.hands, &entry.undo).await {
                let text = source.to_string();
                if matches!(step.operation, Operation::WayBack(_)) && source.kind() == Kind::Refused {
                    // It stands as it was, and what comes after it can be done again.
                    self.journal
                        .evidence(self.migration, step, StepState::Done, &entry.evidence(), Some(&text))
                        .await?;
                    return Err(MigrateError::WayBackClosed { name, step: step.key.clone(), source, cause: None });
                }
                self.journal.evidence(self.migration, step, StepState::Undoing, &entry.evidence(), Some(&text)).await?;
                return Err(MigrateError::UndoFailed { name, step: step.key.clone(), source, cause: None });
            }
            let evidence = json!({ "found": entry.found });
            self.journal.evidence(self.migration, step, StepState::Undone, &evidence, None).await?;
            reports.push(StepReport {
                step: step.key.clone(),
                stage: step.stage.to_string(),
                outcome: StepOutcome::Undone,
                attempts: 1,
                milliseconds: millis_since(clock),
                found: Value::Null,
            });
        }
        Ok(())
    }
}
