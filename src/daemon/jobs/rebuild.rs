use std::time::Duration;

use async_trait::async_trait;

use super::reconcile::documents_of;
use super::{Site, no_policy, partly};
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::visibility::rebuild::{self, RebuildPlan};
use crate::visibility::reconcile::Ground;

/// A lost visibility index brought back. It is a run of the job `reconcile`: the two never work side by side.
#[derive(Debug)]
pub struct RebuildJob {
    site: Site,
    pause: Duration,
}

struct PlannedRebuild {
    ground: Ground,
    plan: RebuildPlan,
    pause: Duration,
}

impl RebuildJob {
    /// With a pause after each document in each of the lanes that ask Temporal at the same time.
    #[must_use]
    pub fn new(site: Site, pause: Duration) -> Self {
        Self { site, pause }
    }
}

#[async_trait]
impl Job for RebuildJob {
    fn name(&self) -> JobName {
        JobName::Reconcile
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let policy =
            self.site.policies.visibility.as_ref().ok_or_else(|| no_policy(&self.site, JobName::Visibility))?;
        let ground = self.site.ground(JobName::Reconcile).await?;
        let plan = rebuild::plan(&ground, policy.index.as_str(), ctx).await?;
        Ok(Box::new(PlannedRebuild { ground, plan, pause: self.pause }))
    }
}

#[async_trait]
impl Planned for PlannedRebuild {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    fn alone_with(&self) -> Option<String> {
        Some(documents_of(&self.plan.index))
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let result = rebuild::apply(&self.plan, &self.ground, self.pause, ctx).await;
        let (report, failure) = partly(result, |error| error.rebuilt().cloned())?;
        Ok(Applied { failure, ..Applied::done(report.changed(), report.summary(), &report) })
    }
}
