//! Ghosts: documents of runs that Temporal has deleted. Nothing tells which they are, so every document is looked up in
//! turn, a part of them in each run.

use serde_json::{Value, json};

use super::bookmarks::Bookmarks;
use super::document::CLOSE_TIME;
use super::look::{BATCH, Look};
use super::open::is_open;
use crate::clients::search::Scan;
use crate::visibility::VisibilityError;

/// Sequence numbers looked at with one search.
const WINDOW: u64 = 20_000;

/// Looks at up to `budget` documents, from where the last run stopped, each index once. Documents of closed runs count
/// only when the policy wants them removed.
pub(super) async fn look(
    look: &mut Look<'_>,
    closed: bool,
    budget: usize,
    marks: &mut Bookmarks,
) -> Result<(), VisibilityError> {
    let survey = look.survey;
    let count = survey.members.len();
    let start = survey.members.iter().position(|member| Some(&member.uuid) == marks.sweep.as_ref()).unwrap_or(0);
    let mut left = budget;
    for place in (0..count).map(|step| (start + step) % count) {
        let Some(member) = survey.members.get(place) else { continue };
        let Some(filter) = filter(place == survey.write(), closed) else { continue };
        marks.sweep = Some(member.uuid.clone());
        let swept = &mut marks.indices.entry(member.uuid.clone()).or_default().swept;
        swept.resize(member.next.len(), 0);
        for (shard, next) in member.next.iter().enumerate() {
            let Some(mark) = swept.get_mut(shard) else { continue };
            while *mark < *next {
                if left == 0 || look.is_full() {
                    return Ok(());
                }
                look.go_on()?;
                let below = next.saturating_sub(*mark).min(WINDOW) + *mark;
                let (filter, size) = (filter.clone(), BATCH.min(left).min(look.room()));
                let scan = Scan { shard, filter, from: *mark, below: Some(below), size, fields: &[], source: false };
                let page = look.page(place, &scan).await?;
                *mark = page.last.map_or(below, |last| last + 1);
                // A window without documents costs a search as well.
                left = left.saturating_sub(page.looked_at().max(BATCH / 10));
                let split = look.split((place, shard), page.documents).await?;
                look.found.unreadable += page.unreadable + split.unreadable;
                look.found.ghosts.extend(split.gone);
            }
        }
        // Through: the next time around begins at its beginning.
        swept.fill(0);
    }
    marks.sweep = survey.members.get(start).map(|member| member.uuid.clone());
    Ok(())
}

/// Open documents of old indices are looked at by themselves, every time.
fn filter(write: bool, closed: bool) -> Option<Value> {
    match (write, closed) {
        (true, true) => Some(json!({"match_all": {}})),
        (true, false) => Some(is_open()),
        (false, true) => Some(json!({"exists": {"field": CLOSE_TIME}})),
        (false, false) => None,
    }
}
