//! What runs themselves say of the branches that hold their histories. It is what Temporal goes by; the rows of
//! `history_tree` may be missing or say less.
//!
//! All runs that have their history in one tree are runs of one workflow: a reset forks within it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::branches::ancestors;
use super::executions::{KEYS, readable};
use super::messages::WorkflowExecutionInfo;
use super::{Ancestor, RunKey, Session};
use crate::clients::postgres::PostgresError;

/// A branch that a run has its history in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The tree.
    pub tree: Uuid,
    /// The branch.
    pub branch: Uuid,
    /// The branches whose nodes it goes on from, the oldest first.
    pub ancestors: Vec<Ancestor>,
}

/// What the runs of a workflow say of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    /// The branches of the tree that they have their histories in.
    pub branches: Vec<Use>,
    /// Runs that cannot be read, and so may use any branch.
    pub unreadable: u64,
}

/// What the runs of a whole shard say of some trees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users {
    /// The runs that have their history in each of the trees; none for a tree that is not here.
    pub runs: BTreeMap<Uuid, u64>,
    /// Runs that cannot be read, and so may use any tree.
    pub unreadable: u64,
}

impl Session {
    /// For each key, what the runs of its workflow say of the tree that has the key's run for its id, in order.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn uses(&mut self, trees: &[RunKey]) -> Result<Vec<Uses>, PostgresError> {
        let mut all = vec![Uses::default(); trees.len()];
        if trees.is_empty() {
            return Ok(all);
        }
        // A run in a tree carries the tree's id as text. The server looks for it, so that a workflow with thousands of
        // runs does not come over the wire; OFFSET keeps the planner at one look into the primary key per workflow.
        let sql = format!(
            "SELECT d.place, found.data, found.data_encoding FROM {KEYS} CROSS JOIN LATERAL \
             (SELECT e.data, e.data_encoding FROM executions e WHERE e.shard_id = d.shard_id \
             AND e.namespace_id = d.namespace_id AND e.workflow_id = d.workflow_id \
             AND (e.data_encoding NOT ILIKE 'proto3' \
             OR position(convert_to(encode(d.run_id, 'hex')::uuid::text, 'UTF8') IN e.data) > 0) OFFSET 0) AS found"
        );
        let rows: Vec<(i64, Vec<u8>, String)> = self.by_keys(sql, trees, "looking for the runs of a history").await?;
        for (place, data, encoding) in rows {
            let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
            let (Some(uses), Some(key)) = (all.get_mut(place), trees.get(place)) else { continue };
            match used_by(&data, &encoding) {
                Some(used) => uses.branches.extend(used.into_iter().filter(|used| used.tree == key.run)),
                None => uses.unreadable += 1,
            }
        }
        Ok(all)
    }

    /// What the runs of a shard say of these trees. Every run is looked at; one that is there all the while is seen,
    /// wherever its row moves to.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn users(&mut self, shard: i32, trees: &BTreeSet<Uuid>) -> Result<Users, PostgresError> {
        type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>, String);
        const PAGE: i64 = 5_000;
        const RUNS: &str = "SELECT namespace_id, workflow_id, run_id, data, data_encoding FROM executions \
            WHERE shard_id = $1 AND (namespace_id, workflow_id, run_id) > ($2, $3, $4) \
            ORDER BY namespace_id, workflow_id, run_id LIMIT $5";
        let mut users = Users::default();
        let (mut namespace, mut workflow, mut run) = (Vec::new(), String::new(), Vec::new());
        loop {
            let asked: Result<Vec<Row>, _> = sqlx::query_as(RUNS)
                .bind(shard)
                .bind(&namespace)
                .bind(&workflow)
                .bind(&run)
                .bind(PAGE)
                .fetch_all(&mut self.connection)
                .await;
            let rows = asked.map_err(|error| self.persistence.error("looking for the runs of histories", error))?;
            for (_, _, _, data, encoding) in &rows {
                match used_by(data, encoding) {
                    Some(used) => {
                        for tree in used.iter().map(|used| used.tree).collect::<BTreeSet<_>>().intersection(trees) {
                            *users.runs.entry(*tree).or_default() += 1;
                        }
                    }
                    None => users.unreadable += 1,
                }
            }
            match rows.into_iter().next_back() {
                Some(last) => (namespace, workflow, run) = (last.0, last.1, last.2),
                None => return Ok(users),
            }
        }
    }
}

/// The branches that a run's versions of its history are in; `None` when the row cannot be read.
pub(super) fn used_by(data: &[u8], encoding: &str) -> Option<Vec<Use>> {
    let info = readable(encoding).then(|| WorkflowExecutionInfo::of(data).ok()).flatten()?;
    let used = |branch: super::messages::HistoryBranch| {
        Some(Use {
            tree: Uuid::parse_str(&branch.tree_id).ok()?,
            branch: Uuid::parse_str(&branch.branch_id).ok()?,
            ancestors: ancestors(&branch)?,
        })
    };
    info.branches().map(|branch| branch.and_then(used)).collect()
}
