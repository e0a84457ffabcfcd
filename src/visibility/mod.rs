//! The visibility index: rolled over on time, its old indices removed only when nothing open is left in them.
//!
//! [`plan()`] observes the alias and decides; the decision is a pure function in `decide`. [`apply()`] executes the
//! steps and looks again right before it deletes. Who rolls is behind one trait, [`rollover::Driver`].
//!
//! A rollover alone would make Temporal lie: it writes to the newest index only, and reads all of them. [`reconcile`]
//! keeps the documents in agreement with Temporal's runs, [`rebuild`] brings a lost index back, and [`explain()`] says
//! what there is.

pub mod adopt;
mod apply;
pub mod copy;
mod decide;
mod error;
mod explain;
mod lifecycle;
mod observe;
pub mod rebuild;
pub mod reconcile;
mod refile;
pub mod rollover;
mod sound;
pub mod sql;
mod step;

use jiff::Timestamp;
use serde::Serialize;

pub use apply::{Deleted, Rolled, VisibilityReport, apply};
pub use decide::{DELETIONS_PER_RUN, decide};
pub use error::{Refusal, VisibilityError};
pub use explain::{Agreement, Event, Explanation, Line, explain};
pub use observe::{AliasState, Documents, IndexState, Observed, observe};
pub use step::{FieldChange, Found, HeldBack, Step, VisibilityPlan};

use crate::clients::search::Search;
use crate::context::Context;
use crate::policy::visibility::VisibilityPolicy;
use crate::units::Span;

/// Who rolls the index over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Elasticsearch's index lifecycle management.
    Ilm,
    /// OpenSearch's index state management.
    Ism,
    /// sexton itself.
    Daemon,
}

impl DriverKind {
    /// The name its users know: `ILM`.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Ilm => "ILM",
            Self::Ism => "ISM",
            Self::Daemon => "sexton",
        }
    }
}

/// Observes the index and computes what there is to do. Writes nothing.
///
/// `longest_retention` is the longest retention of any namespace; while it is not known nothing is deleted.
///
/// # Errors
/// [`VisibilityError::Search`] when the engine cannot be asked, [`VisibilityError::Refused`] when acting on what was
/// seen would be wrong.
pub async fn plan(
    search: &Search,
    policy: &VisibilityPolicy,
    longest_retention: Option<Span>,
    ctx: &Context,
) -> Result<VisibilityPlan, VisibilityError> {
    let observed = observe(search, policy).await?;
    let mut plan = decide(&observed, policy, longest_retention, ctx.now)?;
    let name = policy.index.as_str();
    if observed == Observed::Concrete {
        plan.steps.extend(undo_step(search, name, ctx.now).await?);
    }
    Ok(plan)
}

/// What is to be done about an adoption of this plain index whose process died.
async fn undo_step(search: &Search, index: &str, now: Timestamp) -> Result<Option<Step>, VisibilityError> {
    let left = adopt::left(search, index, now).await?;
    Ok(left.map(|left| Step::UndoAdoption { index: index.to_owned(), left }))
}
