//! Keeps a rolling index true: what Temporal lists is what its `executions` table holds, each run once.
//!
//! Temporal writes to the write index only, and reads all of them. So after a rollover a run that goes on has a
//! document in the old index that nobody updates. This is put right here, in four classes:
//!
//! - *open*: the newest document of an open run lies in an old index. It is carried forward to the write index.
//! - *stale*: a document of which a newer one lies elsewhere. It is removed.
//! - *ghost*: a document of a run that Temporal has deleted; the deletion went to the write index and missed it.
//! - *missing* and *outdated*: a run without a document, or a closed run whose document says that it is open.
//!   Temporal is made to write it again.
//!
//! [`plan()`] looks and writes nothing; [`apply()`] looks at each document again right before it acts. Work is bounded:
//! what changed since the last run is looked at in full, and of the rest a part, in turn ([`Bookmarks`]).
//!
//! # What keeps it safe beside a running Temporal
//!
//! A copy has the version it had, and a removal names the version it removes: Temporal's later writes win whatever
//! the order in which they arrive. The run is looked up before a copy is made and again after it, since a deletion in
//! between would otherwise be undone (the engine forgets a deletion after `index.gc_deletes`, 60 s). A copy is made
//! visible before the original is removed, so that a run is listed twice for a moment, but never not at all.

mod act;
mod batch;
mod bookmarks;
mod carry;
mod document;
mod drain;
pub(super) mod look;
pub(super) mod missing;
mod open;
mod plan;
mod remove;
mod report;
pub(super) mod survey;
mod sweep;
mod verdict;
mod written;

pub use act::apply;
pub use bookmarks::{Bookmarks, Marks};
pub use drain::{Drained, carry_forward, drain};
pub use plan::{Found, Item, ReconcilePlan, plan};
pub use report::ReconcileReport;

use crate::clients::persistence::Persistence;
use crate::clients::search::Search;
use crate::clients::temporal::Temporal;

/// The systems a reconcile works on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Where the documents are.
    pub search: Search,
    /// What Temporal holds for true.
    pub persistence: Persistence,
    /// Who writes a lost document again; without it such documents are only reported.
    pub temporal: Option<Temporal>,
}
