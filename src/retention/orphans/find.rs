//! Looks for histories that nothing refers to, shard after shard. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::SignedDuration;
use uuid::Uuid;

use super::judge::{Unknown, Verdict, is_old, judge, removal, unknown, unused_from};
use super::slices::Slices;
use super::{Example, Noted, Orphans, Tree};
use crate::clients::persistence::{Branch, Leftover, RunKey, Session, TreeState};
use crate::context::Context;
use crate::progress::Unit;
use crate::retention::audit::{self, AuditError, Checked};
use crate::retention::{Reading, Source};
use crate::units::Span;

/// Runs or trees looked up with one statement.
const LOOKED_UP: usize = 5_000;
/// Trees whose orphaned nodes are measured; the figures say when there are more.
const MEASURED: u64 = 10_000;
/// Examples shown.
const SHOWN: usize = 20;

/// What is looked through, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Looking {
    /// History shards.
    pub shards: i32,
    /// Orphans younger than this are only counted.
    pub min_age: Span,
    /// Trees that are noted for removal.
    pub most: usize,
}

/// Looks for what may be removed: on a database that would give wrong answers nothing is looked for.
///
/// # Errors
/// [`AuditError::Refused`], and any other [`AuditError`].
pub async fn look(source: &Source, min_age: Span, most: usize, ctx: &Context) -> Result<Orphans, AuditError> {
    let Checked { mut reading, shards, .. } = audit::check_primary(source, ctx).await?;
    let found = find(&mut reading, Looking { shards, min_age, most }, ctx).await?;
    reading.close().await;
    Ok(found)
}

/// Looks at every branch and every node.
///
/// # Errors
/// When the database cannot be read, and on cancel.
pub async fn find(reading: &mut Reading, looking: Looking, ctx: &Context) -> Result<Orphans, AuditError> {
    let Looking { shards, min_age, most } = looking;
    let min_age = SignedDuration::from(min_age);
    let mut search = Search { found: Orphans::default(), lost: BTreeSet::new(), min_age, most, now: ctx.now };
    ctx.progress.stage("branches of histories", Some(u64::try_from(shards).unwrap_or_default()), Unit::Items);
    let mut pace = reading.pace();
    let session = &mut reading.session;
    let pages_per_shard = session.compared_pages().await? as f64 / f64::from(shards.max(1));
    let mut slices = Slices::new(shards, session.histories().await?);
    while let Some(slice) = slices.next() {
        if ctx.is_cancelled() {
            return Err(AuditError::Cancelled);
        }
        let begun = Instant::now();
        let compared = session.compare_histories(&slice).await?;
        let took = begun.elapsed();
        search.found.unreadable += compared.malformed;
        search.branches(session, compared.doubtful).await?;
        search.leftovers(session, compared.leftovers).await?;
        search.bare(session, compared.bare).await?;
        let (done, share) = slices.advance();
        ctx.progress.advance(done);
        if pace.took((share * pages_per_shard) as u64, took) {
            slices.halve();
        }
        pace.rest(ctx).await?;
    }
    Ok(search.found)
}

struct Search {
    found: Orphans,
    /// Trees in which runs have lost their rows.
    lost: BTreeSet<Tree>,
    min_age: SignedDuration,
    most: usize,
    now: jiff::Timestamp,
}

impl Search {
    async fn branches(&mut self, session: &mut Session, doubtful: Vec<Branch>) -> Result<(), AuditError> {
        let mut trees: Vec<Vec<Branch>> = Vec::new();
        for tree in with_runs(session, doubtful).await?.into_values() {
            // Where every run exists there is nothing to find, and nothing more is read.
            if tree.iter().any(|(_, exists)| !exists) {
                trees.push(tree.into_iter().map(|(branch, _)| branch).collect());
            }
        }
        for part in trees.chunks(LOOKED_UP) {
            for tree in session.with_uses(part.iter().flatten().cloned().collect()).await? {
                self.tree(session, &tree).await?;
            }
        }
        Ok(())
    }

    async fn tree(&mut self, session: &mut Session, tree: &TreeState) -> Result<(), AuditError> {
        let Some(place) = place(tree) else { return Ok(()) };
        let verdicts = judge(tree, self.now, self.min_age);
        let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count() as u64;
        self.found.young += count(Verdict::Young);
        match unknown(tree) {
            Some(Unknown::Lost(runs)) => self.lost(place, runs),
            Some(Unknown::Unreadable) => self.found.unreadable += count(Verdict::Unknown),
            None => {}
        }
        let orphans = count(Verdict::Orphan);
        if orphans == 0 {
            return Ok(());
        }
        self.found.branches += orphans;
        self.note(place, Noted::Branches);
        let (mut nodes, mut bytes) = (0, 0);
        if self.found.branches <= MEASURED {
            for (branch, from) in removal(tree, &verdicts).nodes {
                let (more_nodes, more_bytes) = session.nodes(place.shard, place.id, branch, from).await?;
                nodes += more_nodes;
                bytes += more_bytes;
            }
        } else {
            self.found.not_measured += orphans;
        }
        self.found.nodes += nodes;
        self.found.bytes += bytes;
        let orphan = tree.branches.iter().zip(&verdicts).find(|(_, verdict)| **verdict == Verdict::Orphan);
        if let Some(((branch, _), _)) = orphan.filter(|_| self.found.examples.len() < SHOWN) {
            self.found.examples.push(example(branch, nodes, bytes));
        }
        Ok(())
    }

    async fn leftovers(&mut self, session: &mut Session, found: Vec<Leftover>) -> Result<(), AuditError> {
        let mut trees: BTreeMap<Tree, Vec<Leftover>> = BTreeMap::new();
        for leftover in found {
            trees.entry(Tree { shard: leftover.shard, id: leftover.tree }).or_default().push(leftover);
        }
        let mut bare: BTreeMap<i32, BTreeMap<Uuid, Vec<Leftover>>> = BTreeMap::new();
        for (place, leftovers) in trees {
            let branches = session.branches_of(place.shard, place.id).await?;
            match session.with_uses(branches).await?.pop() {
                Some(tree) => self.beside_branches(session, place, &tree, &leftovers).await?,
                // The tree's own run has lost everything but its nodes.
                None if leftovers.iter().any(|leftover| leftover.has_run) => self.lost(place, 1),
                None => drop(bare.entry(place.shard).or_default().insert(place.id, leftovers)),
            }
        }
        for (shard, trees) in bare {
            self.without_branches(session, shard, trees).await?;
        }
        Ok(())
    }

    async fn beside_branches(
        &mut self,
        session: &mut Session,
        place: Tree,
        tree: &TreeState,
        leftovers: &[Leftover],
    ) -> Result<(), AuditError> {
        match unknown(tree) {
            Some(Unknown::Lost(runs)) => self.lost(place, runs),
            Some(Unknown::Unreadable) => self.found.unreadable += leftovers.len() as u64,
            None => {
                let verdicts = judge(tree, self.now, self.min_age);
                let going = removal(tree, &verdicts);
                for leftover in leftovers {
                    let Some(from) = unused_from(tree, &verdicts, &going, leftover.branch) else { continue };
                    let (nodes, bytes) = session.nodes(place.shard, place.id, leftover.branch, from).await?;
                    if nodes == 0 {
                        continue;
                    }
                    let last = session.last_event(place.shard, place.id, leftover.branch).await?;
                    if is_old(last, self.now, self.min_age) {
                        self.leftover(nodes, bytes);
                        self.note(place, Noted::Branches);
                    } else {
                        self.found.young += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing says which workflow these trees are of, so that every run of the shard is asked.
    async fn without_branches(
        &mut self,
        session: &mut Session,
        shard: i32,
        trees: BTreeMap<Uuid, Vec<Leftover>>,
    ) -> Result<(), AuditError> {
        let mut old = BTreeMap::new();
        for (id, leftovers) in trees {
            let mut is_tree_old = true;
            for leftover in &leftovers {
                let last = session.last_event(shard, id, leftover.branch).await?;
                is_tree_old &= is_old(last, self.now, self.min_age);
            }
            if is_tree_old {
                old.insert(id, leftovers);
            } else {
                self.found.young += leftovers.len() as u64;
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        let users = session.users(shard, &old.keys().copied().collect()).await?;
        for (id, leftovers) in old {
            let place = Tree { shard, id };
            if let Some(runs) = users.runs.get(&id) {
                self.lost(place, *runs);
            } else if users.unreadable > 0 {
                self.found.unreadable += leftovers.len() as u64;
            } else {
                for leftover in &leftovers {
                    let (nodes, bytes) = session.nodes(shard, id, leftover.branch, 0).await?;
                    self.leftover(nodes, bytes);
                }
                self.note(place, Noted::NodesOnly);
            }
        }
        Ok(())
    }

    async fn bare(&mut self, session: &mut Session, bare: Vec<Branch>) -> Result<(), AuditError> {
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

    fn leftover(&mut self, nodes: u64, bytes: u64) {
        self.found.leftover_branches += 1;
        self.found.leftover_nodes += nodes;
        self.found.leftover_bytes += bytes;
    }

    fn lost(&mut self, tree: Tree, runs: u64) {
        if self.lost.insert(tree) {
            self.found.lost += runs;
        }
    }

    fn note(&mut self, tree: Tree, noted: Noted) {
        if self.found.trees.len() < self.most {
            self.found.trees.insert(tree, noted);
        }
    }
}

fn place(tree: &TreeState) -> Option<Tree> {
    tree.branches.first().map(|(branch, _)| Tree { shard: branch.shard, id: branch.tree })
}

/// The branches by tree, each with whether its run exists. One that does not say whose it is counts as somebody's.
async fn with_runs(
    session: &mut Session,
    branches: Vec<Branch>,
) -> Result<BTreeMap<Tree, Vec<(Branch, bool)>>, AuditError> {
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
