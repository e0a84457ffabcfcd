//! Holds the history retention of every namespace where the policy wants it, and registers the namespaces that the
//! policy wants to exist.
//!
//! A new retention reaches the runs that close from then on: Temporal computes the deletion time of a run once, when
//! it closes.

mod apply;
pub mod audit;
mod decide;
mod error;
pub mod orphans;
pub mod overdue;
mod report;

pub use apply::apply;
pub use decide::{Blocked, Registration, RetentionPlan, Step, Update, decide};
pub use error::RetentionError;
pub use report::{NamespaceReport, Outcome, RetentionReport};

use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::policy::retention::RetentionPolicy;

/// Reads every namespace and compares it with the policy. Changes nothing.
///
/// # Errors
/// [`RetentionError::Observe`] when the namespaces cannot be read, [`RetentionError::Cancelled`].
pub async fn plan(
    temporal: &Temporal,
    policy: &RetentionPolicy,
    ctx: &Context,
) -> Result<RetentionPlan, RetentionError> {
    match ctx.cancel.run_until_cancelled(temporal.list_namespaces()).await {
        Some(observed) => Ok(decide(&observed?, policy)),
        None => Err(RetentionError::Cancelled { report: RetentionReport::default() }),
    }
}
