//! How a long operation tells how far it is, without knowing who listens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// In what a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// How far the current stage is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What is done.
    pub name: String,
    /// How much there is of it; `None` when it cannot be known.
    pub total: Option<u64>,
    /// How much of it is done.
    pub done: u64,
    /// In what both are counted.
    pub unit: Unit,
    /// What else is to be said of it.
    pub detail: String,
    /// When it began.
    pub since: Timestamp,
}

/// Passes everything on, and remembers how far the current stage is for whoever asks.
#[derive(Debug)]
pub struct Recorded {
    inner: Arc<dyn Progress>,
    stage: Mutex<Option<Stage>>,
}

impl Recorded {
    /// Listens in front of another listener.
    #[must_use]
    pub fn new(inner: Arc<dyn Progress>) -> Self {
        Self { inner, stage: Mutex::default() }
    }

    /// The current stage; `None` before the first one.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.current().clone()
    }

    fn current(&self) -> MutexGuard<'_, Option<Stage>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Recorded {
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit) {
        let stage =
            Stage { name: name.to_owned(), total, done: 0, unit, detail: String::new(), since: Timestamp::now() };
        *self.current() = Some(stage);
        self.inner.stage(name, total, unit);
    }

    fn advance(&self, amount: u64) {
        if let Some(stage) = self.current().as_mut() {
            stage.done = stage.done.saturating_add(amount);
        }
        self.inner.advance(amount);
    }

    fn detail(&self, text: &str) {
        if let Some(stage) = self.current().as_mut() {
            text.clone_into(&mut stage.detail);
        }
        self.inner.detail(text);
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }
}
