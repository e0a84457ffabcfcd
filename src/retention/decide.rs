//! The decision: observed namespaces and a policy in, a plan out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::shortening::{Consent, Deletable, Hold, Shortening};
use crate::clients::temporal::{Namespace, NamespaceState, NamespaceUpdate, NewNamespace};
use crate::plan::{Action, Change, Plan};
use crate::policy::retention::{
    MIN_GLOBAL, NamePattern, NamespacePolicy, OverdueAction, RetentionPolicy, SYSTEM_NAMESPACE, Text,
};
use crate::units::Span;

/// What to do so that the namespaces are as the policy wants them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPlan {
    /// By name of the namespace, one step each.
    pub steps: Vec<Step>,
    /// What the reader should know although nothing is done about it.
    pub notes: Vec<String>,
}

/// What is to be done about one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It differs.
    Update(Update),
    /// It does not exist and should.
    Register(Registration),
    /// It differs, and Temporal would refuse what the policy wants. Applying fails on it without asking the server.
    Blocked(Blocked),
}

/// A namespace that differs from the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// As it was when the plan was made. The change is made only if it still is so.
    pub observed: Namespace,
    /// The fields that differ, with the wanted values.
    pub set: NamespaceUpdate,
    /// The part of the policy that asks for it.
    pub reason: String,
    /// Set when the retention becomes shorter.
    pub shortening: Option<Shortening>,
}

/// A namespace that does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What to register.
    pub new: NewNamespace,
    /// The part of the policy that asks for it.
    pub reason: String,
}

/// A namespace for which the policy asks the impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// As observed.
    pub observed: Namespace,
    /// The retention the policy asks for.
    pub retention: Duration,
    /// Why it cannot be had, and what to change.
    pub why: String,
}

impl Step {
    /// The namespace it is about.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Update(update) => &update.observed.name,
            Self::Register(registration) => &registration.new.name,
            Self::Blocked(blocked) => &blocked.observed.name,
        }
    }

    /// True when it shortens a retention: histories are then deleted that would have been kept.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        matches!(self, Self::Update(update) if update.shortening.is_some())
    }

    /// Why the retention is not made shorter by this step, when it is not.
    #[must_use]
    pub fn held_back(&self) -> Option<Hold> {
        match self {
            Self::Update(update) => update.shortening.as_ref()?.held_back,
            Self::Register(_) | Self::Blocked(_) => None,
        }
    }

    fn changes(&self) -> Vec<Change> {
        let subject = format!("namespace {}", self.namespace());
        match self {
            Self::Update(update) => update.changes(&subject),
            Self::Register(registration) => registration.changes(&subject),
            Self::Blocked(blocked) => {
                let from = Some(show(blocked.observed.retention));
                vec![Change::new(Action::Update, subject, &blocked.why).field(
                    "retention",
                    from,
                    show(blocked.retention),
                )]
            }
        }
    }
}

impl Update {
    /// The fields that are set now: all of them, or all but a retention that is held back.
    #[must_use]
    pub fn permitted(&self) -> NamespaceUpdate {
        let held_back = self.shortening.as_ref().is_some_and(|shortening| shortening.held_back.is_some());
        let retention = self.set.retention.filter(|_| !held_back);
        NamespaceUpdate { retention, ..self.set.clone() }
    }

    fn changes(&self, subject: &str) -> Vec<Change> {
        let change = |field: &str, from: Option<String>, to: String| {
            let reason = match (field, &self.shortening) {
                ("retention", Some(shortening)) => format!("{}; {}", self.reason, shortening.explain()),
                ("retention", None) => self.reason.clone(),
                _ => format!("{field} of {subject} in the policy"),
            };
            Change::new(Action::Update, subject, reason).field(field, from, to)
        };
        let text = |observed: &String| Some(observed.clone()).filter(|text| !text.is_empty());
        let retention = self.set.retention.map(|retention| {
            let change = change("retention", Some(show(self.observed.retention)), show(retention));
            if self.shortening.is_some() { change.destructive() } else { change }
        });
        let owner = self.set.owner.clone().map(|owner| change("owner", text(&self.observed.owner), owner));
        let description = self.set.description.clone();
        let description = description.map(|to| change("description", text(&self.observed.description), to));
        let data = self.set.data.iter().map(|(key, to)| {
            let from = self.observed.data.get(key).cloned();
            change(&format!("data.{key}"), from, to.clone())
        });
        retention.into_iter().chain(owner).chain(description).chain(data).collect()
    }
}

impl Registration {
    fn changes(&self, subject: &str) -> Vec<Change> {
        let new = &self.new;
        let change = |field: &str, to: &str| Change::new(Action::Create, subject, &self.reason).field(field, None, to);
        let mut changes = vec![change("retention", &show(new.retention))];
        changes.extend(new.owner.iter().map(|owner| change("owner", owner)));
        changes.extend(new.description.iter().map(|description| change("description", description)));
        changes.extend(new.data.iter().map(|(key, to)| change(&format!("data.{key}"), to)));
        changes
    }
}

impl RetentionPlan {
    /// The common form: one change per field.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { changes: self.steps.iter().flat_map(Step::changes).collect(), notes: self.notes.clone() }
    }

    /// The namespaces whose retention becomes shorter, by identity, with the new one.
    pub(super) fn shortened(&self) -> BTreeMap<Uuid, Span> {
        let shortened = self.steps.iter().filter_map(|step| match step {
            Step::Update(update) if step.is_destructive() => Some((update.observed.id, update.set.retention?.into())),
            _ => None,
        });
        shortened.collect()
    }

    /// Decides of each shortening whether it is applied, now that it is known what it makes deletable.
    pub(super) fn weigh(&mut self, found: &BTreeMap<Uuid, Deletable>, consent: Consent) {
        for step in &mut self.steps {
            if let Step::Update(Update { observed, shortening: Some(shortening), .. }) = step
                && let Some(deletable) = found.get(&observed.id)
            {
                shortening.weigh(deletable.clone(), consent);
            }
        }
    }
}

/// Compares the namespaces with the policy. `cluster` is the name of the cluster they were read from; without it global
/// namespaces are left alone. What shortens a retention is held back until [`RetentionPlan::weigh`].
#[must_use]
pub fn decide(observed: &[Namespace], cluster: Option<&str>, policy: &RetentionPolicy) -> RetentionPlan {
    let mut plan = RetentionPlan::default();
    let mut out_of_scope = 0_usize;
    let default = NamespacePolicy::default();
    for namespace in observed {
        if namespace.name == SYSTEM_NAMESPACE {
            continue;
        }
        let named = policy.namespaces.iter().find(|(name, _)| name.as_str() == namespace.name);
        if named.is_none() && !policy.covers(&namespace.name) {
            out_of_scope += 1;
        } else if let Some(why) = left_alone(namespace, named.is_some(), cluster) {
            plan.notes.push(format!("namespace {} {why}", namespace.name));
        } else {
            let wanted = named.map_or(&default, |(_, wanted)| wanted);
            plan.steps.extend(compare(namespace, wanted, policy));
        }
    }
    missing(observed, policy, &mut plan);
    plan.notes.extend(without_match(observed, policy));
    plan.steps.sort_by(|a, b| a.namespace().cmp(b.namespace()));
    if out_of_scope > 0 {
        plan.notes.push(format!("{} not in the policy's scope", count(out_of_scope)));
    }
    let shortened: Vec<&str> = plan.steps.iter().filter(|step| step.is_destructive()).map(Step::namespace).collect();
    if !shortened.is_empty() {
        plan.notes.push(format!("{}: {}", closed_already(policy.overdue.action), shortened.join(", ")));
    }
    plan
}

/// What becomes of the runs that had closed when their retention was made shorter.
fn closed_already(action: OverdueAction) -> &'static str {
    match action {
        OverdueAction::Refresh | OverdueAction::Delete => {
            "a shorter retention by itself holds for runs that close from then on; those that have closed already go \
             with the next runs of the job `overdue`"
        }
        OverdueAction::Report | OverdueAction::Ignore => {
            "a shorter retention holds for runs that close from then on; those that have closed already keep the \
             deletion time computed when they closed, for `overdue.action` is neither `refresh` nor `delete`"
        }
    }
}

/// Why a namespace in scope is not changed, when it is not.
fn left_alone(namespace: &Namespace, is_named: bool, cluster: Option<&str>) -> Option<String> {
    match namespace.state {
        NamespaceState::Registered => {}
        NamespaceState::Deprecated if is_named => {}
        NamespaceState::Deprecated => {
            return Some("is deprecated and left alone; name it under `namespaces` to have it changed".into());
        }
        state @ (NamespaceState::Deleted | NamespaceState::Unknown) => {
            return Some(format!("is {state} and left alone"));
        }
    }
    // A change made elsewhere than in the active cluster is not replicated, or is overwritten by it.
    match (namespace.active_cluster.as_deref(), cluster) {
        _ if !namespace.is_global => None,
        (Some(active), Some(own)) if active == own => None,
        (Some(active), Some(own)) => {
            Some(format!("is global and left alone: it is active in cluster {active}, and this is cluster {own}"))
        }
        (Some(active), None) => Some(format!(
            "is global and left alone: it is active in cluster {active}, and this cluster does not say its name"
        )),
        (None, _) => Some("is global and left alone: the server does not say in which cluster it is active".into()),
    }
}

fn compare(namespace: &Namespace, wanted: &NamespacePolicy, policy: &RetentionPolicy) -> Option<Step> {
    let (retention, reason) = match wanted.retention {
        Some(retention) => (retention.span(), format!("retention of namespace {} in the policy", namespace.name)),
        None => (policy.default.span(), "default retention of the policy".to_owned()),
    };
    let differs = |text: Option<&Text>, observed: &str| {
        text.map(Text::as_str).filter(|wanted| *wanted != observed).map(str::to_owned)
    };
    let set = NamespaceUpdate {
        retention: Some(Duration::from(retention)).filter(|wanted| *wanted != namespace.retention),
        owner: differs(wanted.owner.as_ref(), &namespace.owner),
        description: differs(wanted.description.as_ref(), &namespace.description),
        data: own_data(wanted).filter(|(key, value)| namespace.data.get(key) != Some(value)).collect(),
    };
    let allowed = wanted.allow_shortening.unwrap_or(policy.allow_shortening);
    let is_shorter = set.retention.is_some_and(|retention| retention < namespace.retention);
    let shortening = is_shorter.then(|| Shortening::new(allowed));
    match set.retention {
        _ if set.is_empty() => None,
        Some(retention) if namespace.is_global && Span::from(retention) < MIN_GLOBAL => Some(Step::Blocked(Blocked {
            observed: namespace.clone(),
            retention,
            why: format!("{reason}, but Temporal refuses less than {MIN_GLOBAL} on a global namespace"),
        })),
        Some(_) => Some(Step::Update(Update { observed: namespace.clone(), set, reason, shortening })),
        None => {
            let reason = format!("namespace {} in the policy", namespace.name);
            Some(Step::Update(Update { observed: namespace.clone(), set, reason, shortening }))
        }
    }
}

fn own_data(wanted: &NamespacePolicy) -> impl Iterator<Item = (String, String)> {
    wanted.data.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone()))
}

/// What the policy is for and the server does not have, in sentences: patterns that match nothing, and names of which
/// nobody makes a namespace.
#[must_use]
pub fn without_namespace(observed: &[Namespace], policy: &RetentionPolicy) -> Vec<String> {
    let is_there = |name: &str| observed.iter().any(|namespace| namespace.name == name);
    let named = policy.namespaces.iter().filter(|(name, wanted)| !wanted.ensure && !is_there(name.as_str()));
    let named = named.map(|(name, _)| format!("there is no namespace `{name}`, which `namespaces` names"));
    without_match(observed, policy).chain(named).collect()
}

/// The patterns of `applies_to` that match no namespace. `*` is for whatever comes, and no slip of the pen.
fn without_match(observed: &[Namespace], policy: &RetentionPolicy) -> impl Iterator<Item = String> {
    let matches = |pattern: &NamePattern| {
        let ours = observed.iter().map(|namespace| namespace.name.as_str()).filter(|name| *name != SYSTEM_NAMESPACE);
        pattern.as_str() == "*" || ours.into_iter().any(|name| pattern.matches(name))
    };
    policy
        .applies_to
        .iter()
        .filter(move |pattern| !matches(pattern))
        .map(|pattern| format!("`{pattern}` matches no namespace"))
}

/// The namespaces that the policy names and the server does not have.
fn missing(observed: &[Namespace], policy: &RetentionPolicy, plan: &mut RetentionPlan) {
    let existing: BTreeSet<&str> = observed.iter().map(|namespace| namespace.name.as_str()).collect();
    for (name, wanted) in policy.namespaces.iter().filter(|(name, _)| !existing.contains(name.as_str())) {
        if !wanted.ensure {
            plan.notes.push(format!(
                "namespace {name} is in the policy but does not exist; set `ensure: true` to have it registered"
            ));
            continue;
        }
        let own = |text: &Option<Text>| text.as_ref().map(|text| text.as_str().to_owned());
        let new = NewNamespace {
            name: name.as_str().to_owned(),
            retention: wanted.retention.unwrap_or(policy.default).span().into(),
            owner: own(&wanted.owner),
            description: own(&wanted.description),
            data: own_data(wanted).collect(),
        };
        let reason = format!("`ensure: true` of namespace {name} in the policy");
        plan.steps.push(Step::Register(Registration { new, reason }));
    }
}

fn show(retention: Duration) -> String {
    Span::from(retention).to_string()
}

fn count(namespaces: usize) -> String {
    if namespaces == 1 { "1 namespace is".to_owned() } else { format!("{namespaces} namespaces are") }
}

#[cfg(test)]
pub(crate) mod tests;
