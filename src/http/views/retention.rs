//! The namespaces beside the policy. Whether a retention holds is what the last audit has found.

use jiff::Timestamp;
use serde::Serialize;

use crate::clients::temporal::Temporal;
use crate::daemon::jobs::Site;
use crate::daemon::ledger::Ledger;
use crate::failure::{Failure, Kind};
use crate::job::JobName;
use crate::plan::Change;
use crate::retention;
use crate::retention::audit::Audit;
use crate::units::Span;

/// All namespaces.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct RetentionView {
    /// By name.
    pub namespaces: Vec<NamespaceRow>,
    /// Namespaces the policy wants and Temporal does not have.
    pub missing: Vec<String>,
    /// Fields that differ.
    pub drift: usize,
    /// When the audit was made that says whether they hold.
    pub audited: Option<Timestamp>,
    /// Histories that nothing refers to, by that audit.
    pub orphans: Option<u64>,
    /// What the plan says beside its changes.
    pub notes: Vec<String>,
}

/// One namespace.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct NamespaceRow {
    /// Its name.
    pub namespace: String,
    /// Whether the policy says anything of it.
    pub in_scope: bool,
    /// How long Temporal keeps a closed run there.
    pub retention: Span,
    /// What is to be changed.
    pub changes: Vec<Change>,
    /// Closed runs, by the last audit.
    pub closed: Option<u64>,
    /// Of those, the ones that should be gone.
    pub overdue: Option<u64>,
    /// When the oldest closed run ended.
    pub oldest_closed: Option<Timestamp>,
}

pub(super) async fn look(site: &Site, ledger: &Ledger) -> Result<RetentionView, Failure> {
    let no_temporal = || Failure::new(Kind::Config, "no `temporal:` is configured");
    let settings = site.config.temporal.as_ref().ok_or_else(no_temporal)?;
    let temporal = Temporal::connect(settings).await?;
    let policy = site.policies.retention.clone().unwrap_or_default();
    let (namespaces, plan) = retention::compare(&temporal, &policy).await?;
    let audit = ledger.reports(JobName::Audit, 1).await?.into_iter().next();
    let audit: Option<Audit> = audit.and_then(|report| serde_json::from_value(report).ok());
    let changes: Vec<Change> = plan.plan().changes;
    let of = |name: &str| -> Vec<Change> {
        let subject = format!("namespace {name}");
        changes.iter().filter(|change| change.subject == subject).cloned().collect()
    };
    let rows = namespaces.iter().map(|namespace| {
        let sums = audit.as_ref().and_then(|audit| audit.namespaces.iter().find(|sum| sum.namespace == namespace.name));
        NamespaceRow {
            namespace: namespace.name.clone(),
            in_scope: policy.is_for(&namespace.name),
            retention: namespace.retention.into(),
            changes: of(&namespace.name),
            closed: sums.map(|sum| sum.closed.runs),
            overdue: sums.map(|sum| sum.overdue.runs),
            oldest_closed: sums.and_then(|sum| sum.oldest_closed),
        }
    });
    let is_there = |name: &str| namespaces.iter().any(|namespace| namespace.name == name);
    let missing = plan.steps.iter().map(|step| step.namespace()).filter(|name| !is_there(name)).map(str::to_owned);
    Ok(RetentionView {
        namespaces: rows.collect(),
        missing: missing.collect(),
        drift: changes.len(),
        audited: audit.as_ref().map(|audit| audit.at),
        orphans: audit.as_ref().map(|audit| audit.orphans.branches),
        notes: plan.notes,
    })
}
