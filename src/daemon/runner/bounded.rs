//! What a run does, under its deadline: plan, then apply, alone with what it changes.

use std::sync::OnceLock;
use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use super::{Runner, stopped};
use crate::context::Context;
use crate::daemon::ledger::Lock;
use crate::failure::{Failure, Kind};
use crate::job::{Applied, Job, Planned};
use crate::plan::Plan;

/// How long a cancelled run may take to reach a safe point before it is dropped.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

impl Runner {
    /// Plan and apply under the deadline. On cancel or at the deadline the job is asked to stop and, when it does not
    /// in time, dropped.
    pub(super) async fn bounded(
        &self,
        id: Uuid,
        job: &dyn Job,
        ctx: &Context,
        deadline: Duration,
    ) -> (Option<Plan>, Result<Applied, Failure>) {
        let made: OnceLock<Plan> = OnceLock::new();
        let work = async {
            // Planning writes nothing, so it may be dropped anywhere; applying has to reach a safe point itself.
            let planned = ctx.cancel.run_until_cancelled(job.plan(ctx)).await.unwrap_or_else(|| Err(stopped()))?;
            let common = planned.plan();
            for note in &common.notes {
                info!(note, "noted");
            }
            self.ledger.planned(id, &common).await?;
            let empty = common.is_empty();
            let _ = made.set(common);
            if empty {
                planned.unchanged().await?;
                return Ok(Applied::done(false, "nothing to do", &serde_json::json!({})));
            }
            if ctx.is_cancelled() {
                return Err(stopped());
            }
            let alone = self.alone(&*planned, ctx).await?;
            let applied = planned.apply(ctx).await;
            if let Some(lock) = alone {
                lock.release().await;
            }
            applied
        };
        tokio::pin!(work);
        let timed_out = tokio::select! {
            result = &mut work => return (made.get().cloned(), result),
            () = tokio::time::sleep(deadline) => {
                warn!(?deadline, "the deadline has passed; stopping");
                ctx.cancel.cancel();
                true
            }
            () = ctx.cancel.cancelled() => false,
        };
        let why = if timed_out {
            Failure::new(Kind::Cancelled, format!("the deadline of {} passed", crate::units::Span::from(deadline)))
                .with_hint("raise the job's deadline in policies/schedule.yaml, or look for what makes it slow")
        } else {
            stopped()
        };
        let result = tokio::select! {
            result = &mut work => Some(result),
            () = tokio::time::sleep(STOP_PATIENCE) => None,
        };
        let result = match result {
            // It came to its end all the same.
            Some(Ok(applied)) if applied.failure.as_ref().is_none_or(|f| f.kind != Kind::Cancelled) => Ok(applied),
            Some(Ok(applied)) => Ok(applied.failed(why)),
            Some(Err(failure)) if failure.kind != Kind::Cancelled => Err(failure),
            Some(Err(_)) | None => Err(why),
        };
        (made.get().cloned(), result)
    }

    /// Waits until no other job changes what this one is about to change. The plan may be some minutes old by then;
    /// whatever it destroys is looked at once more anyway.
    async fn alone(&self, planned: &dyn Planned, ctx: &Context) -> Result<Option<Lock>, Failure> {
        let Some(name) = planned.alone_with() else { return Ok(None) };
        if let Some(lock) = self.ledger.lock(&name, Duration::ZERO, &ctx.cancel).await? {
            return Ok(Some(lock));
        }
        info!(name, "another job is at work there; waiting");
        // Until the run's deadline, which cancels it.
        let lock = self.ledger.lock(&name, Duration::MAX, &ctx.cancel).await?;
        lock.map(Some).ok_or_else(stopped)
    }
}
