//! The backup of one database: workers that take ranges and stripes of its tables from one queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sqlx::Connection;
use tokio::task::JoinSet;

use super::Totals;
use super::before::Tracked;
use super::lists::Lists;
use super::table::{self, Done};
use super::throttle::Throttle;
use crate::backup::catalog;
use crate::backup::copy::{self, Pages, Reader, Source, Spares};
use crate::backup::error::BackupError;
use crate::backup::known::{Known, Sealing};
use crate::backup::manifest::{self, Database};
use crate::backup::outline::outline;
use crate::backup::seal::Identities;
use crate::backup::snapshot::Snapshot;
use crate::backup::store::Store;
use crate::backup::track::Origin;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::policy::backup::BackupPolicy as Policy;

/// What the workers on one database share.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) postgres: Postgres,
    pub(super) database: String,
    /// The database as the last backup has it.
    pub(super) last: Option<Arc<Database>>,
    pub(super) origin: Origin,
    pub(super) store: Arc<dyn Store>,
    pub(super) known: Arc<Known>,
    pub(super) sealing: Arc<Sealing>,
    pub(super) lists: Lists,
    /// What opens lists.
    pub(super) maker: Arc<Identities>,
    pub(super) totals: Arc<Mutex<Totals>>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) spares: Spares,
    pub(super) policy: Policy,
    /// When the backup began.
    pub(super) started: Timestamp,
    pub(super) ctx: Context,
}

/// What a worker takes from the queue, of the table of this number.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// A range of pages, or all there is, that is copied as it is.
    Range { table: usize, pages: Option<Pages>, number: usize },
    /// A stripe of a tracked table.
    Stripe { table: usize, number: usize },
}

/// The tables of the database, and those that are read in stripes.
struct Tables {
    all: Vec<catalog::Table>,
    tracked: Vec<Option<Tracked>>,
}

impl Job {
    pub(super) async fn database(self, snapshot: &mut Snapshot) -> Result<Database, BackupError> {
        let (postgres, name) = (&self.postgres, self.database.as_str());
        let outline = outline(snapshot, postgres, name).await?;
        let tables = self.tables(snapshot.catalog.tables.clone(), &snapshot.exported).await?;
        snapshot.held(postgres, name).await?;
        let origin = snapshot.lasting_origin(postgres, name).await?;
        Ok(Database { origin, tables, ..outline })
    }

    /// The rows of every table.
    async fn tables(&self, all: Vec<catalog::Table>, exported: &str) -> Result<Vec<manifest::Table>, BackupError> {
        let mut tracked = Vec::new();
        for table in &all {
            tracked.push(self.tracked(table).await?);
        }
        let tables = Arc::new(Tables { all, tracked });
        let queue = Arc::new(Mutex::new(units(&tables, self.policy.range_size.get().as_bytes())));
        let mut workers = JoinSet::new();
        for _ in 0..self.policy.parallel.get() {
            let (job, queue, tables) = (self.clone(), Arc::clone(&queue), Arc::clone(&tables));
            let exported = exported.to_owned();
            workers.spawn(async move { job.work(&queue, &tables, &exported).await });
        }
        let mut done: Vec<Vec<Done>> = tables.all.iter().map(|_| Vec::new()).collect();
        // Dropping the set, on the first error or when this future is dropped, ends the other workers.
        while let Some(worked) = workers.join_next().await {
            for (table, part) in worked.map_err(|error| BackupError::Internal(error.to_string()))?? {
                if let Some(parts) = done.get_mut(table) {
                    parts.push(part);
                }
            }
        }
        let mut entries = Vec::new();
        for ((table, tracked), done) in tables.all.iter().zip(&tables.tracked).zip(done) {
            entries.push(table::entry(self, table, tracked.as_ref(), done).await?);
        }
        Ok(entries)
    }

    async fn work(
        self,
        queue: &Mutex<VecDeque<Unit>>,
        tables: &Tables,
        exported: &str,
    ) -> Result<Vec<(usize, Done)>, BackupError> {
        let mut connection = Snapshot::join(&self.postgres, &self.database, exported).await?;
        let mut done = Vec::new();
        let mut sealing = JoinSet::new();
        loop {
            let unit = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(unit) = unit else { break };
            match unit {
                Unit::Range { table: at, pages, number } => {
                    let Some(table) = tables.all.get(at) else { continue };
                    let keys = manifest::keys(&table.columns, table.format);
                    let sql = copy::out_sql(&table.name, &table.columns, table.format, pages);
                    let most = self.policy.max_chunk_bytes();
                    let reader = Reader::start(&mut connection, self.source(table), &sql, most).await?;
                    let mut reader = reader.into_spares(&self.spares);
                    let mut part = 0;
                    while let Some(piece) = reader.next().await? {
                        // One chunk is sealed and stored while the next one is read; a third would only take memory.
                        if sealing.len() >= 2 {
                            settle(&mut sealing, &mut done).await?;
                        }
                        self.read(piece.bytes.len()).await?;
                        let (job, keys, place) = (self.clone(), keys.clone(), (number, part));
                        part += 1;
                        sealing.spawn(async move {
                            let (chunk, _) = job.seal(piece, keys).await?;
                            Ok((at, Done::Chunk(place, chunk)))
                        });
                    }
                }
                Unit::Stripe { table: at, number } => {
                    let table = tables.all.get(at).zip(tables.tracked.get(at).and_then(Option::as_ref));
                    let Some((table, tracked)) = table else { continue };
                    let stripe = self.stripe(&mut connection, table, tracked, number).await?;
                    done.push((at, Done::Stripe(number, stripe)));
                }
            }
        }
        // An end that the server is told of; it would log a broken connection otherwise.
        let _ = connection.close().await;
        while !sealing.is_empty() {
            settle(&mut sealing, &mut done).await?;
        }
        Ok(done)
    }

    /// Which server the last backup is of, and when.
    pub(super) fn last_origin(&self) -> Option<&Origin> {
        self.last.as_ref().and_then(|database| database.origin.as_ref())
    }

    pub(super) fn source<'a>(&'a self, table: &'a catalog::Table) -> Source<'a> {
        Source {
            postgres: &self.postgres,
            database: &self.database,
            name: &table.name,
            format: table.format,
            cancel: &self.ctx.cancel,
        }
    }
}

/// Waits for one of the tasks that seal.
pub(super) async fn settle<T: 'static>(
    sealing: &mut JoinSet<Result<T, BackupError>>,
    done: &mut Vec<T>,
) -> Result<(), BackupError> {
    if let Some(one) = sealing.join_next().await {
        done.push(one.map_err(|error| BackupError::Internal(error.to_string()))??);
    }
    Ok(())
}

/// All parts of all tables, those of the largest tables first, so that no worker is left alone with one at the end.
fn units(tables: &Tables, range_bytes: u64) -> VecDeque<Unit> {
    let mut order: Vec<(usize, &catalog::Table)> = tables.all.iter().enumerate().collect();
    order.sort_by_key(|(_, table)| std::cmp::Reverse(table.bytes));
    let mut units = VecDeque::new();
    for (at, table) in order {
        if let Some(Some(tracked)) = tables.tracked.get(at) {
            units.extend((0..tracked.stripes.len()).map(|number| Unit::Stripe { table: at, number }));
        } else if table.heap {
            let ranges = copy::ranges(table.pages, table.bytes, range_bytes).into_iter().enumerate();
            units.extend(ranges.map(|(number, pages)| Unit::Range { table: at, pages: Some(pages), number }));
        } else {
            units.push_back(Unit::Range { table: at, pages: None, number: 0 });
        }
    }
    units
}
