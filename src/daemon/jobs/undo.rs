use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Site;
use super::migrate::in_force;
use crate::context::Context;
use crate::failure::Failure;
use crate::job::{Applied, Job, JobName, Planned};
use crate::migrate::{self, Journal, MigrateError, Migration, RecipeSet, World};
use crate::plan::Plan;

/// One migration undone: a run of the job `migrate`, so that it never meets one that goes forward.
#[derive(Debug)]
pub struct UndoJob {
    site: Site,
    migration: Migration,
    by_hand: Option<String>,
}

/// The parameters that a migration was begun with, by its journal; `None` when it never was.
///
/// # Errors
/// When its recipe was edited since, or the ledger cannot be read.
pub async fn begun_with(site: &Site, name: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let Some(entry) = site.journal().await?.read(name).await? else { return Ok(None) };
    // What an edited recipe does not know any more was not typed by who undoes it.
    let recipes = RecipeSet::load(site.config.recipes.as_deref())?;
    recipes.get(name).map_or(Ok(()), |recipe| migrate::unedited(recipe, &entry))?;
    Ok(Some(entry.parameters))
}

struct PlannedUndo {
    journal: Journal,
    world: World,
    migration: Migration,
    by_hand: Option<String>,
    plan: Plan,
}

impl UndoJob {
    /// Undoes this migration.
    #[must_use]
    pub const fn new(site: Site, migration: Migration) -> Self {
        Self { site, migration, by_hand: None }
    }

    /// The same, where somebody has undone this step already.
    #[must_use]
    pub fn by_hand(self, step: Option<String>) -> Self {
        Self { by_hand: step, ..self }
    }

    /// Leaves word for the run that is in progress, should it be at this migration.
    ///
    /// # Errors
    /// When there is no way back, or the world cannot be asked.
    pub async fn call_back(&self, ctx: &Context) -> Result<(), Failure> {
        let journal = self.site.journal().await?;
        migrate::call_back(&self.migration, &journal, &self.site.world(), self.by_hand.as_deref(), ctx).await?;
        Ok(())
    }

    /// Leaves no word that nobody is there to find. When the run in progress is at this migration, it stays, and that it was
    /// asked is given back.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn settle_call(&self) -> Result<Option<Failure>, Failure> {
        let is_asked = migrate::settle_call(&self.migration, &self.site.journal().await?).await?;
        let name = self.migration.name().to_owned();
        Ok(is_asked.then(|| MigrateError::UndoAsked { name }.into()))
    }
}

#[async_trait]
impl Job for UndoJob {
    fn name(&self) -> JobName {
        JobName::Migrate
    }

    async fn plan(&self, _: &Context) -> Result<Box<dyn Planned>, Failure> {
        let (world, journal, migration) = (self.site.world(), self.site.journal().await?, self.migration.clone());
        let by_hand = self.by_hand.clone();
        let plan = migrate::plan_back(&migration, &journal, &world, by_hand.as_deref()).await?;
        Ok(Box::new(PlannedUndo { journal, world, migration, by_hand, plan }))
    }

    async fn in_force(&self) -> Option<String> {
        let journal = self.site.journal().await.map_err(Failure::from);
        in_force(std::slice::from_ref(&self.migration), journal.as_ref()).await
    }
}

#[async_trait]
impl Planned for PlannedUndo {
    fn plan(&self) -> Plan {
        self.plan.clone()
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let by_hand = self.by_hand.as_deref();
        let mut report = migrate::undo(&self.migration, &self.journal, &self.world, by_hand, ctx).await;
        let error = report.error.take();
        let has_undone = report.migrations.iter().any(|one| !one.steps.is_empty());
        let said = match &error {
            Some(MigrateError::WayBackClosed { .. }) => "not undone:",
            Some(_) => "half undone:",
            None if report.changed > 0 => "undid",
            None => "undone already:",
        };
        let summary = format!("{said} {}", self.migration.name());
        let applied = || Applied::done(report.changed > 0, summary, &report);
        match error {
            None => Ok(applied()),
            Some(error) if has_undone => Ok(applied().failed(error.into())),
            Some(error) => Err(error.into()),
        }
    }
}
