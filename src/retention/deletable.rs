//! Counts what shorter retentions make deletable, in one pass over Temporal's `executions`. Writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::audit::{self, AuditError, Checked, Refusal};
use super::overdue::ends;
use super::shortening::{Deletable, Expired};
use super::source::Source;
use crate::clients::persistence::{ExecutionState, ScannedRun};
use crate::context::Context;
use crate::failure::chain;
use crate::units::Span;

/// The count is for a decision about some namespaces; the others of the plan must not miss the run's deadline for it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Of each namespace, by its identity, the closed runs whose end and the given retention have passed. What cannot be
/// counted is an answer, not an error.
pub(super) async fn count(
    source: &Source,
    shortened: &BTreeMap<Uuid, Span>,
    ctx: &Context,
) -> BTreeMap<Uuid, Deletable> {
    let why = match tokio::time::timeout(PATIENCE, look(source, shortened, ctx)).await {
        Ok(Ok(found)) => return found,
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("reading the executions takes longer than {}", Span::from(PATIENCE)),
    };
    shortened.keys().map(|id| (*id, Deletable::Unknown(why.clone()))).collect()
}

async fn look(
    source: &Source,
    shortened: &BTreeMap<Uuid, Span>,
    ctx: &Context,
) -> Result<BTreeMap<Uuid, Deletable>, AuditError> {
    let Checked { mut reading, namespaces, .. } = audit::check(source, ctx).await?;
    let mut counts: BTreeMap<Uuid, Count> = shortened.iter().map(|(id, kept)| (*id, Count::new(*kept))).collect();
    let each = |run: &ScannedRun<'_>| {
        if let Some(count) = counts.get_mut(&run.namespace) {
            count.add(run, ctx);
        }
    };
    reading.executions(ctx, each).await?;
    reading.close().await;
    let deletable = |(id, count): (Uuid, Count)| {
        // Another cluster's database would answer with a number too: zero.
        let deletable = match namespaces.iter().any(|row| row.id == id) {
            true => count.conclude(),
            false => {
                Deletable::Unknown(format!("database `{}` does not know the namespace", source.primary().database()))
            }
        };
        (id, deletable)
    };
    Ok(counts.into_iter().map(deletable).collect())
}

/// The count of one namespace.
struct Count {
    retention: Span,
    expired: Expired,
    unreadable: u64,
}

impl Count {
    fn new(retention: Span) -> Self {
        Self { retention, expired: Expired::default(), unreadable: 0 }
    }

    fn add(&mut self, run: &ScannedRun<'_>, ctx: &Context) {
        if !run.readable {
            self.unreadable += 1;
            return;
        }
        let closed = run.closed.filter(|_| run.state == ExecutionState::Closed);
        if closed.and_then(|closed| ends(closed, self.retention)).is_some_and(|end| end < ctx.now) {
            self.expired.runs += 1;
            self.expired.history_bytes += run.history_bytes;
        }
    }

    fn conclude(self) -> Deletable {
        match self.unreadable {
            0 => Deletable::Known(self.expired),
            rows => Deletable::Unknown(Refusal::Unreadable { rows }.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    #[test]
    fn only_closed_runs_beyond_the_retention_count_and_an_unreadable_row_spoils_the_number() {
        let ctx = Context { now: Timestamp::from_second(1_800_000_000).unwrap(), ..Context::plain() };
        let run = |state, closed_hours: Option<i64>, readable| ScannedRun {
            shard: 1,
            namespace: Uuid::nil(),
            workflow: "w",
            run: Uuid::nil(),
            state,
            workflow_type: "Order".into(),
            started: None,
            closed: closed_hours.map(|hours| ctx.now - SignedDuration::from_hours(hours)),
            history_bytes: 100,
            row_bytes: 10,
            has_history: true,
            readable,
        };
        let mut count = Count::new(Span::hours(24));
        count.add(&run(ExecutionState::Closed, Some(25), true), &ctx);
        count.add(&run(ExecutionState::Closed, Some(1_000), true), &ctx);
        count.add(&run(ExecutionState::Closed, Some(24), true), &ctx);
        count.add(&run(ExecutionState::Closed, Some(1), true), &ctx);
        count.add(&run(ExecutionState::Closed, None, true), &ctx);
        count.add(&run(ExecutionState::Open, Some(25), true), &ctx);
        count.add(&run(ExecutionState::Hidden, Some(25), true), &ctx);
        assert_eq!(count.expired, Expired { runs: 2, history_bytes: 200 });
        count.add(&run(ExecutionState::Hidden, None, false), &ctx);
        assert!(matches!(count.conclude(), Deletable::Unknown(why) if why.starts_with("1 rows of `executions`")));
    }
}
