//! What applying a retention plan did.

use serde::Serialize;

/// What was done, by namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetentionReport {
    /// Namespaces updated or registered.
    pub changed: usize,
    /// Namespaces left alone because they were no longer as planned.
    pub skipped: usize,
    /// Namespaces that could not be brought to the policy.
    pub failed: usize,
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
    /// An error.
    Failed,
}

impl RetentionReport {
    pub(super) fn add(&mut self, namespace: &str, outcome: Outcome, detail: Option<String>) {
        match outcome {
            Outcome::Registered | Outcome::Updated => self.changed += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unchanged => {}
        }
        self.namespaces.push(NamespaceReport { namespace: namespace.to_owned(), outcome, detail });
    }

    /// The first failures in one line, for an error message.
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
        format!("{}{tail}", shown.join("; "))
    }
}
