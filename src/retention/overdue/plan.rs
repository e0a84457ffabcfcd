//! What was found, in the common form of a plan, and what was done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::clients::persistence::RunKey;
use crate::plan::{Action, Change, Plan};
use crate::policy::retention::OverdueAction;
use crate::units::{Span, counted, human_bytes};

/// Runs of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Of {
    /// Its retention.
    pub retention: Option<Span>,
    /// Should be gone, and their timer fires later.
    pub later: u64,
    /// Should be gone, and have no timer.
    pub lost: u64,
    /// Should be gone; their timer is due.
    pub due: u64,
    /// Should be gone; they wait to be archived.
    pub archival: u64,
    /// Are to stay, and would go too soon.
    pub early: u64,
    /// Bytes of the histories of those that should be gone.
    pub bytes: u64,
    /// Are gone, and are listed all the same after their retention has ended.
    pub listed_only: u64,
    /// Some of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listed_only_examples: Vec<ListedOnly>,
}

/// A run that is gone and listed all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedOnly {
    /// The workflow's id.
    pub workflow: String,
    /// The run.
    pub run: Uuid,
    /// When it ended, as it is listed.
    pub closed: Timestamp,
}

impl Of {
    /// Those that something is done about.
    #[must_use]
    pub fn to_delete(&self) -> u64 {
        self.later + self.lost
    }

    /// Those that should be gone.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.to_delete() + self.due + self.archival
    }
}

/// One run to see to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which.
    pub key: RunKey,
    /// The namespace's name.
    pub namespace: String,
    /// The retention it was judged by.
    pub retention: Span,
    /// True for one that is to stay.
    pub early: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverduePlan {
    /// What the policy wants.
    pub action: OverdueAction,
    /// They are overdue only so long after their retention.
    pub slack: Span,
    /// At most so many a second.
    pub per_second: u32,
    /// By namespace.
    pub namespaces: BTreeMap<String, Of>,
    /// The runs, as many as one run of the job may see to; those that are to stay first.
    pub work: Vec<Work>,
    /// Rows of `executions` that cannot be read.
    pub unreadable: u64,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OverdueReport {
    /// By namespace, what was found.
    pub found: BTreeMap<String, Of>,
    /// Runs whose timers were derived anew so that they go.
    pub refreshed: u64,
    /// Runs that Temporal was told to delete.
    pub deleted: u64,
    /// Runs whose timers were derived anew so that they stay.
    pub extended: u64,
    /// Runs that were no longer as planned.
    pub changed_meanwhile: u64,
    /// Runs that Temporal did not take.
    pub failed: u64,
    /// The first of these failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

impl OverdueReport {
    /// Runs something was done about.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.refreshed + self.deleted + self.extended
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let parts = [
            (self.refreshed, "timers of overdue runs derived anew"),
            (self.deleted, "overdue runs deleted"),
            (self.extended, "runs kept for longer"),
            (self.changed_meanwhile, "changed meanwhile"),
            (self.failed, "failed"),
        ];
        let said: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") }
    }
}

impl OverduePlan {
    /// The common form: a change for each namespace.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan { changes: Vec::new(), notes: self.notes.clone() };
        for (name, of) in &self.namespaces {
            let subject = format!("runs of namespace {name}");
            let count = |count: u64| counted(count, "run", "runs");
            let retention = of.retention.map_or_else(|| "?".to_owned(), |retention| retention.to_string());
            let planned = |early: bool| self.work.iter().any(|work| work.early == early && work.namespace == *name);
            if planned(false) {
                let reason = format!(
                    "the retention of {retention} has ended for {} ({}): {} with a timer that fires later, {} without one",
                    count(of.to_delete()),
                    human_bytes(of.bytes),
                    of.later,
                    of.lost
                );
                let change = match self.action {
                    OverdueAction::Delete => Change::new(Action::Delete, subject.clone(), reason),
                    _ => Change::new(Action::Update, subject.clone(), reason).field(
                        "deletion timer",
                        None,
                        format!("end + {retention}"),
                    ),
                };
                plan.changes.push(change.destructive());
            } else if of.to_delete() > 0 {
                plan.notes.push(format!(
                    "namespace {name}: {} should be gone ({})",
                    count(of.to_delete()),
                    human_bytes(of.bytes)
                ));
            }
            if planned(true) {
                let reason =
                    format!("{} would be deleted before the retention of {retention} has ended", count(of.early));
                let change = Change::new(Action::Update, subject, reason);
                plan.changes.push(change.field("deletion timer", None, format!("end + {retention}")));
            } else if of.early > 0 {
                plan.notes.push(format!(
                    "namespace {name}: {} will be deleted before their retention has ended",
                    count(of.early)
                ));
            }
            if of.due > 0 {
                plan.notes.push(format!("namespace {name}: {} should be gone and are due now", count(of.due)));
            }
            if let Some(ListedOnly { workflow, run, .. }) = of.listed_only_examples.first() {
                plan.notes.push(format!(
                    "namespace {name}: {} that Temporal has deleted are still listed after their retention, for example \
                     {workflow}~{run}; the job `reconcile` removes their documents from an index, and nothing else does",
                    count(of.listed_only)
                ));
            }
            if of.archival > 0 {
                plan.notes.push(format!("namespace {name}: {} wait to be archived before they go", count(of.archival)));
            }
        }
        plan
    }
}
