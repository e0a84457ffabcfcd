//! Whether Temporal's tables go together, as a copy of them must before anybody counts on it: shards without a gap,
//! runs with their histories, current runs that exist. It is asked of a copy that nobody writes to.

use uuid::Uuid;

use super::executions::{life, readable};
use super::messages::WorkflowExecutionState;
use super::uses::{Use, used_by};
use super::{ExecutionState, RunKey, Session};
use crate::clients::postgres::{PostgresError, quote_identifier, quote_literal};
use prost::Message;

/// The rows of the table `shards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRows {
    /// How many shards the cluster was set up with; `None` when it does not say.
    pub said: Option<i32>,
    /// How many rows there are.
    pub rows: i64,
    /// The lowest shard that has a row; 0 when there is none.
    pub lowest: i32,
    /// The highest one.
    pub highest: i32,
}

/// Some runs, looked at for their histories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryPage {
    /// The last run of the page; `None` when there was none any more.
    pub last: Option<RunKey>,
    /// Runs that were looked at.
    pub runs: u64,
    /// Runs of which a part of the history is missing.
    pub lacking: Vec<RunKey>,
    /// Runs in an encoding that is not read.
    pub unreadable: u64,
}

/// Current runs that do not exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LostCurrent {
    /// Rows of the table.
    pub rows: u64,
    /// Those whose run does not exist.
    pub lost: u64,
    /// The workflows of some of them.
    pub examples: Vec<String>,
}

/// Nodes that must be there for a history to be whole: at least one of this branch in this range.
#[derive(Default)]
struct Needs {
    places: Vec<i64>,
    shards: Vec<i32>,
    trees: Vec<Vec<u8>>,
    branches: Vec<Vec<u8>>,
    from: Vec<i64>,
    to: Vec<i64>,
}

impl Needs {
    /// What a branch needs of its ancestors, each from where the one before it ends, and of itself. A fork that has
    /// written nothing of its own yet has all it needs.
    fn add(&mut self, place: usize, shard: i32, used: &Use) {
        let mut from = 1;
        for ancestor in &used.ancestors {
            if ancestor.end > from {
                self.push(place, shard, used.tree, ancestor.branch, (from, ancestor.end));
            }
            from = ancestor.end;
        }
        if used.ancestors.is_empty() {
            self.push(place, shard, used.tree, used.branch, (from, i64::MAX));
        }
    }

    fn push(&mut self, place: usize, shard: i32, tree: Uuid, branch: Uuid, nodes: (i64, i64)) {
        self.places.push(i64::try_from(place).unwrap_or(i64::MAX));
        self.shards.push(shard);
        self.trees.push(tree.as_bytes().to_vec());
        self.branches.push(branch.as_bytes().to_vec());
        self.from.push(nodes.0);
        self.to.push(nodes.1);
    }
}

impl Session {
    /// The rows of the table `shards`, and how many the cluster says there are.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn shard_rows(&mut self) -> Result<ShardRows, PostgresError> {
        const ROWS: &str = "SELECT count(*), coalesce(min(shard_id), 0), coalesce(max(shard_id), 0) FROM shards";
        let asked: Result<(i64, i32, i32), _> = sqlx::query_as(ROWS).fetch_one(&mut self.connection).await;
        let (rows, lowest, highest) =
            asked.map_err(|error| self.persistence.error("reading Temporal's shards", error))?;
        Ok(ShardRows { said: self.shards().await?.said, rows, lowest, highest })
    }

    /// The shards in 1 to `count` that have no row, ten of them at most.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn missing_shards(&mut self, count: i32) -> Result<Vec<i32>, PostgresError> {
        const MISSING: &str = "SELECT n FROM generate_series(1, $1) n \
            WHERE NOT EXISTS (SELECT FROM shards WHERE shard_id = n) ORDER BY n LIMIT 10";
        let asked = sqlx::query_scalar(MISSING).bind(count).fetch_all(&mut self.connection).await;
        asked.map_err(|error| self.persistence.error("looking for missing shards", error))
    }

    /// The lowest and the highest shard that a table has rows of; `None` when it is empty.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn shard_bounds(&mut self, table: &str) -> Result<Option<(i32, i32)>, PostgresError> {
        // Two looks into the index that the shard leads.
        let of = |what: &str| format!("(SELECT {what}(shard_id) FROM {})", quote_identifier(table));
        let sql = format!("SELECT {}, {}", of("min"), of("max"));
        let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.connection).await;
        let (lowest, highest): (Option<i32>, Option<i32>) =
            asked.map_err(|error| self.persistence.error(&format!("reading the shards of {table}"), error))?;
        Ok(lowest.zip(highest))
    }

    /// Looks at the runs after this one, in the order of the primary key: for each branch that a run has its history
    /// in, its first nodes and those of each ancestor must be there. Runs in a state that has no history of their own
    /// (void, corrupted, the losing side of a conflict) are left out, and so is what is no workflow.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn histories_after(
        &mut self,
        after: Option<&RunKey>,
        limit: usize,
    ) -> Result<HistoryPage, PostgresError> {
        type Row = (i32, Vec<u8>, String, Vec<u8>, Vec<u8>, String, Vec<u8>, String);
        let rows: Vec<Row> = self.runs_after("data, data_encoding, state, state_encoding", after, limit).await?;
        let (mut page, mut needs, mut keys) = (HistoryPage::default(), Needs::default(), Vec::new());
        for (shard, namespace, workflow, run, data, encoding, state, state_encoding) in rows {
            let namespace = Uuid::from_slice(&namespace).unwrap_or_default();
            let run = Uuid::from_slice(&run).unwrap_or_default();
            let key = RunKey { shard, namespace, workflow, run };
            page.runs += 1;
            let state = readable(&state_encoding).then(|| WorkflowExecutionState::decode(&*state).ok()).flatten();
            match (state, used_by(&data, &encoding)) {
                (Some(state), Some(used)) if life(state.state) != ExecutionState::Hidden => {
                    used.iter().for_each(|used| needs.add(keys.len(), shard, used));
                }
                (Some(_), Some(_)) => {}
                _ => page.unreadable += 1,
            }
            keys.push(key);
        }
        let lacking = self.lacking(needs).await?;
        page.lacking =
            lacking.into_iter().filter_map(|place| keys.get(usize::try_from(place).ok()?).cloned()).collect();
        page.last = keys.pop();
        Ok(page)
    }

    async fn lacking(&mut self, needs: Needs) -> Result<Vec<i64>, PostgresError> {
        if needs.places.is_empty() {
            return Ok(Vec::new());
        }
        // LATERAL with a LIMIT keeps the planner at one look into the primary key per need.
        const LACKING: &str = "SELECT DISTINCT d.place FROM \
            unnest($1::int8[], $2::int4[], $3::bytea[], $4::bytea[], $5::int8[], $6::int8[]) \
            AS d (place, shard_id, tree_id, branch_id, first, ending) LEFT JOIN LATERAL \
            (SELECT true AS here FROM history_node n WHERE n.shard_id = d.shard_id AND n.tree_id = d.tree_id \
            AND n.branch_id = d.branch_id AND n.node_id >= d.first AND n.node_id < d.ending LIMIT 1) AS found ON true \
            WHERE found.here IS NULL ORDER BY 1";
        let asked = sqlx::query_scalar(LACKING)
            .bind(needs.places)
            .bind(needs.shards)
            .bind(needs.trees)
            .bind(needs.branches)
            .bind(needs.from)
            .bind(needs.to)
            .fetch_all(&mut self.connection)
            .await;
        asked.map_err(|error| self.persistence.error("looking for the nodes of histories", error))
    }

    /// The rows of a table of current runs whose run is not in `executions`. `workflow` is the column with the
    /// workflow's id.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn lost_current(&mut self, table: &str, workflow: &str) -> Result<LostCurrent, PostgresError> {
        let (name, workflow) = (quote_identifier(table), quote_identifier(workflow));
        let sql = format!(
            "WITH lost AS (SELECT c.{workflow}::text AS workflow FROM {name} c WHERE NOT EXISTS (SELECT FROM executions e \
             WHERE e.shard_id = c.shard_id AND e.namespace_id = c.namespace_id AND e.workflow_id = c.{workflow} \
             AND e.run_id = c.run_id)) SELECT (SELECT count(*) FROM {name}), (SELECT count(*) FROM lost), \
             ARRAY(SELECT workflow FROM lost ORDER BY 1 LIMIT 5)"
        );
        let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.connection).await;
        let (rows, lost, examples): (i64, i64, Vec<String>) =
            asked.map_err(|error| self.persistence.error(&format!("comparing {table} with executions"), error))?;
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Ok(LostCurrent { rows: number(rows), lost: number(lost), examples })
    }

    /// Rows of visibility in PostgreSQL that contradict themselves, and how many rows there are: a run that has ended
    /// (statuses 2 to 7 of the public API) without the time of its end, or a running one (1) with it.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn odd_visibility(&mut self) -> Result<(u64, u64), PostgresError> {
        const ODD: &str = "SELECT count(*), count(*) FILTER (WHERE (status BETWEEN 2 AND 7 AND close_time IS NULL) \
            OR (status = 1 AND close_time IS NOT NULL)) FROM executions_visibility";
        let asked: Result<(i64, i64), _> = sqlx::query_as(ODD).fetch_one(&mut self.connection).await;
        let (rows, odd) = asked.map_err(|error| self.persistence.error("reading Temporal's visibility", error))?;
        Ok((u64::try_from(rows).unwrap_or_default(), u64::try_from(odd).unwrap_or_default()))
    }

    /// Which of these tables of the schema `public` have a column `shard_id`.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn sharded(&mut self, tables: &[&str]) -> Result<Vec<String>, PostgresError> {
        let names: Vec<String> = tables.iter().map(|table| quote_literal(table)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT table_name::text FROM information_schema.columns WHERE table_schema = 'public' \
             AND column_name = 'shard_id' AND table_name IN ({}) ORDER BY 1",
            names.join(", ")
        );
        let asked = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        asked.map_err(|error| self.persistence.error("looking for the tables of shards", error))
    }
}
