//! Makes the drill.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::checks::{self, Check, Outcome};
use super::scratch::{self, Made};
use super::server::{self, Restored};
use super::{DrillPlan, DrillReport, Drilled, Sorted, of_tables, sort};
use crate::backup::error::BackupError;
use crate::backup::live::Chunks;
use crate::backup::manifest::{self, Database};
use crate::backup::proof::{self, Proof};
use crate::backup::restore::{self, Target};
use crate::backup::store::Store;
use crate::clients::postgres::{Databases, Postgres};
use crate::context::Context;
use crate::failure::chain;
use crate::policy::drill::ServerPolicy;
use crate::units::millis_since;

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
        server: None,
        notes: Vec::new(),
    };
    sweep(plan, scratch, &mut report).await;
    let mut held = Vec::new();
    let looked = all(plan, scratch, from, &mut report, &mut held, ctx).await;
    for (place, made) in held {
        end(plan, made, place, &mut report, looked.is_ok()).await;
    }
    looked?;
    report.milliseconds = millis_since(clock);
    if report.verdict().is_ok() {
        match prove(plan, &from.store, &report).await.map_err(sort) {
            Ok(()) => report.proven = true,
            Err(Sorted::Other(error)) => return Err(error),
            Err(sorted) => note_last(&mut report, sorted),
        }
    }
    if matches!(report.verdict(), Err(BackupError::Differs { .. })) {
        // What an earlier drill found is not so any more: nobody may count on it, a prune above all.
        match proof::revoke(&*from.store, plan.backup()).await {
            Ok(false) => {}
            Ok(true) => report.notes.push("an earlier drill had proven this backup; that mark is taken off".to_owned()),
            Err(error) => report.notes.push(format!("the mark of an earlier drill stays: {}", chain(&error))),
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
    let mut databases = match Databases::open(scratch).await {
        Ok(databases) => databases,
        Err(error) => return report.notes.push(chain(&error)),
    };
    for name in &plan.leftovers {
        match scratch::drop_leftover(&mut databases, name).await {
            Ok(true) => report.dropped.push(name.clone()),
            Ok(false) => report.notes.push(format!("database {name} is no drill's left-over any more")),
            Err(error) => report.notes.push(chain(&error)),
        }
    }
    databases.close().await;
}

/// Restores and looks over the databases, one after the other, and starts a server on all of them where that is asked
/// for. Those that it leaves in `held` are to be ended, whatever came out.
async fn all(
    plan: &DrillPlan,
    scratch: &Postgres,
    from: &Chunks,
    report: &mut DrillReport,
    held: &mut Vec<(usize, Made)>,
    ctx: &Context,
) -> Result<(), BackupError> {
    for database in &plan.manifest.databases {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let place = report.databases.len();
        one(plan, database, scratch, from, report, held, ctx).await?;
        if plan.policy.server.is_none()
            && let Some((_, made)) = held.pop()
        {
            end(plan, made, place, report, true).await;
        }
    }
    if let Some(policy) = &plan.policy.server
        && report.verdict().is_ok()
    {
        serve(plan, policy, scratch, report, ctx).await?;
    }
    Ok(())
}

/// Has a Temporal server read from the restored databases; what comes out is added to the one that has the runs.
async fn serve(
    plan: &DrillPlan,
    policy: &ServerPolicy,
    scratch: &Postgres,
    report: &mut DrillReport,
    ctx: &Context,
) -> Result<(), BackupError> {
    let find = |is_it: fn(&Database) -> bool| plan.manifest.databases.iter().position(is_it);
    let target = |place: usize| report.databases.get(place).map(|drilled| drilled.target.clone());
    let main = find(checks::is_main);
    let visibility = find(checks::is_visibility).filter(|place| Some(*place) != main).and_then(target);
    let Some((place, main)) = main.and_then(|place| Some((place, target(place)?))) else {
        let why = "none of its databases has Temporal's runs, so that no server can be started on it";
        note_last(report, Sorted::Untold(why.to_owned()));
        return Ok(());
    };
    let restored = Restored { main: &main, visibility: visibility.as_deref() };
    let (check, served) = server::look(policy, scratch, restored, ctx).await?;
    if check.outcome == Outcome::Holds && check.looked_at == 0 {
        report.notes.push("a Temporal server served the restored databases; there was no workflow to read".into());
    }
    report.server = served;
    if let Some(drilled) = report.databases.get_mut(place) {
        drilled.judge(&check);
        drilled.checks.push(check);
    }
    Ok(())
}

/// Drops a database, or keeps it for a look when the policy says so and something is wrong with it.
async fn end(plan: &DrillPlan, made: Made, place: usize, report: &mut DrillReport, looked: bool) {
    // Without it the restore was cut off; there is nothing to say of it then.
    let drilled = report.databases.get_mut(place);
    let failed = drilled.as_ref().is_some_and(|drilled| !(drilled.findings.is_empty() && drilled.untold.is_empty()));
    let is_kept = plan.policy.keep_failed && looked && failed;
    let ended = if is_kept { made.keep(plan.backup(), Timestamp::now()).await } else { made.remove().await };
    match (ended, drilled) {
        (Ok(()), drilled) => drilled.into_iter().for_each(|drilled| drilled.kept = is_kept),
        (Err(error), _) => {
            // The report of a run that was stopped is not shown.
            tracing::warn!(error = %chain(&error), "the drill's database stays; the next drill drops it");
            report.notes.push(chain(&error));
        }
    }
}

/// Restores one database and looks it over.
async fn one(
    plan: &DrillPlan,
    source: &Database,
    scratch: &Postgres,
    from: &Chunks,
    report: &mut DrillReport,
    held: &mut Vec<(usize, Made)>,
    ctx: &Context,
) -> Result<(), BackupError> {
    let clock = Instant::now();
    let place = report.databases.len();
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
            report.databases.push(drilled);
            return Ok(());
        }
        Err(Sorted::Other(error)) => return Err(error),
    };
    drilled.target.clone_from(&made.name);
    held.push((place, made));
    look(plan, source, scratch, from, &mut drilled, ctx).await?;
    drilled.milliseconds = millis_since(clock);
    report.databases.push(drilled);
    Ok(())
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
    for check in drilled.checks.clone() {
        drilled.judge(&check);
    }
    Ok(())
}

impl Drilled {
    /// Adds a check that does not hold to what is wrong or not known.
    fn judge(&mut self, check: &Check) {
        let line = format!("{}: {}", check.check, check.detail.as_deref().unwrap_or_default());
        match check.outcome {
            Outcome::Holds => {}
            Outcome::Broken => self.findings.push(line),
            Outcome::Unknown => self.untold.push(line),
        }
    }
}

/// Marks the backup, provided that the store still has the manifest that was restored.
async fn prove(plan: &DrillPlan, store: &Arc<dyn Store>, report: &DrillReport) -> Result<(), BackupError> {
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
        milliseconds: report.milliseconds,
        server_version: plan.version,
        workflows: report.server.as_ref().map(|served| served.workflows),
    };
    proof::write(&**store, id, &proof).await
}
