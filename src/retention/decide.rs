//! The decision: observed namespaces and a policy in, a plan out. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clients::temporal::{Namespace, NamespaceState, NamespaceUpdate, NewNamespace};
use crate::plan::{Action, Change, Plan};
use crate::policy::retention::{MIN_GLOBAL, NamespacePolicy, Retention, RetentionPolicy, SYSTEM_NAMESPACE, Text};
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

    /// True when it shortens a retention: histories are then deleted that would have been kept. The one question that
    /// a gate before [`super::apply`] has to ask.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        matches!(self, Self::Update(update) if update.shortens())
    }

    fn changes(&self) -> Vec<Change> {
        let subject = format!("namespace {}", self.namespace());
        match self {
            Self::Update(update) => update.changes(&subject),
            Self::Register(registration) => {
                let retention = show(registration.new.retention);
                vec![Change::new(Action::Create, subject, &registration.reason).field("retention", None, retention)]
            }
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
    fn shortens(&self) -> bool {
        self.set.retention.is_some_and(|retention| retention < self.observed.retention)
    }

    fn changes(&self, subject: &str) -> Vec<Change> {
        let change = |field: &str, from: Option<String>, to: String| {
            let reason = match field {
                "retention" => self.reason.clone(),
                _ => format!("{field} of {subject} in the policy"),
            };
            Change::new(Action::Update, subject, reason).field(field, from, to)
        };
        let text = |observed: &String| Some(observed.clone()).filter(|text| !text.is_empty());
        let retention = self.set.retention.map(|retention| {
            let change = change("retention", Some(show(self.observed.retention)), show(retention));
            if self.shortens() { change.destructive() } else { change }
        });
        let owner = self.set.owner.clone().map(|owner| change("owner", text(&self.observed.owner), owner));
        let description = self.set.description.clone();
        let description = description.map(|to| change("description", text(&self.observed.description), to));
        retention.into_iter().chain(owner).chain(description).collect()
    }
}

impl RetentionPlan {
    /// The common form: one change per field.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { changes: self.steps.iter().flat_map(Step::changes).collect(), notes: self.notes.clone() }
    }
}

/// Compares the namespaces with the policy.
#[must_use]
pub fn decide(observed: &[Namespace], policy: &RetentionPolicy) -> RetentionPlan {
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
        } else if namespace.state != NamespaceState::Registered {
            plan.notes.push(format!("namespace {} is {} and left alone", namespace.name, namespace.state));
        } else {
            let wanted = named.map_or(&default, |(_, wanted)| wanted);
            plan.steps.extend(compare(namespace, wanted, policy.default));
        }
    }
    missing(observed, policy, &mut plan);
    plan.steps.sort_by(|a, b| a.namespace().cmp(b.namespace()));
    if out_of_scope > 0 {
        plan.notes.push(format!("{} not in the policy's scope", count(out_of_scope)));
    }
    let shortened: Vec<&str> = plan.steps.iter().filter(|step| step.is_destructive()).map(Step::namespace).collect();
    if !shortened.is_empty() {
        plan.notes.push(format!(
            "a shorter retention holds for runs that close from now on; runs already closed keep the deletion time \
             computed when they closed: {}",
            shortened.join(", ")
        ));
    }
    plan
}

fn compare(namespace: &Namespace, wanted: &NamespacePolicy, default: Retention) -> Option<Step> {
    let (retention, reason) = match wanted.retention {
        Some(retention) => (retention.span(), format!("retention of namespace {} in the policy", namespace.name)),
        None => (default.span(), "default retention of the policy".to_owned()),
    };
    let differs = |text: Option<&Text>, observed: &str| {
        text.map(Text::as_str).filter(|wanted| *wanted != observed).map(str::to_owned)
    };
    let set = NamespaceUpdate {
        retention: Some(Duration::from(retention)).filter(|wanted| *wanted != namespace.retention),
        owner: differs(wanted.owner.as_ref(), &namespace.owner),
        description: differs(wanted.description.as_ref(), &namespace.description),
    };
    match set.retention {
        _ if set.is_empty() => None,
        Some(retention) if namespace.is_global && Span::from(retention) < MIN_GLOBAL => Some(Step::Blocked(Blocked {
            observed: namespace.clone(),
            retention,
            why: format!("{reason}, but Temporal refuses less than {MIN_GLOBAL} on a global namespace"),
        })),
        Some(_) => Some(Step::Update(Update { observed: namespace.clone(), set, reason })),
        None => {
            let reason = format!("namespace {} in the policy", namespace.name);
            Some(Step::Update(Update { observed: namespace.clone(), set, reason }))
        }
    }
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
