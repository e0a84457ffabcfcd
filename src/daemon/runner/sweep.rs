//! The look for runs whose process has died, which their job's lock tells by being free, and for those that are old.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Runner, lock_name};
use crate::daemon::ledger::LedgerError;
use crate::failure::chain;
use crate::job::JobName;

/// How often it is looked.
const SWEEP: Duration = Duration::from_secs(15);
/// After how long without a sign of life a run is looked at: several heartbeats.
const SILENT: Duration = Duration::from_secs(20);

impl Runner {
    /// Marks what earlier processes left behind as interrupted, for the jobs nobody is running.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn sweep_interrupted(&self, cancel: &CancellationToken) -> Result<(), LedgerError> {
        self.sweep(&JobName::ALL, cancel).await
    }

    /// The same again and again, of runs that have fallen silent: whoever made them need not be the one who leads.
    pub async fn keep_sweeping(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
            let swept = async {
                let silent = self.ledger.silent(SILENT).await?;
                self.sweep(&silent, stop).await
            };
            if let Err(error) = swept.await {
                warn!(error = %chain(&error), "looking for interrupted runs");
            }
        }
    }

    async fn sweep(&self, jobs: &[JobName], cancel: &CancellationToken) -> Result<(), LedgerError> {
        for &job in jobs {
            if let Some(lock) = self.ledger.lock(&lock_name(job), Duration::ZERO, cancel).await? {
                self.mark_interrupted(job).await?;
                lock.release().await;
            }
        }
        Ok(())
    }

    /// Removes the job's old runs; the next run goes on with what cannot be removed now.
    pub(super) async fn forget(&self, job: JobName) {
        let Some(keep) = self.keep_runs else { return };
        match self.ledger.forget_runs(job, keep).await {
            Ok(0) => {}
            Ok(removed) => info!(%job, removed, keep_runs = %keep, "old runs were removed from the ledger"),
            Err(error) => warn!(%job, error = %chain(&error), "old runs could not be removed from the ledger"),
        }
    }

    /// The caller holds the job's lock.
    pub(super) async fn mark_interrupted(&self, job: JobName) -> Result<(), LedgerError> {
        for run in self.ledger.mark_interrupted(job, &self.webhooks).await? {
            warn!(%job, interrupted = %run, "an earlier run never ended; its process must have died");
        }
        Ok(())
    }
}
