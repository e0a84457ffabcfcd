//! Whether an alias can be worked with at all.

use super::error::Refusal;
use super::observe::{AliasState, IndexState};
use super::rollover::own_name;
use crate::clients::search::Health;

/// What the engine sets on every index of a node whose disk is full beyond the flood-stage watermark.
const FLOOD: &str = "read_only_allow_delete";

/// The write index of an alias whose every index can be read and written: a stale document is removed from where it
/// is, so that old indices have to take writes as well.
///
/// # Errors
/// The [`Refusal`] for the first index that stands in the way.
pub(super) fn sound(alias: &AliasState) -> Result<&IndexState, Refusal> {
    let name = || alias.name.clone();
    if let Some(index) = alias.indices.iter().find(|index| index.closed) {
        return Err(Refusal::Closed { alias: name(), index: index.name.clone() });
    }
    if let Some(index) = alias.indices.iter().find(|index| index.health == Some(Health::Red)) {
        return Err(Refusal::Red { alias: name(), index: index.name.clone() });
    }
    if let Some(index) = alias.indices.iter().find(|index| index.blocks.iter().any(|block| block == FLOOD)) {
        return Err(Refusal::Watermark { index: index.name.clone() });
    }
    if let Some(index) = alias.indices.iter().find(|index| !index.blocks.is_empty()) {
        return Err(Refusal::ReadOnly { index: index.name.clone(), blocks: index.blocks.join(", ") });
    }
    if let Some(index) = alias.indices.iter().find(|index| index.narrowed) {
        return Err(Refusal::Narrowed { alias: name(), index: index.name.clone() });
    }
    let Some(write) = alias.write_index() else {
        let write = alias.indices.iter().filter(|index| index.write).map(|index| index.name.clone());
        return Err(Refusal::WriteIndices { alias: name(), write: write.collect() });
    };
    Ok(write)
}

/// That sexton may roll and delete here: the names are those of a rollover, and nobody else's policy is in charge.
///
/// # Errors
/// The [`Refusal`] when they are not, or somebody's is.
pub(super) fn ours(alias: &AliasState, write: &IndexState) -> Result<(), Refusal> {
    if !rolls_by_name(&alias.name, &write.name) {
        return Err(Refusal::Name { alias: alias.name.clone(), index: write.name.clone() });
    }
    let own = own_name(&alias.name);
    let foreign = |index: &&IndexState| index.policy.as_ref().is_some_and(|policy| *policy != own);
    match alias.indices.iter().find(foreign) {
        Some(index) => {
            let policy = index.policy.clone().unwrap_or_default();
            Err(Refusal::ForeignPolicy { index: index.name.clone(), policy })
        }
        None => Ok(()),
    }
}

/// Whether a rollover of this alias gives the next index a name that Temporal's template matches too.
pub(super) fn rolls_by_name(alias: &str, index: &str) -> bool {
    let Some(rest) = index.strip_prefix(alias).and_then(|rest| rest.strip_prefix('-')) else { return false };
    let number = rest.rsplit('-').next().unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
