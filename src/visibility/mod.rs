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
pub use explain::{Agreement, Event, Explanation, Line, explain, outline};
pub use observe::{AliasState, Documents, IndexState, Observed, observe};
pub use step::{FieldChange, Found, HeldBack, Step, VisibilityPlan};

use adopt::{AdoptRefusal, Blocked};

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
    if observed == Observed::Concrete {
        add_blocked(&mut plan, search, ctx.now).await?;
    }
    Ok(plan)
}

/// What is to be done or known when writes to this plain index are blocked.
async fn add_blocked(plan: &mut VisibilityPlan, search: &Search, now: Timestamp) -> Result<(), VisibilityError> {
    let index = plan.index.clone();
    match adopt::blocked(search, &index, now).await? {
        None => {}
        Some(Blocked::Left(left)) => plan.steps.push(Step::UndoAdoption { index, left }),
        Some(Blocked::Adopting { deadline }) => plan.notes.push(format!(
            "writes to {index} are blocked by an adoption, until {deadline} at the latest; if it has died its guard \
             lifts the block, else this job does after that"
        )),
        Some(Blocked::Stranger { begun }) => {
            let refusal = AdoptRefusal::WriteBlocked { index: index.clone(), begun };
            let hint = refusal.hint();
            plan.notes
                .push(format!("{refusal}: what Temporal writes is not listed, and lost after about an hour; {hint}"));
        }
    }
    Ok(())
}
