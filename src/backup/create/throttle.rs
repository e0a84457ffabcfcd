//! Keeps a backup's reading below a rate, over all of its connections.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backup::error::BackupError;
use crate::units::Size;

/// Bytes a second; without a rate it never waits.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: Option<Size>,
    /// When all that was read so far is paid for.
    paid: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(rate: Option<Size>) -> Self {
        Self { rate, paid: Mutex::new(Instant::now()) }
    }

    /// So many bytes were read: waits until they are paid for.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(super) async fn took(&self, bytes: u64, cancel: &CancellationToken) -> Result<(), BackupError> {
        let Some(rate) = self.rate else { return Ok(()) };
        let cost = Duration::from_millis(bytes.saturating_mul(1000) / rate.as_bytes().max(1));
        let paid = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            // Time in which nothing was read is not saved up.
            *paid = (*paid).max(Instant::now()) + cost;
            *paid
        };
        cancel.run_until_cancelled(tokio::time::sleep_until(paid)).await.ok_or(BackupError::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_share_the_rate_and_idle_time_is_not_saved_up() {
        let throttle = Throttle::new(Some(Size::bytes(1_000_000)));
        let never = CancellationToken::new();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let (one, two) = tokio::join!(throttle.took(30_000, &never), throttle.took(20_000, &never));
        assert!(one.is_ok() && two.is_ok() && begun.elapsed() >= Duration::from_millis(50));
        assert!(Throttle::new(None).took(u64::MAX, &never).await.is_ok());
        never.cancel();
        assert!(matches!(throttle.took(1 << 40, &never).await, Err(BackupError::Cancelled)));
    }
}
