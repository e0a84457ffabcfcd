//! Holds the history retention of every namespace where the policy wants it, and registers the namespaces that the
//! policy wants to exist.
//!
//! A new retention reaches the runs that close from then on: Temporal computes the deletion time of a run once, when
//! it closes. What has closed already is the matter of [`overdue`].
//!
//! A retention that becomes shorter is what removes data. Without the consent of the policy or of a person it is held
//! back: see [`Shortening`].

mod apply;
pub mod audit;
mod decide;
mod deletable;
mod error;
pub mod orphans;
pub mod overdue;
mod report;
mod shortening;
mod source;

pub use apply::apply;
pub use decide::{Blocked, Registration, RetentionPlan, Step, Update, decide, without_namespace};
pub use error::RetentionError;
pub use report::{NamespaceReport, Outcome, RetentionReport};
pub use shortening::{Consent, Deletable, Expired, Hold, Shortening};
pub use source::{Reading, Source};

use crate::clients::temporal::{Namespace, Temporal, TemporalError};
use crate::context::Context;
use crate::policy::retention::RetentionPolicy;

/// Reads every namespace and compares it with the policy. Changes nothing.
///
/// Temporal's tables are read only when a retention would become shorter, for what that makes deletable. When they
/// cannot be read the plan says so, and holds the shortening back unless a person has agreed to it.
///
/// # Errors
/// [`RetentionError::Observe`] when the namespaces cannot be read, [`RetentionError::Cancelled`].
pub async fn plan(
    temporal: &Temporal,
    source: &Source,
    policy: &RetentionPolicy,
    consent: Consent,
    ctx: &Context,
) -> Result<RetentionPlan, RetentionError> {
    let cancelled = || RetentionError::Cancelled { report: RetentionReport::default() };
    let observed = ctx.cancel.run_until_cancelled(observe(temporal)).await.ok_or_else(cancelled)?;
    let (namespaces, cluster) = observed?;
    let mut plan = decide(&namespaces, cluster.as_deref(), policy);
    let shortened = plan.shortened();
    if !shortened.is_empty() {
        let counting = deletable::count(source, &shortened, ctx);
        let found = ctx.cancel.run_until_cancelled(counting).await.ok_or_else(cancelled)?;
        plan.weigh(&found, consent);
    }
    Ok(plan)
}

/// The namespaces, and how they differ from the policy; what a shorter retention would make deletable is not counted.
///
/// # Errors
/// [`RetentionError::Observe`] when the namespaces cannot be read.
pub async fn compare(
    temporal: &Temporal,
    policy: &RetentionPolicy,
) -> Result<(Vec<Namespace>, RetentionPlan), RetentionError> {
    let (namespaces, cluster) = observe(temporal).await?;
    let plan = decide(&namespaces, cluster.as_deref(), policy);
    Ok((namespaces, plan))
}

/// Every namespace, and the cluster's own name. Only a global namespace makes the name matter: without one the call
/// that asks for it, which needs a permission of its own, is not made.
async fn observe(temporal: &Temporal) -> Result<(Vec<Namespace>, Option<String>), TemporalError> {
    let namespaces = temporal.list_namespaces().await?;
    let cluster = match namespaces.iter().any(|namespace| namespace.is_global) {
        true => Some(temporal.server_info().await?.cluster_name),
        false => None,
    };
    Ok((namespaces, cluster.filter(|name| !name.is_empty())))
}
