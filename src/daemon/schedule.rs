//! The clock of the daemon: turns the schedule policy into due jobs, and finds the schedules that were missed.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job as CronJob, JobScheduler, JobSchedulerError};

use super::ledger::{Ledger, LedgerError, Trigger};
use crate::job::JobName;
use crate::policy::schedule::SchedulePolicy;

/// A job whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub job: JobName,
    pub trigger: Trigger,
    /// The instant of the schedule that this serves.
    pub at: Timestamp,
}

/// The due times that were taken up since this process leads: one that the clock and the look for missed ones both find
/// is served once.
#[derive(Debug, Default)]
pub(super) struct Taken(HashMap<JobName, Timestamp>);

impl Taken {
    /// Takes it up; false when it was the last one taken.
    pub(super) fn take(&mut self, due: Due) -> bool {
        self.0.insert(due.job, due.at) != Some(due.at)
    }
}

/// Starts the scheduler; due jobs come through the channel until it is shut down.
pub(super) async fn start(policy: &SchedulePolicy, due: &mpsc::Sender<Due>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    for (job, _, cron) in policy.timed() {
        let due = due.clone();
        let cron = cron.clone();
        let tick = CronJob::new_async(cron.with_seconds(), move |_, _| {
            let due = due.clone();
            let now = Timestamp::now();
            let at = cron.last_before(now).unwrap_or(now);
            Box::pin(async move {
                // The receiver is gone only while the daemon stops.
                let _ = due.send(Due { job, trigger: Trigger::Schedule, at }).await;
            })
        })?;
        scheduler.add(tick).await?;
    }
    scheduler.start().await?;
    Ok(scheduler)
}

/// The schedules that passed unserved while nobody led: each job once, however many ticks were missed. What was due
/// `since` this process leads counts for every job; before that a job seen for the first time has missed nothing, nor has
/// one that does not catch up.
pub(super) async fn missed(
    policy: &SchedulePolicy,
    ledger: &Ledger,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<Due>, LedgerError> {
    let mut found = Vec::new();
    for (job, schedule, cron) in policy.timed() {
        let served = ledger.served_at(job).await?;
        if served.is_none() {
            ledger.mark_served(job, since).await?;
        }
        let due = cron.last_before(now).filter(|due| is_missed(*due, served, since, schedule.catch_up));
        found.extend(due.map(|at| Due { job, trigger: Trigger::CatchUp, at }));
    }
    Ok(found)
}

fn is_missed(due: Timestamp, served: Option<Timestamp>, since: Timestamp, catch_up: bool) -> bool {
    due > served.unwrap_or(since) && (catch_up || due > since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_schedule_is_made_up_for_once() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        let served = Some(at("2026-01-01T02:00:00Z"));
        // Three nights were missed: one catch-up, for the last of them.
        let due = at("2026-01-04T02:00:00Z");
        let (before, after) = (at("2026-01-04T01:59:59Z"), at("2026-01-04T02:00:01Z"));
        assert!(is_missed(due, served, after, true));
        assert!(!is_missed(due, served, after, false));
        assert!(!is_missed(due, Some(due), after, true));
        assert!(!is_missed(due, None, after, true), "it is seen for the first time");
        // It was due while the clock was being started.
        assert!(is_missed(due, None, before, true));
        assert!(is_missed(due, served, before, false));
        assert!(!is_missed(due, Some(due), before, false));
    }

    #[test]
    fn a_due_time_that_is_found_twice_is_served_once() {
        let due = |at: &str, trigger| Due { job: JobName::Backup, trigger, at: at.parse().unwrap() };
        let mut taken = Taken::default();
        assert!(taken.take(due("2026-01-04T02:00:00Z", Trigger::Schedule)));
        assert!(!taken.take(due("2026-01-04T02:00:00Z", Trigger::CatchUp)));
        let other = Due { job: JobName::Prune, ..due("2026-01-04T02:00:00Z", Trigger::Schedule) };
        assert!(taken.take(other));
        // A clock that went back holds nothing up.
        assert!(taken.take(due("2026-01-05T02:00:00Z", Trigger::Schedule)));
        assert!(taken.take(due("2026-01-04T02:00:00Z", Trigger::Schedule)));
    }
}
