//! Undoing an adoption: by itself when it fails, by the next one, or by the guard when its process died.
//!
//! The swap and the undoing exclude each other whatever process sends them, because each is one `_aliases` call that
//! the other makes impossible: the swap needs the next index (or the key), which the undoing removes; the undoing needs
//! the live index to be an index, which the swap ends. Only after its call succeeded is the block lifted, so that no
//! write is let in between a comparison and a swap.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tracing::warn;

use super::error::UndoError;
use super::lift::Lift;
use super::marks::Mark;
use super::observe::{Part, adoptions, part_of, writes};
use super::prepare::PAUSE;
use crate::clients::search::{IndexDescription, Search, SearchError, WriteBlock};

/// How often the world may change under the undoing before it gives up.
const ATTEMPTS: u32 = 5;
/// How long a call that was given up may still be carried out.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// How long a mark that is on its way is waited for, below the time in which a stopped run has to end. Nothing is blocked
/// meanwhile.
const ANSWER: Duration = Duration::from_secs(12);
/// How long a block is taken off for, until it is an error that it is still there.
const LIMIT: Duration = Duration::from_secs(60);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Any.
    All,
    /// Those that put these marks on the live index, and none when there is no such mark.
    Marked(&'a [String]),
}

impl Which<'_> {
    fn means(&self, alias: &str) -> bool {
        match self {
            Self::All => true,
            Self::Marked(marks) => marks.iter().any(|mark| mark == alias),
        }
    }
}

/// Lifts the block and removes the clone, the next index and the key. A block without an adoption's mark stays, and so
/// does every index that is not an adoption's.
#[derive(Debug, Clone)]
pub struct Undoing<'a> {
    search: &'a Search,
    index: &'a str,
    which: Which<'a>,
    /// Whether a copy goes as well; a later adoption could go on with it.
    pub copies: bool,
    /// For so long a block that comes back is lifted again: a call that was sent before its sender died or gave up may
    /// still be carried out.
    pub settle: Duration,
    /// When a block that cannot be taken off becomes an error.
    pub limit: Duration,
    /// The call of this process that marks the live index or blocks its writes, which may not have been answered.
    pub(super) call: Option<AbortHandle>,
}

impl<'a> Undoing<'a> {
    /// Of these adoptions of the index.
    #[must_use]
    pub fn new(search: &'a Search, index: &'a str, which: Which<'a>) -> Self {
        Self { search, index, which, copies: false, settle: Duration::ZERO, limit: LIMIT, call: None }
    }

    /// Undoes.
    ///
    /// # Errors
    /// Any [`UndoError`]; called again, it goes on.
    pub async fn run(&self) -> Result<Undone, UndoError> {
        Ok(self.timed().await?.0)
    }

    /// The same, with the instant at which the block was seen to be off, when it was lifted here.
    pub(super) async fn timed(&self) -> Result<(Undone, Option<Instant>), UndoError> {
        let Self { search, index, .. } = *self;
        let (mut removed, mut attempt, begun) = (Vec::new(), 0, Instant::now());
        let marks = loop {
            // Asked before the look: a call that ends during it may have left a mark that the look did not see.
            let unanswered = self.call.as_ref().is_some_and(|call| !call.is_finished());
            let mut family = search.describe_family(index).await?;
            let Some(live) = family.remove(index) else { return Ok((Undone::Adopted, None)) };
            let marks = adoptions(index, &live.aliases).into_iter().map(|(alias, _)| alias);
            let marks: Vec<String> = marks.filter(|alias| self.which.means(alias)).collect();
            if marks.is_empty() && self.which != Which::All {
                break marks;
            }
            // The mark is on its way still. It must not stay: somebody else's later block would be taken for its own.
            if marks.is_empty() && unanswered && begun.elapsed() < ANSWER {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            attempt += 1;
            let uuid = live.setting("index.uuid").unwrap_or_default();
            let acts = Acts::find(search, index, &uuid, &family, self.copies).await?;
            if acts == Acts::default() {
                break marks;
            }
            match search.update_aliases(acts.call(index, marks.first())).await {
                Ok(()) => {
                    removed.extend(acts.removed);
                    break marks;
                }
                // Something was swapped or removed meanwhile: look again.
                Err(SearchError::NotFound { .. } | SearchError::Unexpected { status: 400, .. })
                    if attempt < ATTEMPTS => {}
                // Without the privilege to remove an index there was no swap to come either: the block must not stay on.
                Err(SearchError::Forbidden { call, reason }) if !marks.is_empty() => {
                    warn!(call, reason, "what the adoption made cannot be removed; the block is lifted all the same");
                    break marks;
                }
                Err(error) => return Err(error.into()),
            }
        };
        // A block without a mark is not an adoption's.
        let mut off = None;
        if !marks.is_empty() {
            let lift = Lift { search, index, marks: &marks, settle: self.settle, limit: self.limit };
            off = lift.run(self.call.as_ref()).await?;
            self.unmark(&marks).await?;
            let mut rounds = 0;
            while self.came_between().await? {
                rounds += 1;
                if rounds > ATTEMPTS {
                    return Err(lift.still_blocked());
                }
                let again = json!([{"add": {"index": index, "alias": marks.first()}}]);
                search.update_aliases(again).await?;
                off = lift.run(self.call.as_ref()).await?.or(off);
                self.unmark(&marks).await?;
            }
        }
        Ok((Undone::Back { lifted: off.is_some(), removed }, off))
    }

    /// Whether a block came between the last look and the removal of the marks: it is in force, and no adoption's mark is
    /// there. Once the marks are gone no call of this adoption's can bring another one.
    async fn came_between(&self) -> Result<bool, SearchError> {
        let now = self.search.block_state(self.index).await?;
        Ok(now.is_some_and(|now| now.write != WriteBlock::Off && adoptions(self.index, &now.aliases).is_empty()))
    }

    /// Takes these marks off the live index, and no others: those of a later adoption stand for its block. One that is
    /// gone meanwhile is fine.
    async fn unmark(&self, marks: &[String]) -> Result<(), SearchError> {
        let Some(now) = self.search.block_state(self.index).await? else { return Ok(()) };
        let left: Vec<Value> = marks
            .iter()
            .filter(|mark| now.aliases.contains(*mark))
            .map(|mark| json!({"remove": {"index": self.index, "alias": mark}}))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        match self.search.update_aliases(left.into()).await {
            Err(SearchError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }
}

/// What one undoing does to the family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acts {
    /// Indices that go.
    pub removed: Vec<String>,
    /// Marks that go while their index stays, as (index, mark).
    disowned: Vec<(String, String)>,
    /// Marks that are replaced, so that the index is still known for an adoption's, but is of no use to a swap.
    renamed: Vec<(String, String)>,
}

impl Acts {
    pub(super) async fn find(
        search: &Search,
        index: &str,
        uuid: &str,
        family: &BTreeMap<String, IndexDescription>,
        copies: bool,
    ) -> Result<Self, SearchError> {
        let mut acts = Self::default();
        for (name, found) in family {
            let next = found.aliases.iter().filter(|alias| matches!(Mark::read(index, alias), Some(Mark::Next { .. })));
            let next = next.map(|alias| (name.clone(), alias.clone()));
            match part_of(index, uuid, name, found) {
                Some(Part::Next) => match writes(search, name).await? {
                    Some(0) => acts.removed.push(name.clone()),
                    // Somebody wrote to it, so that it is nobody's to remove.
                    Some(_) => acts.disowned.extend(next),
                    None => acts.renamed.extend(next.filter(|(_, alias)| *alias != retired(index))),
                },
                Some(Part::Clone | Part::Key) => acts.removed.push(name.clone()),
                Some(Part::Copy) if copies => acts.removed.push(name.clone()),
                // Somebody uses it. Its mark would still let a swap go on.
                Some(Part::Foreign) => acts.disowned.extend(next),
                Some(Part::Copy) | None => {}
            }
        }
        Ok(acts)
    }

    /// One call that only succeeds while the live index is an index: what makes it conditional is an action on that,
    /// which changes nothing. It adds a mark that is there, or removes one that is not.
    fn call(&self, index: &str, mark: Option<&String>) -> Value {
        let condition = match mark {
            Some(mark) => json!({"add": {"index": index, "alias": mark}}),
            None => json!({"remove": {"index": index, "alias": format!("{index}-sexton-undoes")}}),
        };
        let remove = |(name, alias): &(String, String)| json!({"remove": {"index": name, "alias": alias}});
        let mut actions = vec![condition];
        actions.extend(self.removed.iter().map(|name| json!({"remove_index": {"index": name}})));
        actions.extend(self.disowned.iter().chain(&self.renamed).map(remove));
        let renamed = self.renamed.iter();
        actions.extend(renamed.map(|(name, _)| json!({"add": {"index": name, "alias": retired(index)}})));
        Value::Array(actions)
    }
}

/// The mark of a next index that no swap can use any more.
fn retired(index: &str) -> String {
    Mark::Next { id: "undone".into() }.alias(index)
}
