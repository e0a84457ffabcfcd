//! What the ledger says of all jobs, read once for everybody who asks within a second: a hundred open pages and a probe
//! cost the ledger as much as one of them. What was begun or stopped here is seen at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::problem::Problem;
use crate::daemon::LEADER;
use crate::daemon::ledger::{Asked, JobStats, Ledger, LedgerError, Run};

/// For how long one look is good.
const GOOD: Duration = Duration::from_secs(1);
/// For how long it does while the next one is under way: with 2,000 requests a second, all that came meanwhile waited for
/// it, which made them the slowest hundredth.
const MEANWHILE: Duration = Duration::from_secs(2);
/// The latest runs that are kept, without their plans and reports: one more than a page has.
pub(super) const RUNS: u32 = 51;

/// One look.
#[derive(Debug)]
pub(super) struct Glance {
    /// What the runs of every job come to, without counts.
    pub stats: Vec<JobStats>,
    /// The last run of every job that has one.
    pub last: Vec<Run>,
    /// The latest runs, the newest first.
    pub runs: Vec<Run>,
    /// Whether some daemon leads.
    pub leads: bool,
}

impl Glance {
    async fn of(ledger: &Ledger) -> Result<Self, LedgerError> {
        let asked = Asked { limit: RUNS, brief: true, ..Asked::default() };
        let (stats, last, runs, leads) =
            tokio::try_join!(ledger.standings(), ledger.latest(), ledger.runs(&asked), ledger.is_locked(LEADER))?;
        Ok(Self { stats, last, runs, leads })
    }
}

#[derive(Debug, Clone)]
struct Looked {
    at: Instant,
    /// How often it had been forgotten when the look began.
    forgotten: u64,
    result: Result<Arc<Glance>, Problem>,
}

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Glances {
    last: RwLock<Option<Looked>>,
    /// Held by whoever makes the next one.
    looking: Mutex<()>,
    forgotten: AtomicU64,
}

impl Glances {
    /// The last look while it is good, else a new one. Who asks meanwhile gets the last one if it is hardly older, and
    /// waits for the new one otherwise; also a failure is good for a second, so that they do not wait for a ledger that is
    /// away one after the other.
    pub(super) async fn get(&self, ledger: &Ledger) -> Result<Arc<Glance>, Problem> {
        if let Some(result) = self.last(GOOD) {
            return result;
        }
        let _looking = match self.looking.try_lock() {
            Ok(looking) => looking,
            Err(_) => match self.last(MEANWHILE) {
                Some(Ok(glance)) => return Ok(glance),
                _ => self.looking.lock().await,
            },
        };
        // Somebody may have looked in between.
        if let Some(result) = self.last(GOOD) {
            return result;
        }
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let result = Glance::of(ledger).await.map(Arc::new).map_err(Problem::from);
        let looked = Looked { at: Instant::now(), forgotten, result: result.clone() };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(looked);
        result
    }

    /// The last look, if it is not older than that and nothing was changed since.
    fn last(&self, age: Duration) -> Option<Result<Arc<Glance>, Problem>> {
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let looked = last.as_ref().filter(|look| look.at.elapsed() < age && look.forgotten == forgotten)?;
        Some(looked.result.clone())
    }

    /// Something was changed: whoever asks from now on sees it.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::Release);
    }
}
