//! The one place where Temporal's tables are written: histories that nothing refers to any more are removed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use prost::Message;
use sqlx::{Connection, SqlSafeStr};
use uuid::Uuid;

use super::executions::readable;
use super::messages::History;
use super::{Branch, Leftover, RunKey, Session, Uses};
use crate::clients::postgres::PostgresError;

/// What is to be removed of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Branches whose rows go.
    pub branches: Vec<Uuid>,
    /// Nodes that go: of a branch, from this node on.
    pub nodes: Vec<(Uuid, i64)>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Rows of `history_tree`.
    pub branches: u64,
    /// Rows of `history_node`.
    pub nodes: u64,
}

/// What there is to know of a tree, as it is at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeState {
    /// Its branches, each with whether the run exists that it was made for. One that does not say whose it is counts as
    /// somebody's.
    pub branches: Vec<(Branch, bool)>,
    /// What the runs of its workflow say of it. Nothing when there is no branch to tell the workflow.
    pub uses: Uses,
    /// Branches that have nodes but no row, each with when its last event happened.
    pub leftovers: Vec<(Leftover, Option<Timestamp>)>,
}

impl Session {
    /// Removes of a tree what `decide` says, in one transaction, in which `decide` is told of the tree. Everything in it
    /// is of one snapshot, so that a run that is deleted just now cannot hide a fork that was just made of it. Nothing
    /// is removed when somebody else changes the same rows meanwhile.
    ///
    /// # Errors
    /// When a query fails; nothing is removed then.
    pub async fn remove_of_tree(
        &mut self,
        shard: i32,
        tree: Uuid,
        decide: impl FnOnce(&TreeState) -> Removal,
    ) -> Result<Removed, PostgresError> {
        /// Serialization failure and deadlock.
        const DISTURBED: [&str; 2] = ["40001", "40P01"];
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        let removed = self.in_transaction(shard, tree, decide).await;
        // After a failure the server has nothing to commit, and a connection that is gone rolls back by itself.
        let ended = self.execute(if removed.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        match removed {
            Ok(removed) => ended.map(|()| removed),
            Err(error) if error.sqlstate().is_some_and(|state| DISTURBED.contains(&state.as_str())) => {
                ended.map(|()| Removed::default())
            }
            Err(error) => Err(error),
        }
    }

    async fn in_transaction(
        &mut self,
        shard: i32,
        tree: Uuid,
        decide: impl FnOnce(&TreeState) -> Removal,
    ) -> Result<Removed, PostgresError> {
        const LOCK: &str = "SELECT 1 FROM history_tree WHERE shard_id = $1 AND tree_id = $2 FOR UPDATE";
        let key = tree.as_bytes().to_vec();
        let locked = sqlx::query(LOCK).bind(shard).bind(&key).fetch_all(&mut self.connection).await;
        locked.map_err(|error| self.persistence.error("locking the branches of a history", error))?;
        let removal = decide(&self.tree_state(shard, tree).await?);
        let mut removed = Removed::default();
        for (branch, from) in &removal.nodes {
            const NODES: &str =
                "DELETE FROM history_node WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3 AND node_id >= $4";
            let query = sqlx::query(NODES).bind(shard).bind(&key).bind(branch.as_bytes().to_vec()).bind(from);
            let done = query.execute(&mut self.connection).await;
            removed.nodes +=
                done.map_err(|error| self.persistence.error("removing history nodes", error))?.rows_affected();
        }
        for branch in &removal.branches {
            const BRANCH: &str = "DELETE FROM history_tree WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3";
            let query = sqlx::query(BRANCH).bind(shard).bind(&key).bind(branch.as_bytes().to_vec());
            let done = query.execute(&mut self.connection).await;
            removed.branches +=
                done.map_err(|error| self.persistence.error("removing a branch of a history", error))?.rows_affected();
        }
        Ok(removed)
    }

    async fn tree_state(&mut self, shard: i32, tree: Uuid) -> Result<TreeState, PostgresError> {
        let branches = self.branches_of(shard, tree).await?;
        let mut state = self.with_uses(branches).await?.pop().unwrap_or_default();
        for leftover in self.leftover_nodes(shard, tree).await? {
            let last = self.last_event(shard, tree, leftover.branch).await?;
            state.leftovers.push((leftover, last));
        }
        Ok(state)
    }

    /// The trees of these branches, with what runs there are and what they say, without leftovers. The branches of a
    /// tree have to be here together.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn with_uses(&mut self, branches: Vec<Branch>) -> Result<Vec<TreeState>, PostgresError> {
        let keys: Vec<RunKey> = branches.iter().filter_map(|branch| branch.run.clone()).collect();
        let mut exist = self.exist(&keys).await?.into_iter();
        // Branches of one tree are made for runs of one workflow. Should they say otherwise, each of them is asked.
        let of_tree = |branch: &Branch| Some(RunKey { run: branch.tree, ..branch.run.clone()? });
        let asked: Vec<RunKey> = branches.iter().filter_map(of_tree).collect::<BTreeSet<_>>().into_iter().collect();
        let uses = self.uses(&asked).await?;
        let mut trees: BTreeMap<(i32, Uuid), TreeState> = BTreeMap::new();
        for branch in branches {
            let exists = if branch.run.is_some() { exist.next().unwrap_or(true) } else { true };
            trees.entry((branch.shard, branch.tree)).or_default().branches.push((branch, exists));
        }
        for (key, uses) in asked.iter().zip(uses) {
            if let Some(state) = trees.get_mut(&(key.shard, key.run)) {
                state.uses.branches.extend(uses.branches);
                state.uses.unreadable += uses.unreadable;
            }
        }
        Ok(trees.into_values().collect())
    }

    /// When the last event of a branch happened; `None` when it has no nodes or they cannot be read.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn last_event(
        &mut self,
        shard: i32,
        tree: Uuid,
        branch: Uuid,
    ) -> Result<Option<Timestamp>, PostgresError> {
        const LAST: &str = "SELECT data, data_encoding FROM history_node \
            WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3 ORDER BY node_id DESC, txn_id LIMIT 1";
        let asked: Result<Option<(Vec<u8>, String)>, _> = sqlx::query_as(LAST)
            .bind(shard)
            .bind(tree.as_bytes().to_vec())
            .bind(branch.as_bytes().to_vec())
            .fetch_optional(&mut self.connection)
            .await;
        let row = asked.map_err(|error| self.persistence.error("reading a history's last node", error))?;
        let history = row.filter(|(_, encoding)| readable(encoding)).and_then(|(data, _)| History::decode(&*data).ok());
        Ok(history.and_then(|history| history.events.last()?.event_time?.instant()))
    }

    /// Ends the session.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }

    pub(super) async fn execute(&mut self, sql: impl SqlSafeStr) -> Result<(), PostgresError> {
        let done = sqlx::raw_sql(sql).execute(&mut self.connection).await;
        done.map(drop).map_err(|error| self.persistence.error("setting up a transaction on histories", error))
    }
}
