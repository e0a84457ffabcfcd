//! Up to which due time each schedule has been served.

use jiff::Timestamp;

use super::{Ledger, LedgerError, answer};
use crate::job::JobName;

impl Ledger {
    /// The last due time that was served, `None` before the first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn served_at(&self, job: JobName) -> Result<Option<Timestamp>, LedgerError> {
        let asked = sqlx::query_scalar(
            "SELECT (extract(epoch FROM served_at) * 1000000)::bigint FROM schedules WHERE job = $1",
        )
        .bind(job.as_str());
        let micros: Option<i64> = answer("reading a schedule", asked.fetch_optional(&self.pool)).await?;
        Ok(micros.and_then(|m| Timestamp::from_microsecond(m).ok()))
    }

    /// Notes that the due time `at` is served; false when it is the one that was served last. An earlier one is served
    /// all the same, as a clock that was wrong for a while must not hold up what is due; what is noted never goes back.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn mark_served(&self, job: JobName, at: Timestamp) -> Result<bool, LedgerError> {
        let written = sqlx::query(
            "INSERT INTO schedules (job, served_at) VALUES ($1, $2::text::timestamptz) \
             ON CONFLICT (job) DO UPDATE SET served_at = greatest(schedules.served_at, excluded.served_at) \
             WHERE schedules.served_at <> excluded.served_at",
        )
        .bind(job.as_str())
        .bind(at.to_string());
        Ok(answer("writing a schedule", written.execute(&self.pool)).await?.rows_affected() == 1)
    }
}
