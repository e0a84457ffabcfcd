//! What there is, index by index, in words: how full, how old, when it goes and why not yet.

use jiff::Timestamp;
use serde::Serialize;

use super::decide::{decide, due};
use super::observe::{AliasState, IndexState, Observed, observe};
use super::reconcile::{self, Bookmarks, Ground, ReconcilePlan};
use super::{DriverKind, VisibilityError, VisibilityPlan};
use crate::clients::search::Health;
use crate::context::Context;
use crate::failure::{Explain, Failure, chain};
use crate::plan::Plan;
use crate::policy::visibility::{Deletion, VisibilityPolicy};
use crate::units::{Span, counted, human_bytes};

/// The whole answer of `sexton visibility`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The name Temporal writes to.
    pub index: String,
    /// What it is: `alias`, `plain index`, `nothing`.
    pub kind: &'static str,
    /// The search engine.
    pub engine: String,
    /// Who rolls.
    pub driver: Option<DriverKind>,
    /// Who deletes.
    pub deletion: Deletion,
    /// The indices, oldest first.
    pub indices: Vec<Line>,
    /// What the job `visibility` would change: drift of policy and template among it.
    pub plan: Option<Plan>,
    /// Why it would refuse to.
    pub refusal: Option<Failure>,
    /// How the documents agree with Temporal's runs; `None` when they could not be compared.
    pub documents: Option<Agreement>,
    /// Why they could not.
    pub not_compared: Option<Failure>,
    /// What happens next.
    pub next: Vec<Event>,
}

/// One index.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub index: String,
    /// True for the one that Temporal writes to.
    pub write: bool,
    /// Health, where the engine says it.
    pub health: Option<Health>,
    /// Documents.
    pub documents: Option<u64>,
    /// Documents of open runs; in an old index they wait to be carried forward.
    pub open: Option<u64>,
    /// Documents of which a newer one lies elsewhere.
    pub stale: Option<u64>,
    /// Documents of runs that Temporal has deleted, as far as looked at.
    pub ghosts: Option<u64>,
    /// Bytes of the primary shards.
    pub bytes: Option<u64>,
    /// When it was created.
    pub created: Timestamp,
    /// When it was rolled over.
    pub rolled: Option<Timestamp>,
    /// When it is old enough to be deleted.
    pub deleted_at: Option<Timestamp>,
    /// Why it is not deleted although, or before, it is old enough.
    pub stays: Option<String>,
}

/// How the documents agree with Temporal's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Runs without a document.
    pub missing: u64,
    /// Closed runs whose document says that they are open.
    pub outdated: u64,
    /// Documents looked at.
    pub documents: u64,
    /// Runs looked at.
    pub executions: u64,
}

/// Something to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, as far as it can be told.
    pub at: Option<Timestamp>,
    /// What.
    pub what: String,
}

/// Looks at everything. Writes nothing.
///
/// # Errors
/// [`VisibilityError::Search`] when the engine cannot be asked. What stands in the way of the jobs is part of the
/// answer.
pub async fn explain(
    ground: &Ground,
    policy: &VisibilityPolicy,
    bookmarks: &Bookmarks,
    longest_retention: Option<Span>,
    ctx: &Context,
) -> Result<Explanation, VisibilityError> {
    let compare = reconcile::plan(ground, policy, bookmarks, ctx);
    explained(ground, policy, Some(compare), longest_retention, ctx).await
}

/// The same without a look at single documents, which costs more the more there are.
///
/// # Errors
/// As [`explain`].
pub async fn outline(
    ground: &Ground,
    policy: &VisibilityPolicy,
    longest_retention: Option<Span>,
    ctx: &Context,
) -> Result<Explanation, VisibilityError> {
    let none: Option<std::future::Ready<Result<ReconcilePlan, VisibilityError>>> = None;
    explained(ground, policy, none, longest_retention, ctx).await
}

async fn explained<E: Explain>(
    ground: &Ground,
    policy: &VisibilityPolicy,
    compare: Option<impl Future<Output = Result<ReconcilePlan, E>>>,
    longest_retention: Option<Span>,
    ctx: &Context,
) -> Result<Explanation, VisibilityError> {
    let observed = observe(&ground.search, policy).await?;
    let mut decided = decide(&observed, policy, longest_retention, ctx.now);
    if let (Observed::Concrete, Ok(plan)) = (&observed, &mut decided) {
        super::add_blocked(plan, &ground.search, ctx.now).await?;
    }
    let mut explanation = Explanation {
        index: policy.index.to_string(),
        kind: "nothing",
        engine: ground.search.engine().to_string(),
        driver: decided.as_ref().ok().and_then(|plan| plan.driver),
        deletion: policy.deletion,
        indices: vec![],
        plan: decided.as_ref().ok().map(VisibilityPlan::plan),
        refusal: decided.as_ref().err().map(|refusal| VisibilityError::from(refusal.clone()).into()),
        documents: None,
        not_compared: None,
        next: vec![],
    };
    let alias = match &observed {
        Observed::Missing => return Ok(explanation),
        Observed::Concrete => {
            explanation.kind = "plain index";
            return Ok(explanation);
        }
        Observed::Alias(alias) => alias,
    };
    explanation.kind = "alias";
    let found = match compare {
        None => None,
        Some(compare) => match compare.await {
            Ok(found) => Some(found),
            Err(error) => {
                explanation.not_compared =
                    Some(Failure { kind: error.kind(), message: chain(&error), hint: error.hint() });
                None
            }
        },
    };
    explanation.documents = found.as_ref().map(|plan| Agreement {
        missing: plan.found.missing.len() as u64,
        outdated: plan.found.outdated.len() as u64,
        documents: plan.found.documents,
        executions: plan.found.executions,
    });
    explanation.indices =
        alias.indices.iter().map(|index| line(index, policy, decided.as_ref().ok(), found.as_ref())).collect();
    explanation.next = next(alias, &explanation.indices, policy);
    Ok(explanation)
}

fn line(
    index: &IndexState,
    policy: &VisibilityPolicy,
    plan: Option<&VisibilityPlan>,
    found: Option<&ReconcilePlan>,
) -> Line {
    let count = |class: fn(&reconcile::Found) -> &Vec<reconcile::Item>| {
        let found = found?;
        let place = found.indices.iter().position(|name| *name == index.name)?;
        Some(class(&found.found).iter().filter(|item| item.member == place).count() as u64)
    };
    let held = plan.and_then(|plan| plan.held_back.iter().find(|held| held.index == index.name));
    Line {
        index: index.name.clone(),
        write: index.write,
        health: index.health,
        documents: index.documents.map(|documents| documents.count),
        open: index.documents.map(|documents| documents.open),
        stale: count(|found| &found.stale),
        ghosts: count(|found| &found.ghosts),
        bytes: index.documents.map(|documents| documents.bytes),
        created: index.created,
        rolled: index.rolled,
        deleted_at: due(index, policy),
        stays: if index.write { Some("the write index".into()) } else { held.map(|held| held.reason.clone()) },
    }
}

fn next(alias: &AliasState, lines: &[Line], policy: &VisibilityPolicy) -> Vec<Event> {
    let mut next = Vec::new();
    if let Some(write) = alias.write_index() {
        let rollover = &policy.rollover;
        let mut what = format!("{} is rolled over", write.name);
        let now = write.documents.unwrap_or(super::Documents { count: 0, open: 0, bytes: 0 });
        let sizes = rollover.max_size.map(|size| format!("at {size} (now {})", human_bytes(now.bytes)));
        let docs = rollover.max_docs.map(|docs| format!("at {docs} documents (now {})", now.count));
        for earlier in [sizes, docs].into_iter().flatten() {
            what.push_str(&format!(", or earlier {earlier}"));
        }
        if now.count == 0 {
            what.push_str("; while it is empty it stays");
        }
        next.push(Event { at: write.created.checked_add(std::time::Duration::from(rollover.max_age)).ok(), what });
    }
    for line in lines.iter().filter(|line| !line.write) {
        let Some(at) = line.deleted_at else { continue };
        let open = line.open.unwrap_or(0);
        let living = if open == 0 {
            String::new()
        } else {
            let many = counted(open, "open run", "open runs");
            match policy.deletion {
                Deletion::Gated => format!(", after {many} in it have been carried forward"),
                Deletion::Engine => format!(", and {many} with it unless a reconcile carries them forward before"),
            }
        };
        next.push(Event { at: Some(at), what: format!("{} is deleted{living}", line.index) });
    }
    next.sort_by_key(|event| event.at);
    next
}
