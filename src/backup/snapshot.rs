//! One instant of one database, held open for as long as it is read.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::{Connection, PgConnection, Row};

use super::catalog::{self, Catalog};
use super::error::BackupError;
use super::plan::refuse;
use super::track::Origin;
use crate::clients::postgres::{Postgres, ServerVersion};

/// A transaction that holds a snapshot, has exported it, and keeps every table from being changed in its form.
#[derive(Debug)]
pub(super) struct Snapshot {
    leader: PgConnection,
    /// What other sessions import.
    pub(super) exported: String,
    /// The instant, by the server's clock.
    pub(super) at: Timestamp,
    /// The log's position right after it.
    pub(super) lsn: String,
    /// The server's version.
    pub(super) version: ServerVersion,
    /// Which server it is of.
    origin: Origin,
    /// How far the log was written, flushed or not; `None` on a standby, which sees nothing that is not flushed.
    inserted: Option<String>,
    /// The labels of enums by their OIDs, as JSON.
    labels: String,
    /// What the database holds.
    pub(super) catalog: Catalog,
}

const EXPORT: &str = "SELECT pg_export_snapshot() AS exported, \
    (extract(epoch FROM transaction_timestamp()) * 1000000)::int8 AS at, \
    coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text, '') AS lsn, \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END::text AS inserted, \
    (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8 AS server_started, \
    (SELECT oid::int8 FROM pg_database WHERE datname = current_database()) AS database, \
    (SELECT xmin::text::int8 FROM pg_database WHERE datname = current_database()) AS made_by, \
    (SELECT coalesce(jsonb_object_agg(oid::text, enumlabel), '{}')::text FROM pg_enum) AS labels, \
    pg_snapshot_xmin(pg_current_snapshot())::text AS xmin";

/// For how long the log is waited for. PostgreSQL flushes what nobody waits for after three times its
/// `wal_writer_delay`, which is 0.2 s unless set.
const FLUSH: Duration = Duration::from_secs(5);

impl Snapshot {
    /// Begins the transaction, exports its snapshot and locks the tables against changes of their form.
    ///
    /// # Errors
    /// The refusals of a plan, and [`BackupError::SchemaChanged`] when a table changed between snapshot and lock.
    pub(super) async fn take(postgres: &Postgres, database: &str) -> Result<Self, BackupError> {
        let fail = |doing: &'static str| move |error| postgres.error(database, doing, error);
        let mut leader = catalog::session(postgres, database).await?;
        let version = postgres.server_version(database, &mut leader).await?;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '60s'")
            .execute(&mut leader)
            .await
            .map_err(fail("beginning the snapshot"))?;
        let row = sqlx::query(EXPORT).fetch_one(&mut leader).await.map_err(fail("exporting the snapshot"))?;
        let field = fail("exporting the snapshot");
        let (exported, micros, lsn) =
            (|| Ok((row.try_get("exported")?, row.try_get("at")?, row.try_get("lsn")?)))().map_err(field)?;
        let labels = row.try_get("labels").map_err(fail("exporting the snapshot"))?;
        let (origin, inserted) = origin(&row).map_err(fail("exporting the snapshot"))?;
        let seen = catalog::read(&mut leader, postgres, database).await?;
        refuse(database, &postgres.settings().user, &seen)?;
        for tables in seen.tables.chunks(200) {
            let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.name.sql())).collect();
            let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
            let locked = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut leader).await;
            locked.map_err(fail("locking the tables against changes of their form"))?;
        }
        unchanged(postgres, database, &seen).await?;
        let at = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Self { leader, exported, at, lsn, version, origin, inserted, labels, catalog: seen })
    }

    /// The session that holds the snapshot, for queries of its own.
    pub(super) fn leader(&mut self) -> &mut PgConnection {
        &mut self.leader
    }

    /// A further session that sees the same instant.
    ///
    /// # Errors
    /// When it cannot be made or the snapshot is gone.
    pub(super) async fn join(postgres: &Postgres, database: &str, exported: &str) -> Result<PgConnection, BackupError> {
        let fail = |doing: &'static str| move |error| postgres.error(database, doing, error);
        let mut connection = catalog::session(postgres, database).await?;
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            crate::clients::postgres::quote_literal(exported)
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .map_err(fail("importing the snapshot"))?;
        Ok(connection)
    }

    /// That the transaction is still there, and with it the locks it took. Had its session ended, the other sessions
    /// would have read on under the snapshot, but a table truncated meanwhile would have looked empty to them.
    ///
    /// # Errors
    /// When the session is gone.
    pub(super) async fn held(&mut self, postgres: &Postgres, database: &str) -> Result<(), BackupError> {
        let alive = sqlx::query("SELECT 1").execute(&mut self.leader).await;
        alive.map_err(|error| postgres.error(database, "holding the snapshot to the end", error))?;
        self.labels_held(postgres, database).await
    }

    /// That no label of an enum was renamed: rows are written with the labels of the moment, not of the snapshot.
    async fn labels_held(&self, postgres: &Postgres, database: &str) -> Result<(), BackupError> {
        // Most databases have no enums.
        if self.labels == "{}" {
            return Ok(());
        }
        const RENAMED: &str = "SELECT min(e.enumtypid::regtype::text) FROM pg_enum e \
            JOIN jsonb_each_text($1::jsonb) AS was ON was.key = e.oid::text WHERE was.value <> e.enumlabel";
        let mut outside = catalog::session(postgres, database).await?;
        let renamed: Option<String> = sqlx::query_scalar(RENAMED)
            .bind(&self.labels)
            .fetch_one(&mut outside)
            .await
            .map_err(|error| postgres.error(database, "looking whether labels of enums were renamed", error))?;
        let _ = outside.close().await;
        renamed.map_or(Ok(()), |relation| Err(BackupError::SchemaChanged { database: database.to_owned(), relation }))
    }

    /// Which server it is of.
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The same, once everything that the snapshot saw is on the server's disk; `None` when it is not for five seconds.
    /// A server that crashes forgets what was not, and gives the ids of those transactions to others.
    ///
    /// # Errors
    /// When the session is gone.
    pub(super) async fn lasting_origin(
        &mut self,
        postgres: &Postgres,
        database: &str,
    ) -> Result<Option<Origin>, BackupError> {
        let Some(inserted) = &self.inserted else { return Ok(Some(self.origin.clone())) };
        let clock = Instant::now();
        loop {
            let flushed = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn")
                .bind(inserted)
                .fetch_one(&mut self.leader)
                .await
                .map_err(|error| postgres.error(database, "asking how far the log is flushed", error))?;
            if flushed {
                return Ok(Some(self.origin.clone()));
            }
            if clock.elapsed() > FLUSH {
                tracing::warn!(database, "the log is not flushed; the next backup reads every row");
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the transaction, so that vacuum may go on.
    pub(super) async fn release(self) {
        let _ = self.leader.close().await;
    }
}

fn origin(row: &sqlx::postgres::PgRow) -> Result<(Origin, Option<String>), sqlx::Error> {
    let unfit = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let xmin: String = row.try_get("xmin")?;
    let origin = Origin {
        server_started: Timestamp::from_microsecond(row.try_get("server_started")?)
            .map_err(|error| unfit(error.into()))?,
        database: u32::try_from(row.try_get::<i64, _>("database")?).map_err(|error| unfit(error.into()))?,
        made_by: u32::try_from(row.try_get::<i64, _>("made_by")?).map_err(|error| unfit(error.into()))?,
        xmin: xmin.parse().map_err(|error: std::num::ParseIntError| unfit(error.into()))?,
    };
    Ok((origin, row.try_get("inserted")?))
}

/// A look from outside of the snapshot, after the locks: a table that was rewritten, truncated or altered between the
/// snapshot and its lock would be read wrongly, since such changes do not respect snapshots (PostgreSQL manual, 13.6).
async fn unchanged(postgres: &Postgres, database: &str, seen: &Catalog) -> Result<(), BackupError> {
    let mut outside = catalog::session(postgres, database).await?;
    let now = catalog::read(&mut outside, postgres, database).await?;
    let _ = outside.close().await;
    for table in &seen.tables {
        let same = now.tables.iter().any(|other| {
            // A column that was dropped and made again has another number, and reads otherwise in old rows.
            (&other.name, other.filenode, &other.attributes, &other.columns)
                == (&table.name, table.filenode, &table.attributes, &table.columns)
        });
        if !same {
            let relation = table.name.to_string();
            return Err(BackupError::SchemaChanged { database: database.to_owned(), relation });
        }
    }
    Ok(())
}
