//! The plan of the visibility job: its steps, as values that can be shown, stored and executed.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::DriverKind;
use super::observe::IndexState;
use crate::clients::search::{RolloverConditions, Template};
use crate::plan::{Action, Change, Plan};
use crate::units::human_bytes;

/// What would be done now, and what is known of each index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisibilityPlan {
    /// The name Temporal writes to.
    pub index: String,
    /// Who rolls; `None` while the name is not an alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverKind>,
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// Indices that are old enough to go but stay.
    pub held_back: Vec<HeldBack>,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// The indices behind the alias, oldest first.
    pub indices: Vec<IndexState>,
    /// Indices whose age began before this instant were old enough for deletion.
    pub cutoff: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Create or correct sexton's ILM policy.
    PutLifecyclePolicy {
        /// Its name.
        name: String,
        /// Its body (`{"phases": …}`).
        policy: Value,
        /// True when there is one already.
        exists: bool,
        /// In words, before: `rollover at 30d`.
        from: Option<String>,
        /// In words, after.
        to: String,
    },
    /// Create or correct sexton's legacy template, which carries the mapping to the next index.
    PutTemplate {
        /// Its name.
        name: String,
        /// Its body.
        template: Template,
        /// True when there is one already.
        exists: bool,
        /// The fields it does not carry yet.
        new_fields: Vec<String>,
    },
    /// Add fields to the write index that older indices have: search attributes a rollover lost.
    AddFields {
        /// The write index.
        index: String,
        /// The fields.
        properties: Map<String, Value>,
    },
    /// Put the write index under sexton's ILM policy.
    AttachPolicy {
        /// The write index.
        index: String,
        /// The policy.
        policy: String,
        /// The alias ILM rolls.
        alias: String,
        /// The policy it had.
        from: Option<String>,
    },
    /// Roll the alias over.
    Rollover {
        /// The alias.
        alias: String,
        /// The write index now.
        from: String,
        /// The write index to come, as the engine named it in a dry run.
        to: String,
        /// The conditions, which the engine judges again.
        conditions: RolloverConditions,
        /// Those met in the dry run.
        met: Vec<String>,
        /// The template that carries the mapping.
        template: String,
    },
    /// Delete an index.
    DeleteIndex {
        /// The alias it is behind.
        alias: String,
        /// Its name.
        index: String,
        /// Its identity.
        uuid: String,
        /// Its documents.
        docs: u64,
        /// Those of open runs; they are carried forward first, like all whose run Temporal still has.
        open: u64,
        /// Its bytes.
        bytes: u64,
        /// Since when it was due.
        due: Timestamp,
    },
}

/// An index that is old enough to be deleted but stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldBack {
    /// The index.
    pub index: String,
    /// Why it stays.
    pub reason: String,
}

impl VisibilityPlan {
    /// The common form.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let held = self.held_back.iter().map(|held| format!("index {} is held back: {}", held.index, held.reason));
        Plan {
            changes: self.steps.iter().map(Step::change).collect(),
            notes: self.notes.iter().cloned().chain(held).collect(),
        }
    }
}

impl Step {
    /// The step as a line of a plan.
    #[must_use]
    pub fn change(&self) -> Change {
        let put = |exists: bool| if exists { Action::Update } else { Action::Create };
        match self {
            Self::PutLifecyclePolicy { name, exists, from, to, .. } => Change::new(
                put(*exists),
                format!("ilm policy {name}"),
                "policy visibility",
            )
            .field("phases", from.clone(), to),
            Self::PutTemplate { name, exists, new_fields, template } => {
                let reason = "the next index gets the write index's mapping";
                let to = match new_fields.len() {
                    0 => format!("{} fields", fields(&template.mappings)),
                    _ => format!("{} fields, new: {}", fields(&template.mappings), new_fields.join(", ")),
                };
                Change::new(put(*exists), format!("template {name}"), reason).field("mapping", None, to)
            }
            Self::AddFields { index, properties } => {
                let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                Change::new(Action::Update, format!("index {index}"), "older indices have these search attributes")
                    .field("mapping", None, names.join(", "))
            }
            Self::AttachPolicy { index, policy, from, .. } => Change::new(
                Action::Update,
                format!("index {index}"),
                "policy visibility",
            )
            .field("index.lifecycle.name", from.clone(), policy),
            Self::Rollover { alias, from, to, met, .. } => {
                Change::new(Action::Run, format!("rollover {alias}"), format!("policy visibility: {}", met.join(" ")))
                    .field("write index", Some(from.clone()), to)
            }
            Self::DeleteIndex { index, docs, open, bytes, due, .. } => {
                let first = if *open > 0 { format!("{open} open, carried forward first") } else { "none open".into() };
                let reason = format!("due since {due}; {docs} documents, {}, {first}", human_bytes(*bytes));
                Change::new(Action::Delete, format!("index {index}"), reason).destructive()
            }
        }
    }
}

fn fields(mapping: &Value) -> usize {
    mapping["properties"].as_object().map_or(0, Map::len)
}
