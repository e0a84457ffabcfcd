//! Makes a backup: for each database a snapshot, its schema, its rows in chunks; then the manifest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Connection;
use tokio::task::JoinSet;

use super::catalog;
use super::chunk::{ChunkRef, Content, Keys};
use super::claim;
use super::copy::{self, Pages, Piece, Reader, Source};
use super::error::BackupError;
use super::known::{Known, Sealing};
use super::manifest::{self, BackupId, Database, FORMAT, Manifest, Table};
use super::plan::{BackupPlan, not_covered};
use super::schema;
use super::seal::{self, Recipients};
use super::snapshot::Snapshot;
use super::store::Store;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::policy::backup::BackupPolicy as Policy;
use crate::progress::Unit;

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// Its identifier.
    pub id: BackupId,
    /// Databases in it.
    pub databases: usize,
    /// Tables in it.
    pub tables: u64,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of rows as COPY wrote them.
    pub raw_bytes: u64,
    /// Bytes that were added to the store for them.
    pub stored_bytes: u64,
    /// Chunks that were stored.
    pub new_chunks: u64,
    /// Chunks that the store had already.
    pub reused_chunks: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

impl BackupReport {
    /// One: a backup is there that was not.
    #[must_use]
    pub const fn changed(&self) -> usize {
        1
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    raw: u64,
    stored: u64,
    new: u64,
    reused: u64,
}

/// Makes the planned backup. A backup that did not return `Ok` has no manifest and does not count; chunks it had
/// stored are found again by the next one only after that has stored them anew.
///
/// # Errors
/// Any [`BackupError`]; the store is probed with a small object before anything is copied.
pub async fn apply(
    plan: &BackupPlan,
    postgres: &Postgres,
    store: &Arc<dyn Store>,
    ctx: &Context,
) -> Result<BackupReport, BackupError> {
    let clock = std::time::Instant::now();
    let started = Timestamp::now();
    store.probe().await?;
    let sealing =
        Arc::new(Sealing { recipients: plan.policy.encryption.recipients(), renew: plan.policy.encryption.renew });
    let known = Arc::new(Known::read(store.as_ref(), &sealing).await?);
    let totals = Arc::new(Mutex::new(Totals::default()));
    let mut databases = Vec::new();
    for planned in &plan.databases {
        ctx.progress.stage(&format!("copying {}", planned.name), Some(planned.bytes), Unit::Bytes);
        let job = Job {
            postgres: postgres.clone(),
            database: planned.name.clone(),
            store: Arc::clone(store),
            known: Arc::clone(&known),
            sealing: Arc::clone(&sealing),
            totals: Arc::clone(&totals),
            policy: plan.policy.clone(),
            ctx: ctx.clone(),
        };
        let copied = ctx.cancel.run_until_cancelled(job.database()).await;
        databases.push(copied.ok_or(BackupError::Cancelled)??);
    }
    let manifest = Manifest {
        format: FORMAT,
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
        id: BackupId::new(started),
        started,
        finished: Timestamp::now(),
        recipients: sealing.recipients.as_ref().map(Recipients::keys).unwrap_or_default(),
        databases,
    };
    claim::commit(store.as_ref(), &manifest, ctx).await?;
    let totals = *totals.lock().unwrap_or_else(PoisonError::into_inner);
    let tables = || manifest.databases.iter().flat_map(|database| &database.tables);
    Ok(BackupReport {
        databases: manifest.databases.len(),
        tables: tables().map(|_| 1).sum(),
        rows: tables().map(|table| table.rows).sum(),
        raw_bytes: totals.raw,
        stored_bytes: totals.stored,
        new_chunks: totals.new,
        reused_chunks: totals.reused,
        milliseconds: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        id: manifest.id,
    })
}

/// One range of one table: the unit that workers take.
#[derive(Debug, Clone, Copy)]
struct Range {
    table: usize,
    pages: Option<Pages>,
    range: usize,
}

/// A chunk and its place: table, range, number within the range.
type Placed = ((usize, usize, usize), ChunkRef);

#[derive(Clone)]
struct Job {
    postgres: Postgres,
    database: String,
    store: Arc<dyn Store>,
    known: Arc<Known>,
    sealing: Arc<Sealing>,
    totals: Arc<Mutex<Totals>>,
    policy: Policy,
    ctx: Context,
}

impl Job {
    async fn database(self) -> Result<Database, BackupError> {
        let (postgres, name) = (&self.postgres, self.database.as_str());
        let mut snapshot = Snapshot::take(postgres, name).await?;
        let fail = |doing: &'static str| move |error| postgres.error(name, doing, error);
        let sequences = snapshot.catalog.sequences.clone();
        let sequences =
            catalog::sequences(snapshot.leader(), &sequences).await.map_err(fail("reading the sequences"))?;
        let tables = snapshot.catalog.tables.clone();
        let schema_versions = catalog::schema_versions(snapshot.leader(), &tables)
            .await
            .map_err(fail("reading Temporal's schema versions"))?;
        let tool = postgres.pg_dump(snapshot.version.major()).await?;
        let pre_data = schema::dump(postgres, &tool, name, &snapshot.exported, "pre-data").await?;
        let post_data = schema::dump(postgres, &tool, name, &snapshot.exported, "post-data").await?;
        let chunks = self.rows(&tables, &snapshot.exported).await?;
        snapshot.held(postgres, name).await?;
        let catalog = snapshot.catalog.clone();
        let lacks = not_covered(name, &catalog);
        let database = Database {
            name: name.to_owned(),
            server_version: snapshot.version.0,
            encoding: catalog.encoding,
            snapshot_at: snapshot.at,
            snapshot_lsn: snapshot.lsn.clone(),
            schema_versions,
            pre_data,
            post_data,
            sequences,
            materialized_views: catalog.materialized_views,
            tables: tables.into_iter().zip(chunks).map(|(table, chunks)| entry(table, chunks)).collect(),
            not_covered: lacks,
        };
        snapshot.release().await;
        Ok(database)
    }

    /// The chunks of each table, in the order of their rows.
    async fn rows(&self, tables: &[catalog::Table], exported: &str) -> Result<Vec<Vec<ChunkRef>>, BackupError> {
        let queue = Arc::new(Mutex::new(units(tables, self.policy.range_size.get().as_bytes())));
        let tables = Arc::new(tables.to_vec());
        let mut workers = JoinSet::new();
        for _ in 0..self.policy.parallel.get() {
            let (job, queue, tables) = (self.clone(), Arc::clone(&queue), Arc::clone(&tables));
            let exported = exported.to_owned();
            workers.spawn(async move { job.work(&queue, &tables, &exported).await });
        }
        let mut placed: Vec<Placed> = Vec::new();
        // Dropping the set, on the first error or when this future is dropped, ends the other workers.
        while let Some(done) = workers.join_next().await {
            placed.extend(done.map_err(|error| BackupError::Internal(error.to_string()))??);
        }
        placed.sort_unstable_by_key(|(place, _)| *place);
        let mut chunks = vec![Vec::new(); tables.len()];
        for ((table, _, _), chunk) in placed {
            if let Some(list) = chunks.get_mut(table) {
                list.push(chunk);
            }
        }
        Ok(chunks)
    }

    async fn work(
        self,
        queue: &Mutex<VecDeque<Range>>,
        tables: &[catalog::Table],
        exported: &str,
    ) -> Result<Vec<Placed>, BackupError> {
        let mut connection = Snapshot::join(&self.postgres, &self.database, exported).await?;
        let mut placed = Vec::new();
        let mut sealing: JoinSet<Result<Placed, BackupError>> = JoinSet::new();
        loop {
            let unit = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(unit) = unit else { break };
            let Some(table) = tables.get(unit.table) else { continue };
            let keys = manifest::keys(&table.columns, table.format);
            let source = Source {
                postgres: &self.postgres,
                database: &self.database,
                name: &table.name,
                format: table.format,
                cancel: &self.ctx.cancel,
            };
            let sql = copy::out_sql(&table.name, &table.columns, table.format, unit.pages);
            let mut reader = Reader::start(&mut connection, source, &sql, self.policy.max_chunk_bytes()).await?;
            let mut number = 0;
            while let Some(piece) = reader.next().await? {
                let place = (unit.table, unit.range, number);
                number += 1;
                // One chunk is sealed and stored while the next one is read; a third would only take memory.
                if sealing.len() >= 2 {
                    settle(&mut sealing, &mut placed).await?;
                }
                let (job, keys) = (self.clone(), keys.clone());
                sealing.spawn(async move { job.seal(piece, keys).await.map(|chunk| (place, chunk)) });
            }
        }
        // An end that the server is told of; it would log a broken connection otherwise.
        let _ = connection.close().await;
        while !sealing.is_empty() {
            settle(&mut sealing, &mut placed).await?;
        }
        Ok(placed)
    }

    /// Names a chunk, and compresses and stores it unless the store has it.
    async fn seal(self, piece: Piece, keys: Keys) -> Result<ChunkRef, BackupError> {
        let (known, sealing) = (Arc::clone(&self.known), Arc::clone(&self.sealing));
        let level = self.policy.compression_level.get();
        let bytes = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        let sealed = tokio::task::spawn_blocking(move || {
            let id = keys.id(&piece.bytes);
            // Its name vouches for the bytes; what else the older manifest says about it must fit as well.
            let fits = |chunk: &ChunkRef| chunk.bytes == bytes && usize::try_from(chunk.rows) == Ok(piece.ends.len());
            if let Some(chunk) = known.get(&id).filter(fits) {
                return Ok((chunk, None));
            }
            let Content { rows, sum } = keys.content(&piece.bytes, &piece.ends);
            let body = seal::seal(&piece.bytes, level, sealing.recipients.as_ref())?;
            let stored = u64::try_from(body.len()).unwrap_or(u64::MAX);
            Ok((ChunkRef { id, bytes, stored, rows, content: sum, sealed: sealing.set() }, Some(body)))
        });
        let sealed: Result<_, std::io::Error> =
            sealed.await.map_err(|error| BackupError::Internal(error.to_string()))?;
        let (chunk, body) = sealed.map_err(|error| BackupError::Internal(format!("compressing: {error}")))?;
        let new = body.is_some();
        if let Some(body) = body {
            self.store.put(&chunk.key()?, body).await?;
            self.known.add(chunk);
        }
        self.ctx.progress.advance(bytes);
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.raw += bytes;
        if new {
            totals.new += 1;
            totals.stored += chunk.stored;
        } else {
            totals.reused += 1;
        }
        Ok(chunk)
    }
}

async fn settle(
    sealing: &mut JoinSet<Result<Placed, BackupError>>,
    placed: &mut Vec<Placed>,
) -> Result<(), BackupError> {
    if let Some(done) = sealing.join_next().await {
        placed.push(done.map_err(|error| BackupError::Internal(error.to_string()))??);
    }
    Ok(())
}

/// All ranges of all tables, those of the largest tables first, so that no worker is left alone with one at the end.
fn units(tables: &[catalog::Table], range_bytes: u64) -> VecDeque<Range> {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(tables.get(*index).map_or(0, |table| table.bytes)));
    let mut units = VecDeque::new();
    for index in order {
        let Some(table) = tables.get(index) else { continue };
        if !table.heap {
            units.push_back(Range { table: index, pages: None, range: 0 });
            continue;
        }
        let ranges = copy::ranges(table.pages, table.bytes, range_bytes);
        let all = ranges.into_iter().enumerate();
        units.extend(all.map(|(range, pages)| Range { table: index, pages: Some(pages), range }));
    }
    units
}

fn entry(table: catalog::Table, chunks: Vec<ChunkRef>) -> Table {
    let content = chunks.iter().fold(Content::default(), |sum, chunk| sum.plus(chunk.content()));
    Table {
        name: table.name,
        copy_format: table.format,
        columns: table.columns,
        rows: content.rows,
        bytes: chunks.iter().map(|chunk| chunk.bytes).sum(),
        content: content.sum,
        chunks,
    }
}
