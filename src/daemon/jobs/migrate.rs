use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::Site;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::migrate::{
    self, Backups, Journal, MigratePlan, Migration, MigrationOutcome, MigrationState, Name, Options, Place, RecipeSet,
    World,
};
use crate::plan::Plan;

/// Run-once migrations: those the configuration names, or one that somebody asked for.
#[derive(Debug)]
pub struct MigrateJob {
    site: Site,
    names: Vec<String>,
    parameters: BTreeMap<String, BTreeMap<String, String>>,
    options: Options,
}

struct PlannedMigrations {
    journal: Journal,
    world: World,
    options: Options,
    plan: MigratePlan,
}

impl MigrateJob {
    /// The migrations under `migrations.apply`.
    pub(super) fn configured(site: Site) -> Self {
        let names = site.config.apply.clone();
        let parameters = site.config.parameters.clone();
        Self { site, names, parameters, options: Options::default() }
    }

    /// One migration, with parameters over those of the configuration.
    #[must_use]
    pub fn named(site: Site, name: &str, parameters: BTreeMap<String, String>) -> Self {
        let mut all = site.config.parameters.clone();
        all.entry(name.to_owned()).or_default().extend(parameters);
        Self { site, names: vec![name.to_owned()], parameters: all, options: Options::default() }
    }

    /// The same, run in another way.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// The migrations, with their parameters filled in.
    ///
    /// # Errors
    /// A recipe that cannot be used, and parameters that do not fit.
    pub fn migrations(&self) -> Result<Vec<Migration>, Failure> {
        let recipes = RecipeSet::load(self.site.config.recipes.as_deref())?;
        Ok(recipes.select(&self.names, &self.parameters)?)
    }
}

/// What migrations have left in force, in lines. Where that cannot be read, it says so: silence would mean that nothing is.
pub(super) async fn in_force(migrations: &[Migration], journal: Result<&Journal, &Failure>) -> Option<String> {
    let mut all = Vec::new();
    for migration in migrations {
        let entry = match journal {
            Ok(journal) => journal.read(migration.name()).await.map_err(Failure::from),
            Err(failure) => Err(failure.clone()),
        };
        match entry {
            Ok(entry) => all.extend(entry.and_then(|entry| migrate::in_force(migration, &entry))),
            Err(failure) => all.extend(migrate::may_leave_in_force(migration).then(|| {
                format!("Whether `{}` has left Temporal stopped could not be read: {failure}", migration.name())
            })),
        }
    }
    (!all.is_empty()).then(|| all.join("\n"))
}

/// The same of migrations whose recipes cannot be used: the journal alone does not tell what their steps stop.
async fn begun(names: &[String], journal: &Journal) -> Option<String> {
    let mut all = Vec::new();
    for name in names {
        let is_over = |state| matches!(state, MigrationState::Applied | MigrationState::Undone);
        if let Ok(Some(entry)) = journal.read(name).await
            && !is_over(entry.state)
        {
            let state = entry.state.as_str();
            all.push(format!("`{name}` is {state}, and may have left Temporal stopped: its recipe cannot be read"));
        }
    }
    (!all.is_empty()).then(|| all.join("\n"))
}

impl Site {
    /// What migrations act on.
    #[must_use]
    pub fn world(&self) -> World {
        let config = &self.config;
        let place = |postgres, databases: &crate::config::Databases| {
            Place::new(postgres, databases.main.clone(), databases.visibility.clone())
        };
        let store = config.store.clone().zip(self.policies.backup.clone());
        World {
            source: place(self.postgres(), &config.databases),
            target: config.target.as_ref().map(|it| place(Postgres::new(it.postgres.clone()), &it.databases)),
            backups: store.map(|(store, policy)| Backups { store, policy, identities: Arc::clone(&config.identities) }),
            temporal: config.temporal.clone(),
            kubernetes: config.kubernetes.clone(),
            adoption: self.adoption(),
            sql_tool: config.sql_tool.clone(),
        }
    }

    /// The journal of migrations, in the ledger.
    ///
    /// # Errors
    /// When the ledger cannot be reached or is not ready.
    pub async fn journal(&self) -> Result<Journal, crate::daemon::ledger::LedgerError> {
        Ok(Journal::new(self.ledger().await?.pool().clone()))
    }
}

#[async_trait]
impl Job for MigrateJob {
    fn name(&self) -> JobName {
        JobName::Migrate
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let migrations = self.migrations()?;
        let (world, journal) = (self.site.world(), self.site.journal().await?);
        let plan = migrate::plan(&migrations, &journal, &world, ctx).await?;
        Ok(Box::new(PlannedMigrations { journal, world, options: self.options.clone(), plan }))
    }

    async fn in_force(&self) -> Option<String> {
        let journal = self.site.journal().await.map_err(Failure::from);
        match self.migrations() {
            Ok(migrations) => in_force(&migrations, journal.as_ref()).await,
            Err(_) => begun(&self.names, &journal.ok()?).await,
        }
    }
}

impl PlannedMigrations {
    /// The stage behind the one that it was to stop at.
    fn next_stage(&self) -> Option<&Name> {
        let until = self.options.until.as_ref()?;
        let stages = self.plan.migrations.iter().flat_map(|one| &one.migration.recipe.stages);
        stages.map(|stage| &stage.name).skip_while(|name| *name != until).nth(1)
    }
}

#[async_trait]
impl Planned for PlannedMigrations {
    fn plan(&self) -> Plan {
        let mut plan = self.plan.plan();
        if self.plan.migrations.is_empty() {
            plan.notes.push("no migration is named under `migrations.apply` in the configuration".into());
        }
        plan
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let report = migrate::apply(&self.plan, &self.journal, &self.world, &self.options, ctx).await;
        let said = |outcome, word: &str| {
            let names: Vec<&str> =
                report.migrations.iter().filter(|one| one.outcome == outcome).map(|one| one.name.as_str()).collect();
            (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")))
        };
        let summary = [
            said(MigrationOutcome::Applied, "applied"),
            said(MigrationOutcome::Stopped, "stopped"),
            said(MigrationOutcome::Undone, "undid"),
            said(MigrationOutcome::Failed, "failed in"),
        ];
        let mut summary: Vec<String> = summary.into_iter().flatten().collect();
        let has_stopped = report.migrations.iter().any(|one| one.outcome == MigrationOutcome::Stopped);
        if let Some(next) = self.next_stage().filter(|_| has_stopped && report.error.is_none()) {
            summary.push(format!("the next run goes on with stage {next}"));
        }
        // Of a run that failed its failure tells; one that was to go no further is none.
        if report.error.is_none() {
            let migrations: Vec<Migration> = self.plan.migrations.iter().map(|one| one.migration.clone()).collect();
            summary.extend(in_force(&migrations, Ok(&self.journal)).await);
        }
        let summary = if summary.is_empty() { "applied nothing".to_owned() } else { summary.join("; ") };
        let applied = Applied::done(report.changed > 0, summary, &report);
        Ok(match report.error {
            Some(error) => applied.failed(error.into()),
            None => applied,
        })
    }
}
