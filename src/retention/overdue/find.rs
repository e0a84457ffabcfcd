//! Looks for closed runs whose deletion does not fit the retention of now. Writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::judge::{Class, Timers, ends, is_overdue, judge};
use super::listed;
use super::plan::{Of, OverduePlan, Work};
use crate::clients::persistence::{ExecutionState, NamespaceRow, RunKey, ScannedRun, Session};
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::policy::retention::{OverdueAction, RetentionPolicy};
use crate::progress::Unit;
use crate::retention::audit::{self, AuditError, Checked};
use crate::retention::{Reading, Source};
use crate::units::Span;

/// Overdue runs that are told apart by their timers; beyond these they are only counted.
const TOLD_APART: usize = 200_000;

/// Runs that would go too soon are looked for among those that go within this time: more than lies between two runs of
/// the job, so that each is met in time.
const HORIZON: SignedDuration = SignedDuration::from_hours(48);

/// Runs looked up with one query.
const LOOKED_UP: usize = 5_000;

/// A namespace whose runs are looked at.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) retention: Span,
    archives: bool,
}

/// A closed run that should be gone.
#[derive(Debug)]
struct Overdue {
    closed: Timestamp,
    bytes: u64,
}

/// Looks at every run and its deletion timer, and decides what to do about each; and looks for runs that are only listed.
///
/// # Errors
/// [`AuditError::Refused`] for a database on which nothing can be decided, and any other [`AuditError`].
pub async fn find(
    source: &Source,
    temporal: &Temporal,
    policy: &RetentionPolicy,
    ctx: &Context,
) -> Result<OverduePlan, AuditError> {
    let settings = &policy.overdue;
    let mut plan = OverduePlan {
        action: settings.action,
        slack: settings.slack,
        per_second: settings.per_second,
        namespaces: BTreeMap::new(),
        work: Vec::new(),
        unreadable: 0,
        notes: Vec::new(),
    };
    if settings.action == OverdueAction::Ignore {
        plan.notes.push("`overdue.action` is `ignore`: overdue runs are not looked for".into());
        return Ok(plan);
    }
    let Checked { mut reading, namespaces, shards, .. } = audit::check_primary(source, ctx).await?;
    let scope = in_scope(&namespaces, policy, &mut plan.notes);
    let (suspects, beyond) = scan(&mut reading, &scope, &mut plan, ctx).await?;
    if beyond > 0 {
        plan.notes.push(format!("{beyond} more runs are overdue than were told apart; the next runs of the job go on"));
    }
    let most = usize::try_from(settings.most).unwrap_or(usize::MAX);
    let mut look = Look { scope: &scope, plan: &mut plan, ctx, most };
    ctx.progress.stage("deletion timers", Some(u64::try_from(shards).unwrap_or_default()), Unit::Items);
    let mut by_shard: BTreeMap<i32, HashMap<RunKey, Overdue>> = BTreeMap::new();
    for (key, overdue) in suspects {
        by_shard.entry(key.shard).or_default().insert(key, overdue);
    }
    let mut overdue = Vec::new();
    for shard in 1..=shards {
        if ctx.is_cancelled() {
            return Err(AuditError::Cancelled);
        }
        let of_shard = by_shard.remove(&shard).unwrap_or_default();
        look.one_shard(&mut reading.session, shard, of_shard, &mut overdue).await?;
        ctx.progress.advance(1);
    }
    reading.close().await;
    listed::look(source, temporal, &scope, &mut plan, ctx).await?;
    // The oldest first: a bound must not starve them.
    overdue.sort_by_key(|(closed, _)| *closed);
    let room = most.saturating_sub(plan.work.len());
    if settings.action != OverdueAction::Report {
        plan.work.extend(overdue.into_iter().map(|(_, work)| work).take(room));
    }
    Ok(plan)
}

/// The namespaces whose runs are looked at: those the policy is for, as long as nobody deletes them. As with their
/// retentions, what is deprecated has to be named.
fn in_scope(namespaces: &[NamespaceRow], policy: &RetentionPolicy, notes: &mut Vec<String>) -> HashMap<Uuid, Scope> {
    let mut scope = HashMap::new();
    for row in namespaces {
        if !policy.is_for(&row.name) {
            continue;
        }
        if row.is_deleted {
            notes.push(format!("namespace {} is being deleted and left alone", row.name));
        } else if row.is_deprecated && !policy.names(&row.name) {
            notes.push(format!(
                "namespace {} is deprecated and left alone; name it under `namespaces` to have its runs seen to",
                row.name
            ));
        } else if let Some(retention) = row.retention {
            let scoped = Scope { name: row.name.clone(), retention: retention.into(), archives: row.archives };
            scope.insert(row.id, scoped);
        } else {
            notes.push(format!("namespace {} does not say its retention and is left alone", row.name));
        }
    }
    scope
}

/// Every run once: those that should be gone, and how many more there are than can be told apart.
async fn scan(
    reading: &mut Reading,
    scope: &HashMap<Uuid, Scope>,
    plan: &mut OverduePlan,
    ctx: &Context,
) -> Result<(HashMap<RunKey, Overdue>, u64), AuditError> {
    let (mut suspects, mut beyond) = (HashMap::new(), 0);
    let (slack, unreadable) = (plan.slack, &mut plan.unreadable);
    let each = |run: &ScannedRun<'_>| {
        let Some(of) = scope.get(&run.namespace) else { return };
        if !run.readable {
            *unreadable += 1;
            return;
        }
        let Some(closed) = run.closed.filter(|_| run.state == ExecutionState::Closed) else { return };
        if !is_overdue(closed, of.retention, slack, ctx.now) {
            return;
        }
        if suspects.len() < TOLD_APART {
            suspects.insert(run.key(), Overdue { closed, bytes: run.history_bytes });
        } else {
            beyond += 1;
        }
    };
    reading.executions(ctx, each).await?;
    if plan.unreadable > 0 {
        plan.notes.push(format!("{} rows of executions cannot be read and are left alone", plan.unreadable));
    }
    Ok((suspects, beyond))
}

struct Look<'l> {
    scope: &'l HashMap<Uuid, Scope>,
    plan: &'l mut OverduePlan,
    ctx: &'l Context,
    most: usize,
}

impl Look<'_> {
    async fn one_shard(
        &mut self,
        session: &mut Session,
        shard: i32,
        suspects: HashMap<RunKey, Overdue>,
        overdue: &mut Vec<(Timestamp, Work)>,
    ) -> Result<(), AuditError> {
        let mut soon: BTreeSet<RunKey> = BTreeSet::new();
        if self.plan.action == OverdueAction::Refresh {
            let until = self.ctx.now.checked_add(HORIZON).ok();
            let scope = self.scope;
            session
                .deletion_timers(shard, until, |key, _| {
                    if scope.contains_key(&key.namespace) && !suspects.contains_key(&key) {
                        soon.insert(key);
                    }
                })
                .await?;
        }
        let early = self.ends_later(session, soon).await?;
        if suspects.is_empty() && early.is_empty() {
            return Ok(());
        }
        let mut timers: HashMap<RunKey, Timers> = HashMap::new();
        session
            .deletion_timers(shard, None, |key, fires| {
                if suspects.contains_key(&key) || early.contains_key(&key) {
                    let so_far = timers.get(&key).copied();
                    timers.insert(key, Timers::add(so_far, fires));
                }
            })
            .await?;
        for (key, Overdue { closed, bytes }) in suspects {
            let class = self.count(&key, closed, bytes, timers.get(&key).copied());
            if matches!(class, Class::Later | Class::Lost) {
                overdue.extend(self.work(key, false).map(|work| (closed, work)));
            }
        }
        for (key, closed) in early {
            if self.count(&key, closed, 0, timers.get(&key).copied()) == Class::Early
                && self.plan.work.len() < self.most
            {
                let work = self.work(key, true);
                self.plan.work.extend(work);
            }
        }
        Ok(())
    }

    /// Of the runs that go soon those that are to stay, as far as their end and the retention say.
    async fn ends_later(
        &self,
        session: &mut Session,
        soon: BTreeSet<RunKey>,
    ) -> Result<BTreeMap<RunKey, Timestamp>, AuditError> {
        let soon: Vec<RunKey> = soon.into_iter().collect();
        let mut early = BTreeMap::new();
        for keys in soon.chunks(LOOKED_UP) {
            for detail in session.details(keys).await? {
                let Some(of) = self.scope.get(&detail.key.namespace) else { continue };
                let Some(closed) = detail.closed else { continue };
                if ends(closed, of.retention).is_some_and(|end| end > self.ctx.now) {
                    early.insert(detail.key, closed);
                }
            }
        }
        Ok(early)
    }

    fn count(&mut self, key: &RunKey, closed: Timestamp, bytes: u64, timers: Option<Timers>) -> Class {
        let Some(scope) = self.scope.get(&key.namespace) else { return Class::Kept };
        let class = judge(closed, scope.retention, self.plan.slack, scope.archives, timers, self.ctx.now);
        if class == Class::Kept {
            return class;
        }
        let of = self.plan.namespaces.entry(scope.name.clone()).or_default();
        of.retention = Some(scope.retention);
        let Of { later, lost, due, archival, early, .. } = of;
        *match class {
            Class::Later => later,
            Class::Lost => lost,
            Class::Due => due,
            Class::Archival => archival,
            Class::Early | Class::Kept => early,
        } += 1;
        of.bytes += bytes;
        class
    }

    fn work(&self, key: RunKey, early: bool) -> Option<Work> {
        let scope = self.scope.get(&key.namespace)?;
        Some(Work { key, namespace: scope.name.clone(), retention: scope.retention, early })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_deleted_is_left_alone_and_what_is_deprecated_unless_it_is_named() {
        let policy = "{default: 30d, applies_to: ['a*'], namespaces: {a-named: {}, b-named: {}}}";
        let policy: RetentionPolicy = serde_saphyr::from_str(policy).unwrap();
        let row = |name: &str, is_deleted: bool, is_deprecated: bool| NamespaceRow {
            id: Uuid::from_u128(name.bytes().fold(0, |id, byte| id * 256 + u128::from(byte))),
            name: name.to_owned(),
            retention: Some(Duration::from_secs(86_400)),
            is_deleted,
            is_deprecated,
            archives: false,
        };
        let check = |row: NamespaceRow, expect: bool, note: &str| {
            let mut notes = Vec::new();
            assert_eq!(
                in_scope(std::slice::from_ref(&row), &policy, &mut notes).contains_key(&row.id),
                expect,
                "{row:?}"
            );
            assert!(notes.iter().all(|told| !note.is_empty() && told.contains(note)), "{notes:?}");
            assert_eq!(notes.is_empty(), note.is_empty(), "{row:?}");
        };
        check(row("a", false, false), true, "");
        check(row("b", false, false), false, "");
        check(row("a", true, false), false, "is being deleted");
        check(row("a", false, true), false, "is deprecated and left alone");
        check(row("a-named", false, true), true, "");
        check(row("b-named", false, true), true, "");
        check(row("a-named", true, false), false, "is being deleted");
        check(row("b", false, true), false, "");
        check(NamespaceRow { retention: None, ..row("a", false, false) }, false, "does not say its retention");
    }
}
