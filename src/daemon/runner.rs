//! One run, end to end: the lock, the ledger, the deadline, plan and apply. The schedule, a CronJob and the command
//! line all come through here, and none of it knows what a job does.

mod bounded;
mod sweep;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};
use uuid::Uuid;

use super::heart::Heart;
use super::ledger::{Ended, Ledger, LedgerError, Lock, Outcome, Trigger};
use super::runlog::RunLog;
use super::webhooks::{Dispatcher, Webhooks};
use crate::context::Context;
use crate::failure::{Failure, Kind, chain};
use crate::job::{Applied, Job, JobName};
use crate::plan::Plan;
use crate::progress::{Progress, Recorded};
use crate::units::Span;

/// How long a job may take to say what it has left in force.
const IN_FORCE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a ledger that is away is waited for with the end of a run.
const LEDGER_PATIENCE: Duration = Duration::from_secs(60);
/// For how long deliveries are taken after a run.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a process that was asked to stop goes on with them.
const DELIVERY_WHEN_STOPPED: Duration = Duration::from_secs(3);

/// Executes runs and writes them to the ledger.
#[derive(Debug, Clone)]
pub struct Runner {
    ledger: Ledger,
    host: Arc<str>,
    webhooks: Webhooks,
    keep_runs: Option<Span>,
}

/// How one run is to be made.
#[derive(Debug, Clone)]
pub struct Request {
    /// What asked for it.
    pub trigger: Trigger,
    /// Who, where that is known.
    pub by: Option<String>,
    /// After this it is cancelled.
    pub deadline: Duration,
    /// How long to wait for another run of the same job to end.
    pub patience: Duration,
    /// Cancelled when the process is to stop.
    pub cancel: CancellationToken,
    /// Where progress goes.
    pub progress: Arc<dyn Progress>,
}

/// A run that was begun and holds its job's lock. One that is dropped is found as interrupted by the next.
#[derive(Debug)]
pub struct Begun {
    id: Uuid,
    span: tracing::Span,
    lock: Lock,
    log: RunLog,
}

/// A finished run.
#[derive(Debug, serde::Serialize)]
pub struct Finished {
    /// Its id in the ledger; `None` when it never began, because another run of the job is in progress.
    #[serde(rename = "id")]
    pub run: Option<Uuid>,
    /// Of which job.
    pub job: JobName,
    /// How it ended.
    pub outcome: Outcome,
    /// The plan it made, when it came that far.
    pub plan: Option<Plan>,
    /// One line for people.
    pub summary: Option<String>,
    /// The job's report.
    pub report: Option<serde_json::Value>,
    /// Why it did not reach its end.
    pub error: Option<Failure>,
}

impl Runner {
    /// A runner that writes to this ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, host: host_name().into(), webhooks: Webhooks::default(), keep_runs: None }
    }

    /// The same, whose runs' ends these webhooks are told of.
    #[must_use]
    pub fn with_webhooks(self, webhooks: Webhooks) -> Self {
        Self { webhooks, ..self }
    }

    /// The same, whose ledger keeps runs for that long; without that, for ever.
    #[must_use]
    pub fn keeping(self, keep_runs: Option<Span>) -> Self {
        Self { keep_runs, ..self }
    }

    /// The ledger it writes to.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What delivers to its webhooks.
    #[must_use]
    pub fn dispatcher(&self) -> Dispatcher {
        Dispatcher::new(self.ledger.clone(), &self.webhooks)
    }

    /// Delivers what webhooks are to be told, as far as it goes in a few seconds and the time of one attempt. Whoever ran
    /// something and leaves calls this last; what is left over is the daemon's, or of whoever runs next. So is an attempt
    /// that a stop cuts off: nothing is noted of it, and it is made again when its lease ends.
    pub async fn deliver(&self, stop: &CancellationToken) {
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(DELIVERY_WHEN_STOPPED).await;
        };
        let dispatcher = self.dispatcher();
        tokio::select! {
            () = dispatcher.drain(DELIVERY_PATIENCE) => {}
            () = stopped => info!("webhooks are not waited for any longer; whoever delivers next goes on"),
        }
    }

    /// Runs a job once.
    ///
    /// # Errors
    /// Only when the ledger cannot be used; what the job itself runs into is in [`Finished`].
    pub async fn run(&self, job: &dyn Job, request: &Request) -> Result<Finished, LedgerError> {
        match self.begin(Uuid::now_v7(), job.name(), request).await? {
            Ok(begun) => self.finish(begun, job, request).await,
            Err(failure) => {
                let outcome = Outcome::of(failure.kind);
                Ok(finished(None, job.name(), outcome, None, None, Some(failure)))
            }
        }
    }

    /// Takes the job's lock and writes the run as begun, under this id; [`Runner::finish`] does the rest. The inner error
    /// says why it cannot begin now.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn begin(
        &self,
        id: Uuid,
        job: JobName,
        request: &Request,
    ) -> Result<Result<Begun, Failure>, LedgerError> {
        let span = info_span!("run", %job, run = %id, trigger = request.trigger.as_str());
        let lock = self.locked(id, job, request).instrument(span.clone()).await?;
        Ok(lock.map(|(lock, log)| Begun { id, span, lock, log }))
    }

    /// Does what was begun.
    ///
    /// # Errors
    /// Only when the ledger cannot be used; what the job itself runs into is in [`Finished`].
    pub async fn finish(&self, begun: Begun, job: &dyn Job, request: &Request) -> Result<Finished, LedgerError> {
        let Begun { id, span, lock, log } = begun;
        self.go(id, (lock, log), job, request).instrument(span).await
    }

    /// Whether a run of a job is in progress, in any process.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn is_busy(&self, job: JobName) -> Result<bool, LedgerError> {
        self.ledger.is_locked(&lock_name(job)).await
    }

    async fn locked(
        &self,
        id: Uuid,
        job: JobName,
        request: &Request,
    ) -> Result<Result<(Lock, RunLog), Failure>, LedgerError> {
        let Some(lock) = self.ledger.lock(&lock_name(job), request.patience, &request.cancel).await? else {
            let failure = if request.cancel.is_cancelled() { stopped() } else { self.busy(job).await? };
            warn!(error = %failure, "not started");
            return Ok(Err(failure));
        };
        // From here on nobody else begins this job, so whatever still says `running` is dead, or lost its lock and stops.
        self.mark_interrupted(job).await?;
        let log = RunLog::open(id);
        self.ledger.begin(id, job, request.trigger, request.by.as_deref(), &self.host).await?;
        info!(by = request.by, "started");
        Ok(Ok((lock, log)))
    }

    async fn go(
        &self,
        id: Uuid,
        (lock, log): (Lock, RunLog),
        job: &dyn Job,
        request: &Request,
    ) -> Result<Finished, LedgerError> {
        let name = job.name();
        let cancel = request.cancel.child_token();
        let recorded = Arc::new(Recorded::new(Arc::clone(&request.progress)));
        let asked_by = Arc::new(OnceLock::new());
        let heart =
            Heart { id, log, progress: Arc::clone(&recorded), asked_by: Arc::clone(&asked_by), cancel: cancel.clone() };
        let stop_beating = CancellationToken::new();
        let heart = tokio::spawn(heart.beat(lock, stop_beating.clone()));
        // A run that panics or is dropped never comes to the line that stops its heart; the lock must not outlive it.
        let stop_beating = stop_beating.drop_guard();
        let ctx = Context { now: Timestamp::now(), cancel: cancel.clone(), progress: recorded };
        let (plan, result) = self.bounded(id, job, &ctx, request.deadline).await;
        drop(stop_beating);
        let (lock, log) = heart.await.ok().unzip();
        let lock = lock.flatten();

        let (applied, failure) = match result {
            Ok(mut applied) => {
                let failure = applied.failure.take();
                (Some(applied), failure)
            }
            Err(failure) => (None, Some(failure)),
        };
        let failure = failure.map(|failure| match asked_by.get() {
            _ if lock.is_none() && failure == stopped() => lock_lost(),
            Some(by) if failure == stopped() => Failure::new(Kind::Cancelled, format!("{by} asked it to stop")),
            _ => failure,
        });
        let failure = match failure {
            Some(failure) => Some(with_in_force(failure, job).await),
            None => None,
        };
        let outcome = match (&failure, &applied) {
            (Some(failure), _) => Outcome::of(failure.kind),
            (None, Some(applied)) if applied.changed => Outcome::Changed,
            (None, _) => Outcome::Unchanged,
        };
        match (&failure, &applied) {
            // It did what it may and left the rest for a person to decide: nothing is broken.
            (Some(f), Some(a)) if f.kind == Kind::Refused => {
                warn!(outcome = outcome.as_str(), summary = %a.summary, refused = %f, hint = f.hint.as_deref(), "ended");
            }
            (Some(f), _) => error!(outcome = outcome.as_str(), error = %f, hint = f.hint.as_deref(), "ended"),
            (None, Some(a)) => info!(outcome = outcome.as_str(), summary = %a.summary, "ended"),
            (None, None) => info!(outcome = outcome.as_str(), "ended"),
        }
        let log = log.and_then(|log| log.news());
        let ended = Ended { outcome, applied: applied.as_ref(), failure: failure.as_ref(), log: log.as_deref() };
        let written = self.write_end(id, name, &ended).await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        if written.is_ok() && !request.cancel.is_cancelled() {
            self.forget(name).await;
        }
        match written {
            // Why the job did not end well weighs more than that it could not be written down.
            Err(error) if failure.is_some() => error!(error = %chain(&error), "the run's end is not in the ledger"),
            written => written?,
        }
        Ok(finished(Some(id), name, outcome, plan, applied, failure))
    }

    /// Writes the end of a run; a ledger that is being restarted is given a minute.
    async fn write_end(&self, id: Uuid, job: JobName, ended: &Ended<'_>) -> Result<(), LedgerError> {
        let attempts = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(10))
            .without_max_times();
        let clock = std::time::Instant::now();
        (|| self.ledger.end(id, job, ended, &self.webhooks))
            .retry(attempts)
            .when(|_| clock.elapsed() < LEDGER_PATIENCE)
            .notify(|error, _| warn!(error = %chain(error), "the run's end is not written yet"))
            .await
    }

    async fn busy(&self, job: JobName) -> Result<Failure, LedgerError> {
        let running = self.ledger.recent(Some(job), 5).await?.into_iter().find(|run| run.outcome == "running");
        let who = running.map_or_else(String::new, |run| {
            format!(" (run {} on {}, started {}, last heard of {})", run.id, run.host, run.started_at, run.heartbeat_at)
        });
        Ok(Failure::new(Kind::Refused, format!("another run of `{job}` is in progress{who}"))
            .with_hint("wait for it to end; `sexton status` shows it"))
    }
}

fn stopped() -> Failure {
    Failure::new(Kind::Cancelled, "it was asked to stop")
}

/// A failure with what its run has left in force.
async fn with_in_force(failure: Failure, job: &dyn Job) -> Failure {
    match tokio::time::timeout(IN_FORCE_PATIENCE, job.in_force()).await {
        Ok(Some(in_force)) => failure.with_in_force(&in_force),
        Ok(None) => failure,
        Err(_) => {
            let patience = crate::units::Span::from(IN_FORCE_PATIENCE);
            failure.with_in_force(&format!("What it has left in force could not be read within {patience}"))
        }
    }
}

fn lock_lost() -> Failure {
    Failure::new(Kind::Cancelled, "its lock in the ledger was lost, so that another run could have started")
        .with_hint("look for a restart of PostgreSQL or a cut connection, then run it again")
}

fn lock_name(job: JobName) -> String {
    format!("job {job}")
}

fn finished(
    run: Option<Uuid>,
    job: JobName,
    outcome: Outcome,
    plan: Option<Plan>,
    applied: Option<Applied>,
    error: Option<Failure>,
) -> Finished {
    let (summary, report) = applied.map_or((None, None), |a| (Some(a.summary), Some(a.report)));
    Finished { run, job, outcome, plan, summary, report, error }
}

/// The pod's or machine's name.
fn host_name() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()))
        .unwrap_or_else(|| "unknown".to_owned())
}
