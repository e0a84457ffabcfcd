use std::sync::Arc;

use async_trait::async_trait;

use super::{Site, no_connection, no_policy_of};
use crate::backup::BackupError;
use crate::backup::Chunks;
use crate::backup::drill::{self, DrillPlan};
use crate::backup::newest_proof;
use crate::backup::store::{self, Store};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::policy::drill::DrillPolicy;
use crate::units::Span;

/// The newest backup restored on the scratch server, compared, looked over and dropped again.
#[derive(Debug)]
pub(super) struct DrillJob(pub(super) Site);

struct PlannedDrill {
    scratch: Postgres,
    chunks: Chunks,
    plan: DrillPlan,
}

impl DrillJob {
    async fn ground(&self) -> Result<(Postgres, Arc<dyn Store>, DrillPolicy), Failure> {
        let site = &self.0;
        let settings = site.config.store.as_ref().ok_or_else(|| no_connection("store", JobName::Drill))?;
        let scratch = site.config.scratch.clone().ok_or_else(|| no_connection("scratch", JobName::Drill))?;
        let policy = site.policies.backup.as_ref().ok_or_else(|| no_policy_of(site, JobName::Drill, "backup"))?;
        Ok((Postgres::new(scratch), store::open(settings).await?, policy.drill.clone()))
    }
}

#[async_trait]
impl Job for DrillJob {
    fn name(&self) -> JobName {
        JobName::Drill
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let (scratch, store, policy) = self.ground().await?;
        let plan = drill::plan(&scratch, &*store, &policy, ctx).await?;
        let chunks = Chunks { store, identities: Arc::clone(&self.0.config.identities) };
        Ok(Box::new(PlannedDrill { scratch, chunks, plan }))
    }

    /// A change only when no backup that is young enough by the policy's `drill.max_age` has been proven.
    async fn overview(&self, ctx: &Context) -> Result<Plan, Failure> {
        let (scratch, store, policy) = self.ground().await?;
        let plan = match drill::plan(&scratch, &*store, &policy, ctx).await {
            Ok(plan) => plan,
            Err(BackupError::NoneYet { .. }) => {
                return Ok(Plan { changes: vec![], notes: vec!["there is no backup to prove yet".into()] });
            }
            Err(error) => return Err(error.into()),
        };
        let mut plan = plan.plan();
        let Some((id, proof)) = newest_proof(&*store).await? else {
            plan.notes.push("no backup has been proven yet".into());
            return Ok(plan);
        };
        let taken = id.began().unwrap_or(proof.at);
        let age = Span::seconds(ctx.now.as_second().abs_diff(taken.as_second()));
        let max_age = policy.max_age;
        if age <= max_age {
            plan.changes.clear();
            plan.notes.push(format!("the newest proven backup, {id}, is {age} old; a drill is due after {max_age}"));
        } else {
            plan.notes.push(format!("the newest proven backup, {id}, is {age} old, more than {max_age}"));
        }
        Ok(plan)
    }
}

#[async_trait]
impl Planned for PlannedDrill {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let report = drill::apply(&self.plan, &self.scratch, &self.chunks, ctx).await?;
        let applied = Applied::done(report.proven, report.summary(), &report);
        Ok(match report.verdict() {
            Ok(()) => applied,
            Err(error) => applied.failed(error.into()),
        })
    }
}
