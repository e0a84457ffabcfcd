use async_trait::async_trait;

use super::{Site, no_connection, no_policy_of};
use crate::clients::persistence::Persistence;
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::{Action, Change, Plan};
use crate::policy::retention::{OrphanAction, RetentionPolicy};
use crate::retention::audit::AuditError;
use crate::retention::orphans::{self, OrphanReport, Orphans};
use crate::retention::overdue::{self, Ground, OverduePlan, OverdueReport};
use crate::units::human_bytes;

/// Closed runs whose deletion does not fit the retention, and histories that nothing refers to.
#[derive(Debug)]
pub(super) struct OverdueJob(pub(super) Site);

struct PlannedOverdue {
    ground: Ground,
    policy: RetentionPolicy,
    plan: OverduePlan,
    orphans: Option<Orphans>,
}

#[derive(serde::Serialize)]
struct Report<'r> {
    #[serde(flatten)]
    overdue: &'r OverdueReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    orphans: Option<OrphanReport>,
}

#[async_trait]
impl Job for OverdueJob {
    fn name(&self) -> JobName {
        JobName::Overdue
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let settings = self.0.config.temporal.as_ref().ok_or_else(|| no_connection("temporal", JobName::Overdue))?;
        let policy =
            self.0.policies.retention.clone().ok_or_else(|| no_policy_of(&self.0, JobName::Overdue, "retention"))?;
        let temporal = Temporal::connect(settings).await?;
        let persistence = Persistence::new(self.0.postgres(), &self.0.config.databases.main);
        let ground = Ground { persistence, temporal };
        let plan = overdue::find(&self.0.source(), &ground.temporal, &policy, ctx).await?;
        let orphans = match policy.orphans.action {
            OrphanAction::Report => None,
            OrphanAction::Delete => {
                let most = usize::try_from(policy.orphans.most).unwrap_or(usize::MAX);
                Some(orphans::look(&self.0.source(), policy.orphans.min_age.span(), most, ctx).await?)
            }
        };
        Ok(Box::new(PlannedOverdue { ground, policy, plan, orphans }))
    }
}

impl PlannedOverdue {
    async fn remove_orphans(&self, ctx: &Context) -> (Option<OrphanReport>, Result<(), AuditError>) {
        let Some(orphans) = self.orphans.as_ref().filter(|orphans| !orphans.trees.is_empty()) else {
            return (None, Ok(()));
        };
        let mut session = match self.ground.persistence.connect().await {
            Ok(session) => session,
            Err(error) => return (None, Err(error.into())),
        };
        let min_age = self.policy.orphans.min_age.span();
        let (report, result) = orphans::remove(orphans, &mut session, min_age, ctx).await;
        session.close().await;
        (Some(report), result)
    }
}

#[async_trait]
impl Planned for PlannedOverdue {
    fn plan(&self) -> Plan {
        let mut plan = self.plan.plan();
        if let Some(orphans) = self.orphans.as_ref().filter(|orphans| !orphans.trees.is_empty()) {
            let reason = format!(
                "{} branches without a run, {} without a row; {} nodes, {}; this run sees to {} trees",
                orphans.branches,
                orphans.leftover_branches,
                orphans.nodes + orphans.leftover_nodes,
                human_bytes(orphans.bytes + orphans.leftover_bytes),
                orphans.trees.len()
            );
            plan.changes.push(Change::new(Action::Delete, "histories that nothing refers to", reason).destructive());
        }
        plan
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let (report, result) = overdue::apply(&self.plan, &self.ground, ctx).await;
        let mut failure = result.err();
        let mut orphans = None;
        if failure.is_none() {
            let (removed, result) = self.remove_orphans(ctx).await;
            failure = result.err().map(Failure::from);
            orphans = removed;
        }
        let removed = orphans.map_or(0, |orphans| orphans.branches + orphans.nodes);
        let mut summary = report.summary();
        if let Some(orphans) = orphans {
            summary = format!("{summary}, {} branches and {} nodes removed", orphans.branches, orphans.nodes);
        }
        let changed = report.changed() + removed > 0;
        Ok(Applied { failure, ..Applied::done(changed, summary, &Report { overdue: &report, orphans }) })
    }
}
