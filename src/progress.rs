//! How a long operation tells how far it is, without knowing who listens.

use std::sync::Arc;

/// In what a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown in binary multiples.
    Bytes,
    /// Things: rows, documents, namespaces.
    Items,
}

/// Where progress goes: a bar on a terminal, log lines, nowhere. Calls may come from several tasks at once.
pub trait Progress: Send + Sync + std::fmt::Debug {
    /// A stage begins; it replaces the one before. `total` is `None` when it cannot be known.
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit);
    /// The current stage has come further by `amount` of its unit.
    fn advance(&self, amount: u64);
    /// What else is to be said of the current stage as it is now; it replaces what was said before.
    fn detail(&self, _: &str) {}
    /// Something worth a line of its own.
    fn note(&self, text: &str);
}

/// The listener that does not listen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

/// A shared silent sink.
#[must_use]
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}
