//! Puts one database of a backup into an empty one, and compares it with the manifest.

mod refuse;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

pub(super) use self::refuse::refuse_sealed;
use super::catalog;
use super::compare::{self, TableVerdict};
use super::copy::column_list;
use super::error::BackupError;
use super::indexes::{self, Split};
use super::live::{Chunks, table_rows};
use super::manifest::{BackupId, Database, Manifest, Table};
use super::rows::{BINARY_HEADER, BINARY_TRAILER, Format};
use super::schema;
use super::single::Part;
use crate::clients::postgres::{Postgres, PostgresError, quote_literal};
use crate::context::Context;
use crate::progress::Unit;
use crate::units::millis_since;

/// A server that takes no data for so long is given up.
const STALL: Duration = Duration::from_secs(600);
/// Chunks per connection that are fetched ahead.
const AHEAD: usize = 2;
/// Bytes that are sent to the server in one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// Where to restore to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub postgres: Postgres,
    /// The database; it exists and is empty.
    pub database: String,
    /// Tables that are filled at once.
    pub jobs: usize,
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The backup.
    pub id: BackupId,
    /// The database in the backup.
    pub source: String,
    /// The database it was restored to.
    pub target: String,
    /// Rows that were restored.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// How long it took, the comparison included, in milliseconds.
    pub milliseconds: u64,
    /// How each table compares with the manifest.
    pub tables: Vec<TableVerdict>,
    /// What a restore of a single table has left out of what is about that table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl RestoreReport {
    /// `Ok` only when every table is what the manifest says.
    ///
    /// # Errors
    /// [`BackupError::Differs`] or [`BackupError::Unverified`].
    pub fn verdict(&self) -> Result<(), BackupError> {
        compare::verdict(&format!("database `{}` restored from backup `{}`", self.target, self.id), &self.tables)
    }

    /// Tables that were made.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.tables.len()
    }
}

/// Restores a database of a backup: schema, rows, indexes and constraints, sequences, materialized views, statistics;
/// then reads everything back and compares. The report must be asked for its [`RestoreReport::verdict`].
///
/// A restore that broke off leaves a database that is not empty, which the next one refuses.
///
/// # Errors
/// [`BackupError::NotEmpty`] and [`BackupError::TargetOlder`] before anything is changed; then whatever fails first.
pub async fn restore(
    from: &Chunks,
    manifest: &Manifest,
    database: &str,
    target: &Target,
    ctx: &Context,
) -> Result<RestoreReport, BackupError> {
    part(from, &manifest.id, &Part::whole(manifest, database)?, target, ctx).await
}

/// Restores one table of a backup: itself, its rows, indexes and constraints of its own, into a database where its
/// schema is empty or missing; then compares it. What is about other things too, such as a foreign key, is left out
/// and named in the report.
///
/// # Errors
/// As of [`restore`], and when there is no such table.
pub async fn restore_table(
    from: &Chunks,
    manifest: &Manifest,
    database: &str,
    table: &str,
    target: &Target,
    ctx: &Context,
) -> Result<RestoreReport, BackupError> {
    part(from, &manifest.id, &Part::single(manifest, database, table)?, target, ctx).await
}

async fn part(
    from: &Chunks,
    id: &BackupId,
    Part { source, schema, left_out }: &Part,
    target: &Target,
    ctx: &Context,
) -> Result<RestoreReport, BackupError> {
    let clock = std::time::Instant::now();
    let run = Run { target: target.clone(), schema: schema.clone(), ctx: ctx.clone() };
    let done = ctx.cancel.run_until_cancelled(run.all(from, source)).await;
    let tables = done.ok_or(BackupError::Cancelled)??;
    Ok(RestoreReport {
        id: id.clone(),
        source: source.name.clone(),
        target: target.database.clone(),
        rows: source.tables.iter().map(|table| table.rows).sum(),
        bytes: source.tables.iter().map(|table| table.bytes).sum(),
        left_out: left_out.clone(),
        milliseconds: millis_since(clock),
        tables,
    })
}

#[derive(Clone)]
pub(super) struct Run {
    pub(super) target: Target,
    /// The one schema that must be empty; `None` for the whole database.
    pub(super) schema: Option<String>,
    pub(super) ctx: Context,
}

impl Run {
    /// Whether the target would take the restore, seen without changing it; the session and the server's major version.
    pub(super) async fn examine(&self, source: &Database) -> Result<(PgConnection, u32), BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let mut session = postgres.connect_held(name).await.map_err(|error| match error {
            PostgresError::NoDatabase { host, database } => BackupError::NoTarget { host, database },
            error => error.into(),
        })?;
        let major = postgres.server_version(name, &mut session).await?.major();
        if major < source.server_version / 10_000 {
            return Err(BackupError::TargetOlder { source_major: source.server_version / 10_000, target_major: major });
        }
        self.refuse_filled(&mut session).await?;
        self.refuse_closed(&mut session, source).await?;
        Ok((session, major))
    }

    async fn all(&self, from: &Chunks, source: &Database) -> Result<Vec<TableVerdict>, BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let (mut session, major) = self.examine(source).await?;
        refuse_sealed(from, source).await?;
        self.ctx.progress.stage("making tables", None, Unit::Items);
        schema::run(&mut session, postgres, name, major, "pre-data", &source.pre_data).await?;
        let bytes = source.tables.iter().map(|table| table.bytes).sum();
        self.ctx.progress.stage("restoring rows", Some(bytes), Unit::Bytes);
        self.rows(from, &source.tables).await?;
        self.after_rows(session, source, major).await
    }

    /// Everything that comes after the rows: indexes and the comparison, constraints, sequences, views, statistics.
    pub(super) async fn after_rows(
        &self,
        mut session: PgConnection,
        source: &Database,
        major: u32,
    ) -> Result<Vec<TableVerdict>, BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let split = indexes::split(&source.post_data, &source.tables);
        let tables = self.indexes_and_comparison(source, &split, major).await?;
        self.ctx.progress.stage("making constraints", None, Unit::Items);
        schema::run(&mut session, postgres, name, major, "post-data", &split.rest).await?;
        let _ = session.close().await;
        self.finish(source).await?;
        if split.rest_has_statistics {
            self.ctx.progress.stage("gathering statistics", None, Unit::Items);
            self.statistics(source).await?;
        }
        Ok(tables)
    }

    /// Makes the indexes and gathers statistics, and reads the rows back meanwhile: neither keeps anybody from reading.
    async fn indexes_and_comparison(
        &self,
        source: &Database,
        split: &Split,
        major: u32,
    ) -> Result<Vec<TableVerdict>, BackupError> {
        let making = (self.target.jobs / 2).max(1);
        let comparing = self.target.jobs.saturating_sub(making).max(1);
        let indexes = async {
            self.indexes(split, making, major).await?;
            if !split.rest_has_statistics {
                self.statistics(source).await?;
            }
            Ok(())
        };
        let comparison =
            compare::with_manifest(&self.target.postgres, &self.target.database, source, comparing, &self.ctx);
        if self.target.jobs > 1 {
            return futures::try_join!(indexes, comparison).map(|((), tables)| tables);
        }
        indexes.await?;
        comparison.await
    }

    async fn indexes(&self, split: &Split, jobs: usize, major: u32) -> Result<(), BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let queue = Mutex::new(split.indexes.iter().collect::<VecDeque<_>>());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let worker = async || {
            let mut session = postgres.connect_held(name).await?;
            // When this end is gone the server ends what it does for it, such as an index of hours.
            let preamble = format!("SET client_connection_check_interval = '1s';\n{}", split.preamble);
            schema::run(&mut session, postgres, name, major, "post-data", &preamble).await?;
            while let Some(index) = next() {
                schema::run(&mut session, postgres, name, major, "post-data", index).await?;
            }
            let _ = session.close().await;
            Ok::<_, BackupError>(())
        };
        let workers = jobs.min(split.indexes.len());
        futures::future::try_join_all((0..workers).map(|_| worker())).await.map(drop)
    }

    async fn rows(&self, from: &Chunks, tables: &[Table]) -> Result<(), BackupError> {
        let mut order: Vec<Table> = tables.iter().filter(|table| !table.chunks.is_empty()).cloned().collect();
        order.sort_by_key(|table| std::cmp::Reverse(table.bytes));
        let queue = Arc::new(Mutex::new(VecDeque::from(order)));
        let mut workers = JoinSet::new();
        for _ in 0..self.target.jobs.max(1) {
            let (run, from, queue) = (self.clone(), from.clone(), Arc::clone(&queue));
            workers.spawn(async move {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(table) = next else { return Ok(()) };
                    let chunks = table_rows(&from, &table, AHEAD);
                    run.fill(&table, chunks, || table.rows).await?;
                }
            });
        }
        while let Some(done) = workers.join_next().await {
            let done: Result<(), BackupError> = done.map_err(|error| BackupError::Internal(error.to_string()))?;
            done?;
        }
        Ok(())
    }

    /// Fills one table in one transaction. It is truncated there first, so that its rows can be written frozen and
    /// no vacuum has to visit them again. `expected` is asked at the end for how many rows it must be.
    pub(super) async fn fill(
        &self,
        table: &Table,
        chunks: impl Stream<Item = Result<Vec<u8>, BackupError>>,
        expected: impl FnOnce() -> u64,
    ) -> Result<(), BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let doing = format!("restoring the rows of {}", table.name);
        let fail = |error| BackupError::from(postgres.error(name, &doing, error));
        let stalled = |_| BackupError::Stalled { doing: doing.clone(), seconds: STALL.as_secs() };
        let mut connection = catalog::session(postgres, name).await?;
        let target = table.name.sql();
        let begin = format!("BEGIN; TRUNCATE ONLY {target}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut connection).await.map_err(fail)?;
        let columns = match column_list(&table.columns) {
            list if list.is_empty() => list,
            list => format!("({list}) "),
        };
        let sql = format!("COPY {target} {columns}FROM STDIN (FORMAT {}, FREEZE)", table.copy_format.keyword());
        let mut sink = connection.copy_in_raw(&sql).await.map_err(fail)?;
        let binary = table.copy_format == Format::Binary;
        if binary {
            sink.send(&BINARY_HEADER[..]).await.map_err(fail)?;
        }
        futures::pin_mut!(chunks);
        while let Some(bytes) = chunks.try_next().await? {
            for message in bytes.chunks(MESSAGE_BYTES) {
                tokio::time::timeout(STALL, sink.send(message)).await.map_err(stalled)?.map_err(fail)?;
            }
            self.ctx.progress.advance(u64::try_from(bytes.len()).unwrap_or_default());
        }
        if binary {
            sink.send(&BINARY_TRAILER[..]).await.map_err(fail)?;
        }
        let copied = tokio::time::timeout(STALL, sink.finish()).await.map_err(stalled)?.map_err(fail)?;
        let rows = expected();
        if copied != rows {
            let findings = vec![format!("{}: the server took {copied} rows of {rows}", table.name)];
            return Err(BackupError::Differs { subject: format!("database `{name}`"), findings });
        }
        sqlx::raw_sql("COMMIT").execute(&mut connection).await.map_err(fail)?;
        let _ = connection.close().await;
        Ok(())
    }

    async fn finish(&self, source: &Database) -> Result<(), BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let fail = |doing: &'static str| move |error| postgres.error(name, doing, error);
        let mut session = postgres.connect_held(name).await?;
        // A view over a table whose policies hold for its owner too is refused, not filled with some of the rows.
        let strict = sqlx::raw_sql("SET row_security = off").execute(&mut session).await;
        strict.map_err(fail("preparing the session"))?;
        for sequence in &source.sequences {
            let (of, value) = (quote_literal(&sequence.name.sql()), sequence.last_value);
            let sql = format!("SELECT pg_catalog.setval({of}, {value}, {})", sequence.is_called);
            let set = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await;
            set.map_err(fail("setting the sequences"))?;
        }
        for view in &source.materialized_views {
            let sql = format!("REFRESH MATERIALIZED VIEW {}", view.sql());
            let filled = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await;
            filled.map_err(fail("filling the materialized views"))?;
        }
        let _ = session.close().await;
        Ok(())
    }

    async fn statistics(&self, source: &Database) -> Result<(), BackupError> {
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let mut session = postgres.connect_held(name).await?;
        // Table by table: a bare ANALYZE also tries the system's tables, which an ordinary role may not.
        for table in &source.tables {
            let sql = format!("ANALYZE {}", table.name.sql());
            let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await;
            done.map_err(|error| postgres.error(name, "gathering statistics", error))?;
        }
        let _ = session.close().await;
        Ok(())
    }
}
