//! Runs that are gone and listed all the same: Temporal deletes a run and what lists it apart from each other, and the
//! one can fail without the other.
//!
//! They are only told of. An index is kept true by `visibility::reconcile`, which looks at each document once more
//! before it removes it, and no second hand should be at the same documents.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::find::Scope;
use super::plan::{ListedOnly, OverduePlan};
use crate::clients::persistence::{RunKey, Session, shard_of};
use crate::clients::temporal::{ListedRun, Temporal};
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;
use crate::retention::Source;
use crate::retention::audit::AuditError;

/// Listed runs that are looked up in each namespace.
const MOST: usize = 20_000;
/// Examples of each namespace.
const SHOWN: usize = 5;

/// Looks up every run that is listed as closed so long ago that it should be gone. A visibility store that does not
/// answer is noted: the runs themselves are seen to without it.
pub(super) async fn look(
    source: &Source,
    temporal: &Temporal,
    scope: &HashMap<Uuid, Scope>,
    plan: &mut OverduePlan,
    ctx: &Context,
) -> Result<(), AuditError> {
    ctx.progress.stage("namespaces as they are listed", Some(scope.len() as u64), Unit::Items);
    // On the primary: a standby may still have runs that are gone.
    let mut session = source.primary().connect().await?;
    let shards = u32::try_from(session.shards().await?.count()).unwrap_or_default();
    let mut by_name: Vec<_> = scope.iter().collect();
    by_name.sort_by_key(|(_, of)| &of.name);
    for (id, of) in by_name {
        let Some(before) = last_end(of, plan, ctx.now) else { continue };
        let look = Look { temporal, namespace: *id, name: &of.name, shards, before };
        let found = match ctx.cancel.run_until_cancelled(look.all(&mut session)).await {
            Some(found) => found,
            None => return Err(AuditError::Cancelled),
        };
        ctx.progress.advance(1);
        match found {
            Ok(found) => found.add(of, plan),
            Err(Unlisted::Database(error)) => return Err(error),
            Err(Unlisted::Temporal(why)) => {
                plan.notes.push(format!("namespace {}: what is listed was not looked at: {why}", of.name));
            }
        }
    }
    session.close().await;
    Ok(())
}

/// Runs that ended before this should be gone.
fn last_end(of: &Scope, plan: &OverduePlan, now: Timestamp) -> Option<Timestamp> {
    let life = SignedDuration::from(of.retention).checked_add(SignedDuration::from(plan.slack))?;
    now.checked_sub(life).ok()
}

enum Unlisted {
    Database(AuditError),
    Temporal(String),
}

#[derive(Default)]
struct Found {
    only: BTreeSet<(Timestamp, String, Uuid)>,
    /// True when more is listed than was looked up.
    more: bool,
}

struct Look<'l> {
    temporal: &'l Temporal,
    namespace: Uuid,
    name: &'l str,
    shards: u32,
    before: Timestamp,
}

impl Look<'_> {
    async fn all(&self, session: &mut Session) -> Result<Found, Unlisted> {
        let (mut found, mut looked_up, mut next) = (Found::default(), 0, Vec::new());
        loop {
            let asked = self.temporal.listed_closed_before(self.name, self.before, next).await;
            let page = asked.map_err(|error| Unlisted::Temporal(chain(&error)))?;
            let keys: Vec<RunKey> = page.runs.iter().map(|run| self.key(run)).collect();
            let exist = session.exist(&keys).await.map_err(|error| Unlisted::Database(error.into()))?;
            looked_up += keys.len();
            let gone = page.runs.into_iter().zip(exist).filter(|(_, exists)| !exists);
            // A run may be listed twice, from two indices.
            found.only.extend(gone.map(|(run, _)| (run.closed, run.workflow, run.run)));
            next = page.next;
            if next.is_empty() || looked_up >= MOST {
                found.more = !next.is_empty();
                return Ok(found);
            }
        }
    }

    fn key(&self, run: &ListedRun) -> RunKey {
        let shard = shard_of(self.namespace, &run.workflow, self.shards);
        RunKey { shard, namespace: self.namespace, workflow: run.workflow.clone(), run: run.run }
    }
}

impl Found {
    fn add(self, scope: &Scope, plan: &mut OverduePlan) {
        if self.more {
            plan.notes.push(format!(
                "namespace {}: more than {MOST} runs are listed after their retention; the others were not looked up",
                scope.name
            ));
        }
        if self.only.is_empty() {
            return;
        }
        let of = plan.namespaces.entry(scope.name.clone()).or_default();
        of.retention = Some(scope.retention);
        of.listed_only = self.only.len() as u64;
        let examples = self.only.into_iter().take(SHOWN);
        of.listed_only_examples =
            examples.map(|(closed, workflow, run)| ListedOnly { workflow, run, closed }).collect();
    }
}
