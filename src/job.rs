//! What a job is: something with a name that plans and applies. The runner knows jobs only through this.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::failure::Failure;
use crate::plan::Plan;

/// The jobs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobName {
    /// Namespace retentions as the policy says.
    Retention,
    /// Closed runs whose deletion does not fit the retention, and histories that nothing refers to.
    Overdue,
    /// What fills Temporal's tables.
    Audit,
    /// The visibility index rolled and deleted as the policy says.
    Visibility,
    /// The documents of the visibility index brought into agreement with Temporal's runs.
    Reconcile,
    /// A backup of every database.
    Backup,
    /// The newest backup restored on the scratch server, compared and dropped again.
    Drill,
    /// Backups that are not kept, removed, and chunks that nothing names any more.
    Prune,
    /// The run-once migrations the configuration names.
    Migrate,
}

impl JobName {
    /// In the order in which `once all` runs them: migrations after the backup.
    pub const ALL: [Self; 9] = [
        Self::Retention,
        Self::Overdue,
        Self::Audit,
        Self::Visibility,
        Self::Reconcile,
        Self::Backup,
        Self::Drill,
        Self::Prune,
        Self::Migrate,
    ];

    /// The word used in configuration, on the command line, in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Overdue => "overdue",
            Self::Audit => "audit",
            Self::Visibility => "visibility",
            Self::Reconcile => "reconcile",
            Self::Backup => "backup",
            Self::Drill => "drill",
            Self::Prune => "prune",
            Self::Migrate => "migrate",
        }
    }

    /// The job of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.as_str() == text)
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A job, ready to be planned.
#[async_trait]
pub trait Job: Send + Sync {
    /// Its name.
    fn name(&self) -> JobName;

    /// Observes the systems and decides what to do. Writes nothing anywhere.
    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure>;

    /// What `sexton plan` shows. The same as [`Job::plan`], except for jobs that do something whenever they are asked,
    /// such as a backup: those show a change only when the world is not as the policy wants it.
    async fn overview(&self, ctx: &Context) -> Result<Plan, Failure> {
        Ok(self.plan(ctx).await?.plan())
    }

    /// What a run that did not come to its end leaves in force, and where to go from there, in lines for people. Asked after
    /// the run, also when it was cut off.
    async fn in_force(&self) -> Option<String> {
        None
    }
}

/// A plan with what it takes to execute it.
#[async_trait]
pub trait Planned: Send + Sync {
    /// The common form of the plan.
    fn plan(&self) -> Plan;

    /// What a dry run shows. The same, except for a job that changes nothing whenever it is asked.
    fn preview(&self) -> Plan {
        self.plan()
    }

    /// What no other job may change meanwhile, by a name that these jobs have in common.
    fn alone_with(&self) -> Option<String> {
        None
    }

    /// Called instead of [`Planned::apply`] when the plan is empty, for what a job keeps about itself in the ledger.
    async fn unchanged(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Executes exactly this plan.
    ///
    /// # Errors
    /// When nothing can be said beyond the failure; what was done in part comes as [`Applied::failure`].
    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure>;
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Applied {
    /// True when the world is another than before.
    pub changed: bool,
    /// One line for people: `2 namespaces updated`.
    pub summary: String,
    /// The domain's typed report.
    pub report: serde_json::Value,
    /// Set when the run did not reach its end although the report says what it did.
    pub failure: Option<Failure>,
}

impl Applied {
    /// A run that reached its end.
    pub fn done(changed: bool, summary: impl Into<String>, report: &impl Serialize) -> Self {
        // A report is plain data; if serde still refuses, the run stands and its report says why it is missing.
        let report = serde_json::to_value(report)
            .unwrap_or_else(|error| serde_json::json!({ "unserialisable": error.to_string() }));
        Self { changed, summary: summary.into(), report, failure: None }
    }

    /// The same, ended by a failure.
    #[must_use]
    pub fn failed(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }
}
