//! `history_tree` and `history_node`: the branches that histories are kept in.
//!
//! A run's first branch is in a tree of the run's own id; a reset forks a branch off it for the new run, in the same
//! tree, and goes on using the nodes before the fork. So a branch lives while its own run does, and its nodes live
//! while any branch of the tree has them as an ancestor, whether the branch has a row of its own or not.

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::executions::readable;
use super::messages::{HistoryBranch, HistoryBranchRange, HistoryTreeInfo};
use super::{RunKey, Session};
use crate::clients::postgres::PostgresError;

/// A row of `history_tree`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The history shard.
    pub shard: i32,
    /// The tree.
    pub tree: Uuid,
    /// The branch.
    pub id: Uuid,
    /// The branches whose nodes it goes on from, the oldest first.
    pub ancestors: Vec<Ancestor>,
    /// The run it was made for; `None` when the row does not say.
    pub run: Option<RunKey>,
    /// When it was made.
    pub forked: Option<Timestamp>,
    /// False when the row is in an encoding that is not read, or does not say what its columns say: which nodes it
    /// uses is not known then.
    pub readable: bool,
}

/// Nodes of another branch that a branch uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestor {
    /// The other branch.
    pub branch: Uuid,
    /// The first node that is not used any more.
    pub end: i64,
}

/// Nodes of a branch that has no row in `history_tree`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover {
    /// The history shard.
    pub shard: i32,
    /// The tree.
    pub tree: Uuid,
    /// The branch.
    pub branch: Uuid,
    /// True when there is a run of the tree's id.
    pub has_run: bool,
}

/// Trees whose rows are fetched with one statement.
const TOGETHER: usize = 5_000;

impl Session {
    /// Every branch of a tree.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn branches_of(&mut self, shard: i32, tree: Uuid) -> Result<Vec<Branch>, PostgresError> {
        self.branches_of_trees(&[(shard, tree)]).await
    }

    /// Every branch of some trees.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn branches_of_trees(&mut self, trees: &[(i32, Uuid)]) -> Result<Vec<Branch>, PostgresError> {
        type Row = (i32, Vec<u8>, Vec<u8>, Vec<u8>, String);
        // OFFSET keeps the planner at one look into the primary key per tree.
        const ROWS: &str = "SELECT b.shard_id, b.tree_id, b.branch_id, b.data, b.data_encoding \
            FROM unnest($1::int4[], $2::bytea[]) AS key (shard_id, tree_id) CROSS JOIN LATERAL \
            (SELECT * FROM history_tree t WHERE t.shard_id = key.shard_id AND t.tree_id = key.tree_id OFFSET 0) AS b";
        let mut found = Vec::new();
        for part in trees.chunks(TOGETHER) {
            let (shards, ids): (Vec<i32>, Vec<Vec<u8>>) =
                part.iter().map(|(shard, tree)| (*shard, tree.as_bytes().to_vec())).unzip();
            let query = sqlx::query_as(ROWS).bind(shards).bind(ids);
            let asked: Result<Vec<Row>, _> = query.fetch_all(&mut self.connection).await;
            let rows =
                asked.map_err(|error| self.persistence.error("reading the branches of Temporal's histories", error))?;
            found.extend(rows.iter().map(|(shard, tree, id, data, encoding)| branch(*shard, tree, id, data, encoding)));
        }
        Ok(found)
    }

    /// Nodes of a tree whose branch has no row.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn leftover_nodes(&mut self, shard: i32, tree: Uuid) -> Result<Vec<Leftover>, PostgresError> {
        type Row = (Vec<u8>, bool);
        const OF_TREE: &str = "SELECT DISTINCT n.branch_id, EXISTS (SELECT FROM executions e WHERE e.shard_id = $1 \
            AND e.run_id = $2) FROM history_node n WHERE n.shard_id = $1 AND n.tree_id = $2 AND NOT EXISTS \
            (SELECT FROM history_tree t WHERE t.shard_id = $1 AND t.tree_id = $2 AND t.branch_id = n.branch_id)";
        let query = sqlx::query_as(OF_TREE).bind(shard).bind(tree.as_bytes().to_vec());
        let asked: Result<Vec<Row>, _> = query.fetch_all(&mut self.connection).await;
        let rows =
            asked.map_err(|error| self.persistence.error("looking for history nodes without a branch", error))?;
        let leftover = |(branch, has_run): Row| Leftover {
            shard,
            tree,
            branch: Uuid::from_slice(&branch).unwrap_or_default(),
            has_run,
        };
        Ok(rows.into_iter().map(leftover).collect())
    }

    /// Nodes of a branch from one on, and the bytes they take in the table.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn nodes(
        &mut self,
        shard: i32,
        tree: Uuid,
        branch: Uuid,
        from: i64,
    ) -> Result<(u64, u64), PostgresError> {
        const NODES: &str = "SELECT count(*), coalesce(sum(pg_column_size(data)), 0)::int8 FROM history_node \
            WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3 AND node_id >= $4";
        let asked: Result<(i64, i64), _> = sqlx::query_as(NODES)
            .bind(shard)
            .bind(tree.as_bytes().to_vec())
            .bind(branch.as_bytes().to_vec())
            .bind(from)
            .fetch_one(&mut self.connection)
            .await;
        let (nodes, bytes) = asked.map_err(|error| self.persistence.error("measuring history nodes", error))?;
        Ok((u64::try_from(nodes).unwrap_or_default(), u64::try_from(bytes).unwrap_or_default()))
    }
}

fn branch(shard: i32, tree: &[u8], id: &[u8], data: &[u8], encoding: &str) -> Branch {
    let (tree, id) = (Uuid::from_slice(tree).unwrap_or_default(), Uuid::from_slice(id).unwrap_or_default());
    let info = readable(encoding).then(|| HistoryTreeInfo::decode(data).ok()).flatten();
    let info = info.unwrap_or_default();
    let history = info.branch_info.or_else(|| HistoryBranch::decode(&*info.branch_token).ok()).unwrap_or_default();
    let ancestors = ancestors(&history);
    // In the form that the server writes, in which the tree's id is looked for in runs too.
    let same = |text: &str, column: Uuid| text == column.to_string();
    Branch {
        shard,
        tree,
        id,
        readable: ancestors.is_some() && same(&history.tree_id, tree) && same(&history.branch_id, id),
        ancestors: ancestors.unwrap_or_default(),
        run: run_of(shard, &info.info),
        forked: info.fork_time.and_then(|time| time.instant()),
    }
}

/// The branches whose nodes a branch goes on from; `None` when one of them cannot be told.
pub(super) fn ancestors(branch: &HistoryBranch) -> Option<Vec<Ancestor>> {
    let ancestor = |range: &HistoryBranchRange| {
        Some(Ancestor { branch: Uuid::parse_str(&range.branch_id).ok()?, end: range.end_node_id })
    };
    branch.ancestors.iter().map(ancestor).collect()
}

/// `namespaceId:workflowId:runId`, where the workflow's id may have colons of its own.
fn run_of(shard: i32, info: &str) -> Option<RunKey> {
    let (namespace, rest) = info.split_once(':')?;
    let (workflow, run) = rest.rsplit_once(':')?;
    let (namespace, run) = (Uuid::parse_str(namespace).ok()?, Uuid::parse_str(run).ok()?);
    Some(RunKey { shard, namespace, workflow: workflow.to_owned(), run })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_a_branch_whatever_its_workflow_is_called() {
        let (namespace, run) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let check = |workflow: &str| {
            let found = run_of(3, &format!("{namespace}:{workflow}:{run}")).unwrap();
            assert_eq!(found, RunKey { shard: 3, namespace, workflow: workflow.to_owned(), run });
        };
        check("order-1");
        check("a:b:c");
        check(":");
        check("");
        for broken in
            ["", "x", "a:b", &format!("{namespace}:w:x"), &format!("x:w:{run}"), &format!("{namespace}:{run}")]
        {
            assert_eq!(run_of(3, broken), None, "{broken}");
        }
    }
}
