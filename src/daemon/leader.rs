//! One daemon leads, the others stand by: whoever holds the lock `leader` in the ledger.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ledger::{Ledger, Lock};

/// The lock of the daemon that leads.
pub const LEADER: &str = "leader";
/// How often the leader proves that it still holds the lock, and a failed attempt is repeated.
const CHECK: Duration = Duration::from_secs(2);
/// How long one attempt polls for the lock.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Waits until this process leads; `None` when it is to stop first.
pub(super) async fn wait_to_lead(ledger: &Ledger, stop: &CancellationToken) -> Option<Lock> {
    let mut told = false;
    while !stop.is_cancelled() {
        // The first attempt is short, so that a standby says early what it is.
        let patience = if told { ATTEMPT } else { Duration::from_millis(500) };
        match ledger.lock(LEADER, patience, stop).await {
            Ok(Some(lock)) => {
                info!("this daemon leads");
                return Some(lock);
            }
            Ok(None) if stop.is_cancelled() => return None,
            Ok(None) => {
                if !told {
                    info!("another daemon leads; standing by");
                }
                told = true;
            }
            Err(error) => {
                warn!(error = %crate::failure::chain(&error), "the ledger cannot be reached; trying again");
                tokio::select! {
                    () = tokio::time::sleep(CHECK) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
    None
}

/// Watches the lock until it is lost, or until `stop`; gives it back in the second case.
pub(super) async fn watch(mut lock: Lock, stop: &CancellationToken) -> Option<Lock> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Some(lock),
            () = tokio::time::sleep(CHECK) => {}
        }
        if let Err(error) = lock.check().await {
            warn!(error = %crate::failure::chain(&error), "leadership is lost");
            return None;
        }
    }
}
