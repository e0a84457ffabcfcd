//! Who rolls the alias over, behind one trait.

pub mod daemon;
pub mod ilm;

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::observe::{AliasState, IndexState};
use super::step::Step;
use super::{DriverKind, Refusal};
use crate::clients::search::{RolloverAnswer, RolloverConditions, Search, SearchError, Template};
use crate::policy::visibility::{DriverChoice, VisibilityPolicy};

/// A way to roll the alias over. What it sees and what it decides are apart, so that the decision stays pure.
#[async_trait]
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// Which one.
    fn kind(&self) -> DriverKind;

    /// Reads what only this driver needs. Writes nothing.
    async fn observe(
        &self,
        search: &Search,
        policy: &VisibilityPolicy,
        alias: &AliasState,
    ) -> Result<DriverState, SearchError>;

    /// The steps that bring the rollover into the desired state, with notes for the reader. `write` is the alias's
    /// one write index.
    fn decide(
        &self,
        alias: &AliasState,
        write: &IndexState,
        policy: &VisibilityPolicy,
    ) -> Result<(Vec<Step>, Vec<String>), Refusal>;
}

/// What a driver has read.
#[derive(Debug, Clone, PartialEq)]
pub struct DriverState {
    /// sexton's legacy template, if it is there.
    pub template: Option<Template>,
    /// ILM: sexton's policy, if it is there.
    pub policy: Option<Value>,
    /// ILM: false when it was stopped.
    pub lifecycle_running: bool,
    /// Daemon: what the engine would do now.
    pub dry_run: Option<RolloverAnswer>,
}

/// The driver that the policy and the engine lead to.
#[must_use]
pub fn choose(policy: &VisibilityPolicy, has_lifecycle: bool) -> &'static dyn Driver {
    match policy.driver {
        DriverChoice::Ilm => &ilm::Ilm,
        DriverChoice::Auto if has_lifecycle => &ilm::Ilm,
        DriverChoice::Auto | DriverChoice::Daemon => &daemon::Daemon,
    }
}

/// The name of everything sexton keeps in the engine for an alias: its ILM policy and its template.
#[must_use]
pub fn own_name(alias: &str) -> String {
    format!("sexton-{alias}")
}

/// The policy's conditions as the engine takes them.
pub(super) fn conditions(policy: &VisibilityPolicy) -> RolloverConditions {
    let rollover = &policy.rollover;
    RolloverConditions { max_age: rollover.max_age, max_size: rollover.max_size, max_docs: rollover.max_docs }
}

/// sexton's own template: it carries the write index's mapping, custom search attributes included, to the next index.
/// Temporal's template has order 0, so that this one wins where both speak; it is a legacy one like Temporal's,
/// since a composable template would hide Temporal's settings and index sort altogether.
pub(super) fn own_template(alias: &str, settings: &[(&str, String)], mapping: &Value) -> Template {
    Template {
        order: 10,
        index_patterns: vec![format!("{alias}-*")],
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        mappings: mapping.clone(),
    }
}

/// The step that brings the template there, when it is not there as wanted.
pub(super) fn template_step(alias: &str, existing: Option<&Template>, wanted: Template) -> Option<Step> {
    if existing == Some(&wanted) {
        return None;
    }
    let carried = existing.map_or(&Value::Null, |template| &template.mappings);
    let new_fields = missing_fields(&wanted.mappings, carried).into_iter().map(|(name, _)| name).collect();
    // A first template carries everything; naming a hundred fields as new would say nothing.
    let new_fields = if existing.is_some() { new_fields } else { vec![] };
    Some(Step::PutTemplate { name: own_name(alias), template: wanted, exists: existing.is_some(), new_fields })
}

/// The top-level fields of one mapping that another lacks. Temporal's search attributes are all top-level.
pub(super) fn missing_fields(of: &Value, from: &Value) -> Map<String, Value> {
    let Some(fields) = of["properties"].as_object() else { return Map::new() };
    let present = |name: &str| from["properties"].get(name).is_some();
    fields.iter().filter(|(name, _)| !present(name)).map(|(name, field)| (name.clone(), field.clone())).collect()
}
