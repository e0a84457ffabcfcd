//! The dispatcher: takes from the outbox what is due and delivers it, a lane for each webhook, so that one that is slow or
//! down keeps none of the others waiting.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::send::{Attempt, send};
use super::{Webhook, Webhooks, backoff};
use crate::daemon::ledger::{Ledger, LedgerError, Taken};
use crate::failure::chain;
use crate::units::Span;

/// How many deliveries of one webhook are under way at one time.
const AT_ONCE: u32 = 4;
/// How often the outbox is looked into.
const POLL: Duration = Duration::from_secs(1);
/// How often old rows are removed.
const TIDY: Duration = Duration::from_secs(3_600);
/// A delivery is somebody else's so long after its own limit: its end must have been written by then.
const LEASE: Duration = Duration::from_secs(20);
/// How long attempts that are under way may take when the term ends.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Delivers what the outbox holds for a site's webhooks.
#[derive(Debug)]
pub struct Dispatcher {
    ledger: Ledger,
    webhooks: Webhooks,
}

impl Dispatcher {
    pub(in crate::daemon) fn new(ledger: Ledger, webhooks: &Webhooks) -> Self {
        Self { ledger, webhooks: webhooks.clone() }
    }

    /// Delivers until the term ends. Attempts that are under way then are given a moment; whoever leads next makes
    /// the others again.
    pub(in crate::daemon) async fn serve(&self, term: &CancellationToken) {
        if self.webhooks.is_empty() {
            return;
        }
        let lanes = join_all(self.webhooks.iter().map(|webhook| self.serve_lane(webhook, term)));
        let tidy = async {
            loop {
                self.tidy().await;
                tokio::time::sleep(TIDY).await;
            }
        };
        tokio::select! {
            _ = lanes => {}
            () = tidy => {}
            () = async { term.cancelled().await; tokio::time::sleep(LAST_WORDS).await } => {}
        }
    }

    async fn serve_lane(&self, webhook: &Webhook, term: &CancellationToken) {
        let mut told = false;
        while !term.is_cancelled() {
            let pause = match self.round(webhook).await {
                Ok(0) => POLL,
                Ok(_) => Duration::ZERO,
                Err(error) => {
                    // Once, not once a second, for as long as the ledger is away.
                    if !told {
                        warn!(webhook = webhook.name, error = %chain(&error), "the outbox cannot be read");
                    }
                    told = true;
                    POLL * 5
                }
            };
            told = told && pause > POLL;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = term.cancelled() => {}
            }
        }
    }

    /// Delivers what is due now: takes deliveries for at most so long, and gives each attempt its webhook's own time. One
    /// that was cut short would count as failed, though the receiver may have had it. What fails waits for its next attempt.
    pub(in crate::daemon) async fn drain(&self, limit: Duration) {
        let Some(longest) = self.webhooks.iter().map(|webhook| webhook.timeout).max() else { return };
        let end = Instant::now() + limit;
        let work = async {
            join_all(self.webhooks.iter().map(|webhook| self.drain_lane(webhook, end))).await;
            self.tidy().await;
        };
        // The lanes keep to the time themselves; this is for a ledger that does not answer.
        let _ = tokio::time::timeout(limit + longest + LAST_WORDS, work).await;
    }

    async fn drain_lane(&self, webhook: &Webhook, end: Instant) {
        while Instant::now() < end {
            match self.round(webhook).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    warn!(webhook = webhook.name, error = %chain(&error), "the outbox cannot be read");
                    return;
                }
            }
        }
    }

    /// Takes some deliveries and makes one attempt of each; how many there were.
    async fn round(&self, webhook: &Webhook) -> Result<usize, LedgerError> {
        let lease = webhook.timeout + LEASE;
        let taken = self.ledger.take_deliveries(&webhook.name, AT_ONCE, lease).await?;
        let mut attempts: FuturesUnordered<_> = taken.iter().map(|one| self.attempt(webhook, one)).collect();
        while attempts.next().await.is_some() {}
        Ok(taken.len())
    }

    async fn attempt(&self, to: &Webhook, taken: &Taken) {
        let (webhook, delivery) = (to.name.as_str(), taken.id);
        let written = match send(to, delivery, &taken.payload).await {
            Attempt::Delivered(status) => {
                info!(webhook, %delivery, status, attempts = taken.attempts, "delivered");
                self.ledger.delivered(delivery).await
            }
            Attempt::Again { why, after } => {
                let pause = backoff::pause(taken.attempts, to.retry_after, taken.tried, after, backoff::chance());
                match pause {
                    Some(pause) => {
                        let next = Span::seconds(pause.as_secs()).to_string();
                        warn!(webhook, %delivery, attempts = taken.attempts, next, error = why, "not delivered yet");
                    }
                    None => error!(webhook, %delivery, attempts = taken.attempts, error = why, "delivery given up"),
                }
                self.ledger.not_delivered(taken, &why, pause).await
            }
            Attempt::Never { why } => {
                error!(webhook, %delivery, attempts = taken.attempts, error = why, "delivery given up");
                self.ledger.not_delivered(taken, &why, None).await
            }
        };
        if let Err(error) = written {
            // It is due again when its lease ends, and the receiver knows it by its id.
            warn!(webhook, %delivery, error = %chain(&error), "what came of a delivery could not be written");
        }
    }

    async fn tidy(&self) {
        match self.ledger.tidy_deliveries(&self.webhooks.names()).await {
            Ok(0) => {}
            Ok(removed) => info!(removed, "old webhook deliveries removed"),
            Err(error) => warn!(error = %chain(&error), "old webhook deliveries could not be removed"),
        }
    }
}
