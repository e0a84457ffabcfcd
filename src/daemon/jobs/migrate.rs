use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Site;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::migrate::{self, Journal, MigratePlan, RecipeSet, Targets};
use crate::plan::Plan;

/// Run-once migrations: those the configuration names, or one that somebody asked for.
#[derive(Debug)]
pub struct MigrateJob {
    site: Site,
    names: Vec<String>,
    parameters: BTreeMap<String, BTreeMap<String, String>>,
}

struct PlannedMigrations {
    journal: Journal,
    targets: Targets,
    plan: MigratePlan,
}

impl MigrateJob {
    /// The migrations under `migrations.apply`.
    pub(super) fn configured(site: Site) -> Self {
        let names = site.config.apply.clone();
        let parameters = site.config.parameters.clone();
        Self { site, names, parameters }
    }

    /// One migration, with parameters over those of the configuration.
    #[must_use]
    pub fn named(site: Site, name: &str, parameters: BTreeMap<String, String>) -> Self {
        let mut all = site.config.parameters.clone();
        all.entry(name.to_owned()).or_default().extend(parameters);
        Self { site, names: vec![name.to_owned()], parameters: all }
    }
}

#[async_trait]
impl Job for MigrateJob {
    fn name(&self) -> JobName {
        JobName::Migrate
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let config = &self.site.config;
        let recipes = RecipeSet::load(config.recipes.as_deref())?;
        let migrations = recipes.select(&self.names, &self.parameters)?;
        let targets =
            Targets::new(self.site.postgres(), config.databases.main.clone(), config.databases.visibility.clone());
        let journal = Journal::new(self.site.ledger().await?.pool().clone());
        let plan = migrate::plan(&migrations, &journal, &targets, ctx).await?;
        Ok(Box::new(PlannedMigrations { journal, targets, plan }))
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
        let report = migrate::apply(&self.plan, &self.journal, &self.targets, ctx).await?;
        let names: Vec<&str> = report.migrations.iter().filter(|m| m.changed).map(|m| m.name.as_str()).collect();
        let summary = format!("applied {}", if names.is_empty() { "nothing".into() } else { names.join(", ") });
        Ok(Applied::done(report.changed > 0, summary, &report))
    }
}
