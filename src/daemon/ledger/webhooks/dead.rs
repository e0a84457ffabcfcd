//! What a person does about deliveries that were given up: have them tried again, or dismiss them.

use uuid::Uuid;

use crate::daemon::ledger::{Ledger, LedgerError, answer};

/// What came of asking for a delivery again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// It is due.
    Due,
    /// It was delivered, so that it is not.
    Delivered,
    /// Its webhook is not configured any more, so that nobody would deliver it.
    NoWebhook(String),
    /// There is none of that id.
    Unknown,
}

/// What came of dismissing a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dismissed {
    /// It is gone.
    Gone,
    /// It was not given up; how far it is.
    NotDead(String),
    /// There is none of that id.
    Unknown,
}

impl Ledger {
    /// Makes a delivery due now that is dead or waits for its next attempt, for another day of attempts; `known` are the
    /// webhooks that there are.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn retry_delivery(&self, id: Uuid, known: &[&str]) -> Result<Retried, LedgerError> {
        let again = sqlx::query(
            "UPDATE webhook_deliveries SET state = 'pending', ended_at = NULL, next_attempt_at = now(), \
             tried_since = now(), last_error = NULL, attempts = CASE WHEN state = 'dead' THEN 0 ELSE attempts END \
             WHERE id = $1 AND state <> 'delivered' AND webhook = ANY ($2)",
        )
        .bind(id)
        .bind(known);
        if answer("retrying a delivery", again.execute(self.pool())).await?.rows_affected() > 0 {
            return Ok(Retried::Due);
        }
        Ok(match self.delivery(id).await? {
            Some(there) if there.state == "delivered" => Retried::Delivered,
            Some(there) => Retried::NoWebhook(there.webhook),
            None => Retried::Unknown,
        })
    }

    /// Makes every dead delivery to one of these webhooks due now; which they are.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn retry_dead_deliveries(&self, known: &[&str]) -> Result<Vec<Uuid>, LedgerError> {
        let again = sqlx::query_scalar(
            "UPDATE webhook_deliveries SET state = 'pending', ended_at = NULL, next_attempt_at = now(), \
             tried_since = now(), last_error = NULL, attempts = 0 WHERE state = 'dead' AND webhook = ANY ($1) RETURNING id",
        )
        .bind(known);
        answer("retrying deliveries", again.fetch_all(self.pool())).await
    }

    /// Removes a delivery that was given up: nobody is to be told of it any more.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn dismiss_delivery(&self, id: Uuid) -> Result<Dismissed, LedgerError> {
        let gone = sqlx::query("DELETE FROM webhook_deliveries WHERE id = $1 AND state = 'dead'").bind(id);
        if answer("dismissing a delivery", gone.execute(self.pool())).await?.rows_affected() > 0 {
            return Ok(Dismissed::Gone);
        }
        let there = self.delivery(id).await?;
        Ok(there.map_or(Dismissed::Unknown, |there| Dismissed::NotDead(there.state)))
    }

    /// Removes every delivery that was given up, or those to one webhook; how many there were.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn dismiss_dead_deliveries(&self, webhook: Option<&str>) -> Result<u64, LedgerError> {
        let gone =
            sqlx::query("DELETE FROM webhook_deliveries WHERE state = 'dead' AND ($1::text IS NULL OR webhook = $1)")
                .bind(webhook);
        Ok(answer("dismissing deliveries", gone.execute(self.pool())).await?.rows_affected())
    }
}
