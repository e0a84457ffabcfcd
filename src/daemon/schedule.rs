//! The clock of the daemon: turns the schedule policy into due jobs, and finds the schedules that were missed.

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
        match decide_missed(served, cron.last_before(now), schedule.catch_up) {
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

fn decide_missed(served: Option<Timestamp>, last_due: Option<Timestamp>, catch_up: bool) -> Missed {
    match (served, last_due) {
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
        assert_eq!(decide_missed(served, due, true), Missed::Since(due.unwrap()));
        assert_eq!(decide_missed(served, due, false), Missed::Nothing);
        assert_eq!(decide_missed(due, due, true), Missed::Nothing);
        assert_eq!(decide_missed(None, due, true), Missed::First);
    }
}
