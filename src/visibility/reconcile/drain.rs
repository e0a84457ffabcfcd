//! Right after a rollover and right before a deletion: what goes on living leaves the old indices at once.

use serde_json::json;

use super::act::Act;
use super::look::Look;
use super::open;
use super::report::ReconcileReport;
use super::survey::survey;
use super::{Ground, carry, remove};
use crate::context::Context;
use crate::visibility::VisibilityError;

/// At most so many documents in one go; then it is asked again whether to go on.
const PORTION: usize = 50_000;

/// What is left of an index that was drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// What was done.
    pub report: ReconcileReport,
    /// Why the index may not go; `None` when every document left in it is of a run that is gone.
    pub stays: Option<String>,
    /// Per shard, the first sequence number not looked at: as long as it is the next one to be given, nothing was
    /// written since.
    pub looked_at: Vec<u64>,
}

/// Carries the open documents of every old index forward.
///
/// # Errors
/// Any error of the systems, [`VisibilityError::Refused`] when the alias cannot be worked with.
pub async fn carry_forward(ground: &Ground, alias: &str, ctx: &Context) -> Result<ReconcileReport, VisibilityError> {
    let mut report = ReconcileReport::default();
    loop {
        let survey = survey(&ground.search, alias).await?;
        let mut look = Look::new(ground, &survey, PORTION, ctx).await?;
        open::look(&mut look).await?;
        let (more, found) = (look.is_full(), look.found);
        let moved = |report: &ReconcileReport| report.carried + report.stale + report.ghosts;
        let before = moved(&report);
        let mut act = Act::new(ground, &survey, ctx).await?;
        carry::carry(&mut act, &found.open, &mut report).await?;
        remove::stale(&mut act, &found.stale, &mut report).await?;
        remove::ghosts(&mut act, &found.ghosts, &mut report).await?;
        // What does not move is the next run's.
        if !more || before == moved(&report) {
            // So that nothing is listed twice when this has ended.
            if report.changed() {
                ground.search.refresh(alias).await?;
            }
            return Ok(report);
        }
    }
}

/// Carries every document of one old index forward whose run Temporal still has, open or closed, and removes those of
/// which a newer one lies elsewhere. What is left may go with the index.
///
/// # Errors
/// The same; [`VisibilityError::Stale`] when the index is no longer behind the alias, or is its write index.
pub async fn drain(ground: &Ground, alias: &str, index: &str, ctx: &Context) -> Result<Drained, VisibilityError> {
    let mut report = ReconcileReport::default();
    loop {
        let survey = survey(&ground.search, alias).await?;
        let stale = || VisibilityError::Stale(format!("{index} is no old index of {alias} any more"));
        let place = survey.rank(index).filter(|place| *place != survey.write()).ok_or_else(stale)?;
        let looked_at = survey.members.get(place).map(|member| member.next.clone()).unwrap_or_default();
        let mut look = Look::new(ground, &survey, PORTION, ctx).await?;
        look.ghosts = false;
        open::one_index(&mut look, place, json!({"match_all": {}})).await?;
        let found = look.found;
        if found.changes() == 0 {
            let foreign = found.unreadable;
            let stays = (foreign > 0).then(|| format!("{foreign} documents in it name no run of Temporal's"));
            return Ok(Drained { report, stays, looked_at });
        }
        let before = report.carried + report.stale;
        let mut act = Act::new(ground, &survey, ctx).await?;
        carry::carry(&mut act, &found.open, &mut report).await?;
        remove::stale(&mut act, &found.stale, &mut report).await?;
        // Documents that do not move are the next run's.
        if before == report.carried + report.stale {
            let stays = Some("documents of runs that Temporal has could not be carried forward".to_owned());
            return Ok(Drained { report, stays, looked_at });
        }
    }
}
