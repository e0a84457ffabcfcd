//! What a reconcile did.

use serde::Serialize;

use crate::clients::search::Done;

/// What a reconcile did, in documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReconcileReport {
    /// Carried forward to the write index.
    pub carried: u64,
    /// Removed because a newer one lies elsewhere.
    pub stale: u64,
    /// Removed because their run is gone.
    pub ghosts: u64,
    /// Written again by Temporal.
    pub refreshed: u64,
    /// Left for the next run, because they had changed since they were looked at.
    pub changed_meanwhile: u64,
    /// Refused by the engine.
    pub refused: u64,
    /// The engine's first reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_refusal: Option<String>,
}

impl ReconcileReport {
    /// True when something was changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.carried + self.stale + self.ghosts + self.refreshed > 0
    }

    /// One line: `12 carried forward, 3 stale removed`.
    #[must_use]
    pub fn summary(&self) -> String {
        let parts = [
            (self.carried, "carried forward"),
            (self.stale, "stale removed"),
            (self.ghosts, if self.ghosts == 1 { "ghost removed" } else { "ghosts removed" }),
            (self.refreshed, "written again"),
            (self.changed_meanwhile, "changed meanwhile"),
            (self.refused, "refused by the engine"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if said.is_empty() { "nothing was changed".into() } else { said.join(", ") }
    }

    /// Notes a write the engine refused.
    pub(super) fn refuse(&mut self, done: &Done) {
        self.refused += 1;
        if let Done::Failed { status, kind, reason } = done {
            self.first_refusal.get_or_insert_with(|| format!("{status} {kind}: {reason}"));
        }
    }

    /// The work of another look added to this one's.
    pub(in crate::visibility) fn add(&mut self, other: Self) {
        self.carried += other.carried;
        self.stale += other.stale;
        self.ghosts += other.ghosts;
        self.refreshed += other.refreshed;
        self.changed_meanwhile += other.changed_meanwhile;
        self.refused += other.refused;
        if self.first_refusal.is_none() {
            self.first_refusal = other.first_refusal;
        }
    }
}
