use async_trait::async_trait;

use super::{Site, no_connection, no_policy, partly};
use crate::clients::persistence::Persistence;
use crate::clients::search::Search;
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::daemon::ledger::Ledger;
use crate::failure::{Failure, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::visibility::VisibilityError;
use crate::visibility::reconcile::{self, Bookmarks, Ground, ReconcilePlan};

/// The documents of the visibility index brought into agreement with Temporal's runs.
#[derive(Debug)]
pub(super) struct ReconcileJob(pub(super) Site);

struct PlannedReconcile {
    ground: Ground,
    ledger: Option<Ledger>,
    began: Bookmarks,
    plan: ReconcilePlan,
}

impl Site {
    /// What the visibility index is compared with. A Temporal that does not answer is left out: then nothing is
    /// written again.
    ///
    /// # Errors
    /// When the search engine is not configured or does not answer.
    pub async fn ground(&self, job: JobName) -> Result<Ground, Failure> {
        let settings = self.config.search.as_ref().ok_or_else(|| no_connection("search", job))?;
        let temporal = match &self.config.temporal {
            Some(settings) => match Temporal::connect(settings).await {
                Ok(temporal) => Some(temporal),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "missing documents are only reported");
                    None
                }
            },
            None => None,
        };
        Ok(Ground {
            search: Search::connect(settings).await?,
            persistence: Persistence::new(self.postgres(), &self.config.databases.main),
            temporal,
        })
    }
}

impl Site {
    /// How far earlier runs of the job have looked. A plan needs no ledger: it then looks from the beginning.
    pub(super) async fn bookmarks(&self, index: &str) -> Result<(Option<Ledger>, Bookmarks), Failure> {
        let ledger = match self.ledger().await {
            Ok(ledger) => ledger,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "without the ledger everything is looked at from the beginning");
                return Ok((None, Bookmarks::default()));
            }
        };
        let bookmarks = ledger.bookmark(&bookmark(index)).await?;
        Ok((Some(ledger), bookmarks))
    }
}

#[async_trait]
impl Job for ReconcileJob {
    fn name(&self) -> JobName {
        JobName::Reconcile
    }

    async fn plan(&self, ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        let site = &self.0;
        let policy = site.policies.visibility.as_ref().ok_or_else(|| no_policy(site, JobName::Visibility))?;
        let ground = site.ground(JobName::Reconcile).await?;
        let (ledger, bookmarks) = site.bookmarks(policy.index.as_str()).await?;
        let plan = reconcile::plan(&ground, policy, &bookmarks, ctx).await?;
        Ok(Box::new(PlannedReconcile { ground, ledger, began: bookmarks, plan }))
    }
}

/// The documents behind an alias. A removal that meets an index which was deleted the moment before would have the
/// engine make it anew.
pub(super) fn documents_of(alias: &str) -> String {
    format!("documents of {alias}")
}

fn bookmark(index: &str) -> String {
    format!("reconcile {index}")
}

impl PlannedReconcile {
    async fn keep(&self, bookmarks: &Bookmarks) -> Result<(), Failure> {
        match &self.ledger {
            Some(ledger) => Ok(ledger.set_bookmark(&bookmark(&self.plan.alias), bookmarks).await?),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Planned for PlannedReconcile {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    fn alone_with(&self) -> Option<String> {
        Some(documents_of(&self.plan.alias))
    }

    async fn unchanged(&self) -> Result<(), Failure> {
        self.keep(&self.plan.bookmarks).await
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let result = reconcile::apply(&self.plan, &self.ground, ctx).await;
        let refused = result.as_ref().is_err_and(VisibilityError::is_of_single_documents);
        let (report, mut failure) = partly(result, |error| error.reconciled().cloned())?;
        if failure.is_none() {
            failure = self.keep(&self.plan.bookmarks).await.err();
        } else if refused && let Err(error) = self.keep(&self.plan.bookmarks.clone().after_refusals(&self.began)).await
        {
            tracing::warn!(%error, "where to go on is not noted; the next run looks at the same documents again");
        }
        Ok(Applied { failure, ..Applied::done(report.changed(), report.summary(), &report) })
    }
}
