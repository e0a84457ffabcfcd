//! The migration, run on the copy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use super::load::{self, Felt};
use super::locks::{self, Held};
use super::measure::{self, Cost};
use super::server_log::{self, ServerLog};
use crate::context::Context;
use crate::migrate::error::MigrateError;
use crate::migrate::journal::Journal;
use crate::migrate::migration::{Migration, MigrationStep};
use crate::migrate::names::Database;
use crate::migrate::plan::plan;
use crate::migrate::saga::{MigrateReport, Observer, Options, apply};
use crate::migrate::steps::Operation;
use crate::migrate::world::{Place, Server};
use crate::units::millis_since;

/// What running it came to.
pub(super) struct Practised {
    /// Whether the locks and the load were watched from the beginning to the end.
    pub(super) is_watched: bool,
    /// The saga's own report.
    pub(super) report: MigrateReport,
    /// When each step began, in milliseconds since the run did, and what it cost, by its key.
    pub(super) costs: Vec<(String, u64, Cost)>,
    /// The locks it held, with milliseconds since the run began.
    pub(super) held: Vec<Held>,
    /// What the server's own log says.
    pub(super) log: ServerLog,
    /// What the load felt.
    pub(super) felt: Vec<Felt>,
    /// Indexes that are not valid afterwards.
    pub(super) invalid: Vec<String>,
    /// Size of the copy before, in bytes.
    pub(super) bytes: i64,
    /// How long the run took, in milliseconds.
    pub(super) milliseconds: u64,
}

impl Practised {
    /// Tells of the source's databases instead of their copies, which are gone when somebody reads it.
    pub(super) fn name_after(&mut self, source: &Place, copy: &Place) {
        let names: Vec<(String, String)> = copy.all().into_iter().zip(source.all()).collect();
        let rename = |relation: &mut String| {
            let of = |(copy, source): &(String, String)| {
                relation.strip_prefix(copy.as_str())?.strip_prefix('.').map(|rest| format!("{source}.{rest}"))
            };
            if let Some(renamed) = names.iter().find_map(of) {
                *relation = renamed;
            }
        };
        self.held.iter_mut().for_each(|held| rename(&mut held.relation));
        self.felt.iter_mut().for_each(|felt| rename(&mut felt.table));
        self.invalid.iter_mut().for_each(rename);
        self.log.waits.iter_mut().for_each(|wait| {
            rename(&mut wait.relation);
            rename(&mut wait.table);
        });
        let costs = self.costs.iter_mut().flat_map(|(.., cost)| &mut cost.rewrites);
        costs.for_each(|rewrite| rename(&mut rewrite.relation));
    }
}

/// Whether a step is part of a rehearsal: what acts on the source's databases and on nothing else.
pub(super) fn is_rehearsed(step: &MigrationStep) -> bool {
    match &step.operation {
        // A name of its own would be that of a database which is the scratch server's, not of a copy.
        Operation::Sql(sql) => sql.server == Server::Source && !matches!(sql.database, Some(Database::Named(_))),
        Operation::TemporalSchema(_) => true,
        Operation::Exec(exec) => exec.rehearsed,
        _ => false,
    }
}

/// The part of a migration that is rehearsed.
pub(super) fn rehearsed(migration: &Migration) -> Migration {
    let steps = migration.steps.iter().filter(|step| is_rehearsed(step)).cloned().collect();
    Migration { steps, ..migration.clone() }
}

/// Measures around each step.
#[derive(Debug)]
struct Measuring {
    place: Place,
    origin: Instant,
    before: Mutex<Option<(measure::State, u64)>>,
    costs: Mutex<Vec<(String, u64, Cost)>>,
}

#[async_trait]
impl Observer for Measuring {
    async fn before(&self, _: &MigrationStep) {
        let state = measure::look(&self.place).await.ok().map(|state| (state, millis_since(self.origin)));
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    async fn after(&self, step: &MigrationStep) {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some((before, from)), Ok(after)) = (before, measure::look(&self.place).await) else { return };
        let cost = measure::cost(&before, &after);
        self.costs.lock().unwrap_or_else(PoisonError::into_inner).push((step.key.clone(), from, cost));
    }
}

/// Runs it on the copy under observation.
pub(super) async fn run(migration: &Migration, ground: &Ground, ctx: &Context) -> Result<Practised, MigrateError> {
    let (world, place) = (ground.world(), ground.world().source.clone());
    let journal = Journal::practice(&place.postgres, ground.ledger()).await?;
    let before = measure::look(&place).await?;
    let stop = CancellationToken::new();
    // Sessions that begin later have their waits logged.
    let listening = server_log::listen(&place).await;
    let origin = Instant::now();
    let watching = tokio::spawn(locks::watch(place.clone(), origin, stop.clone()));
    let loading = tokio::spawn(load::load(place.clone(), stop.clone()));
    // So that both are there before the first step is.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let measuring =
        Arc::new(Measuring { place: place.clone(), origin, before: Mutex::default(), costs: Mutex::default() });
    let options = Options::observed(Arc::clone(&measuring) as Arc<dyn Observer>);
    let planned = plan(std::slice::from_ref(migration), &journal, world, ctx).await;
    let clock = Instant::now();
    let report = match &planned {
        Ok(planned) => apply(planned, &journal, world, &options, ctx).await,
        Err(_) => MigrateReport::default(),
    };
    let milliseconds = millis_since(clock);
    stop.cancel();
    let (held, felt) = (watching.await.ok().flatten(), loading.await.ok().flatten());
    let is_watched = held.is_some() && felt.is_some();
    let (held, felt) = (held.unwrap_or_default(), felt.unwrap_or_default());
    let log = listening.hear(origin).await;
    let invalid = measure::invalid_indexes(&place).await?;
    journal.ledger().close().await;
    planned?;
    let costs = std::mem::take(&mut *measuring.costs.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Practised { is_watched, report, costs, held, log, felt, invalid, bytes: before.bytes(), milliseconds })
}
