use async_trait::async_trait;
use tracing::warn;

use super::{Site, no_policy, partly};
use crate::clients::search::Search;
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::units::Span;
use crate::visibility::{self, VisibilityPlan};

/// The visibility index as `policies/visibility.yaml` says.
#[derive(Debug)]
pub(super) struct VisibilityJob(pub(super) Site);

struct PlannedVisibility {
    search: Search,
    plan: VisibilityPlan,
}

/// The plan of a cluster whose visibility is in PostgreSQL: Temporal's own deletion keeps it in order.
struct SqlVisibility;

#[async_trait]
impl Job for VisibilityJob {
    fn name(&self) -> JobName {
        JobName::Visibility
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let policy = self.0.policies.visibility.as_ref().ok_or_else(|| no_policy(&self.0, JobName::Visibility))?;
        let Some(settings) = &self.0.config.search else {
            return Ok(Box::new(SqlVisibility));
        };
        let search = Search::connect(settings).await?;
        let plan = visibility::plan(&search, policy, longest_retention(&self.0).await, ctx).await?;
        Ok(Box::new(PlannedVisibility { search, plan }))
    }
}

/// The longest retention of any namespace; `None` while Temporal cannot be asked, and then nothing is deleted.
pub(super) async fn longest_retention(site: &Site) -> Option<Span> {
    let settings = site.config.temporal.as_ref()?;
    let namespaces = async { Temporal::connect(settings).await?.list_namespaces().await };
    match namespaces.await {
        Ok(namespaces) => namespaces.iter().map(|n| Span::from(n.retention)).max(),
        Err(error) => {
            warn!(error = %chain(&error), "the namespaces' retentions are not known; no index is deleted");
            None
        }
    }
}

#[async_trait]
impl Planned for PlannedVisibility {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let result = visibility::apply(&self.plan, &self.search, ctx).await;
        let (report, failure) = partly(result, |error| error.report().cloned())?;
        let mut parts = report.set.clone();
        parts.extend(report.rolled.iter().map(|r| format!("rolled over to {}", r.to)));
        parts.extend(report.deleted.iter().map(|d| format!("deleted {}", d.index)));
        let summary = parts.join(", ");
        Ok(Applied { failure, ..Applied::done(report.changed > 0, summary, &report) })
    }
}

#[async_trait]
impl Planned for SqlVisibility {
    fn plan(&self) -> Plan {
        let note = "no search engine is configured: visibility is in PostgreSQL, where Temporal deletes it itself";
        Plan { changes: Vec::new(), notes: vec![note.to_owned()] }
    }

    async fn apply(&self, _: &Context) -> Result<Applied, Failure> {
        Ok(Applied::done(false, "nothing to do", &serde_json::json!({})))
    }
}
