//! What the runs of a job come to: for the status page and the metrics.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;

use super::{Ledger, LedgerError, answer, query};
use crate::clients::postgres::instant::{instant, utc};
use crate::job::JobName;

/// The runs of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobStats {
    /// The job.
    pub job: JobName,
    /// When its last run began.
    pub last_started: Option<Timestamp>,
    /// How the last run that has ended did so.
    pub last_outcome: Option<String>,
    /// What it said of that, when it did not end well.
    pub last_error: Option<String>,
    /// How long that took, in milliseconds.
    pub last_milliseconds: Option<i64>,
    /// When a run last ended well.
    pub last_success: Option<Timestamp>,
    /// Since when the ledger knows the job: its first run, or the first look at its schedule.
    pub known_since: Option<Timestamp>,
    /// Runs that have ended since one ended well, of those that are kept.
    pub failures: i64,
    /// Whether one goes on now.
    pub running: bool,
    /// Runs by outcome, those that are no longer kept among them.
    pub counts: Vec<(String, i64)>,
}

const STATS: &str = concat!(
    "SELECT j.job, ",
    utc!("last.started_at"),
    " AS last_started, ended.outcome AS last_outcome, ended.error ->> 'message' AS last_error, \
     (extract(epoch FROM ended.finished_at - ended.started_at) * 1000)::int8 AS last_milliseconds, ",
    utc!("good.finished_at"),
    " AS last_success, ",
    utc!("least(first.started_at, s.served_at, gone.started_at)"),
    " AS known_since, coalesce(last.outcome = 'running', false) AS running, \
     (SELECT count(*) FROM runs r WHERE r.job = j.job AND r.outcome <> 'running' \
        AND r.id > coalesce(good.id, '00000000-0000-0000-0000-000000000000')) AS failures \
     FROM unnest($1::text[]) AS j (job) \
     LEFT JOIN LATERAL (SELECT * FROM runs r WHERE r.job = j.job ORDER BY r.id DESC LIMIT 1) last ON true \
     LEFT JOIN LATERAL (SELECT * FROM runs r WHERE r.job = j.job AND r.outcome <> 'running' \
        ORDER BY r.id DESC LIMIT 1) ended ON true \
     LEFT JOIN LATERAL (SELECT max(id::text)::uuid AS id, max(finished_at) AS finished_at FROM \
        (SELECT u.id, u.finished_at FROM (VALUES ('unchanged'), ('changed')) AS o (outcome) CROSS JOIN LATERAL \
           (SELECT id, finished_at FROM runs r WHERE r.job = j.job AND r.outcome = o.outcome ORDER BY r.id DESC LIMIT 1) u) w \
        ) good ON true \
     LEFT JOIN LATERAL (SELECT started_at FROM runs r WHERE r.job = j.job ORDER BY r.id LIMIT 1) first ON true \
     LEFT JOIN LATERAL (SELECT min(first_started) AS started_at FROM runs_removed g WHERE g.job = j.job) gone ON true \
     LEFT JOIN schedules s ON s.job = j.job"
);

impl Ledger {
    /// The runs of every job, in the order of [`JobName::ALL`].
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn stats(&self) -> Result<Vec<JobStats>, LedgerError> {
        let mut all = self.standings().await?;
        let counted = sqlx::query(
            "SELECT job, outcome, sum(runs)::int8 AS runs FROM (SELECT job, outcome, count(*) AS runs FROM runs \
             GROUP BY job, outcome UNION ALL SELECT job, outcome, runs FROM runs_removed) counted GROUP BY job, outcome",
        );
        for row in answer("counting runs", counted.fetch_all(self.pool())).await? {
            let read = || Ok((row.try_get::<String, _>("job")?, row.try_get("outcome")?, row.try_get("runs")?));
            let (job, outcome, runs) = read().map_err(query("counting runs"))?;
            if let Some(stats) = all.iter_mut().find(|stats| stats.job.as_str() == job) {
                stats.counts.push((outcome, runs));
            }
        }
        Ok(all)
    }

    /// The same without the counts by outcome, for which every run there was is looked at.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn standings(&self) -> Result<Vec<JobStats>, LedgerError> {
        let names: Vec<&str> = JobName::ALL.iter().map(|job| job.as_str()).collect();
        let stats = answer("reading what runs came to", sqlx::query(STATS).bind(&names).fetch_all(self.pool())).await?;
        let read = || -> Result<Vec<JobStats>, sqlx::Error> {
            let mut all = Vec::new();
            for row in &stats {
                let Some(job) = JobName::parse(row.try_get("job")?) else { continue };
                all.push(JobStats {
                    job,
                    last_started: instant(row, "last_started")?,
                    last_outcome: row.try_get("last_outcome")?,
                    last_error: row.try_get("last_error")?,
                    last_milliseconds: row.try_get("last_milliseconds")?,
                    last_success: instant(row, "last_success")?,
                    known_since: instant(row, "known_since")?,
                    failures: row.try_get("failures")?,
                    running: row.try_get("running")?,
                    counts: Vec::new(),
                });
            }
            all.sort_by_key(|stats| stats.job);
            Ok(all)
        };
        read().map_err(query("reading what runs came to"))
    }
}
