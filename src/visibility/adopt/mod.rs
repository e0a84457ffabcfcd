//! Adopting a live index: the plain index that Temporal writes to becomes an alias with a write index, without a document
//! lost and with a short pause of writes.
//!
//! `X` is the live index, `X-000001` its clone (or copy), `X-000002` the empty index that is written to next.
//!
//! 1. Prepared while Temporal writes on: sexton's template, `X-000002` with the mapping of `X`, and for a copy all but
//!    the last documents.
//! 2. `X` gets a mark (an alias that names the adoption and its deadline) and a write block. Temporal repeats its writes.
//! 3. The clone, or the last pass of the copy; counts compared, for a copy also versions.
//! 4. One `_aliases` call removes `X` and makes its name the alias of both. It cannot be undone; before it, everything
//!    can.
//!
//! # Killed at any instant
//! The guard, a second process, lifts the block when this one dies or sleeps past the deadline. Started again, an
//! adoption looks at the world and not at a memory. These are the worlds it may find:
//!
//! | `X` | `X-000001` | `X-000002` | what is done |
//! |---|---|---|---|
//! | alias | behind it | behind it, write index | nothing: adopted |
//! | index | - | - | adopted from the beginning |
//! | index | - | ours | `X-000002` removed, then the same |
//! | index | our clone | ours or none | both removed, then the same |
//! | index | our copy | ours or none | the copy gone on with, `X-000002` made anew |
//! | index, blocked, our mark | any of these | any of these | a guard waited for, the block lifted, then the same |
//! | index, our mark | any of these | any of these | the mark removed, then the same |
//! | index, blocked, no mark | any | any | refused: somebody else's block |
//! | index | not ours | any | refused: not sexton's to remove |
//! | index | any | not ours, not empty, or not known to be | refused |
//! | nothing | any | any | refused |
//!
//! Where the engine has no `must_exist` there may also be the key, `X-sexton-key-…`; it goes with whatever else is undone.
//!
//! Blocked is what the engine has in force, not what the settings say ([`WriteBlock`]). The calls that block writes and
//! allow them again go to the mark, so that without it they come to nothing, however late they are.
//!
//! "Ours" is said by a mark, an alias `X-sexton-…`; for a clone the engine's own `index.resize.source.uuid` must say the
//! same, and an index behind any other alias is not ours. Removing never happens by name alone. The swap and the undoing
//! exclude each other ([`Undoing`]), so that two processes that both think it is their turn do no harm.

mod apply;
mod cleanup;
mod decide;
mod error;
pub mod guard;
mod left;
mod lift;
mod marks;
mod observe;
mod plan;
mod prepare;
mod swap;
mod undo;

use serde::{Deserialize, Serialize};

pub use apply::{AdoptReport, apply};
pub use cleanup::{Cleanup, look};
pub use decide::{Surroundings, Wanted, decide};
pub use error::{AdoptError, AdoptRefusal, UndoError};
pub use guard::GuardCommand;
pub use left::{Blocked, Left, LeftIndex, blocked, undo_left};
pub use marks::Mark;
pub use observe::{Live, Numbered, Part, World, observe};
pub use plan::{AdoptPlan, Adoption, Leftovers, Way};
pub use undo::{Undoing, Undone, Which};

use crate::clients::search::Search;
#[cfg(doc)]
use crate::clients::search::WriteBlock;
use crate::policy::visibility::VisibilityPolicy;

/// How the documents are to get over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By a clone where the engine can, else by a copy.
    #[default]
    Auto,
    /// By a clone.
    Clone,
    /// By a copy.
    Copy,
}

/// Observes the index and computes what there is to do. Writes nothing.
///
/// # Errors
/// [`AdoptError::Search`] when the engine cannot be asked, [`AdoptError::Refused`] when adopting would be wrong.
pub async fn plan(
    search: &Search,
    policy: &VisibilityPolicy,
    wanted: Wanted,
    around: &Surroundings,
) -> Result<AdoptPlan, AdoptError> {
    let world = observe(search, policy.index.as_str()).await?;
    Ok(decide(&world, policy, wanted, around)?)
}
