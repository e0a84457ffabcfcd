//! What a lifecycle policy of sexton's says, whichever engine keeps it.

use std::fmt;

use super::conditions;
use crate::policy::visibility::{CountedFrom, Deletion, VisibilityPolicy};
use crate::units::{Size, Span};

/// When to roll over, and when to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phases {
    pub(super) max_age: Span,
    pub(super) max_size: Option<Size>,
    pub(super) max_docs: Option<u64>,
    /// Counted from the rollover; `None` leaves the deletion to sexton.
    pub(super) delete_after: Option<Span>,
}

impl Phases {
    pub(super) fn wanted(policy: &VisibilityPolicy) -> Self {
        let conditions = conditions(policy);
        let after = match policy.delete.counted_from {
            CountedFrom::Rollover => policy.delete.after,
            // Rolled at max_age at the earliest (the policy allows no other condition here), so that an index is
            // never younger than `after` when it goes.
            CountedFrom::Creation => policy.shortest_life(),
        };
        Self {
            max_age: conditions.max_age,
            max_size: conditions.max_size,
            max_docs: conditions.max_docs,
            delete_after: (policy.deletion == Deletion::Engine).then_some(after),
        }
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rollover at {}", self.max_age)?;
        if let Some(size) = self.max_size {
            write!(f, " or {size}")?;
        }
        if let Some(docs) = self.max_docs {
            write!(f, " or {docs} documents")?;
        }
        match self.delete_after {
            Some(after) => write!(f, ", deletion {after} after it"),
            None => write!(f, ", no deletion"),
        }
    }
}
