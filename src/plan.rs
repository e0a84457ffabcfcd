//! A plan: the list of changes from the observed to the desired state, as a value.
//!
//! Each domain computes its own typed plan and executes that. What stands here is the common form in which every
//! plan is shown, digested and stored in the ledger.

use serde::Serialize;

/// What a change does to its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Something comes into being: a namespace, an index, a backup.
    Create,
    /// Something is set to another value.
    Update,
    /// Something ceases to exist.
    Delete,
    /// Something is executed: a rollover, a migration step.
    Run,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// To what: `namespace orders`, `index temporal_visibility_v1-000003`.
    pub subject: String,
    /// Which field of it, when the change is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The observed value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The desired value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why: the policy that asks for it.
    pub reason: String,
    /// True when it removes data or cannot be undone.
    pub destructive: bool,
}

impl Change {
    /// A change without field or values, not destructive.
    pub fn new(action: Action, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            action,
            subject: subject.into(),
            field: None,
            from: None,
            to: None,
            reason: reason.into(),
            destructive: false,
        }
    }

    /// The same change, about one field that goes from one value to another.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, from: Option<String>, to: impl Into<String>) -> Self {
        self.field = Some(name.into());
        self.from = from;
        self.to = Some(to.into());
        self
    }

    /// The same change, marked as removing data.
    #[must_use]
    pub fn destructive(mut self) -> Self {
        self.destructive = true;
        self
    }
}

/// What a job would do now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// The changes, in the order in which they are made. Empty means nothing to do.
    pub changes: Vec<Change>,
    /// What the reader should know although nothing is done about it: "2 namespaces are not in the policy".
    pub notes: Vec<String>,
}

impl Plan {
    /// True when there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// BLAKE3 of the changes, as hex: equal plans have equal digests; notes do not count.
    #[must_use]
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(&self.changes).unwrap_or_default();
        blake3::hash(&json).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_changes_only() {
        let change = Change::new(Action::Update, "namespace a", "default retention").field(
            "retention",
            Some("3d".into()),
            "30d",
        );
        let one = Plan { changes: vec![change.clone()], notes: vec!["x".into()] };
        let two = Plan { changes: vec![change.clone()], notes: vec![] };
        let three = Plan { changes: vec![change.destructive()], notes: vec![] };
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), three.digest());
    }
}
