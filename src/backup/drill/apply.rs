//! Makes the drill.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::checks::{self, Outcome};
use super::scratch::{self, Made};
use super::{DrillPlan, DrillReport, Drilled, Sorted, of_tables, sort};
use crate::backup::error::BackupError;
use crate::backup::live::Chunks;
use crate::backup::manifest::{self, Database};
use crate::backup::proof::{self, Proof};
use crate::backup::restore::{self, Target};
use crate::backup::store::Store;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::chain;

/// Drops what earlier drills have left, restores and looks over each database of the planned backup, drops it again,
/// and marks the backup as proven when nothing was found. The report must be asked for its
/// [`DrillReport::verdict`].
///
/// # Errors
/// A refusal, or the run is cancelled; what a database came to is in the report. The drill's database is dropped in
/// either case.
pub async fn apply(
    plan: &DrillPlan,
    scratch: &Postgres,
    from: &Chunks,
    ctx: &Context,
) -> Result<DrillReport, BackupError> {
    let clock = Instant::now();
    let manifest = &plan.manifest;
    let mut report = DrillReport {
        id: manifest.id.clone(),
        proven: false,
        server_version: plan.version,
        milliseconds: 0,
        dropped: Vec::new(),
        databases: Vec::new(),
        notes: Vec::new(),
    };
    sweep(plan, scratch, &mut report).await;
    for database in &manifest.databases {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let drilled = one(plan, database, scratch, from, &mut report.notes, ctx).await?;
        report.databases.push(drilled);
    }
    report.milliseconds = since(clock);
    if report.verdict().is_ok() {
        match prove(plan, &from.store, report.milliseconds).await.map_err(sort) {
            Ok(()) => report.proven = true,
            Err(Sorted::Other(error)) => return Err(error),
            Err(sorted) => note_last(&mut report, sorted),
        }
    }
    Ok(report)
}

/// What keeps a backup that was restored well from being marked, among what was found in its last database.
fn note_last(report: &mut DrillReport, sorted: Sorted) {
    let Some(last) = report.databases.last_mut() else { return };
    match sorted {
        Sorted::Bad(finding) => last.findings.push(finding),
        Sorted::Untold(reason) => last.untold.push(reason),
        Sorted::Other(_) => {}
    }
}

/// A left-over that cannot be dropped does not keep a backup from being proven.
async fn sweep(plan: &DrillPlan, scratch: &Postgres, report: &mut DrillReport) {
    if plan.leftovers.is_empty() {
        return;
    }
    let mut session = match scratch::session(scratch).await {
        Ok(session) => session,
        Err(error) => return report.notes.push(chain(&error)),
    };
    for name in &plan.leftovers {
        match scratch::drop_leftover(scratch, &mut session, name).await {
            Ok(true) => report.dropped.push(name.clone()),
            Ok(false) => report.notes.push(format!("database {name} is no drill's left-over any more")),
            Err(error) => report.notes.push(chain(&error)),
        }
    }
    let _ = sqlx::Connection::close(session).await;
}

async fn one(
    plan: &DrillPlan,
    source: &Database,
    scratch: &Postgres,
    from: &Chunks,
    notes: &mut Vec<String>,
    ctx: &Context,
) -> Result<Drilled, BackupError> {
    let clock = Instant::now();
    let mut drilled = Drilled {
        database: source.name.clone(),
        target: String::new(),
        rows: source.tables.iter().map(|table| table.rows).sum(),
        bytes: source.tables.iter().map(|table| table.bytes).sum(),
        milliseconds: 0,
        tables: Vec::new(),
        checks: Vec::new(),
        findings: Vec::new(),
        untold: Vec::new(),
        kept: false,
    };
    let made = match Made::create(scratch, plan.backup(), source).await.map_err(sort) {
        Ok(made) => made,
        // Its making says nothing about the backup.
        Err(Sorted::Bad(reason) | Sorted::Untold(reason)) => {
            drilled.untold.push(reason);
            return Ok(drilled);
        }
        Err(Sorted::Other(error)) => return Err(error),
    };
    drilled.target.clone_from(&made.name);
    let looked = look(plan, source, scratch, from, &mut drilled, ctx).await;
    let passed = looked.is_ok() && drilled.findings.is_empty() && drilled.untold.is_empty();
    let is_kept = plan.policy.keep_failed && looked.is_ok() && !passed;
    let ended = if is_kept { made.keep(plan.backup(), Timestamp::now()).await } else { made.remove().await };
    match ended {
        Ok(()) => drilled.kept = is_kept,
        Err(error) => notes.push(chain(&error)),
    }
    drilled.milliseconds = since(clock);
    looked.map(|()| drilled)
}

/// Restores one database and asks of it everything; what comes out is added to `drilled`.
async fn look(
    plan: &DrillPlan,
    source: &Database,
    scratch: &Postgres,
    from: &Chunks,
    drilled: &mut Drilled,
    ctx: &Context,
) -> Result<(), BackupError> {
    let target = Target { postgres: scratch.clone(), database: drilled.target.clone(), jobs: plan.policy.jobs.get() };
    match restore::restore(from, &plan.manifest, &source.name, &target, ctx).await.map_err(sort) {
        Ok(restored) => {
            let (findings, untold) = of_tables(&restored.tables);
            drilled.findings.extend(findings);
            drilled.untold.extend(untold);
            drilled.tables = restored.tables;
        }
        Err(Sorted::Bad(finding)) => {
            drilled.findings.push(finding);
            return Ok(());
        }
        Err(Sorted::Untold(reason)) => {
            drilled.untold.push(reason);
            return Ok(());
        }
        Err(Sorted::Other(error)) => return Err(error),
    }
    drilled.checks = checks::look(scratch, &drilled.target, source, ctx).await?;
    for check in &drilled.checks {
        let line = format!("{}: {}", check.check, check.detail.as_deref().unwrap_or_default());
        match check.outcome {
            Outcome::Holds => {}
            Outcome::Broken => drilled.findings.push(line),
            Outcome::Unknown => drilled.untold.push(line),
        }
    }
    Ok(())
}

/// Marks the backup, provided that the store still has the manifest that was restored.
async fn prove(plan: &DrillPlan, store: &Arc<dyn Store>, milliseconds: u64) -> Result<(), BackupError> {
    let (id, subject) = (plan.backup(), format!("backup `{}`", plan.backup()));
    match manifest::load(&**store, id).await {
        Ok(now) if now == plan.manifest => {}
        Ok(_) => {
            let findings = vec!["its manifest is another than the one that was restored".to_owned()];
            return Err(BackupError::Differs { subject, findings });
        }
        Err(BackupError::NoBackup { .. }) => {
            let reasons = vec!["it was removed from the store while it was restored".to_owned()];
            return Err(BackupError::Unverified { subject, reasons });
        }
        Err(error) => return Err(error),
    }
    let proof = Proof {
        at: Timestamp::now(),
        by: env!("CARGO_PKG_VERSION").to_owned(),
        databases: plan.manifest.databases.iter().map(|database| database.name.clone()).collect(),
        milliseconds,
        server_version: plan.version,
    };
    proof::write(&**store, id, &proof).await
}

fn since(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX)
}
