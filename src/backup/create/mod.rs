//! Makes a backup: for each database a snapshot, its schema, its rows in chunks; then the manifest.

mod before;
mod job;
mod lists;
mod seal;
mod stripe;
mod table;
mod throttle;

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use self::job::Job;
use self::lists::Lists;
use self::throttle::Throttle;
use super::claim;
use super::copy::Spares;
use super::error::BackupError;
use super::known::{Known, Sealing};
use super::manifest::{BackupId, FORMAT, Manifest};
use super::plan::BackupPlan;
use super::seal::{Identities, Recipients};
use super::snapshot::Snapshot;
use super::store::Store;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::progress::Unit;
use crate::units::millis_since;

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
    /// Bytes of rows as COPY writes them.
    pub raw_bytes: u64,
    /// Bytes of rows that were read for it; of the others it is known that nobody has changed them.
    pub read_bytes: u64,
    /// Bytes that were added to the store for them.
    pub stored_bytes: u64,
    /// Chunks that were stored.
    pub new_chunks: u64,
    /// Chunks with rows of it that the store had already.
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
    read: u64,
    stored: u64,
    new: u64,
    reused: u64,
}

/// Makes the planned backup. A backup that did not return `Ok` has no manifest and does not count; chunks it had
/// stored are found again by the next one only after that has stored them anew.
///
/// `maker` is whoever makes backups here, the same each time: where rows are encrypted, what the next backup builds on is
/// encrypted for it. Without, an encrypted backup reads and stores everything each time.
///
/// # Errors
/// Any [`BackupError`]; the store is probed with a small object before anything is copied.
pub async fn apply(
    plan: &BackupPlan,
    postgres: &Postgres,
    store: &Arc<dyn Store>,
    maker: Option<&Arc<Identities>>,
    ctx: &Context,
) -> Result<BackupReport, BackupError> {
    let clock = std::time::Instant::now();
    let started = Timestamp::now();
    store.probe().await?;
    let sealing =
        Arc::new(Sealing { recipients: plan.policy.encryption.recipients(), renew: plan.policy.encryption.renew });
    let (known, last) = Known::read(store.as_ref(), &sealing).await?;
    let known = Arc::new(known);
    let totals = Arc::new(Mutex::new(Totals::default()));
    let spares = Spares::of_pieces(plan.policy.parallel.get(), plan.policy.max_chunk_bytes());
    let throttle = Arc::new(Throttle::new(plan.policy.throttle.map(|throttle| throttle.get())));
    let mut databases = Vec::new();
    for planned in &plan.databases {
        ctx.progress.stage(&format!("copying {}", planned.name), Some(planned.bytes), Unit::Bytes);
        let copied = ctx.cancel.run_until_cancelled(async {
            let mut snapshot = Snapshot::take(postgres, &planned.name).await?;
            let job = Job {
                postgres: postgres.clone(),
                database: planned.name.clone(),
                last: last.of(&planned.name, snapshot.origin()),
                origin: snapshot.origin().clone(),
                store: Arc::clone(store),
                known: Arc::clone(&known),
                sealing: Arc::clone(&sealing),
                lists: Lists::of(sealing.recipients.as_ref(), maker.map(AsRef::as_ref)),
                maker: maker.cloned().unwrap_or_default(),
                totals: Arc::clone(&totals),
                throttle: Arc::clone(&throttle),
                spares: spares.clone(),
                policy: plan.policy.clone(),
                started,
                ctx: ctx.clone(),
            };
            let database = job.database(&mut snapshot).await?;
            snapshot.release().await;
            Ok::<_, BackupError>(database)
        });
        databases.push(copied.await.ok_or(BackupError::Cancelled)??);
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
        raw_bytes: tables().map(|table| table.bytes).sum(),
        read_bytes: totals.read,
        stored_bytes: totals.stored,
        new_chunks: totals.new,
        reused_chunks: totals.reused,
        milliseconds: millis_since(clock),
        id: manifest.id,
    })
}
