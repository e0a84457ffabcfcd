//! Undoing an adoption: by itself when it fails, by the next one, or by the guard when its process died.
//!
//! The swap and the undoing exclude each other whatever process sends them, because each is one `_aliases` call that
//! the other makes impossible: the swap needs the next index, which the undoing removes; the undoing needs the live
//! index to be an index, which the swap ends. Only after its call succeeded is the block lifted, so that no write is
//! let in between a comparison and a swap.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::warn;

use super::marks::{Mark, number};
use super::observe::{Part, adoptions, part, writes};
use crate::clients::search::{IndexDescription, Search, SearchError};

/// How often the world may change under the undoing before it gives up.
const ATTEMPTS: u32 = 5;

/// What undoing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// The name is an alias: the swap had happened.
    Adopted,
    /// The live index is as before.
    Back {
        /// The write block was lifted.
        lifted: bool,
        /// The indices removed.
        removed: Vec<String>,
    },
}

impl Undone {
    /// In words.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Adopted => "nothing, as the swap had happened".into(),
            Self::Back { lifted, removed } => {
                let mut parts: Vec<String> = Vec::new();
                parts.extend(lifted.then(|| "the write block is off".to_owned()));
                parts.extend((!removed.is_empty()).then(|| format!("{} removed", removed.join(", "))));
                if parts.is_empty() { "nothing had been changed".into() } else { parts.join(", ") }
            }
        }
    }
}

/// Which adoption is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which<'a> {
    /// Any.
    All,
    /// The one that put this mark on the live index, and none when there is no such mark.
    Marked(&'a str),
}

impl Which<'_> {
    fn means(&self, alias: &str) -> bool {
        match self {
            Self::All => true,
            Self::Marked(mark) => *mark == alias,
        }
    }
}

/// Lifts the block and removes the clone and the next index. A copy stays, since a later adoption can go on with it,
/// unless `copies` says that it goes too. A block without an adoption's mark stays, and so does every index that is
/// not an adoption's.
///
/// For `settle` the block is lifted again whenever it comes back: a call that was sent before its sender died or gave
/// up may still be carried out.
///
/// # Errors
/// Any [`SearchError`]; called again, it goes on.
pub async fn undo(
    search: &Search,
    index: &str,
    which: &Which<'_>,
    copies: bool,
    settle: Duration,
) -> Result<Undone, SearchError> {
    let (mut removed, mut attempt) = (Vec::new(), 0);
    let (live, marks) = loop {
        attempt += 1;
        let mut family = search.describe_family(index).await?;
        let Some(live) = family.remove(index) else { return Ok(Undone::Adopted) };
        let marks = adoptions(index, &live).into_iter().map(|(alias, _)| alias);
        let marks: Vec<String> = marks.filter(|alias| which.means(alias)).collect();
        if marks.is_empty() && *which != Which::All {
            return Ok(Undone::Back { lifted: false, removed });
        }
        let uuid = live.setting("index.uuid").unwrap_or_default();
        let mut acts = Acts::default();
        for (name, found) in family.iter().filter(|(name, _)| number(index, name).is_some()) {
            match part(index, &uuid, found) {
                Part::Next if writes(search, name).await? > 0 => {
                    // Somebody wrote to it, so that it is nobody's to remove; without its mark it is of no use to a swap.
                    acts.disowned.extend(found.aliases.iter().map(|alias| (name.clone(), alias.clone())));
                }
                Part::Clone | Part::Next => acts.removed.push(name.clone()),
                Part::Copy if copies => acts.removed.push(name.clone()),
                Part::Copy | Part::Foreign => {}
            }
        }
        if acts == Acts::default() {
            break (live, marks);
        }
        match search.update_aliases(acts.call(index, &marks)).await {
            Ok(()) => {
                removed.extend(acts.removed);
                break (live, marks);
            }
            // Something was swapped or removed meanwhile: look again.
            Err(SearchError::NotFound { .. } | SearchError::Unexpected { status: 400, .. }) if attempt < ATTEMPTS => {}
            // Without the privilege to remove an index there was no swap to come either: the block must not stay on.
            Err(SearchError::Forbidden { call, reason }) if !marks.is_empty() => {
                warn!(call, reason, "what the adoption made cannot be removed; the block is lifted all the same");
                break (live, marks);
            }
            Err(error) => return Err(error),
        }
    };
    // A block without a mark is not an adoption's.
    let mut lifted = false;
    if !marks.is_empty() {
        lifted = lift(search, index, &live, &marks, settle).await?;
    }
    unmark(search, index, which).await?;
    Ok(Undone::Back { lifted, removed })
}

/// What one undoing does to the family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Acts {
    removed: Vec<String>,
    disowned: Vec<(String, String)>,
}

impl Acts {
    /// One call that only succeeds while the live index is an index. It carries a mark of its own where there is none,
    /// since what makes it conditional is an action on the live index.
    fn call(&self, index: &str, marks: &[String]) -> Value {
        let undoing = || Mark::Adopts { deadline: jiff::Timestamp::now(), id: "undo".into() }.alias(index);
        let mark = marks.first().cloned().unwrap_or_else(undoing);
        let mut actions = vec![json!({"add": {"index": index, "alias": mark}})];
        actions.extend(self.removed.iter().map(|name| json!({"remove_index": {"index": name}})));
        let disowned = self.disowned.iter();
        actions.extend(disowned.map(|(name, alias)| json!({"remove": {"index": name, "alias": alias}})));
        Value::Array(actions)
    }
}

/// A block that comes back is lifted as long as one of the marks is there: without them it may be that of a later
/// adoption.
async fn lift(
    search: &Search,
    index: &str,
    live: &IndexDescription,
    marks: &[String],
    settle: Duration,
) -> Result<bool, SearchError> {
    let mut lifted = live.blocks("write");
    if lifted {
        search.lift_write_block(index).await?;
    }
    let end = std::time::Instant::now() + settle;
    loop {
        let family = search.describe_family(index).await?;
        let Some(now) = family.get(index).filter(|now| marks.iter().any(|mark| now.aliases.contains(mark))) else {
            return Ok(lifted);
        };
        if now.blocks("write") {
            search.lift_write_block(index).await?;
            lifted = true;
        } else if std::time::Instant::now() >= end {
            return Ok(lifted);
        }
        tokio::time::sleep(Duration::from_millis(200).min(settle)).await;
    }
}

/// Takes the marks off the live index. One that is gone meanwhile is fine.
async fn unmark(search: &Search, index: &str, which: &Which<'_>) -> Result<(), SearchError> {
    let family = search.describe_family(index).await?;
    let Some(live) = family.get(index) else { return Ok(()) };
    let marks = adoptions(index, live).into_iter().map(|(alias, _)| alias);
    let marks: Vec<String> = marks.filter(|alias| which.means(alias)).collect();
    if marks.is_empty() {
        return Ok(());
    }
    let actions = marks.iter().map(|alias| json!({"remove": {"index": index, "alias": alias}}));
    match search.update_aliases(actions.collect()).await {
        Err(SearchError::NotFound { .. }) => Ok(()),
        result => result,
    }
}
