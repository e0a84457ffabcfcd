//! Which runs are no longer kept.

use super::{Ledger, LedgerError, answer};
use crate::job::JobName;
use crate::units::Span;

/// So many of a job stay, however old they are.
const NEWEST: i64 = 100;
/// How many are removed in one pass.
const REMOVED_AT_ONCE: i64 = 500;

/// Ids are UUIDs of version 7, which begin with the milliseconds since 1970: so the index leads to what is old, and a run
/// has to be old by the clock of the host that began it, too.
const FORGET: &str = "WITH old AS (\
       SELECT r.id FROM runs r WHERE r.job = $1 AND r.outcome <> 'running' \
         AND r.finished_at < now() - make_interval(secs => $2) \
         AND r.id < (lpad(to_hex((greatest(0, extract(epoch FROM now())::float8 - $2) * 1000)::int8), 12, '0') \
           || repeat('0', 20))::uuid \
         AND r.id < (SELECT id FROM runs WHERE job = $1 ORDER BY id DESC OFFSET $3 - 1 LIMIT 1) \
         AND EXISTS (SELECT FROM runs n WHERE n.job = r.job AND n.outcome = r.outcome AND n.id > r.id) \
         AND NOT EXISTS (SELECT FROM webhook_deliveries w WHERE w.run = r.id AND w.state <> 'delivered') \
       ORDER BY r.id LIMIT $4), \
     gone AS (DELETE FROM runs WHERE id IN (SELECT id FROM old) RETURNING outcome, started_at), \
     noted AS (INSERT INTO runs_removed (job, outcome, runs, first_started) \
       SELECT $1, outcome, count(*), min(started_at) FROM gone GROUP BY outcome \
       ON CONFLICT (job, outcome) DO UPDATE SET runs = runs_removed.runs + excluded.runs, \
         first_started = least(runs_removed.first_started, excluded.first_started)) \
     SELECT count(*) FROM gone";

impl Ledger {
    /// Removes the oldest runs of a job that ended longer ago than `keep`, with what webhooks were told of them, and says
    /// how many. One in progress stays, and so do the newest hundred, the newest of each outcome (what is known of the
    /// job's last success and of what it last found rests on them), and one of whose end somebody was not told. How many
    /// there were and when the first began is kept for [`Ledger::stats`].
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn forget_runs(&self, job: JobName, keep: Span) -> Result<i64, LedgerError> {
        let seconds = std::time::Duration::from(keep).as_secs_f64();
        let removed = sqlx::query_scalar(FORGET).bind(job.as_str()).bind(seconds).bind(NEWEST).bind(REMOVED_AT_ONCE);
        answer("removing old runs", removed.fetch_one(self.pool())).await
    }
}
