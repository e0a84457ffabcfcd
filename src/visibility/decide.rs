//! The decision: observed state, policy and now in, a plan or a refusal out.

use std::time::Duration;

use jiff::Timestamp;

use super::DriverKind;
use super::error::Refusal;
use super::observe::{AliasState, IndexState, Observed};
use super::rollover::{self, missing_fields};
use super::sound::{ours, sound};
use super::step::{HeldBack, Step, VisibilityPlan};
use crate::policy::visibility::{CountedFrom, Deletion, VisibilityPolicy};
use crate::units::Span;

/// At most so many indices are deleted in one run; the next run goes on.
pub const DELETIONS_PER_RUN: usize = 10;

/// What to do about what was observed.
///
/// # Errors
/// The [`Refusal`] when doing anything would be wrong.
pub fn decide(
    observed: &Observed,
    policy: &VisibilityPolicy,
    longest_retention: Option<Span>,
    now: Timestamp,
) -> Result<VisibilityPlan, Refusal> {
    let name = policy.index.as_str();
    let mut plan = VisibilityPlan {
        index: name.to_owned(),
        driver: None,
        steps: vec![],
        held_back: vec![],
        notes: vec![],
        indices: vec![],
        cutoff: before(now, policy.delete.after),
    };
    let alias = match observed {
        Observed::Missing => return Err(Refusal::Missing(name.to_owned())),
        Observed::Concrete => {
            plan.notes.push(format!(
                "{name} is a plain index, not an alias: it is neither rolled over nor deleted until `sexton adopt` has adopted it"
            ));
            return Ok(plan);
        }
        Observed::Alias(alias) => alias,
    };
    let write = sound(alias)?;
    ours(alias, write)?;
    if let Some(retention) = longest_retention.filter(|retention| *retention > policy.shortest_life()) {
        return Err(Refusal::Retention { retention, life: policy.shortest_life() });
    }
    let driver = rollover::choose(policy, alias.has_lifecycle);
    if policy.deletion == Deletion::Engine && driver.kind() == DriverKind::Daemon {
        return Err(Refusal::NoEngineDeletion { engine: alias.engine.to_string() });
    }
    let (steps, notes) = driver.decide(alias, write, policy)?;
    plan.driver = Some(driver.kind());
    plan.indices.clone_from(&alias.indices);
    plan.notes = notes;
    plan.steps.extend(lost_fields(alias, write));
    let unfiled = alias.indices.iter().filter(|index| !index.unfiled.is_empty());
    plan.steps.extend(unfiled.map(|i| Step::FileAgain { index: i.name.clone(), fields: i.unfiled.clone() }));
    plan.steps.extend(steps);
    match policy.deletion {
        Deletion::Gated => gated(&mut plan, alias, policy, longest_retention, now),
        Deletion::Engine => by_engine(&mut plan, alias, policy, longest_retention, driver.kind()),
    }
    Ok(plan)
}

/// When the index may go, by age alone; `None` for the write index and where the rollover's instant is not known.
pub(super) fn due(index: &IndexState, policy: &VisibilityPolicy) -> Option<Timestamp> {
    let rolled = index.rolled.filter(|_| !index.write)?;
    match policy.delete.counted_from {
        CountedFrom::Rollover => after(rolled, policy.delete.after),
        // An index that was rolled late took its last documents late: they too are kept the shortest life.
        CountedFrom::Creation => {
            Some(after(index.created, policy.delete.after)?.max(after(rolled, policy.shortest_life())?))
        }
    }
}

fn after(instant: Timestamp, span: Span) -> Option<Timestamp> {
    instant.checked_add(Duration::from(span)).ok()
}

fn before(instant: Timestamp, span: Span) -> Timestamp {
    instant.checked_sub(Duration::from(span)).unwrap_or(Timestamp::MIN)
}

/// Search attributes that the write index lacks though the index before it has them: ILM rolled between the attribute's
/// creation and the template's update.
fn lost_fields(alias: &AliasState, write: &IndexState) -> Option<Step> {
    let before = alias.indices.iter().rev().find(|index| !index.write)?;
    let properties = missing_fields(&before.mapping, &write.mapping);
    (!properties.is_empty()).then(|| Step::AddFields { index: write.name.clone(), properties })
}

fn gated(
    plan: &mut VisibilityPlan,
    alias: &AliasState,
    policy: &VisibilityPolicy,
    longest_retention: Option<Span>,
    now: Timestamp,
) {
    let mut deletions = 0;
    for index in alias.indices.iter().filter(|index| !index.write) {
        let Some(due) = due(index, policy).filter(|due| *due <= now) else { continue };
        let Some(documents) = index.documents else { continue };
        if longest_retention.is_none() {
            let reason = "the namespaces' retentions are not known".to_owned();
            plan.held_back.push(HeldBack { index: index.name.clone(), reason });
        } else if deletions == DELETIONS_PER_RUN {
            let reason = format!("{DELETIONS_PER_RUN} deletions in one run are enough");
            plan.held_back.push(HeldBack { index: index.name.clone(), reason });
        } else {
            deletions += 1;
            plan.steps.push(Step::DeleteIndex {
                alias: alias.name.clone(),
                index: index.name.clone(),
                uuid: index.uuid.clone(),
                docs: documents.count,
                open: documents.open,
                bytes: documents.bytes,
                due,
            });
        }
    }
}

/// With the deletion left to ILM or ISM: no policy that deletes is written blindly, and open workflows in its way are shown.
fn by_engine(
    plan: &mut VisibilityPlan,
    alias: &AliasState,
    policy: &VisibilityPolicy,
    longest_retention: Option<Span>,
    driver: DriverKind,
) {
    let of_policy = |step: &Step| {
        matches!(step, Step::PutLifecyclePolicy { .. } | Step::AttachPolicy { .. } | Step::ChangePolicy { .. })
    };
    if longest_retention.is_none() && plan.steps.iter().any(of_policy) {
        // Neither written, nor anything put under one that was written before.
        plan.steps.retain(|step| !of_policy(step) && !matches!(step, Step::PutTemplate { .. }));
        let engine = driver.short();
        plan.notes.push(format!(
            "the namespaces' retentions are not known, so no index is put under an {engine} policy that deletes"
        ));
    }
    for index in alias.indices.iter().filter(|index| !index.write) {
        let open = index.documents.map_or(0, |documents| documents.open);
        if let Some(due) = due(index, policy).filter(|_| open > 0) {
            plan.notes.push(format!(
                "index {} holds {open} open workflows; {} deletes it at {due}, and they vanish from lists",
                index.name,
                driver.short()
            ));
        }
    }
}

#[cfg(test)]
mod tests;
