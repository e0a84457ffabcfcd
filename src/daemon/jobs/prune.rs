use std::sync::Arc;

use async_trait::async_trait;

use super::{Site, no_connection, no_policy_of};
use crate::backup::prune::{self, PrunePlan};
use crate::backup::store::{self, Store};
use crate::context::Context;
use crate::failure::{Failure, Kind};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::units::{counted, human_bytes};

/// Backups that the policy does not keep, and chunks that nothing names any more, removed.
#[derive(Debug)]
pub(super) struct PruneJob(pub(super) Site);

struct PlannedPrune {
    store: Arc<dyn Store>,
    plan: PrunePlan,
}

#[async_trait]
impl Job for PruneJob {
    fn name(&self) -> JobName {
        JobName::Prune
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let site = &self.0;
        let settings = site.config.store.as_ref().ok_or_else(|| no_connection("store", JobName::Prune))?;
        let policy = site.policies.backup.as_ref().ok_or_else(|| no_policy_of(site, JobName::Prune, "backup"))?;
        let keep = policy.keep.ok_or_else(|| {
            let path = site.config.policies.join("backup.yaml");
            let message = format!("the job `prune` has no policy: {} has no `keep`", path.display());
            Failure::new(Kind::Config, message).with_hint("say which backups stay, such as `keep: {last: 3, daily: 7}`")
        })?;
        let store = store::open(settings).await?;
        let plan = prune::plan(&*store, &keep, policy.grace.get(), ctx).await?;
        Ok(Box::new(PlannedPrune { store, plan }))
    }
}

#[async_trait]
impl Planned for PlannedPrune {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    /// The grace period of what nothing names begins when it is first seen.
    async fn unchanged(&self) -> Result<(), Failure> {
        Ok(prune::mark(&*self.store, &Context::plain()).await?)
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let (report, outcome) = prune::apply(&self.plan, &*self.store, ctx).await;
        let summary = format!(
            "{} and {} ({}) removed, {} ({}) waiting, {} removed",
            counted(report.backups.len() as u64, "backup", "backups"),
            counted(report.removed.chunks, "chunk", "chunks"),
            human_bytes(report.removed.bytes),
            counted(report.waiting.chunks, "chunk", "chunks"),
            human_bytes(report.waiting.bytes),
            counted(report.leftovers, "leftover", "leftovers"),
        );
        match outcome {
            Ok(()) => Ok(Applied::done(report.changed(), summary, &report)),
            Err(error) if report.changed() => Ok(Applied::done(true, summary, &report).failed(error.into())),
            Err(error) => Err(error.into()),
        }
    }
}
