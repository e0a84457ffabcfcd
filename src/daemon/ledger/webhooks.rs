//! The outbox: the rows of `webhook_deliveries`. They are written in the transaction that writes a run's end, taken by
//! whoever delivers, and kept for a while afterwards.

mod dead;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

pub use self::dead::{Dismissed, Retried};
use super::{Ledger, LedgerError, Outcome, answer, query};
use crate::clients::postgres::instant::{instant, required, utc};
use crate::daemon::webhooks::{Webhooks, run_ended};
use crate::job::JobName;

/// How long a row that has come to its end is kept: a dead one longer, for somebody should look at it.
const KEPT: [(DeliveryState, &str); 2] = [(DeliveryState::Delivered, "30 days"), (DeliveryState::Dead, "90 days")];
/// How many rows are removed in one pass.
const REMOVED_AT_ONCE: i64 = 1_000;

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Still to be delivered.
    Pending,
    /// Taken by the receiver.
    Delivered,
    /// Given up.
    Dead,
}

impl DeliveryState {
    /// As it stands in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// What a webhook is, was or was not told.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Its id; version 7, so ids sort by time.
    pub id: Uuid,
    /// The webhook's name.
    pub webhook: String,
    /// The run it tells of.
    pub run: Option<Uuid>,
    /// `pending`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it is tried next, or was last to be.
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When the run ended.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub ended_at: Option<Timestamp>,
    /// What is sent.
    pub payload: Value,
}

/// How many deliveries wait for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeliveryCounts {
    /// Still to be delivered.
    pub pending: i64,
    /// Given up, and not asked for again.
    pub dead: i64,
}

/// A run that has just ended, with what may be told of it.
#[derive(Debug)]
pub(in crate::daemon) struct EndedRun {
    pub(in crate::daemon) id: Uuid,
    pub(in crate::daemon) job: String,
    pub(in crate::daemon) trigger: String,
    pub(in crate::daemon) outcome: String,
    pub(in crate::daemon) host: String,
    pub(in crate::daemon) started_at: Timestamp,
    pub(in crate::daemon) finished_at: Timestamp,
    pub(in crate::daemon) summary: Option<String>,
    pub(in crate::daemon) error: Option<Value>,
}

/// The columns of `runs` that an [`EndedRun`] is made of.
pub(super) const ENDED_RUN: &str = concat!(
    "id, job, trigger, outcome, host, summary, error, ",
    utc!("started_at"),
    " AS started_at, ",
    utc!("finished_at"),
    " AS finished_at"
);

/// The columns of a [`Delivery`].
const DELIVERY: &str = concat!(
    "id, webhook, run, state, attempts, last_error, payload, ",
    utc!("next_attempt_at"),
    " AS next_attempt_at, ",
    utc!("created_at"),
    " AS created_at, ",
    utc!("ended_at"),
    " AS ended_at"
);

/// Writes what the webhooks are to be told of a run, in the transaction in which it ended.
pub(super) async fn tell(
    transaction: &mut PgConnection,
    row: &PgRow,
    end: (JobName, Outcome),
    webhooks: &Webhooks,
) -> Result<(), sqlx::Error> {
    let told: Vec<&str> = webhooks.iter().filter(|w| w.wants(end.0, end.1)).map(|w| w.name.as_str()).collect();
    if told.is_empty() {
        return Ok(());
    }
    let run = EndedRun {
        id: row.try_get("id")?,
        job: row.try_get("job")?,
        trigger: row.try_get("trigger")?,
        outcome: row.try_get("outcome")?,
        host: row.try_get("host")?,
        started_at: required(row, "started_at")?,
        finished_at: required(row, "finished_at")?,
        summary: row.try_get("summary")?,
        error: row.try_get("error")?,
    };
    for webhook in told {
        let id = Uuid::now_v7();
        sqlx::query("INSERT INTO webhook_deliveries (id, webhook, run, payload) VALUES ($1, $2, $3, $4)")
            .bind(id)
            .bind(webhook)
            .bind(run.id)
            .bind(run_ended(id, &run))
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

/// A delivery that this process has taken, and nobody else until its lease ends.
#[derive(Debug)]
pub(in crate::daemon) struct Taken {
    pub(in crate::daemon) id: Uuid,
    pub(in crate::daemon) payload: Value,
    /// With this one.
    pub(in crate::daemon) attempts: u32,
    /// How long it has been tried.
    pub(in crate::daemon) tried: Duration,
}

impl Ledger {
    /// Takes deliveries of a webhook that are due, the oldest first. What is not settled within the lease is due again. The
    /// day for which one is tried begins with its first attempt: until then there may have been nobody to deliver it.
    pub(in crate::daemon) async fn take_deliveries(
        &self,
        webhook: &str,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<Taken>, LedgerError> {
        let asked = sqlx::query(
            "WITH due AS MATERIALIZED (SELECT id FROM webhook_deliveries WHERE webhook = $1 AND state = 'pending' \
             AND next_attempt_at <= now() ORDER BY next_attempt_at, id LIMIT $2 FOR UPDATE SKIP LOCKED) \
             UPDATE webhook_deliveries AS d \
             SET attempts = attempts + 1, next_attempt_at = now() + $3 * interval '1 second', \
             tried_since = CASE WHEN attempts = 0 THEN now() ELSE tried_since END \
             FROM due WHERE d.id = due.id \
             RETURNING d.id, payload, attempts, extract(epoch FROM now() - tried_since)::float8 AS tried",
        )
        .bind(webhook)
        .bind(i64::from(most))
        .bind(lease.as_secs_f64());
        let rows = answer("taking webhook deliveries", asked.fetch_all(self.pool())).await?;
        let taken = |row: &PgRow| {
            let (attempts, tried): (i32, f64) = (row.try_get("attempts")?, row.try_get("tried")?);
            Ok(Taken {
                id: row.try_get("id")?,
                payload: row.try_get("payload")?,
                attempts: attempts.unsigned_abs(),
                tried: Duration::try_from_secs_f64(tried).unwrap_or_default(),
            })
        };
        rows.iter().map(taken).collect::<Result<_, sqlx::Error>>().map_err(query("reading webhook deliveries"))
    }

    /// Notes that a delivery was taken by its receiver.
    pub(in crate::daemon) async fn delivered(&self, id: Uuid) -> Result<(), LedgerError> {
        let done = sqlx::query(
            "UPDATE webhook_deliveries SET state = 'delivered', ended_at = now(), last_error = NULL \
             WHERE id = $1 AND state <> 'delivered'",
        )
        .bind(id);
        answer("noting a delivery", done.execute(self.pool())).await.map(drop)
    }

    /// Notes that an attempt failed: tried again after the pause, or given up without one. An attempt that somebody
    /// else has made meanwhile stands.
    pub(in crate::daemon) async fn not_delivered(
        &self,
        taken: &Taken,
        why: &str,
        pause: Option<Duration>,
    ) -> Result<(), LedgerError> {
        let noted = sqlx::query(
            "UPDATE webhook_deliveries SET last_error = $3, state = CASE WHEN $4::float8 IS NULL THEN 'dead' ELSE state END, \
             ended_at = CASE WHEN $4::float8 IS NULL THEN now() END, \
             next_attempt_at = now() + coalesce($4::float8, 0) * interval '1 second' \
             WHERE id = $1 AND attempts = $2 AND state = 'pending'",
        )
        .bind(taken.id)
        .bind(i32::try_from(taken.attempts).unwrap_or(i32::MAX))
        .bind(why)
        .bind(pause.map(|pause| pause.as_secs_f64()));
        answer("noting an attempt", noted.execute(self.pool())).await.map(drop)
    }

    /// Gives up what nobody delivers because its webhook is configured no longer, and removes old rows, so many at once.
    pub(in crate::daemon) async fn tidy_deliveries(&self, known: &[&str]) -> Result<u64, LedgerError> {
        let orphaned = sqlx::query(
            "UPDATE webhook_deliveries SET state = 'dead', ended_at = now(), \
             last_error = 'no webhook of this name is configured' \
             WHERE state = 'pending' AND webhook <> ALL ($1) AND tried_since < now() - interval '1 day'",
        )
        .bind(known);
        answer("giving up webhook deliveries", orphaned.execute(self.pool())).await?;
        let mut removed = 0;
        for (state, age) in KEPT {
            let old = sqlx::query(
                "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries \
                 WHERE state = $1 AND ended_at < now() - $2::text::interval ORDER BY ended_at LIMIT $3)",
            )
            .bind(state.as_str())
            .bind(age)
            .bind(REMOVED_AT_ONCE);
            removed += answer("removing old webhook deliveries", old.execute(self.pool())).await?.rows_affected();
        }
        Ok(removed)
    }

    /// Deliveries, newest first: of one state or of all, those older than `before` when that is given.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn deliveries(
        &self,
        state: Option<DeliveryState>,
        limit: u32,
        before: Option<Uuid>,
    ) -> Result<Vec<Delivery>, LedgerError> {
        let sql = format!(
            "SELECT {DELIVERY} FROM webhook_deliveries WHERE ($1::text IS NULL OR state = $1) \
             AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"
        );
        let asked = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(state.map(DeliveryState::as_str))
            .bind(before)
            .bind(i64::from(limit));
        let rows = answer("reading webhook deliveries", asked.fetch_all(self.pool())).await?;
        rows.iter().map(delivery_of).collect::<Result<_, _>>().map_err(query("reading webhook deliveries"))
    }

    /// One delivery.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn delivery(&self, id: Uuid) -> Result<Option<Delivery>, LedgerError> {
        let sql = format!("SELECT {DELIVERY} FROM webhook_deliveries WHERE id = $1");
        let asked = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id);
        let row = answer("reading a webhook delivery", asked.fetch_optional(self.pool())).await?;
        row.as_ref().map(delivery_of).transpose().map_err(query("reading a webhook delivery"))
    }

    /// How many deliveries are pending, and how many dead.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn delivery_counts(&self) -> Result<DeliveryCounts, LedgerError> {
        let asked = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'dead') \
             FROM webhook_deliveries WHERE state <> 'delivered'",
        );
        let (pending, dead) = answer("counting webhook deliveries", asked.fetch_one(self.pool())).await?;
        Ok(DeliveryCounts { pending, dead })
    }
}

fn delivery_of(row: &PgRow) -> Result<Delivery, sqlx::Error> {
    Ok(Delivery {
        id: row.try_get("id")?,
        webhook: row.try_get("webhook")?,
        run: row.try_get("run")?,
        state: row.try_get("state")?,
        attempts: row.try_get("attempts")?,
        next_attempt_at: required(row, "next_attempt_at")?,
        last_error: row.try_get("last_error")?,
        created_at: required(row, "created_at")?,
        ended_at: instant(row, "ended_at")?,
        payload: row.try_get("payload")?,
    })
}
