//! Executes a plan, looking again right before each act that cannot be undone.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::DriverKind;
use super::adopt;
use super::error::VisibilityError;
use super::lifecycle;
use super::reconcile::{self, Ground, ReconcileReport};
use super::refile;
use super::rollover::missing_fields;
use super::step::{HeldBack, Step, VisibilityPlan};
use crate::clients::search::{Resolved, RolloverConditions, Search};
use crate::context::Context;
use crate::progress::Unit;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VisibilityReport {
    /// How many steps changed something.
    pub changed: usize,
    /// Who rolls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverKind>,
    /// What was set, one line each.
    pub set: Vec<String>,
    /// The rollover, when sexton made one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled: Option<Rolled>,
    /// The indices deleted.
    pub deleted: Vec<Deleted>,
    /// The indices old enough to go that stay.
    pub held_back: Vec<HeldBack>,
    /// Indices whose age began before this instant were old enough for deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<Timestamp>,
    /// What was done to documents after a rollover and before a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<ReconcileReport>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// A rollover that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rolled {
    /// The write index before.
    pub from: String,
    /// The write index now.
    pub to: String,
    /// The conditions that were met.
    pub met: Vec<String>,
}

/// An index that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Its name.
    pub index: String,
    /// Its documents.
    pub docs: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Since when it was due.
    pub due: Timestamp,
}

/// Executes the plan's steps in order. After a rollover what is open is carried forward; an index is deleted only
/// once every document left in it is of a run that Temporal no longer has.
///
/// # Errors
/// [`VisibilityError::Search`] when the engine refuses a step, [`VisibilityError::Stale`] when the write index is
/// another one than planned, [`VisibilityError::Cancelled`] between two steps; within [`VisibilityError::Partly`] when
/// something had been changed before.
pub async fn apply(plan: &VisibilityPlan, ground: &Ground, ctx: &Context) -> Result<VisibilityReport, VisibilityError> {
    let mut report = VisibilityReport {
        driver: plan.driver,
        held_back: plan.held_back.clone(),
        notes: plan.notes.clone(),
        cutoff: Some(plan.cutoff),
        ..VisibilityReport::default()
    };
    let outcome = run(plan, ground, ctx, &mut report).await;
    let moved = report.reconciled.as_ref().is_some_and(ReconcileReport::changed);
    report.changed =
        report.set.len() + usize::from(report.rolled.is_some()) + report.deleted.len() + usize::from(moved);
    match outcome {
        Ok(()) => Ok(report),
        Err(error) if report.changed == 0 => Err(error),
        Err(error) => Err(VisibilityError::Partly { cause: Box::new(error), report: Box::new(report) }),
    }
}

async fn run(
    plan: &VisibilityPlan,
    ground: &Ground,
    ctx: &Context,
    report: &mut VisibilityReport,
) -> Result<(), VisibilityError> {
    ctx.progress.stage("visibility", Some(plan.steps.len() as u64), Unit::Items);
    for (done, step) in plan.steps.iter().enumerate() {
        if ctx.is_cancelled() {
            return Err(VisibilityError::Cancelled { done, total: plan.steps.len() });
        }
        execute(step, ground, ctx, report).await?;
        ctx.progress.advance(1);
    }
    Ok(())
}

async fn execute(
    step: &Step,
    ground: &Ground,
    ctx: &Context,
    report: &mut VisibilityReport,
) -> Result<(), VisibilityError> {
    let search = &ground.search;
    match step {
        Step::PutLifecyclePolicy { .. } | Step::AttachPolicy { .. } | Step::ChangePolicy { .. } => {
            report.set.extend(lifecycle::execute(step, search).await?);
        }
        Step::UndoAdoption { index, left } => match adopt::undo_left(search, index, left).await? {
            Some(undone) => report.set.push(format!("adoption of {index} undone: {}", undone.told())),
            None => return Err(VisibilityError::Stale(format!("what an adoption of {index} left is not what it was"))),
        },
        Step::PutTemplate { name, template, .. } => {
            search.put_template(name, template).await?;
            report.set.push(format!("template {name}"));
        }
        Step::AddFields { index, properties } => {
            let refiled = refile::add_fields(search, index, properties, ctx).await?;
            report
                .set
                .push(format!("{} fields of index {index}, {refiled} documents filed under them", properties.len()));
        }
        Step::FileAgain { index, .. } => {
            let refiled = refile::resume(search, index, ctx).await?;
            report.set.push(format!("{refiled} documents of index {index} filed under its new fields"));
        }
        Step::Rollover { alias, from, conditions, template, .. } => {
            match roll(search, alias, from, conditions, template).await? {
                Some((rolled, mapping)) => {
                    let to = rolled.to.clone();
                    // Noted before anything else can fail: what happened stands in the report.
                    report.rolled = Some(rolled);
                    carry_over(search, &to, &mapping, ctx).await?;
                    let carried = reconcile::carry_forward(ground, alias, ctx).await?;
                    let refused = carried.refused;
                    let reason = carried.first_refusal.clone().unwrap_or_default();
                    report.reconciled.get_or_insert_default().add(carried);
                    if refused > 0 {
                        return Err(VisibilityError::Documents { count: refused, reason });
                    }
                }
                None => report.notes.push(format!("{alias} is no longer due for a rollover")),
            }
        }
        Step::DeleteIndex { alias, index, uuid, docs, bytes, due, .. } => {
            if let Some(held) = another_index(search, alias, index, uuid).await? {
                report.held_back.push(held);
                return Ok(());
            }
            let drained = reconcile::drain(ground, alias, index, ctx).await?;
            if drained.report.changed() {
                report.reconciled.get_or_insert_default().add(drained.report);
            }
            if let Some(reason) = drained.stays {
                report.held_back.push(HeldBack { index: index.clone(), reason });
                return Ok(());
            }
            if let Some(held) = reason_to_stay(search, alias, index, uuid, &drained.looked_at).await? {
                report.held_back.push(held);
                return Ok(());
            }
            search.delete_index(index).await?;
            let deleted = Deleted { index: index.clone(), docs: *docs, bytes: *bytes, due: *due };
            tracing::info!(index, docs, bytes, %due, "deleted an index");
            report.deleted.push(deleted);
        }
    }
    Ok(())
}

pub(super) async fn still_writes(search: &Search, alias: &str, index: &str) -> Result<(), VisibilityError> {
    let writes = match search.resolve(alias).await? {
        Resolved::Alias(found) => found.members.get(index).is_some_and(|member| member.write == Some(true)),
        Resolved::Concrete | Resolved::Missing => false,
    };
    let stale = || VisibilityError::Stale(format!("{index} is no longer the write index of {alias}"));
    writes.then_some(()).ok_or_else(stale)
}

async fn roll(
    search: &Search,
    alias: &str,
    from: &str,
    conditions: &RolloverConditions,
    template: &str,
) -> Result<Option<(Rolled, Value)>, VisibilityError> {
    still_writes(search, alias, from).await?;
    // A search attribute may have been added since the plan was made.
    let mut mapping = search.mappings(from).await?.remove(from).unwrap_or_default();
    refile::take_mark(&mut mapping);
    if let Some(mut carried) = search.template(template).await?.filter(|carried| carried.mappings != mapping) {
        carried.mappings = mapping.clone();
        search.put_template(template, &carried).await?;
    }
    let answer = search.rollover(alias, conditions, &mapping).await?;
    if !answer.rolled {
        return Ok(None);
    }
    tracing::info!(alias, from = answer.from, to = answer.to, "rolled over");
    Ok(Some((Rolled { from: answer.from, to: answer.to, met: answer.met }, mapping)))
}

/// A template of the composable kind hides sexton's; the fields are added then, late but before they are missed.
async fn carry_over(search: &Search, index: &str, mapping: &Value, ctx: &Context) -> Result<(), VisibilityError> {
    let fresh = search.mappings(index).await?.remove(index).unwrap_or_default();
    let missing = missing_fields(mapping, &fresh);
    if !missing.is_empty() {
        refile::add_fields(search, index, &missing, ctx).await?;
    }
    Ok(())
}

/// Why this is not the index the plan means to delete, or not one to delete any more.
async fn another_index(
    search: &Search,
    alias: &str,
    index: &str,
    uuid: &str,
) -> Result<Option<HeldBack>, VisibilityError> {
    let held = |reason: &str| Ok(Some(HeldBack { index: index.to_owned(), reason: reason.to_owned() }));
    let Resolved::Alias(found) = search.resolve(alias).await? else { return held("its alias is gone") };
    match found.members.get(index) {
        None => return held("it is no longer behind the alias"),
        Some(member) if member.write == Some(true) => return held("it has become the write index"),
        Some(_) => {}
    }
    if !found.members.values().any(|member| member.write == Some(true)) {
        return held("the alias has no write index any more");
    }
    if search.index_facts(index).await?.first().is_none_or(|facts| facts.uuid != uuid) {
        return held("it is another index of the same name");
    }
    Ok(None)
}

/// Looks once more at an index that is about to be deleted: nothing may have been written since it was drained.
async fn reason_to_stay(
    search: &Search,
    alias: &str,
    index: &str,
    uuid: &str,
    looked_at: &[u64],
) -> Result<Option<HeldBack>, VisibilityError> {
    if let Some(held) = another_index(search, alias, index, uuid).await? {
        return Ok(Some(held));
    }
    let reason = "it was written to while it was looked at".to_owned();
    // Not the checkpoints: with an asynchronous translog they come after the writes.
    let same = search.numbers_given(index).await?.get(index).is_some_and(|next| next == looked_at);
    Ok((!same).then(|| HeldBack { index: index.to_owned(), reason }))
}
