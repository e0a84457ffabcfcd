//! Everything that a person wants to see of a migration before agreeing to it.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use uuid::Uuid;

use super::approval::{Approval, Judged, is_needed, judge, kept, rehearsal};
use super::entry::Entry;
use super::error::MigrateError;
use super::fingerprint::{Fingerprint, fingerprint};
use super::journal::{Journal, bounded};
use super::migration::Migration;
use super::plan::{MigrationPlan, plan};
use super::rehearse::Rehearsal;
use super::world::World;
use crate::clients::postgres::instant::{required, utc};
use crate::context::Context;

/// What is said in place of where a recipe is from, of a migration that was begun and whose recipe is not there any more.
pub const RECIPE_MISSING: &str = "recipe missing";

/// A migration as it stands here and now.
#[derive(Debug, Clone)]
pub struct Overview {
    /// What would be done.
    pub planned: MigrationPlan,
    /// The source.
    pub source: Fingerprint,
    /// The approvals, the newest first.
    pub approvals: Vec<Approval>,
    /// Whether a rehearsal of exactly this plan has passed, for this source.
    pub is_rehearsed: bool,
    /// What the journal has of it.
    pub entry: Option<Entry>,
    judged: Judged,
}

impl Overview {
    /// Looks at the journal and, READ ONLY, at the world.
    ///
    /// # Errors
    /// When either cannot be read, and whatever `plan` refuses.
    pub async fn of(
        migration: &Migration,
        journal: &Journal,
        world: &World,
        ctx: &Context,
    ) -> Result<Self, MigrateError> {
        let planned = plan(std::slice::from_ref(migration), journal, world, ctx).await?.migrations.pop();
        let planned = planned.ok_or_else(|| MigrateError::JournalValue(migration.name().to_owned()))?;
        let source = fingerprint(world, migration, ctx).await?;
        let is_rehearsed = rehearsal(migration, journal, &source).await?.is_some();
        let (kept, entry) = (kept(migration.name(), journal).await?, journal.read(migration.name()).await?);
        let judged = judge(&kept, &migration.plan_digest(), &source);
        let approvals = kept.into_iter().map(|kept| kept.approval).collect();
        Ok(Self { planned, source, approvals, is_rehearsed, entry, judged })
    }

    /// Whether it may not begin without an approval, and how it is with that: what a run would say now.
    #[must_use]
    pub fn approval(&self) -> ApprovalState {
        if !is_needed(&self.planned) {
            return ApprovalState::NotNeeded;
        }
        match self.judged {
            Judged::Good(_) => ApprovalState::Given,
            Judged::Awaited(_) => ApprovalState::Needed,
            Judged::Stale(_) => ApprovalState::Stale,
        }
    }
}

/// How it is with the approval of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It may begin without.
    NotNeeded,
    /// Nobody has given one, or the newest was used.
    Needed,
    /// The newest is open, and fits.
    Given,
    /// The newest has expired, was revoked, or was given for another plan or source.
    Stale,
}

/// A rehearsal in the ledger.
#[derive(Debug, Clone)]
pub struct KeptRehearsal {
    /// Its id.
    pub id: Uuid,
    /// Whether it has passed.
    pub passed: bool,
    /// When it ended.
    pub ended: Timestamp,
    /// The whole report; `None` when another version has written it in another form.
    pub report: Option<Rehearsal>,
}

/// The rehearsals of a migration, the newest first; `only` one of them, or the last ones.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn rehearsals(
    name: &str,
    only: Option<Uuid>,
    limit: u32,
    journal: &Journal,
) -> Result<Vec<KeptRehearsal>, MigrateError> {
    let query = sqlx::query(concat!(
        "SELECT id, passed, report, ",
        utc!("ended_at"),
        " AS ended FROM migration_rehearsals WHERE migration = $1 AND ($2::uuid IS NULL OR id = $2) \
         ORDER BY ended_at DESC LIMIT $3",
    ))
    .bind(name)
    .bind(only)
    .bind(i64::from(limit));
    let rows = bounded(query.fetch_all(journal.ledger())).await?;
    let one = |row: &sqlx::postgres::PgRow| -> Result<KeptRehearsal, sqlx::Error> {
        let report: serde_json::Value = row.try_get("report")?;
        Ok(KeptRehearsal {
            id: row.try_get("id")?,
            passed: row.try_get("passed")?,
            ended: required(row, "ended")?,
            report: serde_json::from_value(report).ok(),
        })
    };
    Ok(rows.iter().map(one).collect::<Result<_, _>>()?)
}
