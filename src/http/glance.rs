//! What the ledger says of all jobs, in one look.

use super::problem::Problem;
use crate::daemon::LEADER;
use crate::daemon::ledger::{Asked, JobStats, Ledger, Run};

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
    /// Reads what it shows.
    pub(super) async fn of(ledger: &Ledger) -> Result<Self, Problem> {
        let asked = Asked { limit: RUNS, brief: true, ..Asked::default() };
        let (stats, last, runs, leads) =
            tokio::try_join!(ledger.standings(), ledger.latest(), ledger.runs(&asked), ledger.is_locked(LEADER))?;
        Ok(Self { stats, last, runs, leads })
    }
}
