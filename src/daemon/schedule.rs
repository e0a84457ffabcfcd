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
pub(super) async fn start(policy: &SchedulePolicy, due: mpsc::Sender<Due>) -> Result<JobScheduler, JobSchedulerError> {
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

/// The schedules that passed unserved while nobody led: each job once, however many ticks were missed. A job seen for
/// the first time has missed nothing before `first`.
pub(super) async fn missed(
    policy: &SchedulePolicy,
    ledger: &Ledger,
    first: Timestamp,
    now: Timestamp,
) -> Result<Vec<Due>, LedgerError> {
    let mut found = Vec::new();
    for (job, schedule, cron) in policy.timed() {
        let served = ledger.served_at(job).await?;
        match decide_missed(served, cron.last_before(now), first, schedule.catch_up) {
            Missed::Nothing => {}
            Missed::First => {
                ledger.mark_served(job, first).await?;
            }
            Missed::Since(at) => found.push(Due { job, trigger: Trigger::CatchUp, at }),
        }
    }
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Missed {
    Nothing,
    First,
    Since(Timestamp),
}

fn decide_missed(served: Option<Timestamp>, last_due: Option<Timestamp>, first: Timestamp, catch_up: bool) -> Missed {
    match (served, last_due) {
        (None, Some(due)) if due > first => Missed::Since(due),
        (None, _) => Missed::First,
        (Some(served), Some(due)) if catch_up && due > served => Missed::Since(due),
        _ => Missed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_schedule_is_made_up_for_once() {
        let at = |s: &str| Some(s.parse::<Timestamp>().unwrap());
        let served = at("2026-01-01T02:00:00Z");
        // Three nights were missed: one catch-up, for the last of them.
        let due = at("2026-01-04T02:00:00Z");
        let (before, after) = (at("2026-01-04T01:59:59Z").unwrap(), at("2026-01-04T02:00:01Z").unwrap());
        assert_eq!(decide_missed(served, due, after, true), Missed::Since(due.unwrap()));
        assert_eq!(decide_missed(served, due, after, false), Missed::Nothing);
        assert_eq!(decide_missed(due, due, after, true), Missed::Nothing);
        assert_eq!(decide_missed(None, due, after, true), Missed::First);
        // Its first due time came while the clock was being started.
        assert_eq!(decide_missed(None, due, before, true), Missed::Since(due.unwrap()));
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
