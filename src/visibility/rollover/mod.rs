//! Who rolls the alias over, behind one trait.

pub mod daemon;
mod drift;
pub mod ilm;
pub mod ism;
mod phases;
mod template;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use self::phases::Phases;
use self::template::pattern;
pub(super) use self::template::{missing_fields, own_template, template_step};
use super::observe::{AliasState, IndexState};
use super::step::{FieldChange, Found, Step};
use super::{DriverKind, Refusal};
use crate::clients::search::{
    ManagedIndex, RolloverAnswer, RolloverConditions, Search, SearchError, StoredPolicy, Template,
};
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
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DriverState {
    /// sexton's legacy template, if it is there.
    pub template: Option<Template>,
    /// ILM, ISM: sexton's policy, if it is there.
    pub policy: Option<StoredPolicy>,
    /// ILM: false when it was stopped.
    pub lifecycle_running: bool,
    /// ISM: the indices it manages; `None` where the engine has no ISM.
    pub managed: Option<BTreeMap<String, ManagedIndex>>,
    /// Daemon: what the engine would do now.
    pub dry_run: Option<RolloverAnswer>,
}

/// The driver that the policy and the engine lead to. `auto` never leads to ISM, which no real engine has tried.
#[must_use]
pub fn choose(policy: &VisibilityPolicy, has_lifecycle: bool) -> &'static dyn Driver {
    match policy.driver {
        DriverChoice::Ilm => &ilm::Ilm,
        DriverChoice::Ism => &ism::Ism,
        DriverChoice::Auto if has_lifecycle => &ilm::Ilm,
        DriverChoice::Auto | DriverChoice::Daemon => &daemon::Daemon,
    }
}

/// The name of everything sexton keeps in the engine for an alias: its ILM or ISM policy and its template.
#[must_use]
pub fn own_name(alias: &str) -> String {
    format!("sexton-{alias}")
}

/// The policy's conditions as the engine takes them.
pub(super) fn conditions(policy: &VisibilityPolicy) -> RolloverConditions {
    let rollover = &policy.rollover;
    RolloverConditions { max_age: rollover.max_age, max_size: rollover.max_size, max_docs: rollover.max_docs }
}

/// The step that brings the engine's lifecycle policy there, when it is not there as wanted. `differs` is `None` when
/// there is no policy yet.
fn policy_step(
    driver: DriverKind,
    alias: &str,
    found: Option<&StoredPolicy>,
    differs: Option<Vec<FieldChange>>,
    wanted: Phases,
    body: Value,
) -> Option<Step> {
    if differs.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    Some(Step::PutLifecyclePolicy {
        driver,
        name: own_name(alias),
        policy: body,
        found: found.map(|found| Found { version: found.version, modified: found.modified, guard: found.guard }),
        differs: differs.unwrap_or_default(),
        to: wanted.to_string(),
        deletes: wanted.delete_after.is_some(),
    })
}
