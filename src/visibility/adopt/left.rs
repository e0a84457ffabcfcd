//! Writes to a plain index that are blocked: by an adoption at work, by one that died, or by somebody else. What an
//! adoption has left behind its deadline, when its guard died too, for example with their pod, and nobody starts it
//! again, the job `visibility` undoes.

use jiff::Timestamp;
use serde::Serialize;

use super::error::UndoError;
use super::marks::Mark;
use super::observe::adoptions;
use super::undo::{Acts, SETTLE, Undoing, Undone, Which};
use crate::clients::search::{Search, SearchError, WriteBlock};

/// Who blocks writes to a plain index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// An adoption, until this instant at the latest.
    Adopting {
        /// Whole seconds.
        deadline: Timestamp,
    },
    /// An adoption whose deadline has passed.
    Left(Left),
    /// Nobody that left a mark.
    Stranger {
        /// True when the block was begun only, so that the setting does not take it off.
        begun: bool,
    },
}

/// The block of an adoption past its deadline, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The marks it stands under.
    pub marks: Vec<String>,
    /// The indices that are removed with it.
    pub indices: Vec<LeftIndex>,
}

/// An index that an adoption made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftIndex {
    /// Its name.
    pub name: String,
    /// Its documents; `None` while its shards do not say.
    pub docs: Option<u64>,
}

/// Who blocks writes to the plain index; `None` while they are not blocked.
///
/// # Errors
/// Any [`SearchError`].
pub async fn blocked(search: &Search, index: &str, now: Timestamp) -> Result<Option<Blocked>, SearchError> {
    let Some(state) = search.block_state(index).await?.filter(|state| state.write != WriteBlock::Off) else {
        return Ok(None);
    };
    let marks = adoptions(index, &state.aliases);
    let deadlines = marks.iter().filter_map(|(_, mark)| match mark {
        Mark::Adopts { deadline, .. } => Some(*deadline),
        _ => None,
    });
    match deadlines.max() {
        None => Ok(Some(Blocked::Stranger { begun: state.write == WriteBlock::Begun })),
        Some(deadline) if deadline >= now => Ok(Some(Blocked::Adopting { deadline })),
        Some(_) => Ok(Some(Blocked::Left(left(search, index, &state.uuid, marks).await?))),
    }
}

async fn left(search: &Search, index: &str, uuid: &str, marks: Vec<(String, Mark)>) -> Result<Left, SearchError> {
    let family = search.describe_family(index).await?;
    let mut indices = Vec::new();
    for name in Acts::find(search, index, uuid, &family, false).await?.removed {
        let docs = match search.count(&name, serde_json::json!({"match_all": {}})).await {
            Ok(docs) => Some(docs),
            Err(SearchError::Red { .. } | SearchError::NotFound { .. } | SearchError::Unexpected { .. }) => None,
            Err(error) => return Err(error),
        };
        indices.push(LeftIndex { name, docs });
    }
    Ok(Left { marks: marks.into_iter().map(|(alias, _)| alias).collect(), indices })
}

/// Undoes what was planned, when it is still what there is; `None` when it is not: another adoption has begun meanwhile,
/// or it was undone.
///
/// # Errors
/// Any [`UndoError`].
pub async fn undo_left(search: &Search, index: &str, planned: &Left) -> Result<Option<Undone>, UndoError> {
    let names = |left: &Left| left.indices.iter().map(|index| index.name.clone()).collect::<Vec<_>>();
    match blocked(search, index, Timestamp::now()).await? {
        Some(Blocked::Left(now)) if now.marks == planned.marks && names(&now) == names(planned) => {}
        _ => return Ok(None),
    }
    let mut undoing = Undoing::new(search, index, Which::Marked(&planned.marks));
    undoing.settle = SETTLE;
    Ok(Some(undoing.run().await?))
}
