//! A lost index brought back from PostgreSQL: every run that Temporal has gets its document again, written by Temporal
//! itself, while workflows go on.
//!
//! What comes back is all that Temporal's executions hold: open and closed runs with status, times, memo and custom
//! search attributes. What cannot come back: documents of runs that Temporal has deleted (kept ghosts), executions of
//! other archetypes than workflows, and memo and search attributes that were moved into the index alone
//! (`history.visibilityProcessorEnableCloseWorkflowCleanup`).

mod ground;
mod pass;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use self::ground::Start;
use self::pass::{Pass, pass};
use super::reconcile::Ground;
use super::{Refusal, VisibilityError};
use crate::context::Context;
use crate::plan::{Action, Change, Plan};
use crate::units::counted;

/// How often it is looked whether Temporal has written what it was asked to write.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Looks without any document more after which the rest counts as lost.
const PATIENCE: u32 = 30;

/// What a rebuild would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RebuildPlan {
    /// The name Temporal writes to.
    pub index: String,
    /// The index to be made, when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<String>,
    /// Custom search attributes of the cluster that the index does not know.
    pub fields: Map<String, Value>,
    /// Runs without a document, and closed runs whose document says that they are open.
    pub missing: u64,
    /// Runs that Temporal has.
    pub executions: u64,
    /// One of those without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// True when the name is a plain index.
    pub plain: bool,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RebuildReport {
    /// The index that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The search attributes added to the mapping.
    pub fields: Vec<String>,
    /// Runs that Temporal has.
    pub executions: u64,
    /// Documents that Temporal was asked to write.
    pub refreshed: u64,
    /// Runs whose documents are not there yet.
    pub missing: u64,
    /// Executions without a document that are no workflows.
    pub other_archetypes: u64,
    /// Rows that Temporal itself does not know: of deleted namespaces, or of runs deleted meanwhile.
    pub unknown: u64,
}

/// Looks at every run. Writes nothing.
///
/// # Errors
/// [`VisibilityError::Refused`] without a connection to Temporal, or when the index could not be made as Temporal
/// needs it; any error of the systems.
pub async fn plan(ground: &Ground, index: &str, ctx: &Context) -> Result<RebuildPlan, VisibilityError> {
    let temporal = ground.temporal.as_ref().ok_or(Refusal::NoTemporal)?;
    let start = ground::start(&ground.search, index).await?;
    let attributes = temporal.search_attributes().await?;
    let fields = ground::lacking(&attributes, &start.mapping());
    let pass = match &start {
        Start::Create { .. } => pass::count(ground, ctx).await?,
        Start::There { .. } => pass(ground, index, ctx.now, None, &mut BTreeSet::new(), ctx).await?,
    };
    let (create, plain) = match start {
        Start::Create { name, .. } => (Some(name), false),
        Start::There { plain, .. } => (None, plain),
    };
    Ok(RebuildPlan {
        index: index.to_owned(),
        create,
        fields,
        missing: pass.missing,
        executions: pass.executions,
        example: pass.example,
        plain,
    })
}

/// Makes the index where it is missing, and has Temporal write every document that is not there, `pause` after one
/// another in each of a few lanes; then waits until they are there.
///
/// # Errors
/// [`VisibilityError::Rebuild`] with what was done until then.
pub async fn apply(
    plan: &RebuildPlan,
    ground: &Ground,
    pause: Duration,
    ctx: &Context,
) -> Result<RebuildReport, VisibilityError> {
    let mut report = RebuildReport::default();
    match run(plan, ground, pause, ctx, &mut report).await {
        Ok(()) => Ok(report),
        Err(cause) => Err(VisibilityError::Rebuild { cause: Box::new(cause), report: Box::new(report) }),
    }
}

async fn run(
    plan: &RebuildPlan,
    ground: &Ground,
    pause: Duration,
    ctx: &Context,
    report: &mut RebuildReport,
) -> Result<(), VisibilityError> {
    report.created = ground::create(&ground.search, plan).await?;
    // Whoever made it: filled without Temporal's fields it would be of no use.
    ground::start(&ground.search, &plan.index).await?;
    report.fields = ground::add(&ground.search, &plan.index, &plan.fields, ctx).await?;
    // Documents of runs that start or end from here on are written into the index by themselves.
    let since = Timestamp::now();
    let mut unknown = BTreeSet::new();
    let first = pass(ground, &plan.index, since, Some(pause), &mut unknown, ctx).await?;
    let note = |report: &mut RebuildReport, pass: &Pass| {
        report.executions = pass.executions;
        report.missing = pass.missing;
        report.other_archetypes = pass.other_archetypes;
    };
    note(report, &first);
    report.refreshed = first.refreshed;
    let (mut idle, mut refusal) = (0, first.refusal);
    let mut took = Duration::ZERO;
    while report.missing > 0 {
        // A look at a large cluster takes minutes; half of the time is left to Temporal.
        tokio::time::sleep(ASK_EVERY.max(took)).await;
        let clock = Instant::now();
        if ctx.is_cancelled() {
            return Err(VisibilityError::Cancelled { done: 0, total: 0 });
        }
        // A task that got lost on its way is asked for once more, half way.
        let again = (idle == PATIENCE / 2).then_some(pause);
        let look = pass(ground, &plan.index, since, again, &mut unknown, ctx).await?;
        took = clock.elapsed();
        refusal = refusal.or_else(|| look.refusal.clone());
        idle = if look.missing < report.missing { 0 } else { idle + 1 };
        note(report, &look);
        if idle > PATIENCE {
            let reason = refusal.unwrap_or_else(|| "it gave no reason".into());
            return Err(VisibilityError::StillMissing { count: report.missing, reason });
        }
    }
    report.unknown = unknown.len() as u64;
    Ok(())
}

impl RebuildPlan {
    /// The common form.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        if let Some(create) = &self.create {
            let change = Change::new(Action::Create, format!("index {create}"), "there is none of this name");
            plan.changes.push(change.field("write index of", None, &self.index));
        }
        if !self.fields.is_empty() {
            let names: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            let change =
                Change::new(Action::Update, format!("index {}", self.index), "Temporal has these search attributes");
            plan.changes.push(change.field("mapping", None, names.join(", ")));
        }
        if self.missing > 0 {
            let many = counted(self.missing, "run", "runs");
            let reason = format!("of {} that Temporal has", self.executions);
            let change = Change::new(Action::Create, format!("documents of {}", self.index), reason);
            plan.changes.push(change.field("missing", Some(many), "written again by Temporal"));
        }
        plan.notes.extend(self.example.iter().map(|example| format!("missing, for example {example}")));
        if self.plain {
            plan.notes.push(format!("{} is a plain index: `sexton adopt` turns it into an alias", self.index));
        }
        plan
    }
}

impl RebuildReport {
    /// True when something was changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.created.is_some() || !self.fields.is_empty() || self.refreshed > 0
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = self.created.iter().map(|index| format!("made {index}")).collect();
        parts.push(format!("{} of {} runs written again", self.refreshed, self.executions));
        if self.missing > 0 {
            parts.push(format!("{} still missing", self.missing));
        }
        if self.other_archetypes > 0 {
            parts.push(format!("{} are no workflows and have no document", self.other_archetypes));
        }
        if self.unknown > 0 {
            parts.push(format!("{} are not known to Temporal", self.unknown));
        }
        parts.join(", ")
    }
}
