//! Makes the changes of a plan, each after a last look at its namespace.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::decide::{Registration, RetentionPlan, Step, Update};
use super::error::RetentionError;
use super::report::{Outcome, RetentionReport};
use crate::clients::temporal::{Namespace, NamespaceUpdate, Temporal, TemporalError};
use crate::context::Context;
use crate::failure::{Explain, chain};
use crate::progress::Unit;
use crate::units::Span;

/// Executes the plan, namespace by namespace. A failing namespace does not stop the others, a failing connection does.
///
/// A retention that is held back stays as it is; everything else of the plan is done, the other fields of its namespace
/// too.
///
/// # Errors
/// [`RetentionError::HeldBack`] when that was all that was left undone, else [`RetentionError::Namespaces`],
/// [`RetentionError::Stopped`] or [`RetentionError::Cancelled`], each with the report of what was done.
pub async fn apply(
    plan: &RetentionPlan,
    temporal: &Temporal,
    ctx: &Context,
) -> Result<RetentionReport, RetentionError> {
    let planned = plan.steps.len();
    ctx.progress.stage("namespaces", Some(planned as u64), Unit::Items);
    let mut report = RetentionReport::default();
    let mut hint = None;
    for step in &plan.steps {
        if ctx.is_cancelled() {
            return Err(RetentionError::Cancelled { report });
        }
        match patiently(step, temporal, ctx).await {
            Ok(Done { outcome, detail }) => {
                tracing::info!(namespace = step.namespace(), ?outcome, detail, "retention");
                report.add(step, outcome, detail);
            }
            Err(error) => {
                report.add(step, Outcome::Failed, Some(chain(&error)));
                hint = hint.or_else(|| error.hint());
                if error.is_connection() {
                    return Err(RetentionError::Stopped { report, planned, hint });
                }
            }
        }
        ctx.progress.advance(1);
    }
    if report.failed > 0 {
        Err(RetentionError::Namespaces { report, planned, hint })
    } else if let Some(hold) = plan.steps.iter().find_map(Step::held_back) {
        Err(RetentionError::HeldBack { report, hold })
    } else {
        Ok(report)
    }
}

/// How a step ended without an error of the server.
struct Done {
    outcome: Outcome,
    detail: Option<String>,
}

impl Done {
    fn plain(outcome: Outcome) -> Self {
        Self { outcome, detail: None }
    }

    fn because(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: Some(detail.into()) }
    }
}

/// One step, tried again while a rate limit is in the way: what the limit refused did not happen, and each try starts
/// with a new look.
async fn patiently(step: &Step, temporal: &Temporal, ctx: &Context) -> Result<Done, TemporalError> {
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(6)
        .with_jitter()
        .build();
    loop {
        let error = match once(step, temporal).await {
            Err(error @ TemporalError::Exhausted { .. }) => error,
            other => return other,
        };
        let Some(wait) = waits.next() else { return Err(error) };
        if ctx.cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Err(error);
        }
    }
}

async fn once(step: &Step, temporal: &Temporal) -> Result<Done, TemporalError> {
    match step {
        Step::Update(update) => set(update, temporal).await,
        Step::Register(registration) => register(registration, temporal).await,
        Step::Blocked(blocked) => Ok(Done::because(Outcome::Failed, blocked.why.clone())),
    }
}

async fn set(update: &Update, temporal: &Temporal) -> Result<Done, TemporalError> {
    let name = update.observed.name.as_str();
    let set = update.permitted();
    if set.is_empty() {
        return Ok(Done::plain(Outcome::HeldBack));
    }
    let fresh = match temporal.describe_namespace(name).await {
        Err(TemporalError::NamespaceNotFound { .. }) => {
            return Ok(Done::because(Outcome::Skipped, "it does not exist any more"));
        }
        other => other?,
    };
    match look(&update.observed, &set, &fresh) {
        Look::Met => Ok(Done::plain(Outcome::Unchanged)),
        Look::Changed(what) => Ok(Done::because(Outcome::Skipped, what)),
        Look::AsPlanned => {
            let after = temporal.update_namespace(name, &set).await?;
            if set.is_met_by(&after) {
                Ok(Done::plain(Outcome::Updated))
            } else {
                let kept = Span::from(after.retention);
                Ok(Done::because(Outcome::Failed, format!("Temporal took the update but has a retention of {kept}")))
            }
        }
    }
}

async fn register(registration: &Registration, temporal: &Temporal) -> Result<Done, TemporalError> {
    match temporal.register_namespace(&registration.new).await {
        Ok(()) => Ok(Done::plain(Outcome::Registered)),
        // Somebody was faster, or an earlier try got through without its answer. The next plan compares it.
        Err(TemporalError::NamespaceExists { .. }) => Ok(Done::because(Outcome::Unchanged, "it exists already")),
        Err(error) => Err(error),
    }
}

/// What the last look before a change shows.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    AsPlanned,
    Met,
    Changed(String),
}

fn look(planned: &Namespace, set: &NamespaceUpdate, fresh: &Namespace) -> Look {
    let another = |key: &&String| fresh.data.get(*key) != planned.data.get(*key);
    if fresh.id != planned.id {
        Look::Changed("another namespace has its name now".into())
    } else if fresh.state != planned.state {
        Look::Changed(format!("it is {} now", fresh.state))
    } else if set.is_met_by(fresh) {
        Look::Met
    } else if set.retention.is_some() && fresh.retention != planned.retention {
        Look::Changed(format!("its retention was changed to {} meanwhile", Span::from(fresh.retention)))
    } else if set.owner.is_some() && fresh.owner != planned.owner {
        Look::Changed("its owner was changed meanwhile".into())
    } else if set.description.is_some() && fresh.description != planned.description {
        Look::Changed("its description was changed meanwhile".into())
    } else if let Some(key) = set.data.keys().find(another) {
        Look::Changed(format!("its data.{key} was changed meanwhile"))
    } else if fresh.is_global != planned.is_global {
        Look::Changed("it was made a global namespace meanwhile".into())
    } else if fresh.is_global && fresh.active_cluster != planned.active_cluster {
        Look::Changed("it is active in another cluster now".into())
    } else {
        Look::AsPlanned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::temporal::NamespaceState;
    use crate::retention::decide::tests::namespace;

    #[test]
    fn only_a_namespace_that_is_still_as_planned_is_changed() {
        let planned = namespace("orders", 3);
        let set = NamespaceUpdate {
            retention: Some(Span::days(30).into()),
            data: [("tier".to_owned(), "gold".to_owned())].into(),
            ..Default::default()
        };
        let check = |change: fn(&mut Namespace), expect: &str| {
            let mut fresh = planned.clone();
            change(&mut fresh);
            match look(&planned, &set, &fresh) {
                Look::AsPlanned => assert_eq!("as planned", expect),
                Look::Met => assert_eq!("met", expect),
                Look::Changed(what) => assert_eq!(what, expect),
            }
        };
        check(|_| {}, "as planned");
        check(|fresh| fresh.owner = "somebody@else".into(), "as planned");
        let met = |fresh: &mut Namespace| {
            fresh.retention = Span::days(30).into();
            fresh.data.insert("tier".into(), "gold".into());
        };
        check(met, "met");
        check(|fresh| drop(fresh.data.insert("other".into(), "x".into())), "as planned");
        let tier = |fresh: &mut Namespace| drop(fresh.data.insert("tier".into(), "silver".into()));
        check(tier, "its data.tier was changed meanwhile");
        check(|fresh| fresh.retention = Span::days(7).into(), "its retention was changed to 7d meanwhile");
        check(|fresh| fresh.id = uuid::Uuid::new_v4(), "another namespace has its name now");
        check(|fresh| fresh.state = NamespaceState::Deprecated, "it is deprecated now");
        check(|fresh| fresh.is_global = true, "it was made a global namespace meanwhile");
    }

    #[test]
    fn a_namespace_that_moved_to_another_cluster_or_is_still_deprecated() {
        let (mut planned, mut fresh) = (namespace("orders", 3), namespace("orders", 3));
        let set = NamespaceUpdate { retention: Some(Span::days(30).into()), ..Default::default() };
        fresh.id = planned.id;
        for one in [&mut planned, &mut fresh] {
            (one.is_global, one.state) = (true, NamespaceState::Deprecated);
        }
        assert_eq!(look(&planned, &set, &fresh), Look::AsPlanned);
        fresh.active_cluster = Some("dc2".into());
        assert_eq!(look(&planned, &set, &fresh), Look::Changed("it is active in another cluster now".into()));
    }
}
