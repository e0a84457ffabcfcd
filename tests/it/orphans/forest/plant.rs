//! How the trees of a forest are made, and what has to be left of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::Timestamp;
use uuid::Uuid;

use super::Rows;
use crate::kills::Seed;
use crate::support::cluster::schema;
use crate::support::postgres::{Scratch, Server};
use crate::support::wire::Value::{Bytes, Number};
use crate::support::wire::{put, timestamp};

const NAMESPACE: Uuid = Uuid::from_u128(0x5e47_0000_0000_4000_8000_0000_0000_0002);
const SHARDS: i32 = 5;

/// What became of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs deleted by Temporal, and others gone without it, some of them with their rows.
    Mixed,
    /// The same, and a run that lives has lost its row.
    Damaged,
    /// The same, and a row of the tree is in an encoding that is not read.
    UnreadableBranch,
    /// The same, and a run of the workflow is.
    UnreadableRun,
    /// Nothing but nodes.
    NodesOnly,
    /// The same, and one of its branches is young.
    YoungNodesOnly,
    /// Every row lives; nodes of a branch without a row are young.
    YoungLeftovers,
}

/// A branch, its first node and the one after its last that are used.
type Range = (Uuid, i64, i64);

/// A run and its branch.
#[derive(Debug, Clone)]
struct Planted {
    run: Uuid,
    /// Every branch of the run with its path; the last range is its own.
    branches: Vec<(Uuid, Vec<Range>)>,
    has_run: bool,
    has_row: bool,
    young: bool,
    young_nodes: bool,
}

struct Tree {
    shard: i32,
    id: Uuid,
    workflow: String,
    kind: Kind,
    runs: Vec<Planted>,
    /// Nodes by branch: node and transaction.
    nodes: BTreeSet<(Uuid, i64, i64)>,
}

/// The trees, what is there at first, and what has to be left.
pub struct Forest {
    trees: Vec<Tree>,
    kinds: BTreeMap<Uuid, String>,
    pub before: Rows,
    pub after: Rows,
}

impl Forest {
    pub fn of(seed: &mut Seed, count: usize) -> Self {
        let trees: Vec<Tree> = (0..count).map(|number| Tree::grow(seed, number)).collect();
        let mut forest = Self { trees, kinds: BTreeMap::new(), before: Rows::default(), after: Rows::default() };
        for tree in &forest.trees {
            forest.kinds.insert(tree.id, format!("{:?} {}", tree.kind, tree.workflow));
            let living = tree.living();
            for planted in tree.runs.iter().filter(|planted| planted.has_row) {
                for (branch, _) in &planted.branches {
                    let key = (tree.shard, tree.id, *branch);
                    forest.before.branches.insert(key);
                    if living.as_ref().is_none_or(|living| living.contains(branch)) {
                        forest.after.branches.insert(key);
                    }
                }
            }
            let paths: Vec<_> = tree.runs.iter().flat_map(|planted| &planted.branches).collect();
            for (branch, node, txn) in &tree.nodes {
                let key = (tree.shard, tree.id, *branch, *node, *txn);
                forest.before.nodes.insert(key);
                let reached = living.as_ref().is_none_or(|living| {
                    let ranges = paths.iter().filter(|(id, _)| living.contains(id)).flat_map(|(_, path)| path);
                    ranges.into_iter().any(|(of, from, to)| of == branch && (*from..*to).contains(node))
                });
                let young = tree.runs.iter().any(|planted| planted.young_nodes && planted.branches[0].0 == *branch);
                if reached || young {
                    forest.after.nodes.insert(key);
                }
            }
        }
        forest
    }

    pub fn trees(&self) -> impl Iterator<Item = Uuid> {
        self.trees.iter().map(|tree| tree.id)
    }

    /// The row of `executions` of every run there has ever been.
    pub fn all_runs(&self) -> impl Iterator<Item = String> {
        self.trees.iter().map(|tree| tree.runs.iter().map(|planted| tree.execution(planted, "Proto3")).collect())
    }

    pub fn kind(&self, tree: Uuid) -> &str {
        self.kinds.get(&tree).map_or("of no tree", String::as_str)
    }

    /// A database with Temporal's schema and these trees.
    pub fn planted(&self, what: &str) -> Scratch {
        let database = Scratch::copy_of(Server::Pg15, what, schema());
        for shard in 1..=SHARDS {
            database.psql(&format!(
                "INSERT INTO shards (shard_id, range_id, data, data_encoding) VALUES ({shard}, 1, '', 'Proto3')"
            ));
        }
        for trees in self.trees.chunks(100) {
            let mut sql = String::from("BEGIN;\n");
            trees.iter().for_each(|tree| tree.write(&mut sql));
            database.psql(&(sql + "COMMIT;"));
        }
        database.psql("ANALYZE");
        database
    }
}

fn raw(id: Uuid) -> String {
    format!("'\\x{}'", id.simple())
}

fn blob(bytes: &[u8]) -> String {
    format!("'\\x{}'", hex::encode(bytes))
}

fn id(seed: &mut Seed) -> Uuid {
    Uuid::from_u64_pair(seed.next(), seed.next())
}

impl Tree {
    fn grow(seed: &mut Seed, number: usize) -> Self {
        const NAMES: [&str; 5] = ["order", "a:b", "it's", "größe", ":"];
        let base = id(seed);
        let kind = match seed.below(20) {
            0..12 => Kind::Mixed,
            12 | 13 => Kind::Damaged,
            14 => Kind::UnreadableBranch,
            15 => Kind::UnreadableRun,
            16 | 17 => Kind::NodesOnly,
            18 => Kind::YoungNodesOnly,
            _ => Kind::YoungLeftovers,
        };
        // A run that cannot be read may have its history anywhere in its shard, and keeps all that has no rows there.
        let apart = kind == Kind::UnreadableRun;
        let shard = if apart { SHARDS } else { i32::try_from(seed.below(SHARDS as u64 - 1)).unwrap() + 1 };
        let name = NAMES[seed.below(NAMES.len() as u64) as usize];
        let mut tree = Self {
            shard,
            id: base,
            workflow: format!("{name}-{number}"),
            kind,
            runs: Vec::new(),
            nodes: BTreeSet::new(),
        };
        tree.run(seed, base, Vec::new(), 1);
        for _ in 0..seed.below(8) {
            let from = seed.below(tree.runs.len() as u64) as usize;
            let (path, at) = tree.fork(seed, from);
            let run = id(seed);
            tree.run(seed, run, path, at);
        }
        // Now and then a run has its history in two versions.
        if seed.below(5) == 0 {
            let of = seed.below(tree.runs.len() as u64) as usize;
            let (path, at) = tree.fork(seed, of);
            let branch = id(seed);
            let whole = tree.branch(seed, branch, path, at);
            tree.runs[of].branches.push((branch, whole));
        }
        tree.die(seed);
        tree
    }

    fn run(&mut self, seed: &mut Seed, run: Uuid, path: Vec<(Uuid, i64, i64)>, at: i64) {
        let branch = id(seed);
        let whole = self.branch(seed, branch, path, at);
        self.runs.push(Planted {
            run,
            branches: vec![(branch, whole)],
            has_run: true,
            has_row: true,
            young: false,
            young_nodes: false,
        });
    }

    /// Writes some nodes of a branch, now and then one twice: a write that failed leaves its node behind.
    fn branch(
        &mut self,
        seed: &mut Seed,
        branch: Uuid,
        mut path: Vec<(Uuid, i64, i64)>,
        at: i64,
    ) -> Vec<(Uuid, i64, i64)> {
        let mut node = at;
        for _ in 0..2 + seed.below(6) {
            self.nodes.insert((branch, node, -(1 + seed.below(1 << 40).cast_signed())));
            if seed.below(8) == 0 {
                self.nodes.insert((branch, node, -(1 + seed.below(1 << 40).cast_signed())));
            }
            node += 1 + seed.below(4).cast_signed();
        }
        path.push((branch, at, i64::MAX));
        path
    }

    /// The path of a run's first branch up to one of its nodes, and that node.
    fn fork(&self, seed: &mut Seed, from: usize) -> (Vec<(Uuid, i64, i64)>, i64) {
        let path = &self.runs[from].branches[0].1;
        let on_path = |(branch, node, _): &&(Uuid, i64, i64)| {
            *node > 1 && path.iter().any(|(of, from, to)| of == branch && (*from..*to).contains(node))
        };
        let nodes: Vec<i64> = self.nodes.iter().filter(on_path).map(|(_, node, _)| *node).collect();
        let at = nodes[seed.below(nodes.len() as u64) as usize];
        let before = path.iter().map(|(branch, from, to)| (*branch, *from, at.min(*to)));
        (before.filter(|(_, from, to)| from < to).collect(), at)
    }

    /// Lets runs go in every way.
    fn die(&mut self, seed: &mut Seed) {
        let one = seed.below(self.runs.len() as u64) as usize;
        let all_nodes = matches!(self.kind, Kind::NodesOnly | Kind::YoungNodesOnly);
        for (at, planted) in self.runs.iter_mut().enumerate() {
            if all_nodes {
                (planted.has_run, planted.has_row) = (false, false);
                continue;
            }
            match seed.below(6) {
                // Temporal deletes it, as it should.
                0 => (planted.has_run, planted.has_row) = (false, false),
                1 | 2 if self.kind != Kind::YoungLeftovers => {
                    planted.has_run = false;
                    planted.young = seed.below(5) == 0;
                }
                _ => {}
            }
            if at == one && self.kind != Kind::Mixed {
                (planted.has_run, planted.young) = (true, false);
                planted.has_row = self.kind != Kind::Damaged;
            }
        }
        if self.kind == Kind::YoungNodesOnly {
            self.runs[one].young_nodes = true;
            return;
        }
        if all_nodes {
            return;
        }
        // What Temporal deletes it deletes with its nodes, but for those that others use.
        let rows: Vec<_> = self.runs.iter().filter(|planted| planted.has_row || planted.has_run).collect();
        let ranges: Vec<_> = rows.iter().flat_map(|of| &of.branches).flat_map(|(_, path)| path).copied().collect();
        self.nodes.retain(|(branch, node, _)| {
            ranges.iter().any(|(of, from, to)| of == branch && (*from..*to).contains(node))
        });
        // Some of the orphans lose their rows too.
        for planted in self.runs.iter_mut().filter(|planted| planted.has_row && !planted.has_run && !planted.young) {
            planted.has_row = seed.below(3) > 0;
        }
        let beside = (one + 1) % self.runs.len();
        if self.kind == Kind::YoungLeftovers && beside != one && self.runs[beside].branches.len() == 1 {
            let planted = &mut self.runs[beside];
            (planted.has_run, planted.has_row, planted.young_nodes) = (false, false, true);
        }
        // A tree that was left with nothing but nodes is judged as one, whatever it was meant to be.
        if self.kind == Kind::Mixed && self.runs.iter().all(|planted| !planted.has_row) {
            self.kind = Kind::NodesOnly;
        }
    }

    /// The branches that live; `None` when the tree has to stay as it is.
    fn living(&self) -> Option<BTreeSet<Uuid>> {
        match self.kind {
            Kind::Damaged | Kind::UnreadableBranch | Kind::UnreadableRun | Kind::YoungNodesOnly => None,
            Kind::NodesOnly => Some(BTreeSet::new()),
            Kind::Mixed | Kind::YoungLeftovers => {
                let lives = |planted: &&Planted| planted.has_row && (planted.has_run || planted.young);
                Some(self.runs.iter().filter(lives).flat_map(|of| &of.branches).map(|(branch, _)| *branch).collect())
            }
        }
    }

    /// The row of `executions` of a run.
    fn execution(&self, planted: &Planted, encoding: &str) -> String {
        let (mut state, data) = (Vec::new(), blob(&self.info(planted)));
        put(&mut state, 3, Number(3));
        format!(
            "INSERT INTO executions (shard_id, namespace_id, workflow_id, run_id, next_event_id, last_write_version, data, \
             data_encoding, state, state_encoding) \
             VALUES ({}, {}, '{}', {}, 9, 0, {data}, '{encoding}', {}, 'Proto3');\n",
            self.shard,
            raw(NAMESPACE),
            self.workflow.replace('\'', "''"),
            raw(planted.run),
            blob(&state)
        )
    }

    fn write(&self, sql: &mut String) {
        let now = Timestamp::now().as_second();
        let (old, young) = (now - 30 * 86_400, now - 86_400);
        let (shard, tree) = (self.shard, raw(self.id));
        let mut unreadable = Some(()).filter(|()| self.kind == Kind::UnreadableRun);
        let mut unreadable_branch = Some(()).filter(|()| self.kind == Kind::UnreadableBranch);
        for planted in &self.runs {
            if planted.has_run {
                let encoding = if unreadable.take().is_some() { "Json" } else { "Proto3" };
                sql.push_str(&self.execution(planted, encoding));
            }
            for (branch, path) in planted.branches.iter().filter(|_| planted.has_row) {
                let encoding = if unreadable_branch.take().is_some() { "Json" } else { "Proto3" };
                let mut info = Vec::new();
                put(&mut info, 1, Bytes(&self.token(*branch, path)));
                put(&mut info, 2, Bytes(&timestamp(if planted.young { young } else { old })));
                put(&mut info, 3, Bytes(format!("{NAMESPACE}:{}:{}", self.workflow, planted.run).as_bytes()));
                let (branch, info) = (raw(*branch), blob(&info));
                let _ = writeln!(
                    sql,
                    "INSERT INTO history_tree (shard_id, tree_id, branch_id, data, data_encoding) \
                     VALUES ({shard}, {tree}, {branch}, {info}, '{encoding}');"
                );
            }
        }
        for (branch, node, txn) in &self.nodes {
            let is_young = self.runs.iter().any(|of| of.young_nodes && of.branches[0].0 == *branch);
            let (mut event, mut batch) = (Vec::new(), Vec::new());
            put(&mut event, 1, Number(node.cast_unsigned()));
            put(&mut event, 2, Bytes(&timestamp(if is_young { young } else { old })));
            put(&mut batch, 1, Bytes(&event));
            let (branch, batch) = (raw(*branch), blob(&batch));
            let _ = writeln!(
                sql,
                "INSERT INTO history_node (shard_id, tree_id, branch_id, node_id, txn_id, data, data_encoding) \
                 VALUES ({shard}, {tree}, {branch}, {node}, {txn}, {batch}, 'Proto3');"
            );
        }
    }

    /// `WorkflowExecutionInfo`.
    fn info(&self, planted: &Planted) -> Vec<u8> {
        let (mut info, mut histories) = (Vec::new(), Vec::new());
        put(&mut info, 1, Bytes(NAMESPACE.to_string().as_bytes()));
        put(&mut info, 2, Bytes(self.workflow.as_bytes()));
        for (branch, path) in &planted.branches {
            let mut history = Vec::new();
            put(&mut history, 1, Bytes(&self.token(*branch, path)));
            put(&mut histories, 2, Bytes(&history));
        }
        put(&mut info, 54, Bytes(&histories));
        info
    }

    /// `HistoryBranch`.
    fn token(&self, branch: Uuid, path: &[(Uuid, i64, i64)]) -> Vec<u8> {
        let mut token = Vec::new();
        put(&mut token, 1, Bytes(self.id.to_string().as_bytes()));
        put(&mut token, 2, Bytes(branch.to_string().as_bytes()));
        for (ancestor, from, to) in path.iter().filter(|(of, _, _)| *of != branch) {
            let mut range = Vec::new();
            put(&mut range, 1, Bytes(ancestor.to_string().as_bytes()));
            put(&mut range, 2, Number(from.cast_unsigned()));
            put(&mut range, 3, Number(to.cast_unsigned()));
            put(&mut token, 3, Bytes(&range));
        }
        token
    }
}
