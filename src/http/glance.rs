//! What the ledger says of all jobs, read once for everybody who asks within a second: a hundred open pages and a probe
//! cost the ledger as much as one of them. What was begun or stopped here is seen at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::problem::Problem;
use crate::daemon::LEADER;
use crate::daemon::ledger::{Asked, JobStats, Ledger, LedgerError, Run};

/// For how long one look is good.
const GOOD: Duration = Duration::from_secs(1);
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
    last: Mutex<Option<Looked>>,
    forgotten: AtomicU64,
}

impl Glances {
    /// The last look while it is good, else a new one. Who asks meanwhile waits for that one; also a failure is good
    /// for a second, so that they do not wait for a ledger that is away one after the other.
    pub(super) async fn get(&self, ledger: &Ledger) -> Result<Arc<Glance>, Problem> {
        let mut last = self.last.lock().await;
        let forgotten = self.forgotten.load(Ordering::Acquire);
        if let Some(looked) = last.as_ref().filter(|l| l.at.elapsed() < GOOD && l.forgotten == forgotten) {
            return looked.result.clone();
        }
        let result = Glance::of(ledger).await.map(Arc::new).map_err(Problem::from);
        *last = Some(Looked { at: Instant::now(), forgotten, result: result.clone() });
        result
    }

    /// Something was changed: whoever asks from now on sees it.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::Release);
    }
}
