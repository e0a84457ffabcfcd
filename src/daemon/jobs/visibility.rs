use async_trait::async_trait;
use tracing::warn;

use super::reconcile::documents_of;
use super::{Site, no_connection, no_policy, partly};
use crate::clients::persistence::Persistence;
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::units::Span;
use crate::visibility::reconcile::Ground;
use crate::visibility::{self, Explanation, VisibilityPlan, sql};

/// The visibility index as `policies/visibility.yaml` says.
#[derive(Debug)]
pub(super) struct VisibilityJob(pub(super) Site);

struct PlannedVisibility {
    ground: Ground,
    plan: VisibilityPlan,
}

/// The plan of a cluster whose visibility is in PostgreSQL: Temporal's own deletion keeps it in order.
struct SqlVisibility {
    notes: Vec<String>,
}

impl Site {
    /// What there is of the visibility index, in words.
    ///
    /// # Errors
    /// Without a policy or a search engine, and when that cannot be asked.
    pub async fn explain_visibility(&self, ctx: &Context) -> Result<Explanation, Failure> {
        let policy = self.policies.visibility.as_ref().ok_or_else(|| no_policy(self, JobName::Visibility))?;
        let ground = self.ground(JobName::Visibility).await?;
        let (_, bookmarks) = self.bookmarks(policy.index.as_str()).await?;
        let longest = longest_retention(&ground).await;
        Ok(visibility::explain(&ground, policy, &bookmarks, longest, ctx).await?)
    }

    /// The same without a look at single documents.
    ///
    /// # Errors
    /// As [`Site::explain_visibility`].
    pub async fn outline_visibility(&self, ctx: &Context) -> Result<Explanation, Failure> {
        let policy = self.policies.visibility.as_ref().ok_or_else(|| no_policy(self, JobName::Visibility))?;
        let ground = self.ground(JobName::Visibility).await?;
        let longest = longest_retention(&ground).await;
        Ok(visibility::outline(&ground, policy, longest, ctx).await?)
    }

    /// What can be said where there is no search engine. Nothing is done there, so that nothing fails either.
    pub async fn explain_sql_visibility(&self, ctx: &Context) -> Vec<String> {
        let said = "no search engine is configured: visibility is in PostgreSQL, where Temporal deletes it itself";
        let mut notes = vec![said.to_owned()];
        let overdue = match self.overdue_rows(ctx).await {
            Ok(overdue) => overdue,
            Err(why) => {
                notes.push(format!("whether it keeps up is not known: {why}"));
                return notes;
            }
        };
        notes.extend(overdue.iter().map(|overdue| {
            format!(
                "namespace {}: {} rows are listed a day and more after their retention of {} has ended; see whether the \
                 history service's timer queue is stuck",
                overdue.namespace, overdue.rows, overdue.retention
            )
        }));
        if overdue.is_empty() {
            notes.push("it keeps up: no row is a day older than its namespace's retention".into());
        }
        notes
    }

    async fn overdue_rows(&self, ctx: &Context) -> Result<Vec<sql::Overdue>, Failure> {
        let settings = self.config.temporal.as_ref().ok_or_else(|| no_connection("temporal", JobName::Visibility))?;
        let temporal = Temporal::connect(settings).await?;
        let databases = &self.config.databases;
        let database = databases.visibility.as_ref().unwrap_or(&databases.main);
        let rows = Persistence::new(self.postgres(), database);
        Ok(sql::overdue(&temporal, &rows, ctx).await?)
    }
}

#[async_trait]
impl Job for VisibilityJob {
    fn name(&self) -> JobName {
        JobName::Visibility
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let policy = self.0.policies.visibility.as_ref().ok_or_else(|| no_policy(&self.0, JobName::Visibility))?;
        if self.0.config.search.is_none() {
            return Ok(Box::new(SqlVisibility { notes: self.0.explain_sql_visibility(ctx).await }));
        }
        let ground = self.0.ground(JobName::Visibility).await?;
        let plan = visibility::plan(&ground.search, policy, longest_retention(&ground).await, ctx).await?;
        Ok(Box::new(PlannedVisibility { ground, plan }))
    }
}

/// The longest retention of any namespace; `None` while Temporal cannot be asked, and then nothing is deleted.
pub(super) async fn longest_retention(ground: &Ground) -> Option<Span> {
    match ground.temporal.as_ref()?.list_namespaces().await {
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

    fn alone_with(&self) -> Option<String> {
        Some(documents_of(&self.plan.index))
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let result = visibility::apply(&self.plan, &self.ground, ctx).await;
        let (report, failure) = partly(result, |error| error.report().cloned())?;
        let mut parts = report.set.clone();
        parts.extend(report.rolled.iter().map(|r| format!("rolled over to {}", r.to)));
        parts.extend(report.deleted.iter().map(|d| format!("deleted {}", d.index)));
        parts.extend(report.reconciled.as_ref().map(|done| done.summary()));
        parts.extend(report.held_back.iter().map(|held| format!("{} is held back: {}", held.index, held.reason)));
        let summary = parts.join(", ");
        Ok(Applied { failure, ..Applied::done(report.changed > 0, summary, &report) })
    }
}

#[async_trait]
impl Planned for SqlVisibility {
    fn plan(&self) -> Plan {
        Plan { changes: Vec::new(), notes: self.notes.clone() }
    }

    async fn apply(&self, _: &Context) -> Result<Applied, Failure> {
        Ok(Applied::done(false, "nothing to do", &serde_json::json!({})))
    }
}
