//! Closed runs that are still there although their retention has ended, and those that would go before it has.
//!
//! Temporal computes when a run is deleted once, when it closes, and keeps that as a timer. A retention that is changed
//! afterwards reaches the timer only when it is derived anew; a timer that is lost leaves its run for ever. And a deletion
//! that misses the visibility store leaves a run that is only listed.

mod act;
mod find;
mod judge;
mod listed;
mod pace;
mod plan;

pub use act::apply;
pub use find::find;
pub(super) use judge::{ends, is_overdue};
pub use plan::{ListedOnly, Of, OverduePlan, OverdueReport, Work};

use crate::clients::persistence::Persistence;
use crate::clients::temporal::Temporal;

/// The systems this works on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Temporal's tables, on the primary.
    pub persistence: Persistence,
    /// Who deletes.
    pub temporal: Temporal,
}
