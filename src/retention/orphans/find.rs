//! Looks for histories that nothing refers to, shard after shard. Writes nothing.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use uuid::Uuid;

use super::judge::{Verdict, judge, removal, unused_from};
use super::{Example, Orphans, Resets, Tree};
use crate::clients::persistence::{Branch, RunKey, Session, ShardRange};
use crate::context::Context;
use crate::progress::Unit;
use crate::retention::audit::AuditError;
use crate::units::Span;

/// About so many branches are compared with one statement.
const AT_ONCE: u64 = 500_000;
/// Trees whose orphaned nodes are measured; the figures say when there are more.
const MEASURED: u64 = 10_000;
/// Examples shown.
const SHOWN: usize = 20;

/// What is looked through, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Looking {
    /// History shards.
    pub shards: i32,
    /// Rows of `history_tree`, about.
    pub branches: u64,
    /// Orphans younger than this are only counted.
    pub min_age: Span,
    /// Trees that are noted for removal.
    pub most: usize,
}

/// Looks at every branch and every node.
///
/// # Errors
/// When the database cannot be read, and on cancel.
pub async fn find(
    session: &mut Session,
    looking: Looking,
    resets: &Resets,
    ctx: &Context,
) -> Result<Orphans, AuditError> {
    let Looking { shards, branches, min_age, most } = looking;
    let min_age = SignedDuration::try_from(std::time::Duration::from(min_age)).unwrap_or(SignedDuration::MAX);
    let mut search = Search { found: Orphans::default(), min_age, most, resets, now: ctx.now };
    ctx.progress.stage("branches of histories", Some(u64::try_from(shards).unwrap_or_default()), Unit::Items);
    let per_shard = (branches / u64::try_from(shards.max(1)).unwrap_or(1)).max(1);
    let step = i32::try_from((AT_ONCE / per_shard).clamp(1, 1_000)).unwrap_or(1);
    let mut from = 1;
    while from <= shards {
        if ctx.is_cancelled() {
            return Err(AuditError::Cancelled);
        }
        let range = ShardRange { from, to: from.saturating_add(step).min(shards + 1) };
        search.branches(session, range).await?;
        search.leftovers(session, range).await?;
        search.bare(session, range).await?;
        ctx.progress.advance(u64::try_from(range.to - range.from).unwrap_or_default());
        from = range.to;
    }
    Ok(search.found)
}

struct Search<'r> {
    resets: &'r Resets,
    found: Orphans,
    min_age: SignedDuration,
    most: usize,
    now: jiff::Timestamp,
}

impl Search<'_> {
    async fn branches(&mut self, session: &mut Session, range: ShardRange) -> Result<(), AuditError> {
        let doubtful = session.doubtful_branches(range).await?;
        for (place, tree) in with_runs(session, doubtful).await? {
            let verdicts = judge(&tree, self.now, self.min_age);
            let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count() as u64;
            self.found.young += count(Verdict::Young);
            self.found.unreadable += count(Verdict::Unreadable);
            let orphans = count(Verdict::Orphan);
            if orphans == 0 {
                continue;
            }
            if !is_complete(&tree, place, self.resets.get(&place)) {
                self.found.lost += 1;
                continue;
            }
            self.found.branches += orphans;
            self.note(place);
            let (mut nodes, mut bytes) = (0, 0);
            if self.found.branches <= MEASURED {
                for (branch, from) in removal(&tree, &verdicts).nodes {
                    let (more_nodes, more_bytes) = session.nodes(place.shard, place.id, branch, from).await?;
                    nodes += more_nodes;
                    bytes += more_bytes;
                }
            } else {
                self.found.not_measured += orphans;
            }
            self.found.nodes += nodes;
            self.found.bytes += bytes;
            let orphan = tree.iter().zip(&verdicts).find(|(_, verdict)| **verdict == Verdict::Orphan);
            if let Some(((branch, _), _)) = orphan.filter(|_| self.found.examples.len() < SHOWN) {
                self.found.examples.push(example(branch, nodes, bytes));
            }
        }
        Ok(())
    }

    async fn leftovers(&mut self, session: &mut Session, range: ShardRange) -> Result<(), AuditError> {
        for leftover in session.leftover_nodes(range).await? {
            if leftover.has_run {
                self.found.lost += 1;
                continue;
            }
            let place = Tree { shard: leftover.shard, id: leftover.tree };
            let tree = session.branches_of(leftover.shard, leftover.tree).await?;
            let tree = with_runs(session, tree).await?.remove(&place).unwrap_or_default();
            if !is_complete(&tree, place, self.resets.get(&place)) {
                self.found.lost += 1;
                continue;
            }
            if tree.iter().any(|(branch, _)| !branch.readable) {
                self.found.unreadable += 1;
                continue;
            }
            let Some(from) = unused_from(&tree, leftover.branch) else { continue };
            let (nodes, bytes) = session.nodes(leftover.shard, leftover.tree, leftover.branch, from).await?;
            if nodes == 0 {
                continue;
            }
            let last = session.last_event(leftover.shard, leftover.tree, leftover.branch).await?;
            if last.is_some_and(|last| self.now.duration_since(last) >= self.min_age) {
                self.found.leftover_branches += 1;
                self.found.leftover_nodes += nodes;
                self.found.leftover_bytes += bytes;
                self.note(place);
            } else {
                self.found.young += 1;
            }
        }
        Ok(())
    }

    async fn bare(&mut self, session: &mut Session, range: ShardRange) -> Result<(), AuditError> {
        let bare = session.bare_branches(range).await?;
        for (_, tree) in with_runs(session, bare).await? {
            for (branch, exists) in tree {
                // A fork that has written nothing of its own yet has all it needs.
                if exists && branch.ancestors.is_empty() {
                    self.found.empty += 1;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, tree: Tree) {
        let resets = self.resets.get(&tree).copied().unwrap_or_default();
        if self.found.trees.len() < self.most {
            self.found.trees.insert(tree, resets);
        }
    }
}

/// Whether every run that a reset put into the tree has a branch there. The row of a branch that is missing would have
/// said which nodes of others it uses.
pub(super) fn is_complete(tree: &[(Branch, bool)], place: Tree, resets: Option<&u32>) -> bool {
    let others =
        tree.iter().filter(|(branch, exists)| *exists && branch.run.as_ref().is_none_or(|r| r.run != place.id));
    others.count() >= resets.map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX))
}

/// The branches by tree, each with whether its run exists. One that does not say whose it is counts as somebody's.
async fn with_runs(
    session: &mut Session,
    branches: Vec<Branch>,
) -> Result<BTreeMap<Tree, Vec<(Branch, bool)>>, AuditError> {
    const LOOKED_UP: usize = 5_000;
    let mut trees: BTreeMap<Tree, Vec<(Branch, bool)>> = BTreeMap::new();
    for part in branches.chunks(LOOKED_UP) {
        let keys: Vec<RunKey> = part.iter().filter_map(|branch| branch.run.clone()).collect();
        let mut exist = session.exist(&keys).await?.into_iter();
        for branch in part {
            let exists = if branch.run.is_some() { exist.next().unwrap_or(true) } else { true };
            let place = Tree { shard: branch.shard, id: branch.tree };
            trees.entry(place).or_default().push((branch.clone(), exists));
        }
    }
    Ok(trees)
}

fn example(branch: &Branch, nodes: u64, bytes: u64) -> Example {
    let run = branch.run.as_ref();
    Example {
        shard: branch.shard,
        tree: branch.tree,
        branch: branch.id,
        namespace: run.map(|run| run.namespace),
        workflow: run.map(|run| run.workflow.clone()),
        run: run.map_or_else(Uuid::nil, |run| run.run),
        forked: branch.forked,
        nodes,
        bytes,
    }
}
