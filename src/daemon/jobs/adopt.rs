use async_trait::async_trait;

use super::reconcile::documents_of;
use super::visibility::longest_retention;
use super::{Site, no_policy, partly};
use crate::clients::search::Resolved;
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::job::{Applied, Job, JobName, Planned};
use crate::plan::Plan;
use crate::policy::visibility::VisibilityPolicy;
use crate::units::counted;
use crate::visibility::VisibilityError;
use crate::visibility::adopt::{self, AdoptPlan, Cleanup, GuardCommand, Surroundings, Wanted};
use crate::visibility::reconcile::{self, Bookmarks, Ground, ReconcileReport};

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
