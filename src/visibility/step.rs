//! The plan of the visibility job: its steps, as values that can be shown, stored and executed.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::DriverKind;
use super::adopt::Left;
use super::observe::IndexState;
use crate::clients::search::{Guard, RolloverConditions, Template};
use crate::plan::{Action, Change, Plan};
use crate::units::{counted, human_bytes};

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
    /// Create or correct sexton's ILM or ISM policy.
    PutLifecyclePolicy {
        /// Which of them.
        driver: DriverKind,
        /// Its name.
        name: String,
        /// Its body (`{"phases": …}` or `{"states": …}`).
        policy: Value,
        /// The one that is there.
        found: Option<Found>,
        /// Where it differs from that.
        differs: Vec<FieldChange>,
        /// In words, after: `rollover at 30d, no deletion`.
        to: String,
        /// True when it has the engine delete indices.
        deletes: bool,
    },
    /// Lift the write block of an adoption that died, and remove what else it left.
    UndoAdoption {
        /// The plain index.
        index: String,
        /// What there is of it.
        left: Left,
    },
    /// Create or correct sexton's legacy template, which carries the mapping to the next index.
    PutTemplate {
        /// Its name.
        name: String,
        /// Its body.
        template: Template,
        /// True when there is one already.
        exists: bool,
        /// Where it differs from that.
        differs: Vec<FieldChange>,
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
    /// Write documents once more that are not found yet by fields which were added after them: it was begun and stopped.
    FileAgain {
        /// The index.
        index: String,
        /// The fields.
        fields: Vec<String>,
    },
    /// Put an index under sexton's ILM or ISM policy.
    AttachPolicy {
        /// Which of them.
        driver: DriverKind,
        /// The index.
        index: String,
        /// The policy.
        policy: String,
        /// The alias the engine rolls.
        alias: String,
        /// The policy it had.
        from: Option<String>,
        /// True for an older index, which is not to be rolled any more.
        rolled: bool,
        /// True when the policy has the engine delete the index.
        deletes: bool,
    },
    /// Have an index follow sexton's ISM policy as it is now: ISM gives each index a copy.
    ChangePolicy {
        /// The index.
        index: String,
        /// The policy.
        policy: String,
        /// The alias it is behind.
        alias: String,
        /// True when it is taken out of ISM and put back, since an index that is through with its policy or has failed at it
        /// takes no other.
        restart: bool,
        /// True when the policy has the engine delete the index.
        deletes: bool,
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

/// The lifecycle policy that was there when the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Counted up by every change.
    pub version: u64,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// ISM: what an update has to name.
    pub guard: Option<Guard>,
}

/// A field that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its name: `hot.rollover.max_age`.
    pub field: String,
    /// As it is; `None` when it is not there.
    pub from: Option<String>,
    /// As it should be; `None` when it should not be there.
    pub to: Option<String>,
    /// True when setting it has the engine delete something, or delete it earlier.
    pub destructive: bool,
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
            changes: self.steps.iter().flat_map(Step::changes).collect(),
            notes: self.notes.iter().cloned().chain(held).collect(),
        }
    }
}

impl Step {
    /// The step as lines of a plan: one, or one for each field that differs.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        match self {
            Self::PutLifecyclePolicy { driver, name, found: Some(found), differs, .. } => {
                let modified = found.modified.map(|at| format!(" of {at}")).unwrap_or_default();
                let reason = format!("policy visibility; the engine has version {}{modified}", found.version);
                differing(differs, &format!("{} policy {name}", key(*driver)), &reason)
            }
            Self::PutTemplate { name, exists: true, differs, .. } => {
                differing(differs, &format!("template {name}"), NEXT_INDEX)
            }
            Self::UndoAdoption { left, .. } => {
                let removed = left.indices.iter().map(|index| {
                    let docs = index.docs.map_or_else(
                        || "documents not known".to_owned(),
                        |docs| counted(docs, "document", "documents"),
                    );
                    let subject = format!("index {}", index.name);
                    Change::new(Action::Delete, subject, format!("{LEFT}; {docs}")).destructive()
                });
                std::iter::once(self.change()).chain(removed).collect()
            }
            _ => vec![self.change()],
        }
    }

    fn change(&self) -> Change {
        let destructive = |change: Change, is: bool| if is { change.destructive() } else { change };
        match self {
            Self::PutLifecyclePolicy { driver, name, to, deletes, .. } => {
                let subject = format!("{} policy {name}", key(*driver));
                let change = Change::new(Action::Create, subject, "policy visibility").field("phases", None, to);
                destructive(change, *deletes)
            }
            Self::PutTemplate { name, template, .. } => Change::new(
                Action::Create,
                format!("template {name}"),
                NEXT_INDEX,
            )
            .field("mapping", None, format!("{} fields", fields(&template.mappings))),
            Self::UndoAdoption { index, .. } => Change::new(Action::Update, format!("index {index}"), LEFT).field(
                "index.blocks.write",
                Some("true".into()),
                "none",
            ),
            Self::AddFields { index, properties } => {
                let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                Change::new(Action::Update, format!("index {index}"), "older indices have these search attributes")
                    .field("mapping", None, names.join(", "))
            }
            Self::FileAgain { index, fields } => {
                let reason = "documents from before these search attributes are not found by them yet";
                Change::new(Action::Update, format!("index {index}"), reason).field(
                    "documents filed under",
                    None,
                    fields.join(", "),
                )
            }
            Self::AttachPolicy { driver, index, policy, from, rolled, deletes, .. } => {
                let field = format!("{} policy", key(*driver));
                let reason = match driver {
                    DriverKind::Ilm if *rolled => "policy visibility; for ILM its age begins when this is done",
                    _ => "policy visibility",
                };
                let change = Change::new(Action::Update, format!("index {index}"), reason);
                destructive(change.field(field, from.clone(), policy), *deletes)
            }
            Self::ChangePolicy { index, policy, deletes, .. } => {
                let reason = "it follows an older version; ISM changes over at its next run";
                let change = Change::new(Action::Update, format!("index {index}"), reason);
                destructive(
                    change.field("ism policy", Some(policy.clone()), format!("{policy} as it is now")),
                    *deletes,
                )
            }
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

const LEFT: &str = "an adoption that died left it, past its deadline";
const NEXT_INDEX: &str = "the next index gets the write index's mapping";

/// `ilm` or `ism`, as the engine's calls name it.
pub(super) fn key(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::Ilm => "ilm",
        DriverKind::Ism => "ism",
        DriverKind::Daemon => "sexton",
    }
}

fn differing(differs: &[FieldChange], subject: &str, reason: &str) -> Vec<Change> {
    let lines = differs.iter().map(|line| {
        let to = line.to.as_deref().unwrap_or("none");
        let from = line.from.clone().unwrap_or_else(|| "none".into());
        let change = Change::new(Action::Update, subject, reason).field(&line.field, Some(from), to);
        if line.destructive { change.destructive() } else { change }
    });
    lines.collect()
}

fn fields(mapping: &Value) -> usize {
    mapping["properties"].as_object().map_or(0, Map::len)
}
