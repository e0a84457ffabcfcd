//! The daemon: leads or stands by, turns schedules into runs, stops at a safe point. Also home of the runner and the
//! ledger, which the command line uses without a daemon.

mod heart;
pub mod jobs;
mod leader;
pub mod ledger;
pub mod runlog;
pub mod runner;
mod schedule;
pub mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

pub use self::leader::LEADER;
use self::ledger::LedgerError;
use self::runner::{Request, Runner};
use self::schedule::{Due, Taken};
use crate::failure::{Explain, Kind, chain};
use crate::job::{Job, JobName};
use crate::policy::schedule::SchedulePolicy;
use crate::progress;

/// How long a scheduled run waits for a manual run of the same job to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything the daemon needs, put together by the caller.
pub struct Daemon {
    /// Executes the runs.
    pub runner: Runner,
    /// When.
    pub policy: SchedulePolicy,
    /// What; the schedule may name only these.
    pub jobs: Vec<Arc<dyn Job>>,
    /// True while this process leads, for whoever wants to know.
    pub leads: Arc<AtomicBool>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Why the daemon gave up.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The ledger, at start.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The scheduler could not be set up.
    #[error("the scheduler")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
    /// Runs were still busy when the grace period ended.
    #[error("stopped with {0} unfinished; the next start marks them as interrupted")]
    Unfinished(String),
}

impl Explain for DaemonError {
    fn kind(&self) -> Kind {
        match self {
            Self::Ledger(inner) => inner.kind(),
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Ledger(inner) => inner.hint(),
            Self::Scheduler(_) => None,
            Self::Unfinished(_) => Some("raise shutdown_grace and the pod's terminationGracePeriodSeconds".into()),
        }
    }
}

impl Daemon {
    /// Runs until `stop` is cancelled. Standing by and leading alternate as the lock in the ledger comes and goes.
    ///
    /// # Errors
    /// When the scheduler cannot be set up, or runs outlive the grace period.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DaemonError> {
        info!(version = env!("CARGO_PKG_VERSION"), jobs = self.policy.timed().count(), "sexton starts");
        for (job, _, cron) in self.policy.timed() {
            let next = cron.next_after(Timestamp::now()).map(|at| at.to_string());
            info!(%job, %cron, next, "scheduled");
        }
        while let Some(lock) = leader::wait_to_lead(self.runner.ledger(), &stop).await {
            // Cancelled when leadership ends, for whichever reason.
            let term = stop.child_token();
            let watched = tokio::spawn({
                let term = term.clone();
                async move {
                    let lock = leader::watch(lock, &term).await;
                    term.cancel();
                    lock
                }
            });
            self.leads.store(true, Ordering::Relaxed);
            let result = self.lead(&term).await;
            term.cancel();
            self.leads.store(false, Ordering::Relaxed);
            // Given back only after the runs have ended, so that the next leader does not meet them.
            if let Ok(Some(lock)) = watched.await {
                lock.release().await;
            }
            result?;
            if !stop.is_cancelled() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        info!("sexton has stopped");
        Ok(())
    }

    async fn lead(&self, term: &CancellationToken) -> Result<(), DaemonError> {
        let since = Timestamp::now();
        if let Err(error) = self.runner.sweep_interrupted(term).await {
            warn!(error = %chain(&error), "looking for interrupted runs");
        }
        let deliveries = tokio::spawn({
            let (dispatcher, term) = (self.runner.dispatcher(), term.clone());
            async move { dispatcher.serve(&term).await }
        });
        let sweeps = tokio::spawn({
            let (runner, term) = (self.runner.clone(), term.clone());
            async move { runner.keep_sweeping(&term).await }
        });
        let (due_in, mut due_out) = mpsc::channel(64);
        // What is missed is looked for once the clock runs, so that no due time falls between the two.
        let mut scheduler = schedule::start(&self.policy, &due_in).await?;
        match schedule::missed(&self.policy, self.runner.ledger(), since, Timestamp::now()).await {
            Ok(missed) => {
                for due in missed {
                    info!(job = %due.job, due = %due.at, "a schedule was missed; catching up");
                    let _ = due_in.try_send(due);
                }
            }
            Err(error) => warn!(error = %chain(&error), "looking for missed schedules"),
        }
        let mut runs: JoinSet<()> = JoinSet::new();
        let mut busy: HashMap<Id, JobName> = HashMap::new();
        let mut taken = Taken::default();
        loop {
            tokio::select! {
                () = term.cancelled() => break,
                Some(due) = due_out.recv() => {
                    if busy.values().any(|job| *job == due.job) {
                        info!(job = %due.job, "due, but its last run is still busy; left out");
                    } else if !taken.take(due) {
                        info!(job = %due.job, due = %due.at, "served already");
                    } else if let Some(id) = self.spawn(&mut runs, due, term) {
                        busy.insert(id, due.job);
                    }
                }
                Some(done) = runs.join_next_with_id() => {
                    let id = done.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                    let job = busy.remove(&id);
                    if let Err(panic) = done {
                        error!(job = job.map(JobName::as_str), %panic, "a run panicked");
                    }
                }
            }
        }
        if let Err(error) = scheduler.shutdown().await {
            warn!(%error, "stopping the scheduler");
        }
        let drained = self.drain(runs, busy).await;
        if sweeps.await.is_err() {
            error!("the look for interrupted runs panicked");
        }
        if deliveries.await.is_err() {
            error!("the delivery of webhooks panicked");
        }
        // Of the runs that this stop has cancelled.
        self.runner.deliver(term).await;
        drained
    }

    fn spawn(&self, runs: &mut JoinSet<()>, due: Due, term: &CancellationToken) -> Option<Id> {
        let job = self.jobs.iter().find(|job| job.name() == due.job).cloned()?;
        let runner = self.runner.clone();
        let request = Request {
            trigger: due.trigger,
            by: None,
            deadline: self.policy.deadline(due.job).into(),
            patience: PATIENCE,
            cancel: term.clone(),
            progress: progress::silent(),
        };
        let run = runs.spawn(async move {
            let begun = match runner.begin(Uuid::now_v7(), due.job, &request).await {
                Ok(begun) => begun,
                Err(error) => {
                    error!(job = %due.job, error = %chain(&error), "the run could not be started");
                    return;
                }
            };
            // Whoever leads next makes up for it.
            if begun.is_err() && request.cancel.is_cancelled() {
                return;
            }
            // Served once it stands in the ledger, or another run of the job does: one that fails waits for its next tick,
            // it is not repeated at once.
            if let Err(error) = runner.ledger().mark_served(due.job, due.at).await {
                error!(job = %due.job, error = %chain(&error), "that the schedule was served is not in the ledger");
            }
            let Ok(begun) = begun else { return };
            if let Err(error) = runner.finish(begun, &*job, &request).await {
                error!(job = %due.job, error = %chain(&error), "the run could not be written to the ledger");
            }
        });
        Some(run.id())
    }

    /// Waits for the cancelled runs to reach a safe point, at most for the grace period.
    async fn drain(&self, mut runs: JoinSet<()>, mut busy: HashMap<Id, JobName>) -> Result<(), DaemonError> {
        if runs.is_empty() {
            return Ok(());
        }
        info!(runs = runs.len(), grace = %self.policy.shutdown_grace, "waiting for runs to stop");
        let all = async {
            while let Some(done) = runs.join_next_with_id().await {
                busy.remove(&done.map_or_else(|error| error.id(), |(id, ())| id));
            }
        };
        if tokio::time::timeout(self.policy.shutdown_grace.into(), all).await.is_ok() {
            return Ok(());
        }
        runs.abort_all();
        let names: Vec<&str> = busy.values().map(|job| job.as_str()).collect();
        Err(DaemonError::Unfinished(names.join(", ")))
    }
}
