//! Up to which due time each schedule has been served.

use jiff::Timestamp;

use super::{Ledger, LedgerError, answer};
use crate::job::JobName;

/// A clock that is right is not that far from the ledger's.
const FAR_AHEAD_DAYS: i32 = 2;

impl Ledger {
    /// The last due time that was served; `None` before the first, and of one that is days ahead of the ledger's clock:
    /// whoever noted that had another one, and what is missed would not be made up for until then.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn served_at(&self, job: JobName) -> Result<Option<Timestamp>, LedgerError> {
        let asked = sqlx::query_scalar(
            "SELECT (extract(epoch FROM served_at) * 1000000)::bigint FROM schedules \
             WHERE job = $1 AND isfinite(served_at) AND served_at <= now() + make_interval(days => $2)",
        )
        .bind(job.as_str())
        .bind(FAR_AHEAD_DAYS);
        let micros: Option<i64> = answer("reading a schedule", asked.fetch_optional(&self.pool)).await?;
        Ok(micros.and_then(|m| Timestamp::from_microsecond(m).ok()))
    }

    /// Notes that the due time `at` is served; it never goes back but from one that is days ahead.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn mark_served(&self, job: JobName, at: Timestamp) -> Result<(), LedgerError> {
        let written = sqlx::query(
            "INSERT INTO schedules (job, served_at) VALUES ($1, $2::text::timestamptz) \
             ON CONFLICT (job) DO UPDATE SET served_at = CASE \
             WHEN schedules.served_at > now() + make_interval(days => $3) THEN excluded.served_at \
             ELSE greatest(schedules.served_at, excluded.served_at) END",
        )
        .bind(job.as_str())
        .bind(at.to_string())
        .bind(FAR_AHEAD_DAYS);
        answer("writing a schedule", written.execute(&self.pool)).await.map(drop)
    }
}
