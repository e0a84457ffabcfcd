use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Site, no_connection, no_policy};
use crate::backup::seal::{Identities, generate};
use crate::backup::store::{self, Store};
use crate::backup::{self, BackupPlan, Listed};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::units::{Span, counted, human_bytes};

/// A backup of every database of Temporal's.
#[derive(Debug)]
pub(super) struct BackupJob(pub(super) Site);

struct PlannedBackup {
    site: Site,
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
        Ok(PlannedBackup { site: site.clone(), postgres, store, plan })
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

impl PlannedBackup {
    /// The key in the ledger for what one backup leaves to the next.
    async fn maker(&self) -> Option<Arc<Identities>> {
        let asked = async {
            let (new, _) = generate(Timestamp::now());
            let secret = self.site.ledger().await.map_err(|error| chain(&error))?;
            let secret = secret.key("backup", &new).await.map_err(|error| chain(&error))?;
            Identities::read([&secret]).map_err(|error| error.to_string())
        };
        match asked.await {
            Ok(identities) => Some(Arc::new(identities)),
            Err(error) => {
                tracing::warn!(error, "without the key in the ledger this backup reads and stores everything");
                None
            }
        }
    }
}

#[async_trait]
impl Planned for PlannedBackup {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let maker = match self.plan.policy.encryption.recipients() {
            None => None,
            Some(_) => self.maker().await,
        };
        let report = backup::apply(&self.plan, &self.postgres, &self.store, maker.as_ref(), ctx).await?;
        let summary = format!(
            "backup {}: {} rows of {}, {} read, {} stored, {} new, {} reused",
            report.id,
            report.rows,
            human_bytes(report.raw_bytes),
            human_bytes(report.read_bytes),
            human_bytes(report.stored_bytes),
            counted(report.new_chunks, "chunk", "chunks"),
            report.reused_chunks
        );
        Ok(Applied::done(true, summary, &report))
    }
}
