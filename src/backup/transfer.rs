//! A database copied from server to server with no store between: one exported snapshot, its rows streamed out of one
//! COPY into another, hashed on the way; then read back on the other side and compared.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::aside;
use super::catalog;
use super::chunk::{Content, Keys};
use super::compare::{self, TableVerdict};
use super::copy::{self, Reader, Source};
use super::error::BackupError;
use super::manifest::{self, Database, Table};
use super::outline::outline;
use super::restore::{Run, Target};
use super::schema;
use super::snapshot::Snapshot;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::progress::Unit;
use crate::units::millis_since;

/// Rows are sent on in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that were read and not sent on yet, for each table that is copied.
const AHEAD: usize = 4;

/// Pieces of a table that are being hashed, or wait for that, while the next is read.
const HASHED_AT_ONCE: usize = 2;

/// What a transfer came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransferReport {
    /// The database on the source.
    pub source: String,
    /// The database on the target.
    pub target: String,
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// How long it took, the comparison included, in milliseconds.
    pub milliseconds: u64,
    /// How each table compares with what was read.
    pub tables: Vec<TableVerdict>,
}

impl TransferReport {
    /// `Ok` only when every table on the target is what was read on the source.
    ///
    /// # Errors
    /// [`BackupError::Differs`] or [`BackupError::Unverified`].
    pub fn verdict(&self) -> Result<(), BackupError> {
        compare::verdict(&format!("database `{}` copied from `{}`", self.target, self.source), &self.tables)
    }
}

/// Copies a database into an empty one: schema, rows, indexes and constraints, sequences, views, statistics. The report
/// must be asked for its [`TransferReport::verdict`].
///
/// # Errors
/// As of a backup and a restore; a transfer that broke off leaves a database that is not empty.
pub async fn transfer(
    source: &Postgres,
    database: &str,
    target: &Target,
    ctx: &Context,
) -> Result<TransferReport, BackupError> {
    let clock = std::time::Instant::now();
    let (tables, copied) =
        ctx.cancel.run_until_cancelled(all(source, database, target, ctx)).await.ok_or(BackupError::Cancelled)??;
    Ok(TransferReport {
        source: database.to_owned(),
        target: target.database.clone(),
        rows: copied.tables.iter().map(|table| table.rows).sum(),
        bytes: copied.tables.iter().map(|table| table.bytes).sum(),
        milliseconds: millis_since(clock),
        tables,
    })
}

async fn all(
    source: &Postgres,
    database: &str,
    target: &Target,
    ctx: &Context,
) -> Result<(Vec<TableVerdict>, Database), BackupError> {
    let mut snapshot = Snapshot::take(source, database).await?;
    let outline = outline(&mut snapshot, source, database).await?;
    let run = Run { target: target.clone(), schema: None, ctx: ctx.clone() };
    let (mut session, major) = run.examine(&outline).await?;
    ctx.progress.stage("making tables", None, Unit::Items);
    schema::run(&mut session, &target.postgres, &target.database, major, "pre-data", &outline.pre_data).await?;
    let bytes = snapshot.catalog.tables.iter().map(|table| table.bytes).sum();
    ctx.progress.stage("copying rows", Some(bytes), Unit::Bytes);
    let from = Reading { postgres: source.clone(), database: database.to_owned(), exported: snapshot.exported.clone() };
    let tables = rows(&from, &run, snapshot.catalog.tables.clone(), ctx).await?;
    snapshot.held(source, database).await?;
    snapshot.release().await;
    let copied = Database { tables, ..outline };
    let verdicts = run.after_rows(session, &copied, major).await?;
    Ok((verdicts, copied))
}

/// Where rows are read.
#[derive(Clone)]
struct Reading {
    postgres: Postgres,
    database: String,
    exported: String,
}

/// The rows of every table, the largest first, so that no worker is left alone with one at the end.
async fn rows(
    from: &Reading,
    run: &Run,
    tables: Vec<catalog::Table>,
    ctx: &Context,
) -> Result<Vec<Table>, BackupError> {
    let mut order: Vec<(usize, catalog::Table)> = tables.into_iter().enumerate().collect();
    order.sort_by_key(|(_, table)| std::cmp::Reverse(table.bytes));
    let queue = Arc::new(Mutex::new(VecDeque::from(order)));
    let mut workers = JoinSet::new();
    for _ in 0..run.target.jobs.max(1) {
        let (from, run, queue, ctx) = (from.clone(), run.clone(), Arc::clone(&queue), ctx.clone());
        workers.spawn(async move {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((at, table)) = next else { return Ok(done) };
                done.push((at, one(&from, &run, &table, &ctx).await?));
            }
        });
    }
    let mut done = Vec::new();
    while let Some(worked) = workers.join_next().await {
        let worked: Result<Vec<(usize, Table)>, BackupError> =
            worked.map_err(|error| BackupError::Internal(error.to_string()))?;
        done.extend(worked?);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, table)| table).collect())
}

async fn one(from: &Reading, run: &Run, table: &catalog::Table, ctx: &Context) -> Result<Table, BackupError> {
    let mut entry = Table {
        name: table.name.clone(),
        copy_format: table.format,
        columns: table.columns.clone(),
        rows: 0,
        bytes: 0,
        content: 0,
        chunks: Vec::new(),
        tracking: None,
    };
    let read = Arc::new(Mutex::new(Read::default()));
    let pieces = pieces(from.clone(), table.clone(), ctx.clone(), Arc::clone(&read));
    let rows = || read.lock().unwrap_or_else(PoisonError::into_inner).content.rows;
    run.fill(&entry, pieces, rows).await?;
    let read = read.lock().unwrap_or_else(PoisonError::into_inner);
    (entry.rows, entry.content, entry.bytes) = (read.content.rows, read.content.sum, read.bytes);
    Ok(entry)
}

/// What was read of a table.
#[derive(Debug, Default)]
struct Read {
    content: Content,
    bytes: u64,
}

/// The rows of a table as they were at the snapshot, in pieces. They are read and hashed ahead of whoever takes them.
fn pieces(
    from: Reading,
    table: catalog::Table,
    ctx: Context,
    read: Arc<Mutex<Read>>,
) -> impl Stream<Item = Result<Vec<u8>, BackupError>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let name = table.name.to_string();
    let task = tokio::spawn(async move {
        let last = send(&from, &table, &ctx, &read, &sender).await.map(|()| None);
        let _ = sender.send(last).await;
    });
    // Dropped by whoever takes them, the stream ends the reader.
    let guard = AbortOnDrop(task);
    futures::stream::try_unfold((receiver, guard), move |(mut receiver, guard)| {
        let name = name.clone();
        async move {
            match receiver.recv().await {
                Some(piece) => Ok(piece?.map(|piece| (piece, (receiver, guard)))),
                // Without its last word it is not the end of the table.
                None => Err(BackupError::Internal(format!("the reader of {name} ended before the table did"))),
            }
        }
    })
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(
    from: &Reading,
    table: &catalog::Table,
    ctx: &Context,
    read: &Mutex<Read>,
    sender: &mpsc::Sender<Result<Option<Vec<u8>>, BackupError>>,
) -> Result<(), BackupError> {
    let keys: Keys = manifest::keys(&table.columns, table.format);
    let mut connection = Snapshot::join(&from.postgres, &from.database, &from.exported).await?;
    let sql = copy::out_sql(&table.name, &table.columns, table.format, None);
    let source = Source {
        postgres: &from.postgres,
        database: &from.database,
        name: &table.name,
        format: table.format,
        cancel: &ctx.cancel,
    };
    let mut reader = Reader::start(&mut connection, source, &sql, PIECE_BYTES).await?;
    // Hashed while the next ones are read, and sent on in their order.
    let mut hashing = VecDeque::new();
    loop {
        let piece = reader.next().await?;
        let is_last = piece.is_none();
        hashing.extend(piece.map(|piece| {
            let keys = keys.clone();
            aside::work(move || (keys.content(&piece.bytes, &piece.ends), piece.bytes))
        }));
        while hashing.len() > if is_last { 0 } else { HASHED_AT_ONCE } {
            let Some(hashed) = hashing.pop_front() else { break };
            let (content, bytes) = hashed.await.map_err(|error| BackupError::Internal(error.to_string()))?;
            {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                read.content = read.content.plus(content);
                read.bytes += u64::try_from(bytes.len()).unwrap_or_default();
            }
            if sender.send(Ok(Some(bytes))).await.is_err() {
                return Ok(());
            }
        }
        if is_last {
            break;
        }
    }
    drop(reader);
    let _ = sqlx::Connection::close(connection).await;
    Ok(())
}
