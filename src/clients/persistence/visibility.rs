//! The table `executions_visibility`: what lists read where visibility is in PostgreSQL.

use jiff::Timestamp;
use uuid::Uuid;

use super::Session;
use crate::clients::postgres::PostgresError;

impl Session {
    /// How many rows of a namespace belong to runs that ended before this instant; counting stops at `most`.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn listed_runs_closed_before(
        &mut self,
        namespace: Uuid,
        before: Timestamp,
        most: u32,
    ) -> Result<u64, PostgresError> {
        // The expression is that of the table's own index.
        const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM executions_visibility WHERE namespace_id = $1 \
            AND COALESCE(close_time, '9999-12-31 23:59:59'::timestamp) < ($2::text::timestamptz AT TIME ZONE 'UTC') \
            LIMIT $3) AS found";
        let asked =
            sqlx::query_scalar(COUNT).bind(namespace.to_string()).bind(before.to_string()).bind(i64::from(most));
        let count: i64 = asked
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| self.persistence.error("counting rows of Temporal's executions_visibility", error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
