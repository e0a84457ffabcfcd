//! What there is before anything is looked at: the indices by age, and how far each of their shards has been written.

use jiff::Timestamp;
use serde_json::Value;

use crate::clients::search::Search;
use crate::visibility::observe::{AliasState, index_or_alias, members};
use crate::visibility::sound::sound;
use crate::visibility::{Refusal, VisibilityError};

/// The indices behind the alias at one moment. What was written later is the next run's.
#[derive(Debug, Clone)]
pub(in crate::visibility) struct Survey {
    pub alias: String,
    /// By age; the write index is the last.
    pub members: Vec<Member>,
}

/// One index.
#[derive(Debug, Clone)]
pub(in crate::visibility) struct Member {
    pub name: String,
    pub uuid: String,
    pub created: Timestamp,
    pub shards: usize,
    /// Per shard, the first sequence number that is not seen by searches for sure.
    pub next: Vec<u64>,
    pub mapping: Value,
}

impl Survey {
    /// The place of the write index.
    pub(super) fn write(&self) -> usize {
        self.members.len() - 1
    }

    /// The names of all indices but one.
    pub(super) fn others(&self, than: usize) -> Vec<&str> {
        let others = self.members.iter().enumerate().filter(|(place, _)| *place != than);
        others.map(|(_, member)| member.name.as_str()).collect()
    }

    /// The names of all indices.
    pub(super) fn names(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.name.as_str()).collect()
    }

    /// The place of an index.
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }
}

/// Looks at the alias, and makes what was written so far visible to searches.
///
/// # Errors
/// [`VisibilityError::Refused`] when the name is no alias or one that cannot be worked with.
pub(in crate::visibility) async fn survey(search: &Search, alias: &str) -> Result<Survey, VisibilityError> {
    look_at(search, members(search, alias).await?).await
}

/// The same for a name that may be a plain index.
///
/// # Errors
/// The same, but for a plain index.
pub(in crate::visibility) async fn survey_any(search: &Search, name: &str) -> Result<Survey, VisibilityError> {
    look_at(search, index_or_alias(search, name).await?).await
}

async fn look_at(search: &Search, state: AliasState) -> Result<Survey, VisibilityError> {
    let write = sound(&state)?.name.clone();
    let alias = state.name.as_str();
    // In this order: what the checkpoints cover is visible after the refresh.
    let mut checkpoints = search.checkpoints(alias).await?;
    search.refresh(alias).await?;
    let mut mappings = search.mappings(alias).await?;
    let mut found: Vec<Member> = state
        .indices
        .into_iter()
        .map(|index| Member {
            next: checkpoints.remove(&index.name).unwrap_or_default(),
            mapping: mappings.remove(&index.name).unwrap_or_default(),
            shards: index.shards,
            name: index.name,
            uuid: index.uuid,
            created: index.created,
        })
        .collect();
    // A shard that is not in the answer would look like one without documents.
    if let Some(hole) = found.iter().find(|member| member.next.len() != member.shards) {
        return Err(Refusal::Red { alias: state.name, index: hole.name.clone() }.into());
    }
    found.sort_by_key(|member| member.name == write);
    Ok(Survey { alias: state.name, members: found })
}
