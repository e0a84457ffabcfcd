//! What applying a retention plan did.

use serde::Serialize;

use super::decide::Step;

/// What was done, by namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetentionReport {
    /// Namespaces updated or registered.
    pub changed: usize,
    /// Namespaces left alone because they were no longer as planned.
    pub skipped: usize,
    /// Namespaces that could not be brought to the policy.
    pub failed: usize,
    /// Namespaces whose retention was not made shorter, because nobody agreed to it.
    pub held_back: usize,
    /// One entry for each step of the plan that was reached, in its order.
    pub namespaces: Vec<NamespaceReport>,
}

/// What happened to one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamespaceReport {
    /// Its name.
    pub namespace: String,
    /// What happened.
    pub outcome: Outcome,
    /// Why, when it was skipped or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why its retention was not made shorter, when that was held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back: Option<String>,
}

/// What happened to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Registered.
    Registered,
    /// Its fields were set.
    Updated,
    /// Somebody else had done it since the plan was made.
    Unchanged,
    /// It was no longer as planned; the next plan takes it up.
    Skipped,
    /// Only its retention was to be made shorter, and that was held back.
    HeldBack,
    /// An error.
    Failed,
}

impl RetentionReport {
    pub(super) fn add(&mut self, step: &Step, outcome: Outcome, detail: Option<String>) {
        match outcome {
            Outcome::Registered | Outcome::Updated => self.changed += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unchanged | Outcome::HeldBack => {}
        }
        let held_back = step.held_back().map(|hold| hold.to_string());
        self.held_back += usize::from(held_back.is_some());
        self.namespaces.push(NamespaceReport { namespace: step.namespace().to_owned(), outcome, detail, held_back });
    }

    /// The namespaces whose retention was held back, by name, for an error message.
    #[must_use]
    pub fn held_back(&self) -> String {
        const SHOWN: usize = 20;
        let held = self.namespaces.iter().filter(|entry| entry.held_back.is_some());
        let shown: Vec<&str> = held.take(SHOWN).map(|entry| entry.namespace.as_str()).collect();
        let more = self.held_back.saturating_sub(SHOWN);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{tail}", shown.join(", "))
    }

    /// The first failures in one line, for an error message, and what was held back besides.
    #[must_use]
    pub fn failures(&self) -> String {
        const SHOWN: usize = 3;
        let failed = self.namespaces.iter().filter(|entry| entry.outcome == Outcome::Failed);
        let shown: Vec<String> = failed
            .take(SHOWN)
            .map(|entry| format!("{}: {}", entry.namespace, entry.detail.as_deref().unwrap_or("unknown")))
            .collect();
        let more = self.failed.saturating_sub(SHOWN);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        let held_back = match self.held_back {
            0 => String::new(),
            _ => format!("; a shorter retention was held back: {}", self.held_back()),
        };
        format!("{}{tail}{held_back}", shown.join("; "))
    }
}
