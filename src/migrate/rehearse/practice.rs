//! The migration, run on the copy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use super::load::{self, Felt};
use super::locks::{self, Held};
use super::measure::{self, Cost};
use super::server_log::{self, ServerLog};
use crate::context::Context;
use crate::failure::chain;
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
    /// The steps whose cost could not be measured, each with why.
    pub(super) unmeasured: Vec<String>,
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
    unmeasured: Mutex<Vec<String>>,
}

impl Measuring {
    fn new(place: Place, origin: Instant) -> Self {
        let (before, costs, unmeasured) = Default::default();
        Self { place, origin, before, costs, unmeasured }
    }

    async fn look(&self, step: &MigrationStep) -> Option<measure::State> {
        let looked = measure::look(&self.place).await;
        looked.map_err(|error| held(&self.unmeasured).push(format!("`{}` ({})", step.key, chain(&error)))).ok()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Observer for Measuring {
    async fn before(&self, step: &MigrationStep) {
        let state = self.look(step).await.map(|state| (state, millis_since(self.origin)));
        *held(&self.before) = state;
    }

    async fn after(&self, step: &MigrationStep) {
        let Some((before, from)) = held(&self.before).take() else { return };
        let Some(after) = self.look(step).await else { return };
        let cost = measure::cost(&before, &after);
        held(&self.costs).push((step.key.clone(), from, cost));
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
    let measuring = Arc::new(Measuring::new(place.clone(), origin));
    let options = Options::observed(Arc::clone(&measuring) as Arc<dyn Observer>);
    let planned = plan(std::slice::from_ref(migration), &journal, world, ctx).await;
    let clock = Instant::now();
    let report = match &planned {
        Ok(planned) => apply(planned, &journal, world, &options, ctx).await,
        Err(_) => MigrateReport::default(),
    };
    let milliseconds = millis_since(clock);
    stop.cancel();
    let (locks, felt) = (watching.await.ok().flatten(), loading.await.ok().flatten());
    let is_watched = locks.is_some() && felt.is_some();
    let (locks, felt) = (locks.unwrap_or_default(), felt.unwrap_or_default());
    let log = listening.hear(origin).await;
    let invalid = measure::invalid_indexes(&place).await?;
    journal.ledger().close().await;
    planned?;
    let (costs, unmeasured) =
        (std::mem::take(&mut *held(&measuring.costs)), std::mem::take(&mut *held(&measuring.unmeasured)));
    let bytes = before.bytes();
    Ok(Practised { is_watched, report, costs, unmeasured, held: locks, log, felt, invalid, bytes, milliseconds })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clients::TlsFiles;
    use crate::clients::postgres::{Postgres, Settings, TlsMode};
    use crate::migrate::set::RecipeSet;

    /// Nobody listens at the discard port.
    fn nowhere() -> Place {
        let settings = Settings {
            host: "127.0.0.1".into(),
            port: 9,
            user: "nobody".into(),
            role: None,
            password: None,
            tls_mode: TlsMode::Disable,
            tls: TlsFiles::default(),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            bin_dir: None,
        };
        Place::new(Postgres::new(settings), "temporal", None)
    }

    #[tokio::test]
    async fn a_step_that_could_not_be_measured_is_told_of() {
        let recipes = RecipeSet::load(None).unwrap();
        let migration = recipes.select(&["tune-autovacuum".to_owned()], &BTreeMap::new()).unwrap().remove(0);
        let (first, second) = (&migration.steps[0], &migration.steps[1]);
        let measuring = Measuring::new(nowhere(), Instant::now());
        measuring.before(first).await;
        measuring.after(first).await;
        *held(&measuring.before) = Some((measure::State::default(), 0));
        measuring.after(second).await;
        assert!(held(&measuring.costs).is_empty());
        let unmeasured = held(&measuring.unmeasured).clone();
        let keys: Vec<_> = unmeasured.iter().map(|one| one.split(" (").next().unwrap().to_owned()).collect();
        assert_eq!(keys, [format!("`{}`", first.key), format!("`{}`", second.key)]);
    }
}
