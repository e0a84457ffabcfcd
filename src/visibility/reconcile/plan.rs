//! What a reconcile would do: which documents, by index, id and version.

use serde::Serialize;

use super::bookmarks::Bookmarks;
use super::look::Look;
use super::survey::{Survey, survey};
use super::{Ground, missing, open, sweep, written};
use crate::clients::persistence::RunKey;
use crate::context::Context;
use crate::plan::{Action, Change, Plan};
use crate::policy::visibility::{Ghosts, VisibilityPolicy};
use crate::progress::Unit;
use crate::units::counted;
use crate::visibility::VisibilityError;

/// A document to do something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The place of its index in [`ReconcilePlan::indices`].
    pub member: usize,
    /// Its id.
    pub id: String,
    /// Its version when it was looked at.
    pub version: u64,
}

/// What was found, by class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Found {
    /// The newest documents of open runs that lie in old indices.
    pub open: Vec<Item>,
    /// Documents of which a newer one lies elsewhere.
    pub stale: Vec<Item>,
    /// Documents of runs that are gone.
    pub ghosts: Vec<Item>,
    /// Runs without a document.
    pub missing: Vec<RunKey>,
    /// Closed runs whose document says that they are open.
    pub outdated: Vec<RunKey>,
    /// Documents that name no run of Temporal's; they are left alone.
    pub unreadable: u64,
    /// Executions without a document that are no workflows; Temporal cannot be made to write theirs.
    pub other_archetypes: u64,
    /// Documents looked at, each counted once.
    pub documents: u64,
    /// Runs looked at.
    pub executions: u64,
}

/// What a reconcile would do now.
#[derive(Debug, Clone)]
pub struct ReconcilePlan {
    /// The alias.
    pub alias: String,
    /// Its indices by age, the write index last.
    pub indices: Vec<String>,
    /// What to do.
    pub found: Found,
    /// Whether missing documents are written again, or only reported.
    pub repair: bool,
    /// True when there was more to do than one run may.
    pub more: bool,
    /// Where the next run begins, once this plan is done.
    pub bookmarks: Bookmarks,
    pub(super) survey: Survey,
}

/// Looks at everything that changed since the bookmarks, and at a part of the rest. Writes nothing.
///
/// # Errors
/// [`VisibilityError::Refused`] when the alias or the database cannot be worked with; any error of the systems.
pub async fn plan(
    ground: &Ground,
    policy: &VisibilityPolicy,
    bookmarks: &Bookmarks,
    ctx: &Context,
) -> Result<ReconcilePlan, VisibilityError> {
    let alias = policy.index.as_str();
    let survey = survey(&ground.search, alias).await?;
    let rules = &policy.reconcile;
    let mut marks = bookmarks.clone();
    marks.keep(&survey.members.iter().map(|member| member.uuid.as_str()).collect::<Vec<_>>());
    ctx.progress.stage("looking at documents", None, Unit::Items);
    let mut look = Look::new(ground, &survey, rules.max_changes, ctx).await?;
    open::look(&mut look).await?;
    written::look(&mut look, &mut marks).await?;
    sweep::look(&mut look, rules.ghosts == Ghosts::Delete, rules.sweep, &mut marks).await?;
    missing::look(&mut look, rules.sweep, &mut marks).await?;
    let (more, found) = (look.is_full(), look.found);
    Ok(ReconcilePlan {
        alias: alias.to_owned(),
        indices: survey.names().into_iter().map(str::to_owned).collect(),
        found,
        repair: rules.missing == crate::policy::visibility::Missing::Repair && ground.temporal.is_some(),
        more,
        bookmarks: marks,
        survey,
    })
}

impl Found {
    /// How many changes it asks for.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.open.len() + self.stale.len() + self.ghosts.len() + self.missing.len() + self.outdated.len()
    }
}

impl ReconcilePlan {
    /// The common form: a line per class and index, with examples as notes.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let write = self.indices.last().map_or("", String::as_str);
        self.by_index(&self.found.open, "open", &mut plan, |count, index| {
            Change::new(Action::Run, format!("index {index}"), "runs that go on belong where Temporal writes").field(
                "open",
                Some(counted(count, "document", "documents")),
                format!("carried forward to {write}"),
            )
        });
        self.by_index(&self.found.stale, "stale", &mut plan, |count, index| {
            Change::new(Action::Delete, format!("index {index}"), "a newer document of the same run lies elsewhere")
                .field("stale", Some(counted(count, "document", "documents")), "removed")
        });
        self.by_index(&self.found.ghosts, "ghosts", &mut plan, |count, index| {
            Change::new(Action::Delete, format!("index {index}"), "the run is no longer in Temporal").field(
                "ghosts",
                Some(counted(count, "document", "documents")),
                "removed",
            )
        });
        for (class, runs, reason) in [
            ("missing", &self.found.missing, "Temporal has these runs, and no index a document of them"),
            ("outdated", &self.found.outdated, "Temporal has closed these runs, and their documents say they are open"),
        ] {
            let Some(first) = runs.first() else { continue };
            let many = counted(runs.len(), "run", "runs");
            let example = format!("{}~{}", first.workflow, first.run);
            if self.repair {
                let to = "written again by Temporal";
                let change = Change::new(Action::Create, format!("alias {}", self.alias), reason);
                plan.changes.push(change.field(class, Some(many), to));
                plan.notes.push(format!("{class}, for example {example}"));
            } else {
                plan.notes.push(format!("{class}: {many} ({reason}), for example {example}; only reported"));
            }
        }
        if self.found.unreadable > 0 {
            let many = counted(self.found.unreadable, "document", "documents");
            plan.notes.push(format!("{many} of {} name no run of Temporal's and are left alone", self.alias));
        }
        if self.more {
            plan.notes.push("there is more than one run may change; the next one goes on".into());
        }
        plan
    }

    fn by_index(&self, items: &[Item], class: &str, plan: &mut Plan, change: impl Fn(usize, &str) -> Change) {
        for (place, index) in self.indices.iter().enumerate() {
            let mut of_index = items.iter().filter(|item| item.member == place);
            let Some(first) = of_index.next() else { continue };
            plan.changes.push(change(1 + of_index.count(), index));
            plan.notes.push(format!("{class} in {index}, for example {}", first.id));
        }
    }
}
