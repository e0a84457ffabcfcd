//! Sees to the runs of a plan, each looked at once more right before, at a set rate, and not on when the server suffers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Ground;
use super::judge::{ends, is_overdue};
use super::pace::Pace;
use super::plan::{OverduePlan, OverdueReport, Work};
use crate::clients::persistence::{ExecutionDetail, RunKey, Session};
use crate::clients::temporal::TemporalError;
use crate::context::Context;
use crate::failure::{Failure, Kind, chain};
use crate::policy::retention::OverdueAction;
use crate::progress::Unit;
use crate::retention::audit::{AuditError, Refusal};
use crate::units::Span;

/// Runs looked up once more with one query, right before they are seen to.
const TOGETHER: usize = 100;

/// Executes the plan. What was done is told also when it stops on the way.
pub async fn apply(plan: &OverduePlan, ground: &Ground, ctx: &Context) -> (OverdueReport, Result<(), Failure>) {
    let mut report = OverdueReport { found: plan.namespaces.clone(), ..OverdueReport::default() };
    let result = every(plan, ground, ctx, &mut report).await;
    (report, result)
}

async fn every(plan: &OverduePlan, ground: &Ground, ctx: &Context, report: &mut OverdueReport) -> Result<(), Failure> {
    ctx.progress.stage("runs whose deletion does not fit the retention", Some(plan.work.len() as u64), Unit::Items);
    let mut session = ground.persistence.connect().await.map_err(AuditError::from)?;
    if session.is_standby().await.map_err(AuditError::from)? {
        let database = ground.persistence.database().to_owned();
        return Err(AuditError::from(Refusal::Standby { database }).into());
    }
    let between = Duration::from_secs(1) / plan.per_second.max(1);
    let (mut pace, mut next) = (Pace::default(), Instant::now());
    for part in plan.work.chunks(TOGETHER) {
        let now = look_again(&mut session, part).await.map_err(AuditError::from)?;
        for work in part {
            if ctx.is_cancelled() {
                return Err(AuditError::Cancelled.into());
            }
            ctx.progress.advance(1);
            if !now.still(plan, work, ctx) {
                report.changed_meanwhile += 1;
                continue;
            }
            let wait = next.saturating_duration_since(Instant::now());
            if ctx.cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Err(AuditError::Cancelled.into());
            }
            next = Instant::now() + between;
            let asked = Instant::now();
            let done = see_to(plan, work, ground, ctx, report).await;
            let failed = done.as_ref().is_err_and(|error| !matches!(error, TemporalError::RunNotFound { .. }));
            if let Err(error) = done {
                note(error, report)?;
            }
            if let Some(why) = pace.answered(asked.elapsed(), failed) {
                let failure = Failure::new(Kind::Failed, format!("stopped, because Temporal suffers: {why}"));
                return Err(failure.with_hint("the next run goes on; lower `overdue.per_second` if it stops again"));
            }
        }
    }
    if report.failed > 0 {
        let first = report.first_failure.clone().unwrap_or_default();
        return Err(Failure::new(Kind::Failed, format!("Temporal did not take {} runs: {first}", report.failed))
            .with_hint("the next run of the job tries them again"));
    }
    Ok(())
}

/// Counts a failure; an error of the connection ends the whole.
fn note(error: TemporalError, report: &mut OverdueReport) -> Result<(), Failure> {
    match error {
        TemporalError::RunNotFound { .. } => report.changed_meanwhile += 1,
        error if error.is_connection() => return Err(error.into()),
        error => {
            report.failed += 1;
            report.first_failure.get_or_insert_with(|| chain(&error));
        }
    }
    Ok(())
}

async fn see_to(
    plan: &OverduePlan,
    work: &Work,
    ground: &Ground,
    ctx: &Context,
    report: &mut OverdueReport,
) -> Result<(), TemporalError> {
    let RunKey { namespace, workflow, run, .. } = &work.key;
    if plan.action != OverdueAction::Delete {
        ground.temporal.refresh_workflow_tasks(*namespace, workflow, *run).await?;
        *if work.early { &mut report.extended } else { &mut report.refreshed } += 1;
        return Ok(());
    }
    // Deleting an open run would terminate it: the server itself has to say that it has ended, and when.
    let state = ground.temporal.describe_run(&work.namespace, workflow, *run).await?;
    let ended = state.closed.filter(|_| !state.is_open);
    if !ended.is_some_and(|closed| is_overdue(closed, work.retention, plan.slack, ctx.now)) {
        report.changed_meanwhile += 1;
        return Ok(());
    }
    ground.temporal.delete_run(&work.namespace, workflow, *run).await?;
    report.deleted += 1;
    Ok(())
}

/// What the database says right before.
struct Now {
    runs: BTreeMap<RunKey, ExecutionDetail>,
    retentions: BTreeMap<uuid::Uuid, Span>,
}

async fn look_again(session: &mut Session, part: &[Work]) -> Result<Now, crate::clients::postgres::PostgresError> {
    let keys: Vec<RunKey> = part.iter().map(|work| work.key.clone()).collect();
    let details = session.details(&keys).await?;
    let namespaces = session.namespace_rows().await?;
    let retentions = namespaces.into_iter().filter(|row| !row.is_deleted);
    Ok(Now {
        runs: details.into_iter().map(|detail| (detail.key.clone(), detail)).collect(),
        retentions: retentions.filter_map(|row| Some((row.id, Span::from(row.retention?)))).collect(),
    })
}

impl Now {
    /// Whether the run is still there, closed, and as the plan has it by the retention of now.
    fn still(&self, plan: &OverduePlan, work: &Work, ctx: &Context) -> bool {
        let retention = self.retentions.get(&work.key.namespace).copied();
        let closed = self.runs.get(&work.key).and_then(|detail| detail.closed);
        let (Some(retention), Some(closed)) = (retention, closed) else { return false };
        if retention != work.retention {
            return false;
        }
        if work.early {
            ends(closed, retention).is_some_and(|end| end > ctx.now)
        } else {
            is_overdue(closed, retention, plan.slack, ctx.now)
        }
    }
}
