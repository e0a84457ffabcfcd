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
use crate::clients::postgres::{Fields, PostgresError};

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
    /// Its nodes.
    pub nodes: u64,
    /// True when there is a run of the tree's id.
    pub has_run: bool,
}

/// Shards, from the first to the one before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRange {
    /// The first shard.
    pub from: i32,
    /// The shard after the last one.
    pub to: i32,
}

impl ShardRange {
    fn of(self, column: &str) -> String {
        format!("{column} >= {} AND {column} < {}", self.from, self.to)
    }
}

/// Begins a transaction for a statement that reads whole indexes: compiling it costs more than it saves, and what it
/// sorts and hashes should not go to disk at once.
const LARGE: &str = "BEGIN; SET LOCAL jit = off; SET LOCAL work_mem = '64MB'";

impl Session {
    /// The branches of which it is not plain that they live: those in a tree of no run's id, and those in a tree with
    /// several branches. All others are the only branch of a run that exists.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn doubtful_branches(&mut self, shards: ShardRange) -> Result<Vec<Branch>, PostgresError> {
        let (of_tree, of_run, of_row) = (shards.of("t.shard_id"), shards.of("e.shard_id"), shards.of("shard_id"));
        // Both compare keys only, from indexes; the rows are fetched of the few that are in doubt.
        let alone = format!(
            "SELECT DISTINCT t.shard_id, t.tree_id FROM history_tree t WHERE {of_tree} AND NOT EXISTS \
             (SELECT FROM executions e WHERE {of_run} AND e.shard_id = t.shard_id AND e.run_id = t.tree_id)"
        );
        let several = format!(
            "SELECT shard_id, tree_id FROM history_tree WHERE {of_row} GROUP BY shard_id, tree_id HAVING count(*) > 1"
        );
        let mut found = Vec::new();
        self.execute(LARGE).await?;
        for keys in [alone, several] {
            let rows = format!(
                "WITH keys AS MATERIALIZED ({keys}) SELECT b.shard_id, b.tree_id, b.branch_id, b.data, b.data_encoding \
                 FROM keys CROSS JOIN LATERAL (SELECT * FROM history_tree t WHERE t.shard_id = keys.shard_id \
                 AND t.tree_id = keys.tree_id OFFSET 0) AS b"
            );
            self.branches(&rows, &mut found).await?;
        }
        self.execute("COMMIT").await?;
        found.sort_by_key(|branch| (branch.shard, branch.tree, branch.id));
        found.dedup_by_key(|branch| (branch.shard, branch.tree, branch.id));
        Ok(found)
    }

    /// Every branch of a tree.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn branches_of(&mut self, shard: i32, tree: Uuid) -> Result<Vec<Branch>, PostgresError> {
        let mut found = Vec::new();
        let sql = format!(
            "SELECT shard_id, tree_id, branch_id, data, data_encoding FROM history_tree \
             WHERE shard_id = {shard} AND tree_id = {}",
            literal(tree)
        );
        self.branches(&sql, &mut found).await?;
        Ok(found)
    }

    async fn branches(&mut self, select: &str, into: &mut Vec<Branch>) -> Result<(), PostgresError> {
        let each = |fields: &Fields<'_, 5>| into.push(branch(fields));
        self.copy_rows(select, "reading the branches of Temporal's histories", each).await.map(drop)
    }

    /// Nodes of a tree whose branch has no row.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn leftover_nodes(&mut self, shard: i32, tree: Uuid) -> Result<Vec<Leftover>, PostgresError> {
        type Row = (Vec<u8>, i64, bool);
        const OF_TREE: &str = "SELECT n.branch_id, count(*), EXISTS (SELECT FROM executions e WHERE e.shard_id = $1 \
            AND e.run_id = $2) FROM history_node n WHERE n.shard_id = $1 AND n.tree_id = $2 AND NOT EXISTS \
            (SELECT FROM history_tree t WHERE t.shard_id = $1 AND t.tree_id = $2 AND t.branch_id = n.branch_id) \
            GROUP BY n.branch_id";
        let query = sqlx::query_as(OF_TREE).bind(shard).bind(tree.as_bytes().to_vec());
        let asked: Result<Vec<Row>, _> = query.fetch_all(&mut self.connection).await;
        let rows =
            asked.map_err(|error| self.persistence.error("looking for history nodes without a branch", error))?;
        let leftover = |(branch, nodes, has_run): Row| Leftover {
            shard,
            tree,
            branch: Uuid::from_slice(&branch).unwrap_or_default(),
            nodes: u64::try_from(nodes).unwrap_or_default(),
            has_run,
        };
        Ok(rows.into_iter().map(leftover).collect())
    }

    /// What does not go together: nodes whose branch has no row, and branches that have no node of their own.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn unmatched(&mut self, shards: ShardRange) -> Result<(Vec<Leftover>, Vec<Branch>), PostgresError> {
        type Row = (i32, Vec<u8>, Vec<u8>, Option<i64>, Option<bool>);
        let (of_row, of_run) = (shards.of("shard_id"), shards.of("e.shard_id"));
        let sql = format!(
            "WITH odd AS MATERIALIZED (SELECT shard_id, tree_id, branch_id, n.nodes FROM \
             (SELECT shard_id, tree_id, branch_id, count(*) AS nodes FROM history_node WHERE {of_row} \
             GROUP BY shard_id, tree_id, branch_id) AS n FULL JOIN \
             (SELECT shard_id, tree_id, branch_id, true AS here FROM history_tree WHERE {of_row}) AS t \
             USING (shard_id, tree_id, branch_id) WHERE n.nodes IS NULL OR t.here IS NULL) \
             SELECT odd.shard_id, odd.tree_id, odd.branch_id, odd.nodes, CASE WHEN odd.nodes IS NOT NULL THEN EXISTS \
             (SELECT FROM executions e WHERE {of_run} AND e.shard_id = odd.shard_id AND e.run_id = odd.tree_id) END \
             FROM odd"
        );
        self.execute(LARGE).await?;
        // Both sides come sorted from their indexes; hashed they would be written to disk first.
        self.execute("SET LOCAL enable_hashjoin = off").await?;
        let asked: Result<Vec<Row>, _> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error("comparing history nodes with branches", error))?;
        self.execute("COMMIT").await?;
        let (mut leftovers, mut bare) = (Vec::new(), Vec::new());
        for (shard, tree, branch, nodes, has_run) in rows {
            let tree = Uuid::from_slice(&tree).unwrap_or_default();
            let branch = Uuid::from_slice(&branch).unwrap_or_default();
            match nodes {
                Some(nodes) => {
                    let (nodes, has_run) = (u64::try_from(nodes).unwrap_or_default(), has_run.unwrap_or(true));
                    leftovers.push(Leftover { shard, tree, branch, nodes, has_run });
                }
                None => bare.extend(self.branches_of(shard, tree).await?.into_iter().filter(|b| b.id == branch)),
            }
        }
        Ok((leftovers, bare))
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

fn literal(id: Uuid) -> String {
    format!("'\\x{}'::bytea", id.simple())
}

fn branch(fields: &Fields<'_, 5>) -> Branch {
    let (shard, tree) = (fields.int4(0), Uuid::from_slice(fields.bytes(1)).unwrap_or_default());
    let id = Uuid::from_slice(fields.bytes(2)).unwrap_or_default();
    let info = readable(fields.text(4)).then(|| HistoryTreeInfo::decode(fields.bytes(3)).ok()).flatten();
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
