//! A rehearsal: the same plan on a restored backup, with somebody reading and writing meanwhile, and everything that
//! production would feel measured.
//!
//! The newest proven backup is restored on the scratch server, into databases of the rehearsal's own; the migration
//! runs there with a journal of its own ([`practice`]). Sessions beside it see which locks it holds and for how long
//! ([`locks`]), and read and write as Temporal would, to feel them ([`load`]); the server's own log says who waited for them
//! ([`server_log`]). What it took is in the report.

mod ground;
mod html;
mod load;
mod locks;
mod measure;
mod practice;
mod report;
mod server_log;

use std::time::Instant;

use jiff::Timestamp;
use uuid::Uuid;

use self::ground::Ground;
use super::error::MigrateError;
use super::fingerprint::fingerprint;
use super::journal::Journal;
use super::migration::Migration;
use super::names::Database;
use super::steps::StepError;
use super::world::World;
use crate::backup::{self, BackupId, Chunks, Target, manifest, store};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::{Kind, chain};
use crate::units::millis_since;

pub use html::html;
pub use load::Felt;
pub use locks::Held;
pub use measure::{Cost, Rewrite};
pub use report::{Rehearsal, RehearsedStep, Skipped};
pub use server_log::{LoggedStatement, LoggedWait, ServerLog};

/// How a migration is rehearsed.
#[derive(Debug, Clone)]
pub struct Rehearse {
    /// The scratch server.
    pub scratch: Postgres,
    /// The backup; `None` takes the newest proven one.
    pub backup: Option<BackupId>,
    /// Tables that are restored at once.
    pub jobs: usize,
    /// Leaves the databases for a look.
    pub keep: bool,
}

fn refused(message: impl Into<String>, hint: &str) -> MigrateError {
    MigrateError::Rehearsal(StepError::new(Kind::Refused, message, hint))
}

/// Rehearses a migration and keeps the report in the ledger. The report must be asked for its
/// [`Rehearsal::verdict`].
///
/// # Errors
/// When it cannot be rehearsed; how the migration itself went is in the report.
pub async fn rehearse(
    migration: &Migration,
    journal: &Journal,
    world: &World,
    how: &Rehearse,
    ctx: &Context,
) -> Result<Rehearsal, MigrateError> {
    let began = Timestamp::now();
    if let Database::Named(name) = migration.database() {
        return Err(refused(
            format!(
                "migration `{}` acts on database `{name}`, and a rehearsal has copies of Temporal's only",
                migration.name()
            ),
            "write `database: main` or `database: visibility` where one of these is meant",
        ));
    }
    let rehearsed = practice::rehearsed(migration);
    if rehearsed.steps.is_empty() {
        return Err(refused(
            format!("migration `{}` has no step that can be rehearsed", migration.name()),
            "steps of SQL, of Temporal's schema, and commands with `rehearsed: true` can be",
        ));
    }
    let source = fingerprint(world, migration, ctx).await?;
    let backups = world.backups.as_ref().ok_or_else(|| {
        refused("a rehearsal needs a backup, and no `store:` is configured", "sexton.example.yaml shows the section")
    })?;
    let failed = |error: StepError| MigrateError::Rehearsal(error);
    let store = store::open(&backups.store).await.map_err(|error| failed(error.into()))?;
    let id = match &how.backup {
        Some(id) => id.clone(),
        None => match backup::newest_proof(&*store).await.map_err(|error| failed(error.into()))? {
            Some((id, _)) => id,
            None => {
                return Err(refused(
                    "no backup has been proven yet, and a rehearsal is worth what its backup is",
                    "run `sexton once backup` and `sexton once drill`, or name one with --backup",
                ));
            }
        },
    };
    let manifest = manifest::load(&*store, &id).await.map_err(|error| failed(error.into()))?;
    let ground = Ground::make(&how.scratch, world).await?;
    let result = async {
        let clock = Instant::now();
        let chunks = Chunks { store, identities: std::sync::Arc::clone(&backups.identities) };
        for (name, copy) in world.source.all().iter().zip(ground.world().source.all()) {
            let to = Target { postgres: how.scratch.clone(), database: copy, jobs: how.jobs };
            let restored = backup::restore(&chunks, &manifest, name, &to, ctx).await;
            restored.and_then(|report| report.verdict()).map_err(|error| failed(error.into()))?;
        }
        ground.settle().await?;
        let copy = fingerprint(ground.world(), &rehearsed, ctx).await?;
        let stale = source.older_schemas(&copy);
        if !stale.is_empty() {
            let message = format!("backup `{id}` is of another schema than the source has now: {}", stale.join("; "));
            return Err(refused(message, "run `sexton once backup` and `sexton once drill`, then rehearse again"));
        }
        let restored = millis_since(clock);
        let mut practised = practice::run(&rehearsed, &ground, ctx).await?;
        practised.name_after(&world.source, &ground.world().source);
        Ok((restored, practised))
    };
    let result = result.await;
    let ended = if how.keep { ground.keep().await } else { ground.remove().await };
    if let Err(error) = ended {
        tracing::warn!(error = %chain(&error), "the databases of the rehearsal are left");
    }
    let (restored, practised) = result?;
    let (is_watched, unmeasured) = (practised.is_watched, practised.unmeasured.join(", "));
    let mut report = report::of(migration, &source, &id, practised, restored);
    report.id = Uuid::now_v7();
    report.began = began;
    if !is_watched {
        report.findings.push("the locks or the load could not be watched to the end; rehearse it again".to_owned());
    }
    // What it costs is what somebody agrees to: nothing is said as if it were nothing.
    if !unmeasured.is_empty() {
        report.findings.push(format!("what these steps cost could not be measured: {unmeasured}; rehearse it again"));
    }
    report.judge(migration);
    let stored = serde_json::to_value(&report).unwrap_or_default();
    journal.keep_rehearsal(report.id, migration, &source, id.as_str(), report.passed, &stored).await?;
    Ok(report)
}
