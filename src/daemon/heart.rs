//! A run's signs of life, through the session that holds its lock; with them goes what is to be told of it, and back comes
//! who wants it stopped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use uuid::Uuid;

use super::ledger::{Beat, Ledger, Lock};
use super::runlog::RunLog;
use crate::progress::Recorded;

/// How often a run gives a sign of life, and notices that its lock is gone.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Keeps the run's row fresh: a sign of life, how far it is, what it logged.
pub(super) struct Heart {
    pub id: Uuid,
    pub log: RunLog,
    pub progress: Arc<Recorded>,
    /// Who asked through the ledger that it stops.
    pub asked_by: Arc<OnceLock<String>>,
    pub cancel: CancellationToken,
}

impl Heart {
    /// Beats until told to stop, and gives the lock back. When the lock's session is gone the run is cancelled: from
    /// then on another process could start the same job.
    pub(super) async fn beat(self, mut lock: Lock, stop: CancellationToken) -> (Option<Lock>, RunLog) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return (Some(lock), self.log),
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            let beat = Beat { progress: self.progress.stage(), log: self.log.news() };
            match Ledger::heartbeat(&mut lock, self.id, &beat).await {
                Ok(None) => {}
                Ok(Some(by)) => {
                    if self.asked_by.set(by).is_ok() {
                        info!(by = self.asked_by.get(), "asked to stop");
                        self.cancel.cancel();
                    }
                }
                Err(error) => {
                    error!(error = %crate::failure::chain(&error), "the lock in the ledger is lost; stopping the run");
                    self.cancel.cancel();
                    return (None, self.log);
                }
            }
        }
    }
}
