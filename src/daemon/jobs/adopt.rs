use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::reconcile::documents_of;
use super::visibility::longest_retention;
use super::{Site, no_policy, partly};
use crate::clients::search::Resolved;
use crate::context::Context;
use crate::daemon::ledger::Trigger;
use crate::daemon::runner::Request;
use crate::failure::{Failure, Kind, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::migrate::Adoption;
use crate::plan::Plan;
use crate::policy::visibility::VisibilityPolicy;
use crate::units::{Span, counted};
use crate::visibility::VisibilityError;
use crate::visibility::adopt::{self, AdoptPlan, Cleanup, GuardCommand, Method, Surroundings, Wanted};
use crate::visibility::reconcile::{self, Bookmarks, Ground, ReconcileReport};

/// The hidden verb that the guard is started with.
pub const GUARD_VERB: &str = "adopt-guard";
/// How long a migration's step waits for a run of the job to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// A copy may take long; what must be short is bounded by the adoption's own deadline.
pub const ADOPT_DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// The adoption of a plain index: a run of the job `visibility`, so that nothing rolls or deletes beside it.
#[derive(Debug)]
pub struct AdoptJob {
    site: Site,
    wanted: Wanted,
    guard: GuardCommand,
}

struct PlannedAdoption {
    ground: Ground,
    policy: VisibilityPolicy,
    plan: AdoptPlan,
    guard: GuardCommand,
}

impl AdoptJob {
    /// The adoption of the site's index.
    #[must_use]
    pub fn new(site: Site, wanted: Wanted, guard: GuardCommand) -> Self {
        Self { site, wanted, guard }
    }
}

#[async_trait]
impl Job for AdoptJob {
    fn name(&self) -> JobName {
        JobName::Visibility
    }

    async fn plan(&self, _: &Context) -> Result<Box<dyn Planned>, Failure> {
        let site = &self.site;
        let policy = site.policies.visibility.as_ref().ok_or_else(|| no_policy(site, JobName::Visibility))?;
        let ground = site.ground(JobName::Visibility).await?;
        let (search, index) = (&ground.search, policy.index.as_str());
        let cleanup = match search.resolve(index).await? {
            // A closed or red index cannot be looked into; that it is one is refused further on.
            Resolved::Concrete => adopt::look(search, index, &ground.persistence)
                .await
                .unwrap_or_else(|error| Cleanup::Unknown { reason: chain(&error) }),
            _ => Cleanup::NotSeen { looked: 0 },
        };
        let around = Surroundings { longest_retention: longest_retention(&ground).await, cleanup };
        let plan = adopt::plan(search, policy, self.wanted, &around).await?;
        Ok(Box::new(PlannedAdoption { ground, policy: policy.clone(), plan, guard: self.guard.clone() }))
    }
}

impl PlannedAdoption {
    /// What was open at the swap goes on in the write index: lists are wrong until it has been carried there.
    async fn reconcile(&self, ctx: &Context) -> Result<ReconcileReport, VisibilityError> {
        let plan = reconcile::plan(&self.ground, &self.policy, &Bookmarks::default(), ctx).await?;
        reconcile::apply(&plan, &self.ground, ctx).await
    }
}

#[async_trait]
impl Planned for PlannedAdoption {
    fn plan(&self) -> Plan {
        self.plan.plan()
    }

    fn alone_with(&self) -> Option<String> {
        Some(documents_of(self.policy.index.as_str()))
    }

    async fn apply(&self, ctx: &Context) -> Result<Applied, Failure> {
        let mut report = adopt::apply(&self.plan, &self.ground.search, &self.guard, ctx).await?;
        let mut failure = None;
        if report.write.is_some() {
            let reconciled = partly(self.reconcile(ctx).await, |error| error.reconciled().cloned());
            (report.reconciled, failure) = match reconciled {
                Ok((done, failure)) => (Some(done), failure),
                Err(failure) => (None, Some(failure)),
            };
            failure = failure.map(not_reconciled);
        }
        let docs = counted(report.docs, "document", "documents");
        let pause = report.pause_ms.map_or_else(String::new, |pause| format!(", writes paused for {pause} ms"));
        let read = report.read.as_deref().unwrap_or_default();
        let write = report.write.as_deref().unwrap_or_default();
        let summary = format!("adopted {}: {docs} in {read}{pause}; writes go to {write}", report.index);
        Ok(Applied { failure, ..Applied::done(true, summary, &report) })
    }
}

/// The adoption stands, and its run failed all the same: until the documents are reconciled, lists are wrong.
fn not_reconciled(mut failure: Failure) -> Failure {
    failure.message = format!("the index is adopted, but its documents were not reconciled: {}", failure.message);
    let next = "the adoption stands; run `sexton once reconcile`";
    let hint = failure.hint.take().map_or_else(|| next.to_owned(), |hint| format!("{hint}; {next}"));
    failure.with_hint(hint)
}

impl Site {
    /// This binary with the same configuration; the secrets in the environment are inherited.
    ///
    /// # Errors
    /// When the binary is not found any more.
    pub fn guard_command(&self) -> Result<GuardCommand, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Kind::Failed, format!("sexton does not find its own binary: {error}")))?;
        let arguments = vec![GUARD_VERB.into(), "--config".into(), self.config.path.clone().into_os_string()];
        Ok(GuardCommand { program, arguments })
    }

    /// What migrations adopt the index with; `None` where there is none.
    pub(super) fn adoption(&self) -> Option<Arc<dyn Adoption>> {
        let is_there = self.config.search.is_some() && self.policies.visibility.is_some();
        is_there.then(|| Arc::new(SiteAdoption(self.clone())) as Arc<dyn Adoption>)
    }
}

/// The adoption of a site's index, for migrations.
#[derive(Debug)]
struct SiteAdoption(Site);

impl SiteAdoption {
    fn job(&self, deadline: Span) -> Result<AdoptJob, Failure> {
        let wanted = Wanted { method: Method::Auto, deadline };
        Ok(AdoptJob::new(self.0.clone(), wanted, self.0.guard_command()?))
    }
}

#[async_trait]
impl Adoption for SiteAdoption {
    async fn is_adopted(&self) -> Result<bool, Failure> {
        let planned = self.job(Span::seconds(60))?.plan(&Context::plain()).await?;
        Ok(planned.plan().is_empty())
    }

    async fn adopt(&self, deadline: Span, ctx: &Context) -> Result<serde_json::Value, Failure> {
        let request = Request {
            trigger: Trigger::Cli,
            by: None,
            deadline: ADOPT_DEADLINE,
            patience: PATIENCE,
            cancel: ctx.cancel.clone(),
            progress: Arc::clone(&ctx.progress),
        };
        let finished = self.0.runner().await?.run(&self.job(deadline)?, &request).await?;
        match finished.error {
            Some(failure) => Err(failure),
            None => Ok(json!({ "run": finished.run, "summary": finished.summary })),
        }
    }
}
