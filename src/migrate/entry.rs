//! What the journal holds of a migration and of its steps.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::MigrateError;
use super::names::Digest;

/// Noted of a step that failed, when the server took back all of it.
pub(crate) const ROLLED_BACK: &str = "rolled_back";

/// Noted, and told, of a step that somebody has undone without sexton.
pub(crate) const BY_HAND: &str = "by_hand";

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationState {
    /// Begun; whether a session is at it tells the lock.
    Running,
    /// Every step holds.
    Applied,
    /// A step failed.
    Failed,
    /// It was asked to stop between two steps, or waits for somebody.
    Stopped,
    /// Its steps are being undone; whether a session is at it tells the lock.
    Undoing,
    /// It was begun, and every step of it undone.
    Undone,
}

/// What is known of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Begun, and nothing known since.
    Intended,
    /// Done and, where it can be, verified.
    Done,
    /// It held already and nothing was done.
    Present,
    /// Tried and not done.
    Failed,
    /// Its undoing was begun, and nothing known since.
    Undoing,
    /// Undone.
    Undone,
}

macro_rules! column_text {
    ($type:ty { $($variant:ident = $text:literal),* }) => {
        impl $type {
            /// As it stands in the ledger.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
            pub(super) fn parse(text: &str) -> Result<Self, MigrateError> {
                match text { $($text => Ok(Self::$variant),)* other => Err(MigrateError::JournalValue(other.to_owned())) }
            }
        }
    };
}
column_text!(MigrationState {
    Running = "running", Applied = "applied", Failed = "failed", Stopped = "stopped", Undoing = "undoing", Undone = "undone"
});
column_text!(StepState {
    Intended = "intended", Done = "done", Present = "present", Failed = "failed", Undoing = "undoing", Undone = "undone"
});

/// One migration in the journal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Of the recipe it was begun from.
    pub digest: Digest,
    /// The value of every parameter.
    pub parameters: BTreeMap<String, String>,
    /// The database it acts on, by name.
    pub target: String,
    /// How far it is.
    pub state: MigrationState,
    /// Why it failed.
    pub error: Option<String>,
    /// Its steps by key.
    pub steps: BTreeMap<String, StepEntry>,
}

/// One step in the journal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StepEntry {
    /// What is known of it.
    pub state: StepState,
    /// What undoing it takes: for SQL the statements, else what the operation has kept.
    pub undo: Value,
    /// What it found, for later steps.
    pub found: Value,
    /// What was noted while it was at work: its transaction, its program.
    pub noted: Value,
    /// Why it failed.
    pub error: Option<String>,
}

impl StepEntry {
    /// Whether there may be something to undo.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self.state {
            StepState::Done | StepState::Intended | StepState::Undoing => true,
            StepState::Failed => self.noted.get(ROLLED_BACK) != Some(&Value::Bool(true)),
            StepState::Present | StepState::Undone => false,
        }
    }

    /// Whether its undoing was tried, and did not come to its end.
    pub(crate) fn was_undo_tried(&self) -> bool {
        match self.state {
            StepState::Undoing => true,
            // What became of it could not be asked.
            StepState::Intended => self.error.is_some(),
            _ => false,
        }
    }

    /// Whether somebody has said that it is undone.
    pub(crate) fn is_undone_by_hand(&self) -> bool {
        self.state == StepState::Undone && self.noted.get(BY_HAND) == Some(&Value::Bool(true))
    }

    /// Its evidence once more, for while it is undone.
    pub(crate) fn evidence(&self) -> Value {
        json!({ "found": self.found })
    }
}
