//! Orphans: histories that nothing refers to. A start that failed leaves one, and a deletion that stopped half-way;
//! Temporal's own scavenger waits for months and reports a broken look as a success.
//!
//! Nothing is ever removed that a living branch uses as an ancestor: a run that was reset goes on from the nodes of the
//! run before it, also when that one is long gone. What lives is read twice: from the rows of `history_tree`, and from
//! the runs themselves, each of which names its branch. Where the two do not fit, the whole tree is left alone.

mod find;
mod judge;
mod remove;
mod slices;

pub use find::{Looking, find, look};
pub use remove::remove;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A history tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tree {
    /// The history shard.
    pub shard: i32,
    /// Its id.
    pub id: Uuid,
}

/// What a tree was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// Branches, by which everything can be looked at once more before it goes.
    Branches,
    /// Nodes without any branch. No run of the shard had its history there, and none can come to: a new run is in a tree
    /// of its own or, made by a reset, in the tree of another run.
    NodesOnly,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Orphans {
    /// Branches whose run does not exist.
    pub branches: u64,
    /// Nodes that would go with them.
    pub nodes: u64,
    /// Bytes of these nodes, as they are stored.
    pub bytes: u64,
    /// Branches beyond those that were measured: the nodes and bytes are without them.
    pub not_measured: u64,
    /// Branches that have nodes but no row, and that no other branch goes on from.
    pub leftover_branches: u64,
    /// Their nodes.
    pub leftover_nodes: u64,
    /// Bytes of these nodes.
    pub leftover_bytes: u64,
    /// Branches that may be orphans and are too young to tell.
    pub young: u64,
    /// Branches that cannot be judged, because something of their tree or a run of their workflow cannot be read.
    pub unreadable: u64,
    /// Runs that exist although their history has lost its row.
    pub lost: u64,
    /// Runs that exist although their history has no nodes.
    pub empty: u64,
    /// Some of the branches whose run does not exist.
    pub examples: Vec<Example>,
    /// The trees that have something to remove, as many as one run may.
    #[serde(skip)]
    pub trees: BTreeMap<Tree, Noted>,
}

/// An orphan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The history shard.
    pub shard: i32,
    /// The tree.
    pub tree: Uuid,
    /// The branch.
    pub branch: Uuid,
    /// The namespace of the run it was made for.
    pub namespace: Option<Uuid>,
    /// The workflow's id.
    pub workflow: Option<String>,
    /// The run that does not exist.
    pub run: Uuid,
    /// When the branch was made.
    pub forked: Option<Timestamp>,
    /// Nodes that go with it.
    pub nodes: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OrphanReport {
    /// Trees from which something was removed.
    pub trees: u64,
    /// Branches.
    pub branches: u64,
    /// Nodes.
    pub nodes: u64,
}
