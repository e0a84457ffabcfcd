//! What PostgreSQL itself knows of Temporal's tables: sizes, dead rows, vacuum.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::Session;
use crate::clients::postgres::{PostgresError, quote_identifier};

/// A table as PostgreSQL's statistics have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// Bytes of everything that belongs to it.
    pub bytes: u64,
    /// Of these, its indexes.
    pub index_bytes: u64,
    /// Of these, values that were moved out of their rows (TOAST).
    pub toast_bytes: u64,
    /// Rows, as the statistics estimate them.
    pub rows: u64,
    /// Dead rows, as the statistics estimate them.
    pub dead: u64,
    /// When it was last vacuumed, by hand or by autovacuum.
    pub vacuumed: Option<Timestamp>,
    /// Settings of its own, such as `autovacuum_vacuum_scale_factor=0.02`.
    pub settings: Vec<String>,
    /// With so many dead rows autovacuum begins to work on it.
    pub vacuum_at: u64,
}

#[derive(FromRow)]
struct Row {
    name: String,
    bytes: i64,
    index_bytes: i64,
    toast_bytes: i64,
    rows: i64,
    dead: i64,
    vacuumed: Option<i64>,
    settings: Vec<String>,
    threshold: f64,
}

/// Autovacuum's rule is that of the manual: threshold + scale factor * rows.
const TABLES: &str = "\
    SELECT c.relname::text AS name, pg_total_relation_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes, \
        coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast_bytes, \
        greatest(c.reltuples, s.n_live_tup, 0)::int8 AS rows, coalesce(s.n_dead_tup, 0) AS dead, \
        extract(epoch FROM greatest(s.last_vacuum, s.last_autovacuum))::int8 AS vacuumed, \
        coalesce(c.reloptions, '{}')::text[] AS settings, \
        (coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) \
            WHERE option_name = 'autovacuum_vacuum_threshold'), current_setting('autovacuum_vacuum_threshold'))::float8 \
        + coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) \
            WHERE option_name = 'autovacuum_vacuum_scale_factor'), \
            current_setting('autovacuum_vacuum_scale_factor'))::float8 * greatest(c.reltuples, 0)) AS threshold \
    FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid \
    WHERE c.relkind = 'r' AND c.relnamespace = \
        (SELECT relnamespace FROM pg_class WHERE oid = 'executions'::regclass) \
    ORDER BY bytes DESC";

impl Session {
    /// Every table beside `executions`, the largest first.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn tables(&mut self) -> Result<Vec<TableFacts>, PostgresError> {
        let asked: Result<Vec<Row>, _> = sqlx::query_as(TABLES).fetch_all(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error("reading the sizes of Temporal's tables", error))?;
        let number = |value: i64| u64::try_from(value).unwrap_or_default();
        let facts = |row: Row| TableFacts {
            name: row.name,
            bytes: number(row.bytes),
            index_bytes: number(row.index_bytes),
            toast_bytes: number(row.toast_bytes),
            rows: number(row.rows),
            dead: number(row.dead),
            vacuumed: row.vacuumed.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            settings: row.settings,
            vacuum_at: row.threshold.max(0.0) as u64,
        };
        Ok(rows.into_iter().map(facts).collect())
    }

    /// Rows of a table keyed by runs whose run does not exist.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn rows_without_run(&mut self, table: &str) -> Result<u64, PostgresError> {
        let sql = format!(
            "SELECT count(*) FROM {} AS o WHERE NOT EXISTS (SELECT FROM executions e WHERE e.shard_id = o.shard_id \
             AND e.namespace_id = o.namespace_id AND e.workflow_id = o.workflow_id AND e.run_id = o.run_id)",
            quote_identifier(table)
        );
        let asked: Result<i64, _> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error(&format!("counting rows of {table}"), error))?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// Runs that wait to be archived (category 5 of `history_scheduled_tasks`).
    ///
    /// # Errors
    /// When the query fails.
    pub async fn scheduled_archivals(&mut self) -> Result<u64, PostgresError> {
        const WAITING: &str = "SELECT count(*) FROM history_scheduled_tasks WHERE category_id = 5";
        let asked: Result<i64, _> = sqlx::query_scalar(WAITING).fetch_one(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error("counting archivals", error))?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }
}
