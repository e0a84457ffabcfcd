//! The judge of orphaned histories: the rows of Temporal's tables, read by psql, and for each node the question whether
//! any run reaches it. It is slow and simple, and shares no code with sexton.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::postgres::Scratch;
use super::wire::{self, Value};

/// The namespace `temporal-system` (`primitives.SystemNamespaceID` in the server's source).
const SYSTEM: &str = "32049b68-7872-4094-8e63-d0dd59896a83:";

/// Shard, tree and branch.
pub type BranchKey = (i32, Uuid, Uuid);
/// Shard, tree, branch, node and (negated) transaction.
pub type NodeKey = (i32, Uuid, Uuid, i64, i64);

/// Which nodes belong to a history: those of a branch from one on, to the one before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub shard: i32,
    pub tree: Uuid,
    pub branch: Uuid,
    pub ranges: Vec<(Uuid, i64, i64)>,
}

/// A row of `executions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `namespace:workflow:run`.
    pub name: String,
    /// Each version of its history.
    pub paths: Vec<Path>,
}

/// A row of `history_tree`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// `namespace:workflow:run`.
    pub name: String,
    pub path: Path,
    pub data: String,
}

/// All rows that have to do with histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histories {
    pub runs: Vec<Run>,
    pub branches: BTreeMap<BranchKey, Branch>,
    /// With the checksum of what is in them.
    pub nodes: BTreeMap<NodeKey, String>,
}

/// What nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orphaned {
    pub branches: BTreeSet<BranchKey>,
    pub nodes: BTreeSet<NodeKey>,
}

impl Orphaned {
    pub fn trees(&self) -> BTreeSet<(i32, Uuid)> {
        let of_nodes = self.nodes.iter().map(|node| (node.0, node.1));
        self.branches.iter().map(|branch| (branch.0, branch.1)).chain(of_nodes).collect()
    }
}

/// A `HistoryBranch`.
fn path(shard: i32, branch: &[u8]) -> Path {
    let id = |text: String| Uuid::parse_str(&text).unwrap();
    let ancestor = |range: &[u8]| (id(wire::text(range, 1)), wire::number(range, 2), wire::number(range, 3));
    let mut ranges: Vec<_> = wire::all(branch, 3).into_iter().map(ancestor).collect();
    let own = id(wire::text(branch, 2));
    ranges.push((own, ranges.last().map_or(1, |last| last.2), i64::MAX));
    Path { shard, tree: id(wire::text(branch, 1)), branch: own, ranges }
}

impl Path {
    fn reaches(&self, node: &NodeKey) -> bool {
        let in_range = |range: &(Uuid, i64, i64)| range.0 == node.2 && (range.1..range.2).contains(&node.3);
        (self.shard, self.tree) == (node.0, node.1) && self.ranges.iter().any(in_range)
    }
}

impl Histories {
    pub fn read(database: &Scratch) -> Self {
        let rows = |sql: &str| {
            let said = database.psql(sql);
            said.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
        };
        let id = |hex: &str| Uuid::parse_str(hex).unwrap();
        let bytes = |hex: &str| hex::decode(hex).unwrap();
        let run = |row: &Vec<String>| {
            let (shard, data) = (row[0].parse().unwrap(), bytes(&row[4]));
            let versions = wire::all(wire::one(&data, 54), 2);
            let tokens = versions.iter().map(|version| wire::one(version, 1)).filter(|token| !token.is_empty());
            let workflow = String::from_utf8(bytes(&row[2])).unwrap();
            let name = format!("{}:{workflow}:{}", id(&row[1]), id(&row[3]));
            Run { name, paths: tokens.map(|token| path(shard, token)).collect() }
        };
        let branch = |row: &Vec<String>| {
            let (shard, data) = (row[0].parse().unwrap(), bytes(&row[3]));
            let path = path(shard, wire::one(&data, 1));
            let key = (shard, id(&row[1]), id(&row[2]));
            assert_eq!((path.shard, path.tree, path.branch), key);
            (key, Branch { name: wire::text(&data, 3), path, data: row[3].clone() })
        };
        let node = |row: &Vec<String>| {
            let key =
                (row[0].parse().unwrap(), id(&row[1]), id(&row[2]), row[3].parse().unwrap(), row[4].parse().unwrap());
            (key, row[5].clone())
        };
        let runs = rows(
            "SELECT shard_id, encode(namespace_id, 'hex'), encode(convert_to(workflow_id, 'UTF8'), 'hex'), \
             encode(run_id, 'hex'), encode(data, 'hex') FROM executions",
        );
        let branches = rows(
            "SELECT shard_id, encode(tree_id, 'hex'), encode(branch_id, 'hex'), encode(data, 'hex') FROM history_tree",
        );
        let nodes = rows(
            "SELECT shard_id, encode(tree_id, 'hex'), encode(branch_id, 'hex'), node_id, txn_id, md5(data) \
             FROM history_node",
        );
        let mut all = Self {
            runs: runs.iter().map(run).collect(),
            branches: branches.iter().map(branch).collect(),
            nodes: nodes.iter().map(node).collect(),
        };
        // Temporal's own workflows run whenever they like.
        let system = |name: &str| name.starts_with(SYSTEM);
        let theirs = all.runs.iter().filter(|run| system(&run.name)).flat_map(|run| &run.paths);
        let theirs: BTreeSet<Uuid> = theirs.map(|path| path.tree).collect();
        all.runs.retain(|run| !system(&run.name));
        all.branches.retain(|key, _| !theirs.contains(&key.1));
        all.nodes.retain(|key, _| !theirs.contains(&key.1));
        all
    }

    /// What no run reaches. In a tree in which a run's own branch has no row everything counts as reached.
    pub fn orphaned(&self) -> Orphaned {
        let names: BTreeSet<&str> = self.runs.iter().map(|run| run.name.as_str()).collect();
        let reached: Vec<&Path> = self.runs.iter().flat_map(|run| &run.paths).collect();
        let key = |path: &Path| (path.shard, path.tree, path.branch);
        let damaged: BTreeSet<(i32, Uuid)> = reached
            .iter()
            .filter(|path| !self.branches.contains_key(&key(path)))
            .map(|path| (path.shard, path.tree))
            .collect();
        let mut orphaned = Orphaned::default();
        let mut living: Vec<&Path> = reached.clone();
        for (key_of_row, branch) in &self.branches {
            let lives = names.contains(branch.name.as_str()) || reached.iter().any(|path| key(path) == *key_of_row);
            if lives {
                living.push(&branch.path);
            } else if !damaged.contains(&(key_of_row.0, key_of_row.1)) {
                orphaned.branches.insert(*key_of_row);
            }
        }
        let mut by_tree: BTreeMap<(i32, Uuid), Vec<&Path>> = BTreeMap::new();
        for path in living {
            by_tree.entry((path.shard, path.tree)).or_default().push(path);
        }
        for node in self.nodes.keys().filter(|node| !damaged.contains(&(node.0, node.1))) {
            let in_tree = by_tree.get(&(node.0, node.1)).into_iter().flatten();
            if !in_tree.into_iter().any(|path| path.reaches(node)) {
                orphaned.nodes.insert(*node);
            }
        }
        orphaned
    }

    /// Panics unless exactly these rows are gone since `before`, and all others are as they were.
    #[track_caller]
    pub fn assert_lacks_only(&self, before: &Self, gone: &Orphaned) {
        let mut expected = before.clone();
        expected.branches.retain(|key, _| !gone.branches.contains(key));
        expected.nodes.retain(|key, _| !gone.nodes.contains(key));
        let lost: Vec<_> = expected.nodes.keys().filter(|key| !self.nodes.contains_key(key)).collect();
        assert!(lost.is_empty(), "nodes that are reached are gone: {lost:?}");
        let left: Vec<_> = self.nodes.keys().filter(|key| gone.nodes.contains(key)).collect();
        assert!(left.is_empty(), "nodes that nothing reaches are left: {left:?}");
        assert_eq!(self.branches, expected.branches);
        assert_eq!(self.nodes, expected.nodes);
    }
}

/// Rewrites a column of the rows that fit a condition.
pub fn rewrite(database: &Scratch, table: &str, column: &str, condition: &str, new: impl Fn(&[u8]) -> Vec<u8>) -> u64 {
    let rows = database.psql(&format!("SELECT ctid, encode({column}, 'hex') FROM {table} WHERE {condition}"));
    let mut updates = String::from("BEGIN;\n");
    for row in rows.lines() {
        let (place, data) = row.split_once('|').unwrap();
        let data = hex::encode(new(&hex::decode(data).unwrap()));
        updates += &format!("UPDATE {table} SET {column} = '\\x{data}' WHERE ctid = '{place}';\n");
    }
    database.psql(&(updates + "COMMIT;"));
    rows.lines().count() as u64
}

/// Rewrites `executions.data` so that the closed runs that fit the condition ended at this instant, in seconds since 1970.
/// A server that runs keeps what it has read of them.
pub fn closed_at(database: &Scratch, condition: &str, seconds: i64) -> u64 {
    let at = wire::timestamp(seconds);
    rewrite(database, "executions", "data", condition, |data| {
        assert!(!wire::one(data, 66).is_empty(), "{condition}: it is not closed");
        wire::replace(data, 66, Value::Bytes(&at))
    })
}
