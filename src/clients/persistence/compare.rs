//! Histories compared with runs, by the keys of their indexes alone and a slice at a time.
//!
//! A slice's keys are held in memory. All of them are of one snapshot: a run or a branch that comes or goes meanwhile
//! is seen the same from all three tables. They come a shard at a time, put together by the server: a row for each of
//! them would cost more than finding it.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Branch, Leftover, Session};
use crate::clients::postgres::{Fields, PostgresError};

/// A part of the histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Of these history shards.
    pub shards: Range<i32>,
    /// The trees whose ids begin with these two bytes.
    pub trees: Range<u32>,
}

/// What a slice was found to have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// The branches of which it is not plain that they live: those in a tree of no run's id, and those in a tree with
    /// several branches. All others are the only branch of a run that exists.
    pub doubtful: Vec<Branch>,
    /// Nodes whose branch has no row.
    pub leftovers: Vec<Leftover>,
    /// Branches that have no node of their own.
    pub bare: Vec<Branch>,
    /// Branches whose key is none that a server writes.
    pub malformed: u64,
}

/// Shard, tree and branch.
type Key = (i32, Uuid, Uuid);

/// Compiling such statements costs more than it saves, and what comes sorted from an index need not be hashed.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off; \
    SET LOCAL work_mem = '64MB'; SET LOCAL enable_hashagg = off";
const DOING: &str = "comparing histories with runs";

impl Slice {
    /// Every tree id there can be.
    pub const ALL_TREES: Range<u32> = 0..0x1_0000;

    /// The condition on `shard_id`, and on the column that has a tree's id.
    fn of(&self, id: &str) -> String {
        let mut condition = format!("shard_id >= {} AND shard_id < {}", self.shards.start, self.shards.end);
        if self.trees.start > Self::ALL_TREES.start {
            condition += &format!(r" AND {id} >= '\x{:04x}'::bytea", self.trees.start);
        }
        if self.trees.end < Self::ALL_TREES.end {
            condition += &format!(r" AND {id} < '\x{:04x}'::bytea", self.trees.end);
        }
        condition
    }
}

impl Session {
    /// About how many runs the cluster has, or branches where there are more of these.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn histories(&mut self) -> Result<u64, PostgresError> {
        // As the planner does it: as densely as at the last vacuum, in as many pages as there are now. A page has room for
        // 136 of the shortest keys. Fewer than 20 would be an index that was almost empty then.
        const ROWS: &str = "SELECT max(pg_relation_size(oid) / current_setting('block_size')::int8 * CASE \
            WHEN relpages > 0 AND reltuples > 0 THEN greatest(reltuples / relpages, 20) ELSE 136 END)::int8 \
            FROM pg_class WHERE oid IN ('executions_pkey'::regclass, 'history_tree_pkey'::regclass)";
        let asked: Result<i64, _> = sqlx::query_scalar(ROWS).fetch_one(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error("estimating the histories there are", error))?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// How many pages the indexes have that are read to compare histories with runs.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn compared_pages(&mut self) -> Result<u64, PostgresError> {
        let mut pages = 0;
        for index in ["executions_pkey", "history_tree_pkey", "history_node_pkey"] {
            pages += self.pages(index).await?;
        }
        Ok(pages)
    }

    /// Compares the runs, branches and nodes of a slice. All of it together is bounded as a statement is: one snapshot
    /// is held for it.
    ///
    /// # Errors
    /// When a query fails. The connection is of no use then.
    pub async fn compare_histories(&mut self, slice: &Slice) -> Result<Compared, PostgresError> {
        let (begun, which) = (Instant::now(), slice.of("tree_id"));
        self.execute(BEGIN).await?;
        let runs = self.runs_of(slice).await?;
        self.bound(begun).await?;
        let (branches, malformed) = self.keys(&format!("history_tree WHERE {which}")).await?;
        self.bound(begun).await?;
        // Each branch once.
        let branches_of_nodes = format!(
            "(SELECT shard_id, tree_id, branch_id FROM history_node WHERE {which} GROUP BY shard_id, tree_id, branch_id) AS n"
        );
        let (nodes, _) = self.keys(&branches_of_nodes).await?;
        let (bare, unmatched) = apart(&branches, &nodes);
        drop(nodes);
        self.bound(begun).await?;
        let doubtful = self.branches_of_trees(&doubtful(&branches, &runs)).await?;
        self.bound(begun).await?;
        let bare = self.rows_of(bare).await?;
        self.execute("COMMIT").await?;
        let leftover = |(shard, tree, branch): Key| {
            let has_run = runs.binary_search(&(shard, tree)).is_ok();
            Leftover { shard, tree, branch, has_run }
        };
        Ok(Compared { doubtful, leftovers: unmatched.into_iter().map(leftover).collect(), bare, malformed })
    }

    /// Gives the next statement what is left of the time that the first was given.
    async fn bound(&mut self, begun: Instant) -> Result<(), PostgresError> {
        let limit = self.persistence.postgres.settings().statement_timeout;
        if limit.is_zero() {
            return Ok(());
        }
        // Zero would be no bound at all.
        let left = limit.saturating_sub(begun.elapsed()).as_millis().max(1);
        self.execute(AssertSqlSafe(format!("SET LOCAL statement_timeout = {left}"))).await
    }

    /// The ids of the runs, in order.
    async fn runs_of(&mut self, slice: &Slice) -> Result<Vec<(i32, Uuid)>, PostgresError> {
        let sql = format!(
            "SELECT shard_id, string_agg(run_id, '') FILTER (WHERE octet_length(run_id) = 16) FROM executions \
             WHERE {} GROUP BY shard_id",
            slice.of("run_id")
        );
        let mut runs = Vec::new();
        let each = |fields: &Fields<'_, 2>| {
            let (ids, _) = fields.bytes(1).as_chunks::<16>();
            runs.extend(ids.iter().map(|id| (fields.int4(0), Uuid::from_bytes(*id))));
        };
        self.copy_rows(&sql, DOING, each).await?;
        runs.sort_unstable();
        Ok(runs)
    }

    /// The branches that a table or a query has, in order, and how many keys there are that no server writes.
    async fn keys(&mut self, from: &str) -> Result<(Vec<Key>, u64), PostgresError> {
        let sql = format!(
            "SELECT shard_id, count(*), string_agg(tree_id || branch_id, '') \
             FILTER (WHERE octet_length(tree_id) = 16 AND octet_length(branch_id) = 16) FROM {from} GROUP BY shard_id"
        );
        let (mut keys, mut all) = (Vec::new(), 0);
        let each = |fields: &Fields<'_, 3>| {
            all += u64::try_from(fields.int8(1)).unwrap_or_default();
            let (ids, _) = fields.bytes(2).as_chunks::<16>();
            let (pairs, _) = ids.as_chunks::<2>();
            let id = Uuid::from_bytes;
            keys.extend(pairs.iter().map(|[tree, branch]| (fields.int4(0), id(*tree), id(*branch))));
        };
        self.copy_rows(&sql, DOING, each).await?;
        let malformed = all.saturating_sub(keys.len() as u64);
        // The index has them in this order already, and sorting what is sorted costs next to nothing.
        keys.sort();
        Ok((keys, malformed))
    }

    async fn rows_of(&mut self, branches: Vec<Key>) -> Result<Vec<Branch>, PostgresError> {
        let mut trees: Vec<(i32, Uuid)> = branches.iter().map(|(shard, tree, _)| (*shard, *tree)).collect();
        trees.dedup();
        let wanted: BTreeSet<Key> = branches.into_iter().collect();
        let mut rows = self.branches_of_trees(&trees).await?;
        rows.retain(|row| wanted.contains(&(row.shard, row.tree, row.id)));
        Ok(rows)
    }
}

/// The trees of no run's id and those with several branches; branches and runs are in order.
fn doubtful(branches: &[Key], mut runs: &[(i32, Uuid)]) -> Vec<(i32, Uuid)> {
    let mut found = Vec::new();
    for tree in branches.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let [(shard, id, _), others @ ..] = tree else { continue };
        while let Some((run, behind)) = runs.split_first()
            && *run < (*shard, *id)
        {
            runs = behind;
        }
        if !others.is_empty() || runs.first() != Some(&(*shard, *id)) {
            found.push((*shard, *id));
        }
    }
    found
}

/// What only the one has and what only the other has; both are in order and have nothing twice.
fn apart(mut ours: &[Key], mut theirs: &[Key]) -> (Vec<Key>, Vec<Key>) {
    let (mut only_ours, mut only_theirs) = (Vec::new(), Vec::new());
    while let (Some((our, ours_behind)), Some((their, theirs_behind))) = (ours.split_first(), theirs.split_first()) {
        match our.cmp(their) {
            Ordering::Less => {
                only_ours.push(*our);
                ours = ours_behind;
            }
            Ordering::Equal => (ours, theirs) = (ours_behind, theirs_behind),
            Ordering::Greater => {
                only_theirs.push(*their);
                theirs = theirs_behind;
            }
        }
    }
    only_ours.extend_from_slice(ours);
    only_theirs.extend_from_slice(theirs);
    (only_ours, only_theirs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn keys(any: &BTreeSet<(i32, u8, u8)>) -> Vec<Key> {
        any.iter().map(|(shard, tree, branch)| (*shard, id(*tree), id(*branch))).collect()
    }

    fn id(number: u8) -> Uuid {
        Uuid::from_u128(u128::from(number))
    }

    proptest! {
        #[test]
        fn both_sides_are_told_what_only_they_have(
            rows in prop::collection::btree_set((1..3, 0..4_u8, 0..4_u8), 0..20),
            nodes in prop::collection::btree_set((1..3, 0..4_u8, 0..4_u8), 0..20),
        ) {
            let only = |a: &BTreeSet<_>, b| keys(&a.difference(b).copied().collect());
            prop_assert_eq!(apart(&keys(&rows), &keys(&nodes)), (only(&rows, &nodes), only(&nodes, &rows)));
        }

        #[test]
        fn a_tree_is_in_doubt_without_its_run_and_with_several_branches(
            rows in prop::collection::btree_set((1..3, 0..6_u8, 0..3_u8), 0..12),
            runs in prop::collection::btree_set((1..3, 0..6_u8), 0..12),
        ) {
            let branches = |tree: (i32, u8)| rows.iter().filter(|row| (row.0, row.1) == tree).count();
            let trees: BTreeSet<(i32, u8)> = rows.iter().map(|row| (row.0, row.1)).collect();
            let doubted = trees.into_iter().filter(|tree| branches(*tree) > 1 || !runs.contains(tree));
            let expected: Vec<(i32, Uuid)> = doubted.map(|(shard, tree)| (shard, id(tree))).collect();
            let runs: Vec<(i32, Uuid)> = runs.iter().map(|(shard, run)| (*shard, id(*run))).collect();
            prop_assert_eq!(doubtful(&keys(&rows), &runs), expected);
        }
    }

    #[test]
    fn the_ends_of_a_slice_are_left_open() {
        let of = |trees: Range<u32>| Slice { shards: 1..3, trees }.of("tree_id");
        assert_eq!(of(Slice::ALL_TREES), "shard_id >= 1 AND shard_id < 3");
        assert_eq!(of(0..0x8000), r"shard_id >= 1 AND shard_id < 3 AND tree_id < '\x8000'::bytea");
        assert_eq!(of(0x80..0x1_0000), r"shard_id >= 1 AND shard_id < 3 AND tree_id >= '\x0080'::bytea");
    }
}
