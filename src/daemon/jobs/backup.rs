use std::sync::Arc;

use async_trait::async_trait;

use super::{Site, no_connection, no_policy};
use crate::backup::store::{self, Store};
use crate::backup::{self, BackupPlan, Listed};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::units::{Span, human_bytes};

/// A backup of every database of Temporal's.
#[derive(Debug)]
pub(super) struct BackupJob(pub(super) Site);

struct PlannedBackup {
    postgres: Postgres,
    store: Arc<dyn Store>,
    plan: BackupPlan,
}

impl BackupJob {
    async fn make_plan(&self, ctx: &Context) -> Result<PlannedBackup, Failure> {
        let site = &self.0;
        let settings = site.config.store.as_ref().ok_or_else(|| no_connection("store", JobName::Backup))?;
        let policy = site.policies.backup.as_ref().ok_or_else(|| no_policy(site, JobName::Backup))?;
        let postgres = site.postgres();
        let store = store::open(settings).await?;
        let plan = backup::plan(&postgres, &site.config.databases.all(), &*store, policy, ctx).await?;
        Ok(PlannedBackup { postgres, store, plan })
    }
}

#[async_trait]
impl Job for BackupJob {
    fn name(&self) -> JobName {
        JobName::Backup
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        Ok(Box::new(self.make_plan(ctx).await?))
    }

    /// A change only when the newest backup is older than the policy's `max_age`, or there is none.
    async fn overview(&self, ctx: &Context) -> Result<Plan, Failure> {
        let planned = self.make_plan(ctx).await?;
        let mut plan = planned.plan.plan();
        let newest = backup::list(&*planned.store).await?.into_iter().find_map(|listed| match listed {
            Listed::Readable(summary) => Some(summary),
            Listed::Unreadable { .. } => None,
        });
        let Some(newest) = newest else {
            plan.notes.push("there is no backup yet".into());
            return Ok(plan);
        };
        let age = Span::seconds(ctx.now.as_second().abs_diff(newest.started.as_second()));
        let max_age = planned.plan.policy.max_age;
        if age <= max_age {
            plan.changes.clear();
            plan.notes.push(format!("the newest backup, {}, is {age} old; due after {max_age}", newest.id));
        } else {
            plan.notes.push(format!("the newest backup, {}, is {age} old, more than {max_age}", newest.id));
        }
        Ok(plan)
    }
}

#[async_trait]
impl Planned for PlannedBackup {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let report = backup::apply(&self.plan, &self.postgres, &self.store, ctx).await?;
        let summary = format!(
            "backup {}: {} rows, {} read, {} stored, {} chunks new, {} reused",
            report.id,
            report.rows,
            human_bytes(report.raw_bytes),
            human_bytes(report.stored_bytes),
            report.new_chunks,
            report.reused_chunks
        );
        Ok(Applied::done(true, summary, &report))
    }
}
