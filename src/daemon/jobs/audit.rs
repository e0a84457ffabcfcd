use async_trait::async_trait;

use super::{Site, no_policy};
use crate::context::Context;
use crate::failure::{Failure, Kind, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::{Action, Change, Plan};
use crate::policy::retention::RetentionPolicy;
use crate::retention::audit::{self, Audit, Growth, Past, Proof, Wanted};
use crate::units::human_bytes;

/// Earlier audits that the growth is read from.
const COMPARED: u32 = 90;

/// What fills Temporal's tables, noted in the ledger so that the next one can say how they grow.
#[derive(Debug)]
pub struct AuditJob(pub(super) Site);

struct PlannedAudit(Site);

impl AuditJob {
    /// The audit of this site.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self(site)
    }
}

impl Site {
    /// Looks at everything now. Writes nothing.
    ///
    /// # Errors
    /// When the database cannot be read or is refused.
    pub async fn audit(&self, ctx: &Context) -> Result<Audit, Failure> {
        let policy = self.policies.retention.clone().unwrap_or_default();
        let mut audit = audit::audit(&self.source(), wanted(&policy), ctx).await?;
        audit.growth = self.growth(&audit, &policy).await;
        Ok(audit)
    }

    /// Whether each namespace that the policy is for holds its retention. Writes nothing.
    ///
    /// # Errors
    /// When the database cannot be read or is refused.
    pub async fn prove(&self, ctx: &Context) -> Result<Vec<Proof>, Failure> {
        let policy = self.policies.retention.as_ref().ok_or_else(|| no_policy(self, JobName::Retention))?;
        let proofs = audit::prove(&self.source(), policy.overdue.slack, ctx).await.map_err(Failure::from);
        // What was asked for is a proof, and there is none; a stop is a stop.
        let proofs = proofs.map_err(|failure| match failure.kind {
            Kind::Cancelled => failure,
            _ => Failure {
                kind: Kind::CouldNotVerify,
                message: format!("nothing is proved: {}", failure.message),
                ..failure
            },
        })?;
        let proofs: Vec<Proof> = proofs.into_iter().filter(|proof| policy.is_for(&proof.namespace)).collect();
        if proofs.is_empty() {
            let message = "nothing is proved: the policy is for no namespace that there is";
            let failure = Failure::new(Kind::CouldNotVerify, message);
            return Err(failure.with_hint("look at `applies_to`, `ignore` and `namespaces` in policies/retention.yaml"));
        }
        Ok(proofs)
    }

    async fn growth(&self, audit: &Audit, policy: &RetentionPolicy) -> Option<Growth> {
        let past = match self.past_audits(&audit.database).await {
            Ok(past) => past,
            Err(error) => {
                tracing::warn!(%error, "without the ledger nothing can be said about the growth");
                return None;
            }
        };
        let disk = policy.audit.disk.map(crate::units::Size::as_bytes);
        audit::growth(&past, Past { at: audit.at, bytes: audit.bytes }, disk)
    }

    async fn past_audits(&self, database: &str) -> Result<Vec<Past>, String> {
        let ledger = self.ledger().await.map_err(|error| chain(&error))?;
        let runs = ledger.reports(JobName::Audit, COMPARED).await.map_err(|error| chain(&error))?;
        let past = |report: serde_json::Value| {
            let said = report.get("database").and_then(serde_json::Value::as_str);
            let at = report.get("at")?.as_str()?.parse().ok()?;
            Some(Past { at, bytes: report.get("bytes")?.as_u64()? }).filter(|_| said == Some(database))
        };
        Ok(runs.into_iter().filter_map(past).collect())
    }
}

pub(super) fn wanted(policy: &RetentionPolicy) -> Wanted {
    Wanted {
        slack: policy.overdue.slack,
        long_open: policy.audit.open_longer_than,
        orphan_age: policy.orphans.min_age.span(),
        most_trees: usize::try_from(policy.orphans.most).unwrap_or(usize::MAX),
    }
}

#[async_trait]
impl Job for AuditJob {
    fn name(&self) -> JobName {
        JobName::Audit
    }

    async fn plan(&self, _: &Context) -> Result<Box<dyn Planned>, Failure> {
        Ok(Box::new(PlannedAudit(self.0.clone())))
    }

    /// An audit changes nothing, so that there is never one to be made.
    async fn overview(&self, _: &Context) -> Result<Plan, Failure> {
        Ok(Plan::default())
    }
}

#[async_trait]
impl Planned for PlannedAudit {
    fn plan(&self) -> Plan {
        let subject = format!("audit of database {}", self.0.config.databases.main);
        Plan { changes: vec![Change::new(Action::Run, subject, "it changes nothing")], notes: Vec::new() }
    }

    fn preview(&self) -> Plan {
        let database = &self.0.config.databases.main;
        let note = format!("database {database} would be read, and what fills it noted in the ledger");
        Plan { changes: Vec::new(), notes: vec![note] }
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let audit = self.0.audit(ctx).await?;
        let orphans = audit.orphans.branches + audit.orphans.leftover_branches;
        let summary = format!(
            "{} in {} runs, {} overdue, {orphans} orphaned histories",
            human_bytes(audit.bytes),
            audit.runs,
            audit.overdue()
        );
        Ok(Applied::done(false, summary, &audit))
    }
}
