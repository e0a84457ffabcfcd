//! What the ledger tells: jobs and their runs, migrations, and the last reports of audit and reconcile.

use super::scrape::{Scrape, seconds};
use crate::daemon::LEADER;
use crate::daemon::ledger::JobStats;
use crate::failure::Failure;
use crate::http::App;
use crate::job::JobName;
use crate::migrate::MigrationState;
use crate::policy::cron::CronSchedule;

/// The outcomes that a job's last run may have had.
const OUTCOMES: [&str; 6] = ["unchanged", "changed", "refused", "failed", "cancelled", "interrupted"];
/// Ticks of a schedule that are looked at for its longest gap: a week of quarters of an hour.
const TICKS: usize = 700;

pub(super) async fn collect(app: &App, scrape: &mut Scrape) -> Result<(), Failure> {
    let ledger = app.ledger();
    let leads = ledger.is_locked(LEADER).await?;
    scrape.flag("daemon_leads", "Whether some daemon leads, so that schedules are kept", &[], leads);
    for stats in ledger.stats().await? {
        job(app, scrape, &stats);
    }
    // One that had nothing to do tells of nothing, which is none.
    if let Some(report) = ledger.last_report(JobName::Reconcile).await? {
        let stale = report["stale"].as_f64().unwrap_or(0.0);
        scrape.gauge("visibility_stale_documents", "Stale documents that the last reconcile removed", &[], stale);
    }
    if let Some(report) = ledger.last_report(JobName::Backup).await? {
        let new = report["stored_bytes"].as_f64();
        scrape.maybe("backup_new_bytes", "Bytes that the last backup has added to the store", &[], new);
    }
    let deliveries = ledger.delivery_counts().await?;
    let states = [("pending", deliveries.pending), ("dead", deliveries.dead)];
    for (state, count) in states {
        let help = "Deliveries to webhooks that wait, or were given up";
        scrape.gauge("webhook_deliveries", help, &[("state", state)], count as f64);
    }
    for entry in app.journal().list().await? {
        use MigrationState::{Applied, Failed, Running, Stopped, Undoing, Undone};
        for state in [Running, Applied, Failed, Stopped, Undoing, Undone] {
            let labels = [("migration", entry.name.as_str()), ("state", state.as_str())];
            scrape.flag("migration_state", "1 for the state that a migration is in", &labels, entry.state == state);
        }
    }
    Ok(())
}

fn job(app: &App, scrape: &mut Scrape, stats: &JobStats) {
    let job = [("job", stats.job.as_str())];
    let cron = app.site.policies.schedule.jobs.get(&stats.job).and_then(|schedule| schedule.cron.as_ref());
    scrape.flag("job_scheduled", "Whether the job has a schedule", &job, cron.is_some());
    if let Some(cron) = cron {
        let interval = longest_gap(cron, scrape.now);
        scrape.maybe("job_interval_seconds", "The longest gap between two ticks of its schedule", &job, interval);
        let next = cron.next_after(scrape.now).map(seconds);
        scrape.maybe("job_next_timestamp_seconds", "When it is due next", &job, next);
    }
    let started = stats.last_started.map(seconds);
    scrape.maybe("job_last_run_timestamp_seconds", "When its last run began", &job, started);
    let success = stats.last_success.map(seconds);
    scrape.maybe("job_last_success_timestamp_seconds", "When a run last ended well", &job, success);
    scrape.age("job_last_success_age_seconds", "For how long none has", &job, stats.last_success);
    scrape.age("job_first_seen_age_seconds", "For how long the ledger knows the job", &job, stats.known_since);
    let took = stats.last_milliseconds.map(|milliseconds| milliseconds as f64 / 1e3);
    scrape.maybe("job_last_duration_seconds", "How long the last run took that has ended", &job, took);
    scrape.flag("job_running", "Whether a run goes on", &job, stats.running);
    scrape.gauge("job_consecutive_failures", "Runs since one ended well", &job, stats.failures as f64);
    for outcome in OUTCOMES {
        let labels = [("job", stats.job.as_str()), ("outcome", outcome)];
        if let Some(last) = &stats.last_outcome {
            scrape.flag("job_last_outcome", "1 for the outcome of the last run", &labels, last == outcome);
        }
        let runs = stats.counts.iter().find(|(name, _)| name == outcome).map_or(0, |(_, runs)| *runs);
        let runs = u64::try_from(runs).unwrap_or(0);
        scrape.counter("job_runs", "Runs by outcome", &labels, runs);
    }
}

fn longest_gap(cron: &CronSchedule, now: jiff::Timestamp) -> Option<f64> {
    let mut at = cron.next_after(now)?;
    let mut longest = 0.0_f64;
    for _ in 0..TICKS {
        let Some(next) = cron.next_after(at) else { break };
        longest = longest.max(seconds(next) - seconds(at));
        at = next;
        // Beyond a month of looking the pattern has shown itself, save for schedules of single days of a year.
        if seconds(at) - seconds(now) > 40.0 * 86_400.0 && longest > 0.0 {
            break;
        }
    }
    (longest > 0.0).then_some(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_of_a_schedule() {
        let now = "2026-11-27T10:00:00Z".parse().unwrap();
        let check = |text: &str, hours: f64| {
            assert_eq!(longest_gap(&CronSchedule::parse(text).unwrap(), now), Some(hours * 3_600.0), "{text}");
        };
        check("*/15 * * * *", 0.25);
        check("0 2 * * *", 24.0);
        check("0 6 * * 0", 168.0);
        check("0 9 * * 1-5", 72.0);
    }
}
