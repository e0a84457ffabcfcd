//! The plan of an adoption: a pure value that can be shown, stored and executed.

use serde::{Deserialize, Serialize};

use crate::plan::{Action, Change, Plan};
use crate::units::{Span, counted, human_bytes};
use crate::visibility::step::Step;

/// How the documents get into the index that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By hard links, while writes are blocked.
    Clone,
    /// One by one beforehand, and the last of them while writes are blocked.
    Copy,
}

/// What would be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdoptPlan {
    /// The name Temporal writes to.
    pub index: String,
    /// `None` when there is nothing to adopt.
    pub adoption: Option<Adoption>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// An adoption that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adoption {
    /// The live index's identity.
    pub uuid: String,
    /// How.
    pub way: Way,
    /// Documents in the live index.
    pub docs: u64,
    /// Bytes of its primary shards.
    pub bytes: u64,
    /// How long writes may be blocked.
    pub deadline: Span,
    /// What an earlier adoption left and is undone first.
    pub leftovers: Leftovers,
    /// sexton's template, when it is not as it should be.
    pub template: Option<Step>,
    /// The index that takes over the documents.
    pub read: String,
    /// True when an earlier adoption began to copy into it.
    pub resumes: bool,
    /// The empty index that becomes the write index.
    pub write: String,
}

/// What an adoption that did not come to its end left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Leftovers {
    /// Its write block is still on.
    pub blocked: bool,
    /// Its marks on the live index.
    pub marks: Vec<String>,
    /// Its indices that cannot be used any more.
    pub indices: Vec<String>,
}

impl Leftovers {
    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AdoptPlan {
    /// The common form.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let changes = self.adoption.as_ref().map_or_else(Vec::new, |adoption| adoption.changes(&self.index));
        Plan { changes, notes: self.notes.clone() }
    }
}

impl Adoption {
    fn changes(&self, index: &str) -> Vec<Change> {
        const LEFT: &str = "left by an adoption that did not come to its end";
        let live = format!("index {index}");
        let mut changes = Vec::new();
        if self.leftovers.blocked {
            changes.push(Change::new(Action::Update, &live, LEFT).field(
                "index.blocks.write",
                Some("true".into()),
                "none",
            ));
        }
        let left = self.leftovers.indices.iter();
        changes.extend(left.map(|name| Change::new(Action::Delete, format!("index {name}"), LEFT).destructive()));
        changes.extend(self.template.iter().flat_map(Step::changes));
        let next = "empty, with the mapping of the live index";
        changes.push(Change::new(Action::Create, format!("index {}", self.write), next));
        let size = format!("{}, {}", counted(self.docs, "document", "documents"), human_bytes(self.bytes));
        let block =
            Change::new(Action::Update, &live, format!("for {} at most; Temporal repeats its writes", self.deadline))
                .field("index.blocks.write", None, "true");
        let read = format!("index {}", self.read);
        match self.way {
            Way::Clone => {
                changes.push(block);
                changes.push(Change::new(Action::Create, read, format!("a clone of {index}: {size}")));
            }
            Way::Copy => {
                let resumed = if self.resumes { "; goes on with a copy that was begun" } else { "" };
                changes.push(Change::new(Action::Create, read, format!("a copy of {index}: {size}{resumed}")));
                changes.push(block);
            }
        }
        let reason =
            format!("one call: the index goes, its name becomes the alias of {} and {}", self.read, self.write);
        changes.push(
            Change::new(Action::Run, format!("swap {index}"), reason)
                .field("write index", Some(index.to_owned()), &self.write)
                .destructive(),
        );
        changes
    }
}
