//! What an adoption that died has left behind its deadline, when its guard died too, for example with their pod, and
//! nobody starts it again: the job `visibility` undoes it.

use jiff::Timestamp;
use serde::Serialize;

use super::error::UndoError;
use super::marks::Mark;
use super::observe::adoptions;
use super::undo::{Acts, SETTLE, Undoing, Undone, Which};
use crate::clients::search::{Search, SearchError, WriteBlock};

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

/// What was left, when writes to the plain index are blocked by an adoption whose deadline has passed; `None` while no
/// block is in force, and while it is another's or an adoption may still be at work.
///
/// # Errors
/// Any [`SearchError`].
pub async fn left(search: &Search, index: &str, now: Timestamp) -> Result<Option<Left>, SearchError> {
    let Some(state) = search.block_state(index).await? else { return Ok(None) };
    let past = |mark: &Mark| matches!(mark, Mark::Adopts { deadline, .. } if *deadline < now);
    let marks = adoptions(index, &state.aliases);
    if state.write == WriteBlock::Off || marks.is_empty() || !marks.iter().all(|(_, mark)| past(mark)) {
        return Ok(None);
    }
    let family = search.describe_family(index).await?;
    let mut indices = Vec::new();
    for name in Acts::find(search, index, &state.uuid, &family, false).await?.removed {
        let docs = match search.count(&name, serde_json::json!({"match_all": {}})).await {
            Ok(docs) => Some(docs),
            Err(SearchError::Red { .. } | SearchError::NotFound { .. } | SearchError::Unexpected { .. }) => None,
            Err(error) => return Err(error),
        };
        indices.push(LeftIndex { name, docs });
    }
    Ok(Some(Left { marks: marks.into_iter().map(|(alias, _)| alias).collect(), indices }))
}

/// Undoes what was planned, when it is still what there is; `None` when it is not: another adoption has begun meanwhile,
/// or it was undone.
///
/// # Errors
/// Any [`UndoError`].
pub async fn undo_left(search: &Search, index: &str, planned: &Left) -> Result<Option<Undone>, UndoError> {
    let names = |left: &Left| left.indices.iter().map(|index| index.name.clone()).collect::<Vec<_>>();
    match left(search, index, Timestamp::now()).await? {
        Some(now) if now.marks == planned.marks && names(&now) == names(planned) => {}
        _ => return Ok(None),
    }
    let mut undoing = Undoing::new(search, index, Which::Marked(&planned.marks));
    undoing.settle = SETTLE;
    Ok(Some(undoing.run().await?))
}
