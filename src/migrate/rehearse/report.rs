//! The report of a rehearsal: what was measured, what production has to expect, and whether that is within limits.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::load::Felt;
use super::locks::Held;
use super::measure::Cost;
use super::practice::{Practised, is_rehearsed};
use super::server_log::ServerLog;
use crate::backup::BackupId;
use crate::failure::{Failure, Kind, chain};
use crate::migrate::fingerprint::Fingerprint;
use crate::migrate::migration::Migration;
use crate::units::took;

/// A rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Its id in the ledger.
    pub id: Uuid,
    /// The migration.
    pub migration: String,
    /// The digest of the plan.
    pub plan: String,
    /// The digest of the source it is for.
    pub source: String,
    /// The backup it was made on.
    pub backup: BackupId,
    /// When it began.
    pub began: Timestamp,
    /// How long the restore took, in milliseconds.
    pub restored_milliseconds: u64,
    /// How long the migration took, in milliseconds.
    pub milliseconds: u64,
    /// Size of the copy, in bytes.
    pub copy_bytes: i64,
    /// Size of the source, in bytes.
    pub source_bytes: i64,
    /// What production has to expect: the time of the run, scaled by the sizes, in milliseconds.
    pub window_milliseconds: u64,
    /// Each step that was rehearsed.
    pub steps: Vec<RehearsedStep>,
    /// Steps that were not, because they act on something else than the databases.
    pub skipped: Vec<Skipped>,
    /// The locks that were held, in the order of time.
    pub locks: Vec<Held>,
    /// What the server's own log says of them.
    #[serde(default)]
    pub server_log: ServerLog,
    /// What others felt.
    pub felt: Vec<Felt>,
    /// Indexes that are not valid afterwards.
    pub invalid_indexes: Vec<String>,
    /// Whether it came to its end within the limits.
    pub passed: bool,
    /// What was wrong.
    pub findings: Vec<String>,
}

/// A step of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedStep {
    /// The stage.
    pub stage: String,
    /// Its key.
    pub step: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it began, in milliseconds since the run did; the locks have the same zero.
    pub from: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// What production has to expect, in milliseconds.
    pub expected_milliseconds: u64,
    /// What it cost.
    pub cost: Cost,
    /// What it found.
    pub found: serde_json::Value,
}

/// A step that was not rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The stage.
    pub stage: String,
    /// Its key.
    pub step: String,
    /// Its operation.
    pub operation: String,
}

/// Milliseconds on the copy, as they are to be expected on the source: work on a database grows with it.
fn scaled(milliseconds: u64, source_bytes: i64, copy_bytes: i64) -> u64 {
    let (source, copy) = (u128::try_from(source_bytes).unwrap_or(0), u128::try_from(copy_bytes).unwrap_or(0));
    let scaled = (u128::from(milliseconds) * source.max(1)).checked_div(copy.max(1)).unwrap_or_default();
    // A copy without the source's bloat is smaller; a source that has shrunk does not make it faster.
    u64::try_from(scaled).unwrap_or(u64::MAX).max(milliseconds)
}

pub(super) fn of(
    migration: &Migration,
    source: &Fingerprint,
    backup: &BackupId,
    practised: Practised,
    restored_milliseconds: u64,
) -> Rehearsal {
    let (source_bytes, copy_bytes) = (source.bytes(), practised.bytes);
    let expected = |milliseconds| scaled(milliseconds, source_bytes, copy_bytes);
    let ran = practised.report.migrations.first().map(|one| one.steps.clone()).unwrap_or_default();
    let steps = ran.into_iter().filter(|step| step.outcome != crate::migrate::saga::StepOutcome::Undone);
    let (mut costs, mut server_log) = (practised.costs, practised.log);
    server_log.compare(&practised.held);
    let steps: Vec<RehearsedStep> = steps
        .map(|step| {
            let cost = costs.iter().position(|(key, ..)| *key == step.step).map(|at| costs.swap_remove(at));
            let (from, cost) = cost.map_or_else(Default::default, |(_, from, cost)| (from, cost));
            RehearsedStep {
                stage: step.stage,
                attempts: step.attempts,
                from,
                milliseconds: step.milliseconds,
                expected_milliseconds: expected(step.milliseconds),
                cost,
                found: step.found,
                step: step.step,
            }
        })
        .collect();
    let skipped = migration.steps.iter().filter(|step| !is_rehearsed(step)).map(|step| Skipped {
        stage: step.stage.to_string(),
        step: step.key.clone(),
        operation: step.operation.kind().to_owned(),
    });
    Rehearsal {
        id: Uuid::nil(),
        migration: migration.name().to_owned(),
        plan: migration.plan_digest().to_string(),
        source: source.digest().to_string(),
        backup: backup.clone(),
        began: Timestamp::now(),
        restored_milliseconds,
        milliseconds: practised.milliseconds,
        copy_bytes,
        source_bytes,
        window_milliseconds: steps.iter().map(|step| step.expected_milliseconds).sum(),
        steps,
        skipped: skipped.collect(),
        locks: practised.held,
        server_log,
        felt: practised.felt,
        invalid_indexes: practised.invalid,
        passed: false,
        findings: practised.report.error.map(|error| chain(&error)).into_iter().collect(),
    }
}

impl Rehearsal {
    /// The lock that kept writers waiting longest, of those on one relation.
    #[must_use]
    pub fn longest_lock(&self) -> Option<&Held> {
        self.locks.iter().filter(|held| held.keeps_writers_waiting()).max_by_key(|held| held.milliseconds)
    }

    /// Compares with the recipe's limits.
    pub(super) fn judge(&mut self, migration: &Migration) {
        let limits = migration.recipe.limits;
        let mut found = Vec::new();
        if let (Some(limit), Some(lock)) = (limits.lock, self.longest_lock()) {
            let expected = scaled(lock.milliseconds, self.source_bytes, self.copy_bytes);
            if expected > limit.as_millis() {
                let (mode, relation) = (&lock.mode, &lock.relation);
                let expected = took(expected);
                found.push(format!(
                    "{mode} on {relation} is to be expected for {expected}, more than the limit of {limit}"
                ));
            }
        }
        if let Some(limit) = limits.window.filter(|limit| self.window_milliseconds > limit.as_millis()) {
            let window = took(self.window_milliseconds);
            found.push(format!("the window to expect is {window}, more than the limit of {limit}"));
        }
        if !self.invalid_indexes.is_empty() {
            found.push(format!("indexes are not valid afterwards: {}", self.invalid_indexes.join(", ")));
        }
        self.findings.extend(found);
        self.passed = self.findings.is_empty();
    }

    /// `Ok` when it passed.
    ///
    /// # Errors
    /// What was wrong.
    pub fn verdict(&self) -> Result<(), Failure> {
        if self.passed {
            return Ok(());
        }
        let message = format!("the rehearsal of `{}` failed: {}", self.migration, self.findings.join("; "));
        Err(Failure::new(Kind::VerificationFailed, message)
            .with_hint("correct the recipe or its `limits`, and rehearse it again"))
    }
}
