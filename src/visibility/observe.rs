//! What there is: the alias, its indices, their ages from the engine's own metadata, and what is open in them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::{Refusal, VisibilityError};
use super::refile;
use super::rollover::{self, DriverState};
use crate::clients::search::{
    Alias, AliasMember, Engine, Health, IndexFacts, LifecycleState, ManagedIndex, Resolved, Search, SearchError,
};
use crate::policy::visibility::VisibilityPolicy;

/// What the policy's name stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// Nothing.
    Missing,
    /// A plain index: not adopted yet.
    Concrete,
    /// An alias.
    Alias(Box<AliasState>),
}

/// An alias and all that decides about it.
#[derive(Debug, Clone, PartialEq)]
pub struct AliasState {
    /// Its name.
    pub name: String,
    /// Which engine holds it.
    pub engine: Engine,
    /// True when the engine has index lifecycle management.
    pub has_lifecycle: bool,
    /// Its indices, oldest first.
    pub indices: Vec<IndexState>,
    /// What the driver alone reads; not read while an index is red, closed or blocked.
    pub driver: Option<DriverState>,
}

/// One index behind the alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexState {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: String,
    /// True for the write index.
    pub write: bool,
    /// True when a filter or a routing of the alias hides documents of it.
    #[serde(skip)]
    pub narrowed: bool,
    /// When it was created.
    pub created: Timestamp,
    /// When it was rolled over; `None` for the write index.
    pub rolled: Option<Timestamp>,
    /// True when it is closed.
    pub closed: bool,
    /// Health; some engines do not say it of closed indices.
    pub health: Option<Health>,
    /// What is in it; not read while any index behind the alias is red or closed.
    pub documents: Option<Documents>,
    /// The lifecycle policy that manages it.
    pub policy: Option<String>,
    /// The alias ILM or ISM rolls it under.
    pub rollover_alias: Option<String>,
    /// Where and why ILM or ISM is stuck.
    pub stuck: Option<String>,
    /// Its shards.
    pub shards: usize,
    /// The blocks set on it that keep documents from being written or removed.
    pub blocks: Vec<String>,
    /// Fields of its mapping under which documents from before them are not found yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfiled: Vec<String>,
    /// Its mapping.
    #[serde(skip)]
    pub mapping: Value,
}

/// What is in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Documents {
    /// Documents.
    pub count: u64,
    /// Those without a close time: open workflows, whatever their status.
    pub open: u64,
    /// Bytes of the primary shards.
    pub bytes: u64,
}

/// Reads everything. Writes nothing.
///
/// # Errors
/// Any [`SearchError`].
pub async fn observe(search: &Search, policy: &VisibilityPolicy) -> Result<Observed, VisibilityError> {
    let name = policy.index.as_str();
    let alias = match search.resolve(name).await? {
        Resolved::Missing => return Ok(Observed::Missing),
        Resolved::Concrete => return Ok(Observed::Concrete),
        Resolved::Alias(alias) => alias,
    };
    let mut state = members_of(search, &alias).await?;
    let readable = state.indices.iter().all(|index| !index.closed && index.health != Some(Health::Red));
    if readable {
        read_documents(search, name, &mut state.indices).await?;
    }
    // Without one write index there is nothing a driver could ask about, and a blocked one answers no dry run.
    let writable = state.indices.iter().all(|index| index.blocks.is_empty());
    if readable && writable && state.write_index().is_some() {
        let driver = rollover::choose(policy, state.has_lifecycle);
        state.driver = Some(driver.observe(search, policy, &state).await?);
    }
    Ok(Observed::Alias(Box::new(state)))
}

/// The alias and its indices, without what is in them.
///
/// # Errors
/// Any [`SearchError`]; [`VisibilityError::Refused`] when the name is no alias.
pub(super) async fn members(search: &Search, name: &str) -> Result<AliasState, VisibilityError> {
    match search.resolve(name).await? {
        Resolved::Alias(alias) => Ok(members_of(search, &alias).await?),
        Resolved::Concrete => Err(Refusal::Concrete(name.to_owned()).into()),
        Resolved::Missing => Err(Refusal::Missing(name.to_owned()).into()),
    }
}

/// The same; a plain index counts as its own write index.
///
/// # Errors
/// The same, but for a plain index.
pub(super) async fn index_or_alias(search: &Search, name: &str) -> Result<AliasState, VisibilityError> {
    match search.resolve(name).await? {
        Resolved::Alias(alias) => Ok(members_of(search, &alias).await?),
        Resolved::Concrete => {
            let members = [(name.to_owned(), AliasMember { write: Some(true), narrowed: false })].into();
            Ok(members_of(search, &Alias { name: name.to_owned(), members }).await?)
        }
        Resolved::Missing => Err(Refusal::Missing(name.to_owned()).into()),
    }
}

async fn members_of(search: &Search, alias: &Alias) -> Result<AliasState, SearchError> {
    let name = alias.name.as_str();
    let facts = search.index_facts(name).await?;
    let health = search.health(name).await?;
    let has_lifecycle = search.has_lifecycle().await?;
    let lifecycle = if has_lifecycle { search.lifecycle_states(name).await? } else { BTreeMap::new() };
    let managed = if has_lifecycle { None } else { search.state_management(name).await? }.unwrap_or_default();
    let indices = indices(alias, facts, &health, &lifecycle, &managed);
    let engine = search.engine().clone();
    Ok(AliasState { name: name.to_owned(), engine, has_lifecycle, indices, driver: None })
}

impl AliasState {
    /// The write index, when there is exactly one.
    #[must_use]
    pub fn write_index(&self) -> Option<&IndexState> {
        let mut write = self.indices.iter().filter(|index| index.write);
        let first = write.next()?;
        write.next().is_none().then_some(first)
    }
}

/// How many documents of the index belong to open workflows. Temporal sets the close time when a workflow ends;
/// `ExecutionStatus` would not do, since a paused workflow is open too.
pub(super) async fn count_open(search: &Search, index: &str) -> Result<u64, SearchError> {
    search.count(index, json!({"bool": {"must_not": {"exists": {"field": "CloseTime"}}}})).await
}

async fn read_documents(search: &Search, name: &str, indices: &mut [IndexState]) -> Result<(), SearchError> {
    let sizes = search.sizes(name).await?;
    let mut mappings = search.mappings(name).await?;
    for index in indices {
        let (count, bytes) = sizes.get(&index.name).copied().unwrap_or_default();
        let open = count_open(search, &index.name).await?;
        index.documents = Some(Documents { count, open, bytes });
        index.mapping = mappings.remove(&index.name).unwrap_or(Value::Null);
        index.unfiled = refile::take_mark(&mut index.mapping);
    }
    Ok(())
}

fn indices(
    alias: &Alias,
    facts: Vec<IndexFacts>,
    health: &BTreeMap<String, Health>,
    lifecycle: &BTreeMap<String, LifecycleState>,
    managed: &BTreeMap<String, ManagedIndex>,
) -> Vec<IndexState> {
    let created: Vec<Timestamp> = facts.iter().map(|fact| fact.created).collect();
    let states = facts.into_iter().enumerate().map(|(position, fact)| {
        let member = alias.members.get(&fact.name);
        let write = member.is_some_and(|member| member.write == Some(true));
        let state = lifecycle.get(&fact.name);
        let state_managed = managed.get(&fact.name);
        let rolled = if write { None } else { rolled(&fact, &alias.name, state, created.get(position + 1).copied()) };
        IndexState {
            write,
            narrowed: member.is_some_and(|member| member.narrowed),
            created: fact.created,
            rolled,
            closed: !fact.open,
            health: health.get(&fact.name).copied(),
            documents: None,
            policy: state_managed.map(|managed| managed.policy.clone()).or(fact.lifecycle),
            rollover_alias: fact.rollover_alias,
            stuck: state.and_then(|state| state.failure.clone()).or(state_managed.and_then(|m| m.failure.clone())),
            shards: fact.shards,
            blocks: fact.blocks,
            unfiled: Vec::new(),
            mapping: Value::Null,
            uuid: fact.uuid,
            name: fact.name,
        }
    });
    states.collect()
}

/// When an index was rolled over: what the engine recorded; where it does not show that (Elasticsearch 6), the
/// instant ILM counts from, which moves from the creation to the rollover; else the creation of the next index.
fn rolled(
    fact: &IndexFacts,
    alias: &str,
    lifecycle: Option<&LifecycleState>,
    next_created: Option<Timestamp>,
) -> Option<Timestamp> {
    let recorded = fact.rolled.get(alias).copied();
    let lifecycle = lifecycle.and_then(|state| state.counted_from).filter(|instant| *instant > fact.created);
    recorded.or(lifecycle).or(next_created)
}
