use proptest::prelude::*;
use uuid::Uuid;

use super::*;

pub(crate) fn namespace(name: &str, days: u64) -> Namespace {
    Namespace {
        id: Uuid::new_v4(),
        name: name.into(),
        state: NamespaceState::Registered,
        description: String::new(),
        owner: String::new(),
        retention: Span::days(days).into(),
        is_global: false,
        active_cluster: Some("active".into()),
        data: [].into(),
    }
}

fn policy(yaml: &str) -> RetentionPolicy {
    serde_saphyr::from_str(yaml).unwrap()
}

/// The changes and notes, one line each.
fn lines(plan: &RetentionPlan) -> Vec<String> {
    let plan = plan.plan();
    let change = |change: &Change| {
        let sign = if change.destructive { "!" } else { "" };
        let field = change.field.as_deref().unwrap_or("-");
        let from = change.from.as_deref().unwrap_or("-");
        let to = change.to.as_deref().unwrap_or("-");
        format!("{sign}{:?} {} {field}: {from} -> {to}", change.action, change.subject)
    };
    plan.changes.iter().map(change).chain(plan.notes.iter().map(|note| format!("note: {note}"))).collect()
}

fn check(observed: &[Namespace], yaml: &str, expect: &[&str]) {
    assert_eq!(lines(&decide(observed, &policy(yaml))), expect, "{yaml}");
}

#[test]
fn drifted_namespaces_are_brought_to_the_default_and_the_others_left() {
    let observed = [namespace("a", 3), namespace("b", 30), namespace("temporal-system", 7)];
    check(&observed, "default: 30d", &["Update namespace a retention: 3d -> 30d"]);
    check(&observed[1..], "default: 30d", &[]);
    check(&[], "default: 30d", &[]);
}

#[test]
fn a_shorter_retention_is_destructive_and_explained() {
    check(
        &[namespace("a", 90), namespace("b", 3)],
        "default: 30d",
        &[
            "!Update namespace a retention: 90d -> 30d",
            "Update namespace b retention: 3d -> 30d",
            "note: a shorter retention holds for runs that close from now on; runs already closed keep the deletion \
             time computed when they closed: a",
        ],
    );
}

#[test]
fn a_named_namespace_has_its_own_retention_and_texts() {
    let yaml = "namespaces: {a: {retention: 90d, owner: o@x.y, description: Text}, b: {retention: 7d}}";
    check(
        &[namespace("a", 3), namespace("b", 7)],
        yaml,
        &[
            "Update namespace a retention: 3d -> 90d",
            "Update namespace a owner: - -> o@x.y",
            "Update namespace a description: - -> Text",
        ],
    );
    let mut done = namespace("a", 90);
    (done.owner, done.description) = ("o@x.y".into(), "Text".into());
    check(&[done, namespace("b", 7)], yaml, &[]);
}

#[test]
fn texts_that_the_policy_does_not_name_stay() {
    let mut owned = namespace("a", 30);
    owned.owner = "somebody@x.y".into();
    check(&[owned], "namespaces: {a: {}}", &[]);
}

#[test]
fn scope_and_ignore_limit_the_default_but_not_the_names() {
    let observed = [namespace("prod-a", 3), namespace("prod-tmp", 3), namespace("test-a", 3), namespace("test-b", 3)];
    check(
        &observed,
        "{applies_to: [prod-*], ignore: [prod-tmp*], namespaces: {test-b: {retention: 5d}}}",
        &[
            "Update namespace prod-a retention: 3d -> 30d",
            "Update namespace test-b retention: 3d -> 5d",
            "note: 2 namespaces are not in the policy's scope",
        ],
    );
    check(&observed[..1], "applies_to: []", &["note: 1 namespace is not in the policy's scope"]);
}

#[test]
fn a_missing_namespace_is_registered_or_noted() {
    check(
        &[namespace("m", 3)],
        "namespaces: {a: {ensure: true}, z: {ensure: true, retention: 5d}, gone: {}}",
        &[
            "Create namespace a retention: - -> 30d",
            "Update namespace m retention: 3d -> 30d",
            "Create namespace z retention: - -> 5d",
            "note: namespace gone is in the policy but does not exist; set `ensure: true` to have it registered",
        ],
    );
}

#[test]
fn a_namespace_that_is_not_in_use_is_left_alone() {
    let mut old = namespace("old", 3);
    old.state = NamespaceState::Deprecated;
    check(&[old.clone()], "default: 30d", &["note: namespace old is deprecated and left alone"]);
    old.state = NamespaceState::Deleted;
    check(&[old], "namespaces: {old: {ensure: true}}", &["note: namespace old is being deleted and left alone"]);
}

#[test]
fn a_global_namespace_cannot_have_less_than_a_day() {
    let mut global = namespace("g", 3);
    global.is_global = true;
    let plan = decide(&[global.clone(), namespace("l", 3)], &policy("default: 12h"));
    assert!(matches!(&plan.steps[0], Step::Blocked(blocked) if blocked.why.contains("less than 1d")), "{plan:?}");
    assert!(!plan.steps[0].is_destructive());
    assert!(matches!(&plan.steps[1], Step::Update(_)), "{plan:?}");
    check(
        &[global],
        "default: 1d",
        &[
            "!Update namespace g retention: 3d -> 1d",
            "note: a shorter retention holds for runs that close from now on; runs already closed keep the deletion time \
         computed when they closed: g",
        ],
    );
}

#[test]
fn what_an_earlier_hand_left_in_fractions_is_still_a_difference() {
    let mut odd = namespace("a", 30);
    odd.retention += Duration::from_nanos(1);
    assert_eq!(decide(&[odd], &RetentionPolicy::default()).steps.len(), 1);
}

/// The namespaces as the server would have them after the plan.
fn applied(plan: &RetentionPlan, mut observed: Vec<Namespace>) -> Vec<Namespace> {
    for step in &plan.steps {
        match step {
            Step::Update(update) => {
                let namespace = observed.iter_mut().find(|one| one.id == update.observed.id).unwrap();
                let set = update.set.clone();
                namespace.retention = set.retention.unwrap_or(namespace.retention);
                namespace.owner = set.owner.unwrap_or(std::mem::take(&mut namespace.owner));
                namespace.description = set.description.unwrap_or(std::mem::take(&mut namespace.description));
            }
            Step::Register(registration) => {
                let new = registration.new.clone();
                let mut namespace = namespace(&new.name, 0);
                namespace.retention = new.retention;
                namespace.owner = new.owner.unwrap_or_default();
                namespace.description = new.description.unwrap_or_default();
                observed.push(namespace);
            }
            Step::Blocked(_) => {}
        }
    }
    observed
}

fn any_namespaces() -> impl Strategy<Value = Vec<Namespace>> {
    let one = (1u64..100, any::<bool>(), 0..4u8, "[ab]?", "[ab]?");
    let many = proptest::collection::btree_map("[a-d]{1,2}|temporal-system", one, 0..12);
    many.prop_map(|many| {
        let build = |(name, (days, is_global, state, owner, description)): (String, _)| {
            let states = [NamespaceState::Registered, NamespaceState::Deprecated, NamespaceState::Deleted];
            let state: u8 = state;
            let state = states.get(usize::from(state)).copied().unwrap_or(NamespaceState::Registered);
            Namespace { is_global, state, owner, description, ..namespace(&name, days) }
        };
        many.into_iter().map(build).collect()
    })
}

fn any_policy() -> impl Strategy<Value = RetentionPolicy> {
    let one = (proptest::option::of(1u64..2000), proptest::option::of("[ab]"), any::<bool>());
    let named = proptest::collection::btree_map("[a-d]{1,2}", one, 0..6);
    (1u64..2000, "[a-d]?\\*", proptest::option::of("[a-d]\\*"), named).prop_map(|(hours, scope, ignore, named)| {
        let hours_of = |hours| Retention::try_from(Span::hours(hours)).unwrap();
        let text = |text: String| Text::try_from(text).unwrap();
        RetentionPolicy {
            default: hours_of(hours),
            applies_to: vec![scope.try_into().unwrap()],
            ignore: ignore.into_iter().map(|pattern| pattern.try_into().unwrap()).collect(),
            namespaces: named
                .into_iter()
                .map(|(name, (retention, owner, ensure))| {
                    let retention = retention.map(hours_of);
                    let wanted = NamespacePolicy { retention, owner: owner.map(text), description: None, ensure };
                    (name.try_into().unwrap(), wanted)
                })
                .collect(),
            ..RetentionPolicy::default()
        }
    })
}

proptest! {
    #[test]
    fn a_plan_that_was_applied_leaves_nothing_to_do(observed in any_namespaces(), policy in any_policy()) {
        let plan = decide(&observed, &policy);
        let blocked: Vec<_> = plan.steps.iter().filter(|step| matches!(step, Step::Blocked(_))).cloned().collect();
        let again = decide(&applied(&plan, observed), &policy);
        prop_assert_eq!(again.steps, blocked);
    }

    #[test]
    fn the_systems_namespace_and_what_is_not_in_use_are_in_no_step(
        observed in any_namespaces(),
        policy in any_policy(),
    ) {
        for step in decide(&observed, &policy).steps {
            prop_assert_ne!(step.namespace(), SYSTEM_NAMESPACE);
            if let Step::Update(update) = step {
                prop_assert_eq!(update.observed.state, NamespaceState::Registered);
                prop_assert!(!update.set.is_empty());
            }
        }
    }
}
