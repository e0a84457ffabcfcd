//! What there is: the live index, the indices that have its name and a number, and what an adoption needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::error::{AdoptError, AdoptRefusal};
use super::marks::{Mark, is_key, number, tag};
use crate::clients::search::{
    Engine, Health, IndexDescription, NodeDisk, Resolved, Search, SearchError, Template, WriteBlock,
};
use crate::visibility::rollover::own_name;

/// What the name stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum World {
    /// Nothing.
    Missing,
    /// An alias: there is nothing to adopt.
    Alias {
        /// Its indices.
        members: Vec<String>,
    },
    /// A plain index.
    Concrete(Box<Live>),
}

/// The live index and all that decides about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Its name.
    pub name: String,
    /// Which engine holds it.
    pub engine: Engine,
    /// Its aliases, settings and mapping.
    pub index: IndexDescription,
    /// Its identity.
    pub uuid: String,
    /// Its write block, as it is in force.
    pub write: WriteBlock,
    /// True when it is closed.
    pub closed: bool,
    /// Its health, where the engine says it.
    pub health: Option<Health>,
    /// The lifecycle policy that manages it.
    pub policy: Option<String>,
    /// Its documents; not read while it is closed or red.
    pub docs: u64,
    /// Bytes of its primary shards.
    pub bytes: u64,
    /// Bytes of all copies of its shards.
    pub all_bytes: u64,
    /// The indices that have its name and a number, and the keys of swaps.
    pub numbered: BTreeMap<String, Numbered>,
    /// sexton's template, if it is there.
    pub template: Option<Template>,
    /// The cluster's settings that matter here, by full name.
    pub cluster: BTreeMap<String, String>,
    /// The disks of the data nodes.
    pub disks: Vec<NodeDisk>,
    /// The privileges that the login lacks; `None` where the engine cannot be asked.
    pub missing_privileges: Option<Vec<String>>,
}

/// An index that an adoption of the live index made, or whose name stands in the way of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// What it is.
    pub part: Part,
    /// How often it was written to; `None` when its shards do not say. Read of the next index alone.
    pub writes: Option<u64>,
}

/// What an index of the family is to an adoption of this live index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An unfinished or unused clone.
    Clone,
    /// An unfinished or unused copy.
    Copy,
    /// The write index to come.
    Next,
    /// The key of a swap.
    Key,
    /// None of an adoption's.
    Foreign,
}

/// The cluster's settings that are read.
pub(super) const AUTO_CREATE: &str = "action.auto_create_index";
pub(super) const DISK_THRESHOLD: &str = "cluster.routing.allocation.disk.threshold_enabled";
pub(super) const LOW_WATERMARK: &str = "cluster.routing.allocation.disk.watermark.low";

impl Live {
    /// The marks of adoptions on the live index, as (alias, mark).
    #[must_use]
    pub fn adoptions(&self) -> Vec<(String, Mark)> {
        adoptions(&self.name, &self.index.aliases)
    }

    /// The first index of this part.
    #[must_use]
    pub fn first(&self, part: Part) -> Option<&str> {
        self.numbered.iter().find(|(_, found)| found.part == part).map(|(name, _)| name.as_str())
    }
}

/// The marks of adoptions among an index's aliases.
pub(super) fn adoptions(name: &str, aliases: &BTreeSet<String>) -> Vec<(String, Mark)> {
    let marks = aliases.iter().filter_map(|alias| Some((alias.clone(), Mark::read(name, alias)?)));
    marks.filter(|(_, mark)| matches!(mark, Mark::Adopts { .. })).collect()
}

/// What an index of the family is, by its marks and by where its content came from. What is behind any other alias is
/// foreign: somebody uses it.
pub(super) fn part(name: &str, uuid: &str, index: &IndexDescription) -> Part {
    let mut part = Part::Foreign;
    for alias in &index.aliases {
        match Mark::read(name, alias) {
            // The engine's own word stands beside the mark: a clone of another index is none of ours.
            Some(Mark::Clone { of })
                if of == tag(uuid) && index.setting("index.resize.source.uuid").as_deref() == Some(uuid) =>
            {
                part = Part::Clone;
            }
            Some(Mark::Copy { of }) if of == tag(uuid) => part = Part::Copy,
            Some(Mark::Next { .. }) => part = Part::Next,
            _ => return Part::Foreign,
        }
    }
    part
}

/// The part of an index of this name; `None` for one that is no concern of an adoption's.
pub(super) fn part_of(name: &str, uuid: &str, other: &str, index: &IndexDescription) -> Option<Part> {
    if is_key(name, other, &index.aliases) {
        return Some(Part::Key);
    }
    number(name, other).map(|_| part(name, uuid, index))
}

/// Reads everything. Writes nothing.
///
/// # Errors
/// Any [`SearchError`]; [`AdoptRefusal::Privileges`] when the login may not read what has to be read.
pub async fn observe(search: &Search, name: &str) -> Result<World, AdoptError> {
    match search.resolve(name).await? {
        Resolved::Missing => return Ok(World::Missing),
        Resolved::Alias(alias) => return Ok(World::Alias { members: alias.members.into_keys().collect() }),
        Resolved::Concrete => {}
    }
    // First, since without some of them the rest cannot even be read. Only a copy writes documents.
    let (cluster, family) = (["monitor", "manage_index_templates"], format!("{name}-*"));
    let privileges = ["read", "write", "manage", "create_index", "delete_index", "view_index_metadata"];
    let missing_privileges = search.missing_privileges(&cluster, &[name, &family], &privileges).await?;
    let missing: Vec<String> =
        missing_privileges.iter().flatten().filter(|missing| !missing.starts_with("`write`")).cloned().collect();
    if !missing.is_empty() {
        return Err(AdoptRefusal::Privileges { missing }.into());
    }
    let mut family = search.describe_family(name).await?;
    let Some(index) = family.remove(name) else {
        return Err(AdoptError::Stale(format!("{name} became an alias just now")));
    };
    let uuid = index.setting("index.uuid").unwrap_or_default();
    let facts = search.index_facts(name).await?.into_iter().find(|facts| facts.name == name);
    let closed = facts.as_ref().is_some_and(|facts| !facts.open);
    let health = search.health(name).await?.remove(name);
    let lifecycle = facts.and_then(|facts| facts.lifecycle);
    let policy = match lifecycle {
        Some(policy) => Some(policy),
        None => search.state_management(name).await?.and_then(|mut all| all.remove(name)).map(|managed| managed.policy),
    };
    let readable = !closed && health != Some(Health::Red);
    let (mut docs, mut bytes, mut all_bytes) = (0, 0, 0);
    if readable {
        docs = search.sizes(name).await?.get(name).map_or(0, |(docs, _)| *docs);
        (bytes, all_bytes) = search.store_bytes(name).await?;
    }
    let mut numbered = BTreeMap::new();
    for (other, description) in family {
        let Some(part) = part_of(name, &uuid, &other, &description) else { continue };
        let writes = if part == Part::Next { writes(search, &other).await? } else { Some(0) };
        numbered.insert(other, Numbered { part, writes });
    }
    let write = match search.block_state(name).await? {
        Some(state) if state.uuid == uuid => state.write,
        _ => return Err(AdoptError::Stale(format!("{name} became another index just now"))),
    };
    let settings = search.cluster_settings().await?;
    let wanted = [AUTO_CREATE, DISK_THRESHOLD, LOW_WATERMARK];
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let cluster = wanted.iter().filter_map(|key| Some(((*key).to_owned(), text(settings.get(*key)?)))).collect();
    Ok(World::Concrete(Box::new(Live {
        name: name.to_owned(),
        engine: search.engine().clone(),
        index,
        uuid,
        write,
        closed,
        health,
        policy,
        docs,
        bytes,
        all_bytes,
        numbered,
        template: search.template(&own_name(name)).await?,
        cluster,
        disks: search.disks().await?,
        missing_privileges,
    })))
}

/// How long shards that do not answer are asked again.
const ANSWER: Duration = Duration::from_secs(3);

/// How often an index was written to, whether searches see it yet or not; `None` when not every shard says it, which may
/// be many times. An index none of whose shards was ever started was not written to.
pub(super) async fn writes(search: &Search, index: &str) -> Result<Option<u64>, SearchError> {
    let begun = Instant::now();
    loop {
        match search.numbers_given(index).await {
            Ok(mut all) => return Ok(all.remove(index).map(|shards| shards.into_iter().sum())),
            // Nothing is there that could have been written to.
            Err(SearchError::NotFound { .. }) => return Ok(Some(0)),
            Err(SearchError::Unexpected { .. } | SearchError::Red { .. }) => {
                if search.never_started(index).await? {
                    return Ok(Some(0));
                }
                if begun.elapsed() >= ANSWER {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
