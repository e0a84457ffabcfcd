use async_trait::async_trait;

use super::{Site, no_connection, no_policy, partly};
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::retention::{self, RetentionPlan};
use crate::units::counted;

/// Namespace retentions as `policies/retention.yaml` says.
#[derive(Debug)]
pub(super) struct RetentionJob(pub(super) Site);

struct PlannedRetention {
    temporal: Temporal,
    plan: RetentionPlan,
}

#[async_trait]
impl Job for RetentionJob {
    fn name(&self) -> JobName {
        JobName::Retention
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let settings = self.0.config.temporal.as_ref().ok_or_else(|| no_connection("temporal", JobName::Retention))?;
        let policy = self.0.policies.retention.as_ref().ok_or_else(|| no_policy(&self.0, JobName::Retention))?;
        let temporal = Temporal::connect(settings).await?;
        let plan = retention::plan(&temporal, &self.0.source(), policy, self.0.consent, ctx).await?;
        Ok(Box::new(PlannedRetention { temporal, plan }))
    }
}

#[async_trait]
impl Planned for PlannedRetention {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let result = retention::apply(&self.plan, &self.temporal, ctx).await;
        let (report, failure) = partly(result, |error| error.report().cloned())?;
        let failed = if report.failed > 0 { format!(", {} failed", report.failed) } else { String::new() };
        let held_back = match report.held_back {
            0 => String::new(),
            held => format!(", {} held back", counted(held, "shorter retention", "shorter retentions")),
        };
        let summary = format!("{} changed{failed}{held_back}", counted(report.changed, "namespace", "namespaces"));
        Ok(Applied { failure, ..Applied::done(report.changed > 0, summary, &report) })
    }
}
