//! The rows of `runs`.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::outcome::{Outcome, Trigger};
use super::webhooks::{ENDED_RUN, tell};
use super::{Ledger, LedgerError, Lock, answer, query};
use crate::clients::postgres::instant::{instant, required, utc};
use crate::daemon::webhooks::Webhooks;
use crate::failure::Failure;
use crate::job::{Applied, JobName};
use crate::plan::Plan;
use crate::progress::Stage;

/// The end of a run, as it is written to the ledger.
#[derive(Debug)]
pub struct Ended<'a> {
    /// How.
    pub outcome: Outcome,
    /// What was done, as far as the run came.
    pub applied: Option<&'a Applied>,
    /// Why not more.
    pub failure: Option<&'a Failure>,
    /// Its log, when it has grown since the last sign of life.
    pub log: Option<&'a str>,
}

/// A sign of life of a run, with what is to be told of it.
#[derive(Debug, Clone, Default)]
pub struct Beat {
    /// How far it is.
    pub progress: Option<Stage>,
    /// Its log, when it has grown.
    pub log: Option<String>,
}

/// Which runs are asked for. They come the newest first.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Of this job only.
    pub job: Option<JobName>,
    /// Ended so, or `running`.
    pub outcome: Option<String>,
    /// Begun before this one: where the last page ended.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
    /// Without their plans and reports, which may be large.
    pub brief: bool,
}

/// A row of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Its id; version 7, so ids sort by start.
    pub id: Uuid,
    /// Of which job.
    pub job: String,
    /// What started it.
    pub trigger: String,
    /// How it ended, or `running`.
    pub outcome: String,
    /// Who asked for it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// On which host.
    pub host: String,
    /// Which version of sexton ran it.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Its last sign of life.
    pub heartbeat_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How far its current stage is, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Stage>,
    /// Who asked it to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested_by: Option<String>,
    /// The digest of its plan.
    pub plan_digest: Option<String>,
    /// Its plan.
    pub plan: Option<serde_json::Value>,
    /// One line on what it did.
    pub summary: Option<String>,
    /// The job's report.
    pub report: Option<serde_json::Value>,
    /// `kind`, `message` and perhaps `hint` when it did not reach its end.
    pub error: Option<serde_json::Value>,
}

/// The columns of a run but its plan and its report.
const BRIEF: &str = concat!(
    "id, job, trigger, outcome, requested_by, host, version, plan_digest, summary, error, \
     cancel_requested_by, CASE WHEN outcome = 'running' THEN progress END AS progress, ",
    utc!("started_at"),
    " AS started_at, ",
    utc!("heartbeat_at"),
    " AS heartbeat_at, ",
    utc!("finished_at"),
    " AS finished_at"
);

fn columns(brief: bool) -> String {
    let large = if brief { "NULL::jsonb AS plan, NULL::jsonb AS report" } else { "plan, report" };
    format!("{BRIEF}, {large}")
}

fn run_of(row: &PgRow) -> Result<Run, sqlx::Error> {
    Ok(Run {
        id: row.try_get("id")?,
        job: row.try_get("job")?,
        trigger: row.try_get("trigger")?,
        outcome: row.try_get("outcome")?,
        requested_by: row.try_get("requested_by")?,
        host: row.try_get("host")?,
        version: row.try_get("version")?,
        started_at: required(row, "started_at")?,
        heartbeat_at: required(row, "heartbeat_at")?,
        finished_at: instant(row, "finished_at")?,
        // What another version has written may be of another form.
        progress: row
            .try_get::<Option<serde_json::Value>, _>("progress")?
            .and_then(|stage| serde_json::from_value(stage).ok()),
        cancel_requested_by: row.try_get("cancel_requested_by")?,
        plan_digest: row.try_get("plan_digest")?,
        plan: row.try_get("plan")?,
        summary: row.try_get("summary")?,
        report: row.try_get("report")?,
        error: row.try_get("error")?,
    })
}

impl Ledger {
    /// Writes a run as begun. The caller holds the job's lock.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn begin(
        &self,
        id: Uuid,
        job: JobName,
        trigger: Trigger,
        by: Option<&str>,
        host: &str,
    ) -> Result<(), LedgerError> {
        let query = sqlx::query(
            "INSERT INTO runs (id, job, trigger, requested_by, host, version) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(job.as_str())
        .bind(trigger.as_str())
        .bind(by)
        .bind(host)
        .bind(env!("CARGO_PKG_VERSION"));
        answer("writing the start of a run", query.execute(&self.pool)).await.map(drop)
    }

    /// Adds the plan to a run, before anything of it is done.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn planned(&self, id: Uuid, plan: &Plan) -> Result<(), LedgerError> {
        let query = sqlx::query("UPDATE runs SET plan_digest = $2, plan = $3 WHERE id = $1")
            .bind(id)
            .bind(plan.digest())
            .bind(sqlx::types::Json(plan));
        answer("writing a plan", query.execute(&self.pool)).await.map(drop)
    }

    /// A run's sign of life, sent through the session that holds its lock, so that it fails when the lock is gone.
    /// Says who has asked that the run stops.
    ///
    /// # Errors
    /// When that session is gone.
    pub async fn heartbeat(lock: &mut Lock, id: Uuid, beat: &Beat) -> Result<Option<String>, LedgerError> {
        let query = sqlx::query_scalar(
            "UPDATE runs SET heartbeat_at = now(), progress = $2, log = coalesce($3, log) WHERE id = $1 \
             RETURNING cancel_requested_by",
        )
        .bind(id)
        .bind(beat.progress.as_ref().map(sqlx::types::Json))
        .bind(beat.log.as_deref());
        let found: Option<Option<String>> =
            answer("writing a heartbeat", query.fetch_optional(lock.connection())).await?;
        Ok(found.flatten())
    }

    /// Writes the end of a run, and what its webhooks are to be told of it.
    ///
    /// # Errors
    /// When the ledger cannot be written; then neither is.
    pub async fn end(&self, id: Uuid, job: JobName, ended: &Ended<'_>, webhooks: &Webhooks) -> Result<(), LedgerError> {
        let sql = format!(
            "UPDATE runs SET outcome = $2, finished_at = now(), heartbeat_at = now(), summary = $3, report = $4, \
             error = $5, log = coalesce($6, log) WHERE id = $1 AND outcome = 'running' RETURNING {ENDED_RUN}"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .bind(ended.outcome.as_str())
            .bind(ended.applied.map(|a| a.summary.as_str()))
            .bind(ended.applied.map(|a| &a.report))
            .bind(ended.failure.map(sqlx::types::Json))
            .bind(ended.log);
        let written = async {
            let mut transaction = self.pool.begin().await?;
            let row = query.fetch_optional(&mut *transaction).await?;
            if let Some(row) = &row {
                tell(&mut transaction, row, (job, ended.outcome), webhooks).await?;
            }
            transaction.commit().await?;
            Ok(row.is_some())
        };
        if !answer("writing the end of a run", written).await? {
            tracing::warn!(run = %id, "the run was called interrupted before its end could be written");
        }
        Ok(())
    }

    /// The jobs of which a run is called running and has given no sign of life for that long.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn silent(&self, since: Duration) -> Result<Vec<JobName>, LedgerError> {
        let asked = sqlx::query_scalar(
            "SELECT DISTINCT job FROM runs WHERE job = ANY ($1) AND outcome = 'running' \
             AND heartbeat_at < now() - make_interval(secs => $2)",
        )
        .bind(JobName::ALL.map(JobName::as_str))
        .bind(since.as_secs_f64());
        let jobs: Vec<String> = answer("looking for silent runs", asked.fetch_all(&self.pool)).await?;
        Ok(jobs.iter().filter_map(|job| JobName::parse(job)).collect())
    }

    /// Marks runs of a job that never ended as interrupted, and writes what webhooks are to be told of them. The caller
    /// holds the job's lock, so none of them lives.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn mark_interrupted(&self, job: JobName, webhooks: &Webhooks) -> Result<Vec<Uuid>, LedgerError> {
        let sql = format!(
            "UPDATE runs SET outcome = 'interrupted', finished_at = now() WHERE job = $1 AND outcome = 'running' \
             RETURNING {ENDED_RUN}"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.as_str());
        let marked = async {
            let mut transaction = self.pool.begin().await?;
            let rows = query.fetch_all(&mut *transaction).await?;
            for row in &rows {
                tell(&mut transaction, row, (job, Outcome::Interrupted), webhooks).await?;
            }
            transaction.commit().await?;
            rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()
        };
        answer("marking interrupted runs", marked).await
    }

    /// The latest reports of a job, newest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn reports(&self, job: JobName, limit: u32) -> Result<Vec<serde_json::Value>, LedgerError> {
        let asked = sqlx::query_scalar(
            "SELECT report FROM runs WHERE job = $1 AND report IS NOT NULL AND outcome IN ('unchanged', 'changed') \
             ORDER BY started_at DESC, id DESC LIMIT $2",
        )
        .bind(job.as_str())
        .bind(i64::from(limit));
        answer("reading reports", asked.fetch_all(&self.pool)).await
    }

    /// The report of the last run of a job that went well, `null` when it had nothing to tell.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn last_report(&self, job: JobName) -> Result<Option<serde_json::Value>, LedgerError> {
        let asked = sqlx::query_scalar(
            "SELECT coalesce(report, 'null') FROM runs WHERE job = $1 AND outcome IN ('unchanged', 'changed') \
             ORDER BY started_at DESC, id DESC LIMIT 1",
        )
        .bind(job.as_str());
        answer("reading the last report", asked.fetch_optional(&self.pool)).await
    }

    /// What the latest backups have added to the store, bytes by the backup's id.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn stored_by_backups(&self, limit: u32) -> Result<HashMap<String, u64>, LedgerError> {
        let asked = sqlx::query_as(
            "SELECT report ->> 'id', (report ->> 'stored_bytes')::int8 FROM runs WHERE job = $1 AND report ? 'id' \
             AND outcome IN ('unchanged', 'changed') ORDER BY id DESC LIMIT $2",
        )
        .bind(JobName::Backup.as_str())
        .bind(i64::from(limit));
        let rows: Vec<(String, Option<i64>)> = answer("reading reports", asked.fetch_all(&self.pool)).await?;
        Ok(rows.into_iter().filter_map(|(id, bytes)| Some((id, u64::try_from(bytes?).ok()?))).collect())
    }

    /// The latest runs, newest first, of one job or of all.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn recent(&self, job: Option<JobName>, limit: u32) -> Result<Vec<Run>, LedgerError> {
        self.runs(&Asked { job, limit, ..Asked::default() }).await
    }

    /// Runs by what is asked for, the newest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn runs(&self, asked: &Asked) -> Result<Vec<Run>, LedgerError> {
        // Ids are of version 7: they sort by the start of their run.
        let sql = format!(
            "SELECT {} FROM runs WHERE ($1::text IS NULL OR job = $1) AND ($2::text IS NULL OR outcome = $2) \
             AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4",
            columns(asked.brief)
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(asked.job.map(JobName::as_str))
            .bind(asked.outcome.as_deref())
            .bind(asked.before)
            .bind(i64::from(asked.limit));
        let rows = answer("reading runs", query.fetch_all(&self.pool)).await?;
        rows.iter().map(run_of).collect::<Result<_, _>>().map_err(query_error())
    }

    /// The latest run of every job that has one, without plans and reports.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn latest(&self) -> Result<Vec<Run>, LedgerError> {
        let names: Vec<&str> = JobName::ALL.iter().map(|job| job.as_str()).collect();
        let sql = format!(
            "SELECT {} FROM unnest($1::text[]) AS j (name) \
             CROSS JOIN LATERAL (SELECT * FROM runs r WHERE r.job = j.name ORDER BY r.id DESC LIMIT 1) last",
            columns(true)
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(names);
        let rows = answer("reading the last runs", query.fetch_all(&self.pool)).await?;
        rows.iter().map(run_of).collect::<Result<_, _>>().map_err(query_error())
    }

    /// One run.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn one(&self, id: Uuid) -> Result<Option<Run>, LedgerError> {
        let sql = format!("SELECT {} FROM runs WHERE id = $1", columns(false));
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id);
        let row = answer("reading a run", query.fetch_optional(&self.pool)).await?;
        row.as_ref().map(run_of).transpose().map_err(query_error())
    }

    /// What a run has logged; `None` when there is no such run.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn log(&self, id: Uuid) -> Result<Option<String>, LedgerError> {
        let query = sqlx::query_scalar("SELECT coalesce(log, '') FROM runs WHERE id = $1").bind(id);
        answer("reading a log", query.fetch_optional(&self.pool)).await
    }

    /// Asks a run to stop at its next safe point; false when it does not run (any more).
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn request_cancel(&self, id: Uuid, by: &str) -> Result<bool, LedgerError> {
        let query = sqlx::query(
            "UPDATE runs SET cancel_requested_by = coalesce(cancel_requested_by, $2) WHERE id = $1 AND outcome = 'running'",
        )
        .bind(id)
        .bind(by);
        Ok(answer("asking a run to stop", query.execute(&self.pool)).await?.rows_affected() > 0)
    }
}

fn query_error() -> impl Fn(sqlx::Error) -> LedgerError {
    query("reading runs")
}
