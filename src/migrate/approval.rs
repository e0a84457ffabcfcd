//! Approvals: a named person agrees to exactly one plan, on exactly one source, after exactly one rehearsal. An approval
//! is good for one beginning, and not for ever.

mod judge;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use self::judge::Kept;
pub(super) use self::judge::{Judged, judge};
use super::entry::{MigrationState, StepState};
use super::error::MigrateError;
use super::fingerprint::{Fingerprint, fingerprint};
use super::journal::{Journal, bounded};
use super::migration::Migration;
use super::names::Digest;
use super::plan::MigrationPlan;
use super::recipe::{ApprovalRule, RehearsalRule};
use super::world::World;
use crate::clients::postgres::instant::{required, utc};
use crate::context::Context;

/// Characters of a digest that tell plans apart.
pub const SHORTEST_DIGEST: usize = 8;

/// An approval, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Its id.
    pub id: Uuid,
    /// The step; `None` for the beginning.
    pub step: Option<String>,
    /// The digest of the plan.
    pub plan: Digest,
    /// The digest of the source's fingerprint.
    pub source: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// `open`, `used`, `expired` or `revoked`.
    pub state: String,
}

/// What is to be approved.
#[derive(Debug, Clone)]
pub struct Granted<'a> {
    /// Its id, chosen by whoever asks: asked again under the same one, it is the approval that was given.
    pub id: Uuid,
    /// The name of the person.
    pub by: &'a str,
    /// For how long it is good.
    pub expires: Duration,
    /// The step; `None` for the beginning.
    pub step: Option<&'a str>,
    /// The digest the person has seen; another one now is stale.
    pub seen: Option<&'a str>,
}

/// Approves a migration as it would be run here and now.
///
/// # Errors
/// [`MigrateError::StaleApproval`] when the plan is not the one that was seen, [`MigrateError::NotRehearsed`], or an
/// unknown step.
pub async fn approve(
    migration: &Migration,
    journal: &Journal,
    world: &World,
    granted: &Granted<'_>,
    ctx: &Context,
) -> Result<Approval, MigrateError> {
    let name = migration.name();
    if let Some(given) = approvals(name, journal).await?.into_iter().find(|approval| approval.id == granted.id) {
        return Ok(given);
    }
    let plan = migration.plan_digest();
    if let Some(seen) = granted.seen.filter(|seen| !plan.as_str().starts_with(seen) || seen.len() < SHORTEST_DIGEST) {
        let (name, seen) = (name.to_owned(), seen.to_owned());
        return Err(MigrateError::OtherPlan { name, seen, now: plan });
    }
    let asks = |step: &&super::migration::MigrationStep| step.operation.kind() == "approve";
    if let Some(step) = granted.step.filter(|step| !migration.steps.iter().filter(asks).any(|one| one.key == **step)) {
        let known: Vec<&str> = migration.steps.iter().filter(asks).map(|step| step.key.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(MigrateError::NoApproveStep { name: name.to_owned(), step: step.to_owned(), known });
    }
    if let Some(step) = granted.step {
        use MigrationState::{Failed, Running, Stopped};
        let entry = journal.read(name).await?;
        let waits = entry.as_ref().is_some_and(|entry| {
            matches!(entry.state, Running | Stopped | Failed)
                && entry.steps.get(step).is_none_or(|step| step.state != StepState::Done)
        });
        if !waits {
            return Err(MigrateError::NothingWaits { name: name.to_owned(), step: step.to_owned() });
        }
    }
    let source = fingerprint(world, migration, ctx).await?;
    let rehearsal = rehearsal(migration, journal, &source).await?;
    if rehearsal.is_none() && migration.recipe.rehearsal == RehearsalRule::Required && granted.step.is_none() {
        return Err(MigrateError::NotRehearsed { name: name.to_owned() });
    }
    let id = granted.id;
    let query = sqlx::query(
        "INSERT INTO migration_approvals \
         (id, migration, step, plan, source, source_bytes, rehearsal, approved_by, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9 * interval '1 second')",
    )
    .bind(id)
    .bind(name)
    .bind(granted.step)
    .bind(plan.as_str())
    .bind(serde_json::to_string(&source).unwrap_or_default())
    .bind(source.bytes())
    .bind(rehearsal)
    .bind(granted.by)
    .bind(i64::try_from(granted.expires.as_secs()).unwrap_or(i64::MAX / 2));
    bounded(query.execute(journal.ledger())).await?;
    let all = approvals(name, journal).await?;
    all.into_iter().find(|approval| approval.id == id).ok_or_else(|| MigrateError::JournalValue(id.to_string()))
}

/// The newest rehearsal of this plan for this source that has passed.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn rehearsal(
    migration: &Migration,
    journal: &Journal,
    source: &Fingerprint,
) -> Result<Option<Uuid>, MigrateError> {
    let query = sqlx::query_scalar(
        "SELECT id FROM migration_rehearsals WHERE migration = $1 AND plan = $2 AND source = $3 AND passed \
         ORDER BY ended_at DESC LIMIT 1",
    )
    .bind(migration.name())
    .bind(migration.plan_digest().as_str().to_owned())
    .bind(source.digest().as_str().to_owned());
    bounded(query.fetch_optional(journal.ledger())).await
}

/// That of a step is one of a beginning, too: what was agreed to before it began, or began anew, is not used any more.
const APPROVALS: &str = concat!(
    "SELECT a.id, step, plan, source, source_bytes, approved_by, ",
    utc!("date_trunc('second', approved_at)"),
    " AS at, ",
    utc!("date_trunc('second', expires_at)"),
    " AS expires, \
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN used_at IS NOT NULL THEN 'used' \
         WHEN expires_at <= now() OR step IS NOT NULL AND approved_at < m.begun_at THEN 'expired' \
         ELSE 'open' END AS state \
    FROM migration_approvals a LEFT JOIN migrations m ON m.name = a.migration \
    WHERE a.migration = $1 ORDER BY approved_at DESC, a.id DESC"
);

/// The approvals of a migration and what they were given for, the newest first.
pub(super) async fn kept(name: &str, journal: &Journal) -> Result<Vec<Kept>, MigrateError> {
    let rows = bounded(sqlx::query(APPROVALS).bind(name).fetch_all(journal.ledger())).await?;
    let one = |row: &sqlx::postgres::PgRow| -> Result<Kept, sqlx::Error> {
        let source: Option<Fingerprint> = serde_json::from_str(row.try_get("source")?).ok();
        Ok(Kept {
            approval: Approval {
                id: row.try_get("id")?,
                step: row.try_get("step")?,
                plan: Digest::stored(row.try_get("plan")?),
                source: source.as_ref().map(|source| source.digest().to_string()).unwrap_or_default(),
                by: row.try_get("approved_by")?,
                at: required(row, "at")?,
                expires: required(row, "expires")?,
                state: row.try_get("state")?,
            },
            bytes: row.try_get("source_bytes")?,
            source,
        })
    };
    Ok(rows.iter().map(one).collect::<Result<_, _>>()?)
}

/// The approvals of a migration, the newest first.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn approvals(name: &str, journal: &Journal) -> Result<Vec<Approval>, MigrateError> {
    Ok(kept(name, journal).await?.into_iter().map(|kept| kept.approval).collect())
}

/// Revokes every open approval of a migration; how many there were.
///
/// # Errors
/// When the ledger cannot be written.
pub async fn revoke(name: &str, journal: &Journal) -> Result<u64, MigrateError> {
    let query = sqlx::query(
        "UPDATE migration_approvals SET revoked_at = now() WHERE migration = $1 AND used_at IS NULL AND revoked_at IS NULL",
    );
    Ok(bounded(query.bind(name).execute(journal.ledger())).await?.rows_affected())
}

/// Whether a plan needs an approval before it is begun.
#[must_use]
pub fn is_needed(planned: &MigrationPlan) -> bool {
    match planned.migration.recipe.approval {
        ApprovalRule::Required => true,
        ApprovalRule::Destructive => planned.is_destructive(),
        ApprovalRule::None => false,
    }
}

/// What a beginning has to do with approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    /// It uses this one up.
    By(Uuid),
    /// It needs none, whatever comes.
    NotNeeded,
    /// It needs none as things stand. One may still be needed: for a step that cannot be undone, and that holds now.
    NotYet,
}

/// What a migration that is about to begin needs. Nothing is used up before it begins.
///
/// # Errors
/// [`MigrateError::AwaitsApproval`], [`MigrateError::StaleApproval`], [`MigrateError::NotRehearsed`].
pub(super) async fn ask(
    planned: &MigrationPlan,
    journal: &Journal,
    world: &World,
    ctx: &Context,
) -> Result<Agreement, MigrateError> {
    let migration = &planned.migration;
    if is_needed(planned) {
        return Ok(Agreement::By(open(planned, journal, world, ctx).await?));
    }
    if migration.recipe.rehearsal == RehearsalRule::Required {
        let source = fingerprint(world, migration, ctx).await?;
        if rehearsal(migration, journal, &source).await?.is_none() {
            return Err(MigrateError::NotRehearsed { name: migration.name().to_owned() });
        }
    }
    Ok(match migration.recipe.approval {
        ApprovalRule::None => Agreement::NotNeeded,
        _ => Agreement::NotYet,
    })
}

/// Whether the migration that goes on has used one up since it began, or needs none.
pub(super) async fn was_taken(migration: &Migration, journal: &Journal) -> Result<bool, MigrateError> {
    if migration.recipe.approval == ApprovalRule::None {
        return Ok(true);
    }
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM migrations m JOIN migration_approvals a ON a.id = m.approval \
           WHERE m.name = $1 AND a.plan = $2)",
    );
    let plan = migration.plan_digest();
    bounded(query.bind(migration.name()).bind(plan.as_str()).fetch_one(journal.ledger())).await
}

/// The newest approval of a migration, when it is open and for what there is now.
///
/// # Errors
/// [`MigrateError::AwaitsApproval`], [`MigrateError::StaleApproval`].
pub(super) async fn open(
    planned: &MigrationPlan,
    journal: &Journal,
    world: &World,
    ctx: &Context,
) -> Result<Uuid, MigrateError> {
    let migration = &planned.migration;
    let name = migration.name().to_owned();
    let now = fingerprint(world, migration, ctx).await?;
    match judge(&kept(&name, journal).await?, &migration.plan_digest(), &now) {
        Judged::Good(id) => Ok(id),
        Judged::Awaited(why) => Err(MigrateError::AwaitsApproval { name, why }),
        Judged::Stale(why) => Err(MigrateError::StaleApproval { name, why }),
    }
}

/// Uses an approval up; false when somebody else has, or it is not open any more.
pub(super) async fn use_up(id: Uuid, session: impl PgExecutor<'_>) -> Result<bool, MigrateError> {
    let query = sqlx::query(
        "UPDATE migration_approvals SET used_at = now() WHERE id = $1 AND used_at IS NULL AND revoked_at IS NULL \
         AND expires_at > now()",
    );
    Ok(bounded(query.bind(id).execute(session)).await?.rows_affected() == 1)
}

impl Journal {
    /// Uses up the approval of a step; who gave it, or `None` when there is no open one for this plan.
    ///
    /// # Errors
    /// [`MigrateError::StaleApproval`] when it was given for other databases. Their tables may have changed: earlier steps
    /// of the same migration do that.
    pub(crate) async fn take_step_approval(
        &self,
        migration: &Migration,
        step: &str,
        world: &World,
        ctx: &Context,
    ) -> Result<Option<String>, MigrateError> {
        let plan = migration.plan_digest();
        let fits = |kept: &&Kept| {
            let approval = &kept.approval;
            approval.step.as_deref() == Some(step) && approval.state == "open" && approval.plan == plan
        };
        let all = kept(migration.name(), self).await?;
        let Some(kept) = all.iter().find(fits) else { return Ok(None) };
        let by = kept.approval.by.clone();
        let now = fingerprint(world, migration, ctx).await?;
        if let Some(differences) = kept.differences(&now, Fingerprint::identity) {
            let why = format!("{by} approved step {step} for another source: {differences}");
            return Err(MigrateError::StaleApproval { name: migration.name().to_owned(), why });
        }
        Ok(use_up(kept.approval.id, self.ledger()).await?.then_some(by))
    }

    /// Keeps the report of a rehearsal.
    pub(crate) async fn keep_rehearsal(
        &self,
        id: Uuid,
        migration: &Migration,
        source: &Fingerprint,
        backup: &str,
        passed: bool,
        report: &serde_json::Value,
    ) -> Result<(), MigrateError> {
        let query = sqlx::query(
            "INSERT INTO migration_rehearsals (id, migration, plan, source, backup, passed, report) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(migration.name())
        .bind(migration.plan_digest().as_str().to_owned())
        .bind(source.digest().as_str().to_owned())
        .bind(backup)
        .bind(passed)
        .bind(Json(report));
        bounded(query.execute(self.ledger())).await.map(drop)
    }
}
