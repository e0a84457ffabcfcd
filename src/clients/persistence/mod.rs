//! Temporal's own tables in PostgreSQL: what Temporal holds for true, whatever an index says. They are read; only
//! `remove` writes, and only histories that nothing refers to.
//!
//! Schema v12, the one of every server since 1.20. Rows carry protobuf messages of the server
//! (`temporal.server.api.persistence.v1`), which no published crate has; the few fields that are read are declared in
//! `messages`, with the numbers of the server's source at 1.31.

mod branches;
mod compare;
mod complete;
mod executions;
mod messages;
mod namespaces;
mod remove;
mod samples;
mod scan;
mod shard;
mod sieve;
mod tables;
mod timers;
mod uses;
mod visibility;

pub use branches::{Ancestor, Branch, Leftover};
pub use compare::{Compared, Slice};
pub use complete::{HistoryPage, LostCurrent, ShardRows};
pub use executions::{Execution, ExecutionDetail, ExecutionState, RunKey};
pub use namespaces::{Cluster, ForeignShards, NamespaceRow, Shards};
pub use remove::{Removal, Removed, TreeState};
pub use samples::StoredRun;
pub use scan::{PageRange, ScannedRun};
pub use shard::shard_of;
pub use tables::TableFacts;
pub use uses::{Use, Users, Uses};

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::clients::postgres::{CopyOut, Fields, Postgres, PostgresError};

/// Task ids of a shard are handed out in ranges of this many (`RangeSizeBits: 20` in the server's source).
const RANGE_SIZE: u64 = 1 << 20;

/// Where Temporal's tables are.
#[derive(Debug, Clone)]
pub struct Persistence {
    postgres: Postgres,
    database: String,
}

/// Where a server stands in the stream of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The identity that a primary and its standbys have in common.
    pub system: i64,
    /// True on a standby.
    pub in_recovery: bool,
    /// Bytes written, or on a standby replayed; `None` where a standby does not say.
    pub position: Option<i64>,
    /// When the last transaction that it has replayed was committed.
    pub last_replayed: Option<Timestamp>,
    /// What its clock says.
    pub now: Timestamp,
}

/// A connection to Temporal's tables.
#[derive(Debug)]
pub struct Session {
    persistence: Persistence,
    connection: PgConnection,
}

impl Persistence {
    /// The tables in this database; nothing is connected yet.
    #[must_use]
    pub fn new(postgres: Postgres, database: impl Into<String>) -> Self {
        Self { postgres, database: database.into() }
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Connects. Every query is bounded by the connection's `statement_timeout`.
    ///
    /// # Errors
    /// Any [`PostgresError`] of connecting.
    pub async fn connect(&self) -> Result<Session, PostgresError> {
        let connection = self.postgres.connect(&self.database).await?;
        Ok(Session { persistence: self.clone(), connection })
    }
}

impl Session {
    /// True on a standby, where a row may be missing that its primary has.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn is_standby(&mut self) -> Result<bool, PostgresError> {
        let asked = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut self.connection).await;
        asked.map_err(|error| self.persistence.error("asking whether it is a standby", error))
    }

    /// Where the server stands in the stream of changes.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn place(&mut self) -> Result<Place, PostgresError> {
        type Row = (i64, bool, Option<i64>, Option<i64>, i64);
        const ASKED: &str = "SELECT (SELECT system_identifier FROM pg_control_system()), pg_is_in_recovery(), \
            pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, \
                '0/0')::int8, \
            (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::int8, \
            (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let asked: Result<Row, _> = sqlx::query_as(ASKED).fetch_one(&mut self.connection).await;
        let (system, in_recovery, position, last, now) =
            asked.map_err(|error| self.persistence.error("asking whether it is a standby", error))?;
        let instant = |micros: i64| Timestamp::from_microsecond(micros).ok();
        let (last_replayed, now) = (last.and_then(instant), instant(now).unwrap_or_default());
        Ok(Place { system, in_recovery, position, last_replayed, now })
    }

    /// The identities of the registered namespaces.
    ///
    /// # Errors
    /// When the query fails, for example because this is no database of Temporal's.
    pub async fn namespaces(&mut self) -> Result<BTreeMap<Uuid, String>, PostgresError> {
        let asked: Result<Vec<(Vec<u8>, String)>, _> =
            sqlx::query_as("SELECT id, name FROM namespaces").fetch_all(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error("reading Temporal's namespaces", error))?;
        Ok(rows.into_iter().filter_map(|(id, name)| Some((Uuid::from_slice(&id).ok()?, name))).collect())
    }

    /// Per shard, the first task id that it cannot have handed out yet: ids come from ranges, and a shard notes the
    /// range it is in before it uses it.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn task_id_bounds(&mut self) -> Result<BTreeMap<i32, u64>, PostgresError> {
        let asked: Result<Vec<(i32, i64)>, _> =
            sqlx::query_as("SELECT shard_id, range_id FROM shards").fetch_all(&mut self.connection).await;
        let rows = asked.map_err(|error| self.persistence.error("reading Temporal's shards", error))?;
        let bound = |range: i64| u64::try_from(range).unwrap_or(0).saturating_add(1).saturating_mul(RANGE_SIZE);
        Ok(rows.into_iter().map(|(shard, range)| (shard, bound(range))).collect())
    }
}

impl Session {
    /// Hands every row of a query to `each`, in order; returns how many there were. The connection is of no use after an
    /// error.
    async fn copy_rows<const N: usize>(
        &mut self,
        select: &str,
        doing: &str,
        each: impl FnMut(&Fields<'_, N>),
    ) -> Result<u64, PostgresError> {
        let sql = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        let rows = match CopyOut::start(&mut self.connection, &sql).await {
            Ok(copy) => copy.rows(each).await,
            Err(error) => Err(error),
        };
        rows.map_err(|error| self.persistence.error(doing, error))
    }
}

impl Persistence {
    fn error(&self, doing: &str, error: sqlx::Error) -> PostgresError {
        self.postgres.error(&self.database, doing, error)
    }
}
