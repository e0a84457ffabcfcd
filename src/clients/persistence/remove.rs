//! The one place where Temporal's tables are written: histories that nothing refers to any more are removed.

use jiff::Timestamp;
use prost::Message;
use sqlx::Connection;
use uuid::Uuid;

use super::executions::readable;
use super::messages::History;
use super::{Branch, RunKey, Session};
use crate::clients::postgres::PostgresError;

/// What is to be removed of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Branches whose rows go.
    pub branches: Vec<Uuid>,
    /// Nodes that go: of a branch, from this node on.
    pub nodes: Vec<(Uuid, i64)>,
}

impl Removal {
    /// True when there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty() && self.nodes.is_empty()
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Rows of `history_tree`.
    pub branches: u64,
    /// Rows of `history_node`.
    pub nodes: u64,
}

impl Session {
    /// Removes of a tree what `decide` says, in one transaction: `decide` gets every branch of the tree, each with
    /// whether its run exists, as they are inside the transaction, with their rows locked.
    ///
    /// # Errors
    /// When a query fails; nothing is removed then.
    pub async fn remove_of_tree(
        &mut self,
        shard: i32,
        tree: Uuid,
        decide: impl FnOnce(&[(Branch, bool)]) -> Removal,
    ) -> Result<Removed, PostgresError> {
        self.execute("BEGIN").await?;
        let removed = self.in_transaction(shard, tree, decide).await;
        // After a failure the server has nothing to commit, and a connection that is gone rolls back by itself.
        let ended = self.execute(if removed.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        let removed = removed?;
        ended?;
        Ok(removed)
    }

    async fn in_transaction(
        &mut self,
        shard: i32,
        tree: Uuid,
        decide: impl FnOnce(&[(Branch, bool)]) -> Removal,
    ) -> Result<Removed, PostgresError> {
        const LOCK: &str = "SELECT 1 FROM history_tree WHERE shard_id = $1 AND tree_id = $2 FOR UPDATE";
        let key = tree.as_bytes().to_vec();
        let locked = sqlx::query(LOCK).bind(shard).bind(&key).fetch_all(&mut self.connection).await;
        locked.map_err(|error| self.persistence.error("locking the branches of a history", error))?;
        let branches = self.branches_of(shard, tree).await?;
        let keys: Vec<RunKey> = branches.iter().filter_map(|branch| branch.run.clone()).collect();
        let mut exist = self.exist(&keys).await?.into_iter();
        // A branch that does not say whose it is counts as somebody's.
        let with_runs = branches.into_iter().map(|branch| {
            let exists = if branch.run.is_some() { exist.next().unwrap_or(true) } else { true };
            (branch, exists)
        });
        let with_runs: Vec<(Branch, bool)> = with_runs.collect();
        let removal = decide(&with_runs);
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

    async fn execute(&mut self, sql: &'static str) -> Result<(), PostgresError> {
        let done = sqlx::raw_sql(sql).execute(&mut self.connection).await;
        done.map(drop).map_err(|error| self.persistence.error("removing histories", error))
    }
}
