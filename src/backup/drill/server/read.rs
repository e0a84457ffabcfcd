//! Which workflows are read, and whether a server says of them what the database said.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::clients::persistence::{NamespaceRow, Persistence, RunKey, Session, StoredRun};
use crate::clients::postgres::{Postgres, PostgresError};
use crate::clients::temporal::{Temporal, TemporalError, status_word};
use crate::context::Context;

/// Runs looked at with one statement.
const AT_ONCE: usize = 200;
/// A closed run whose retention ends so soon might be deleted by the server while it is read.
const SOON: Duration = Duration::from_secs(3_600);
const SYSTEM: &str = "temporal-system";

/// A run that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    run: StoredRun,
    /// Its namespace's name.
    namespace: String,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` run {} of namespace `{}`", self.run.key.workflow, self.run.key.run, self.namespace)
    }
}

/// Why a run does not count as read.
pub(super) enum Unheld {
    /// The server says something else than the database did.
    Differs(String),
    /// It did not answer.
    Unread(TemporalError),
}

/// Some runs from all over the shards, open and closed ones where there are both; other ones each time. All there are
/// when there are not so many.
pub(super) async fn choose(
    scratch: &Postgres,
    database: &str,
    wanted: usize,
    ctx: &Context,
) -> Result<Vec<Chosen>, PostgresError> {
    let mut session = Persistence::new(scratch.clone(), database).connect().await?;
    let mut namespaces = session.namespace_rows().await?;
    namespaces.retain(|namespace| !namespace.is_deleted && namespace.name != SYSTEM);
    let eligible = Eligible { namespaces: namespaces.into_iter().map(|row| (row.id, row)).collect(), now: ctx.now };
    let shards = session.cluster().await?.shards.count().max(1);
    let offset = ctx.now.as_nanosecond().unsigned_abs();
    let mut chosen: Vec<StoredRun> = Vec::new();
    for number in 0..wanted {
        let spread = offset + (number as u128) * u128::from(shards.unsigned_abs()) / (wanted as u128);
        let shard = i32::try_from(spread % u128::from(shards.unsigned_abs())).unwrap_or(0) + 1;
        let begin = RunKey { shard, namespace: Uuid::nil(), workflow: String::new(), run: Uuid::nil() };
        let (runs, _) = session.stored_runs(Some(&begin), AT_ONCE).await?;
        let fitting = || runs.iter().filter(|run| eligible.takes(run) && !chosen.contains(run));
        let found = fitting().find(|run| run.is_open == (number % 2 == 1)).or_else(|| fitting().next());
        chosen.extend(found.cloned());
    }
    fill(&mut session, &eligible, wanted, &mut chosen).await?;
    session.close().await;
    Ok(chosen.into_iter().filter_map(|run| eligible.named(run)).collect())
}

/// Goes through all runs from the first on until there are enough.
async fn fill(
    session: &mut Session,
    eligible: &Eligible,
    wanted: usize,
    chosen: &mut Vec<StoredRun>,
) -> Result<(), PostgresError> {
    let mut after = None;
    while chosen.len() < wanted {
        let (runs, last) = session.stored_runs(after.as_ref(), AT_ONCE).await?;
        if last.is_none() {
            break;
        }
        after = last;
        for run in runs.into_iter().filter(|run| eligible.takes(run)) {
            if chosen.len() < wanted && !chosen.contains(&run) {
                chosen.push(run);
            }
        }
    }
    Ok(())
}

/// Which runs a server started now will still have in a while.
struct Eligible {
    namespaces: BTreeMap<Uuid, NamespaceRow>,
    now: jiff::Timestamp,
}

impl Eligible {
    fn named(&self, run: StoredRun) -> Option<Chosen> {
        let namespace = self.namespaces.get(&run.key.namespace)?.name.clone();
        Some(Chosen { run, namespace })
    }

    fn takes(&self, run: &StoredRun) -> bool {
        let Some(namespace) = self.namespaces.get(&run.key.namespace) else { return false };
        let (Some(closed), Some(retention)) = (run.closed, namespace.retention) else { return run.is_open };
        let ends = closed.checked_add(retention).ok();
        run.is_open || ends.is_some_and(|ends| self.now.checked_add(SOON).is_ok_and(|soon| soon < ends))
    }
}

/// Reads a run through the server; how many events it has. An open run may have gone on: its timers run there as well.
pub(super) async fn held(temporal: &Temporal, chosen: &Chosen) -> Result<u64, Unheld> {
    let Chosen { run, namespace } = chosen;
    let (workflow, id) = (run.key.workflow.as_str(), run.key.run);
    let differs = |what: String| Unheld::Differs(format!("workflow {chosen} {what}"));
    let failed = |error| match error {
        TemporalError::RunNotFound { .. } => differs("is in the database, and the server does not know it".into()),
        error => Unheld::Unread(error),
    };
    let state = temporal.describe_run(namespace, workflow, id).await.map_err(failed)?;
    let end = temporal.history_end(namespace, workflow, id).await.map_err(failed)?;
    let went_on = run.is_open && end.last_event > run.last_event;
    if end.events != end.last_event || !(end.last_event == run.last_event || went_on) {
        let (here, there, last) = (run.last_event, end.events, end.last_event);
        return Err(differs(format!(
            "has {here} events in the database, and the server shows {there}, the last of number {last}"
        )));
    }
    if state.status != run.status && !went_on {
        let (here, there) = (status_word(run.status), status_word(state.status));
        return Err(differs(format!("is {here} in the database, and {there} for the server")));
    }
    Ok(u64::try_from(end.events).unwrap_or_default())
}
