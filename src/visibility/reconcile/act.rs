//! Executes a plan, class by class: nothing that is listed now is missing from lists in between.

use std::time::Duration;

use super::plan::{Item, ReconcilePlan};
use super::report::ReconcileReport;
use super::survey::Survey;
use super::{Ground, carry, missing, remove};
use crate::clients::persistence::Session;
use crate::clients::search::{Resolved, Search};
use crate::context::Context;
use crate::visibility::{Refusal, VisibilityError};

/// Documents written or removed with one request.
pub(super) const BULK: usize = 1_000;

/// Executes the plan. Every document is looked at again right before something is done about it.
///
/// # Errors
/// [`VisibilityError::Unfinished`] with what was done until then.
pub async fn apply(plan: &ReconcilePlan, ground: &Ground, ctx: &Context) -> Result<ReconcileReport, VisibilityError> {
    let mut report = ReconcileReport::default();
    match run(plan, ground, ctx, &mut report).await {
        Ok(()) if report.refused == 0 => Ok(report),
        Ok(()) => {
            let reason = report.first_refusal.clone().unwrap_or_default();
            let cause = Box::new(VisibilityError::Documents { count: report.refused, reason });
            Err(VisibilityError::Unfinished { cause, report: Box::new(report) })
        }
        Err(cause) => Err(VisibilityError::Unfinished { cause: Box::new(cause), report: Box::new(report) }),
    }
}

async fn run(
    plan: &ReconcilePlan,
    ground: &Ground,
    ctx: &Context,
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    let mut act = Act::new(ground, &plan.survey, ctx).await?;
    carry::carry(&mut act, &plan.found.open, report).await?;
    remove::stale(&mut act, &plan.found.stale, report).await?;
    remove::ghosts(&mut act, &plan.found.ghosts, report).await?;
    if plan.repair {
        for runs in [&plan.found.missing, &plan.found.outdated] {
            missing::refresh(ground, runs, Duration::ZERO, ctx, report).await?;
        }
    }
    // So that what was removed is gone from lists when the run has ended.
    if report.changed() {
        ground.search.refresh(&plan.alias).await?;
    }
    Ok(())
}

/// What the writing parts share.
#[derive(Debug)]
pub(super) struct Act<'a> {
    pub ground: &'a Ground,
    pub session: Session,
    pub survey: &'a Survey,
    pub ctx: &'a Context,
}

impl<'a> Act<'a> {
    pub(super) async fn new(ground: &'a Ground, survey: &'a Survey, ctx: &'a Context) -> Result<Self, VisibilityError> {
        let mut session = ground.persistence.connect().await?;
        if session.is_standby().await? {
            return Err(Refusal::Standby { database: ground.persistence.database().to_owned() }.into());
        }
        Ok(Self { ground, session, survey, ctx })
    }

    pub(super) fn search(&self) -> &'a Search {
        &self.ground.search
    }

    pub(super) fn go_on(&self) -> Result<(), VisibilityError> {
        if self.ctx.is_cancelled() { Err(VisibilityError::Cancelled { done: 0, total: 0 }) } else { Ok(()) }
    }

    /// The index Temporal writes to now: it may be a newer one than at the survey.
    pub(super) async fn write_index(&self) -> Result<String, VisibilityError> {
        let alias = &self.survey.alias;
        let Resolved::Alias(found) = self.search().resolve(alias).await? else {
            return Err(VisibilityError::Stale(format!("{alias} is no longer an alias")));
        };
        let mut write = found.members.into_iter().filter(|(_, member)| member.write == Some(true));
        match (write.next(), write.next()) {
            (Some((name, _)), None) => Ok(name),
            _ => Err(VisibilityError::Stale(format!("{alias} no longer has one write index"))),
        }
    }

    /// Items by index, in batches for one request each.
    pub(super) fn batches(&self, items: &'a [Item]) -> Vec<(&'a str, Vec<&'a Item>)> {
        let mut batches = Vec::new();
        for (place, member) in self.survey.members.iter().enumerate() {
            let of_index: Vec<&Item> = items.iter().filter(|item| item.member == place).collect();
            batches.extend(of_index.chunks(BULK).map(|chunk| (member.name.as_str(), chunk.to_vec())));
        }
        batches
    }
}
