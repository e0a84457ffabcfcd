use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::policy::retention::Retention;
use crate::retention::Expired;

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
    assert_eq!(lines(&decide(observed, Some("active"), &policy(yaml))), expect, "{yaml}");
}

#[test]
fn drifted_namespaces_are_brought_to_the_default_and_the_others_left() {
    let observed = [namespace("a", 3), namespace("b", 30), namespace("temporal-system", 7)];
    check(&observed, "default: 30d", &["Update namespace a retention: 3d -> 30d"]);
    check(&observed[1..], "default: 30d", &[]);
    check(&[], "default: 30d", &[]);
}

#[test]
fn a_shorter_retention_is_destructive_and_says_what_becomes_of_the_runs_closed_already() {
    let closed_already = [
        (
            "refresh",
            "by itself holds for runs that close from then on; those that have closed already go with the next \
                     runs of the job `overdue`",
        ),
        (
            "delete",
            "by itself holds for runs that close from then on; those that have closed already go with the next \
                    runs of the job `overdue`",
        ),
        (
            "report",
            "holds for runs that close from then on; those that have closed already keep the deletion time \
                    computed when they closed, for `overdue.action` is neither `refresh` nor `delete`",
        ),
        (
            "ignore",
            "holds for runs that close from then on; those that have closed already keep the deletion time \
                    computed when they closed, for `overdue.action` is neither `refresh` nor `delete`",
        ),
    ];
    for (action, said) in closed_already {
        check(
            &[namespace("a", 90), namespace("b", 3)],
            &format!("{{default: 30d, overdue: {{action: {action}}}}}"),
            &[
                "!Update namespace a retention: 90d -> 30d",
                "Update namespace b retention: 3d -> 30d",
                &format!("note: a shorter retention {said}: a"),
            ],
        );
    }
}

/// The plan, weighed with the same finding for every namespace.
fn weighed(observed: &[Namespace], yaml: &str, deletable: &Deletable, consent: Consent) -> RetentionPlan {
    let mut plan = decide(observed, None, &policy(yaml));
    let found = plan.shortened().into_keys().map(|id| (id, deletable.clone())).collect();
    plan.weigh(&found, consent);
    plan
}

#[test]
fn what_shortens_is_held_back_until_the_policy_or_a_person_agrees() {
    let observed = [namespace("a", 90), namespace("b", 90), namespace("c", 3)];
    let known = Deletable::Known(Expired { runs: 1200, history_bytes: 3 << 20 });
    let unknown = Deletable::Unknown("PostgreSQL is away".into());
    let check = |yaml: &str, deletable: &Deletable, consent, expect: [Option<Hold>; 3]| {
        let plan = weighed(&observed, yaml, deletable, consent);
        let held: Vec<_> = plan.steps.iter().map(Step::held_back).collect();
        assert_eq!(held, expect, "{yaml} {deletable:?} {consent:?}");
    };
    let (no, unsure) = (Some(Hold::NoConsent), Some(Hold::NotCounted));
    check("{}", &known, Consent::Policy, [no, no, None]);
    check("{}", &known, Consent::Given, [None; 3]);
    check("{}", &unknown, Consent::Given, [None; 3]);
    check("allow_shortening: true", &known, Consent::Policy, [None; 3]);
    check("allow_shortening: true", &unknown, Consent::Policy, [unsure, unsure, None]);
    check("namespaces: {a: {allow_shortening: true}}", &known, Consent::Policy, [None, no, None]);
    let one_not = "{allow_shortening: true, namespaces: {b: {allow_shortening: false}}}";
    check(one_not, &known, Consent::Policy, [None, no, None]);
    // A plan that nobody weighed lets nothing through.
    let plan = decide(&observed, None, &policy("allow_shortening: true"));
    assert_eq!(plan.steps.iter().map(Step::held_back).collect::<Vec<_>>(), [no, no, None]);
}

#[test]
fn the_reason_says_how_much_becomes_deletable_and_whether_it_is_held_back() {
    let reason = |deletable: Deletable, consent| {
        let plan = weighed(&[namespace("a", 90)], "{}", &deletable, consent).plan();
        plan.changes[0].reason.clone()
    };
    let known = |runs| Deletable::Known(Expired { runs, history_bytes: runs * 1024 });
    assert_eq!(
        reason(known(2048), Consent::Policy),
        "default retention of the policy; makes 2048 closed runs with 2.0 MiB of history deletable; held back: needs \
         `--yes` or `allow_shortening: true`"
    );
    assert_eq!(
        reason(known(1), Consent::Given),
        "default retention of the policy; makes 1 closed run with 1.0 KiB of history deletable"
    );
    assert_eq!(reason(known(0), Consent::Given), "default retention of the policy; makes no closed run deletable");
    assert_eq!(
        reason(Deletable::Unknown("PostgreSQL is away".into()), Consent::Given),
        "default retention of the policy; how many closed runs it makes deletable is not known: PostgreSQL is away"
    );
}

#[test]
fn the_other_fields_of_a_namespace_do_not_wait_for_its_retention() {
    let plan = weighed(
        &[namespace("a", 90)],
        "namespaces: {a: {owner: o@x.y, data: {k: v}}}",
        &Deletable::Known(Expired::default()),
        Consent::Policy,
    );
    let Step::Update(update) = &plan.steps[0] else { panic!("{plan:?}") };
    let permitted = update.permitted();
    assert_eq!((permitted.retention, permitted.owner.as_deref()), (None, Some("o@x.y")));
    assert_eq!(permitted.data, [("k".to_owned(), "v".to_owned())].into());
}

#[test]
fn data_is_set_key_by_key_and_the_other_keys_stay() {
    let mut known = namespace("a", 30);
    known.data = [("team", "red"), ("tier", "gold"), ("other", "x")].map(|(k, v)| (k.into(), v.into())).into();
    let yaml =
        "namespaces: {a: {data: {team: blue, tier: gold, cost: '42'}}, b: {ensure: true, owner: o@x.y, data: {k: v}}}";
    check(
        &[known.clone()],
        yaml,
        &[
            "Update namespace a data.cost: - -> 42",
            "Update namespace a data.team: red -> blue",
            "Create namespace b retention: - -> 30d",
            "Create namespace b owner: - -> o@x.y",
            "Create namespace b data.k: - -> v",
        ],
    );
    known.data.extend([("team".to_owned(), "blue".to_owned()), ("cost".to_owned(), "42".to_owned())]);
    check(&[known], "namespaces: {a: {data: {team: blue, tier: gold, cost: '42'}}}", &[]);
}

#[test]
fn a_global_namespace_is_changed_only_in_its_active_cluster() {
    let decided = |active: Option<&str>, cluster: Option<&str>| {
        let global = Namespace { is_global: true, active_cluster: active.map(str::to_owned), ..namespace("g", 3) };
        lines(&decide(&[global], cluster, &policy("default: 30d")))
    };
    assert_eq!(decided(Some("dc1"), Some("dc1")), ["Update namespace g retention: 3d -> 30d"]);
    assert_eq!(
        decided(Some("dc2"), Some("dc1")),
        ["note: namespace g is global and left alone: it is active in cluster dc2, and this is cluster dc1"]
    );
    assert_eq!(
        decided(None, Some("dc1")),
        ["note: namespace g is global and left alone: the server does not say in which cluster it is active"]
    );
    assert_eq!(
        decided(Some("dc2"), None),
        ["note: namespace g is global and left alone: it is active in cluster dc2, and this cluster does not say its \
          name"]
    );
    // A local one has a name of a cluster too, which says nothing.
    assert_eq!(decide(&[namespace("l", 3)], Some("dc1"), &policy("{}")).steps.len(), 1);
    // Less than a day is no failure where it is not this cluster's to change.
    let global = Namespace { is_global: true, active_cluster: Some("dc2".into()), ..namespace("g", 3) };
    assert_eq!(decide(&[global], Some("dc1"), &policy("default: 12h")).steps, []);
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
fn what_the_policy_is_for_and_nobody_has_is_said() {
    let observed = [namespace("orders", 30), namespace("temporal-system", 7)];
    let yaml = "{applies_to: [orders, 'fersh-*', 'temporal-*'], namespaces: {gone: {}, new: {ensure: true}}}";
    let expect = ["`fersh-*` matches no namespace", "`temporal-*` matches no namespace"];
    let plan = decide(&observed, None, &policy(yaml));
    assert!(expect.iter().all(|note| plan.notes.contains(&(*note).to_owned())), "{:?}", plan.notes);
    let named = "there is no namespace `gone`, which `namespaces` names";
    assert_eq!(without_namespace(&observed, &policy(yaml)), [expect[0], expect[1], named]);
    // What comes later is what `*` is for.
    assert!(decide(&observed[1..], None, &policy("{}")).notes.is_empty());
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
    let alone = "note: namespace old is deprecated and left alone; name it under `namespaces` to have it changed";
    check(&[old.clone()], "default: 30d", &[alone]);
    check(&[old.clone()], "namespaces: {old: {}}", &["Update namespace old retention: 3d -> 30d"]);
    old.state = NamespaceState::Deleted;
    check(&[old], "namespaces: {old: {ensure: true}}", &["note: namespace old is being deleted and left alone"]);
}

#[test]
fn a_global_namespace_cannot_have_less_than_a_day() {
    let mut global = namespace("g", 3);
    global.is_global = true;
    let plan = decide(&[global.clone(), namespace("l", 3)], Some("active"), &policy("default: 12h"));
    assert!(matches!(&plan.steps[0], Step::Blocked(blocked) if blocked.why.contains("less than 1d")), "{plan:?}");
    assert!(!plan.steps[0].is_destructive());
    assert!(matches!(&plan.steps[1], Step::Update(_)), "{plan:?}");
    check(
        &[global],
        "default: 1d",
        &[
            "!Update namespace g retention: 3d -> 1d",
            "note: a shorter retention by itself holds for runs that close from then on; those that have closed already \
             go with the next runs of the job `overdue`: g",
        ],
    );
}

#[test]
fn what_an_earlier_hand_left_in_fractions_is_still_a_difference() {
    let mut odd = namespace("a", 30);
    odd.retention += Duration::from_nanos(1);
    assert_eq!(decide(&[odd], None, &RetentionPolicy::default()).steps.len(), 1);
}

/// The namespaces as the server would have them after the plan.
fn applied(plan: &RetentionPlan, mut observed: Vec<Namespace>) -> Vec<Namespace> {
    let merge = |data: &mut BTreeMap<String, String>, set: BTreeMap<String, String>| data.extend(set);
    for step in &plan.steps {
        match step {
            Step::Update(update) => {
                let namespace = observed.iter_mut().find(|one| one.id == update.observed.id).unwrap();
                let set = update.permitted();
                namespace.retention = set.retention.unwrap_or(namespace.retention);
                namespace.owner = set.owner.unwrap_or(std::mem::take(&mut namespace.owner));
                namespace.description = set.description.unwrap_or(std::mem::take(&mut namespace.description));
                merge(&mut namespace.data, set.data);
            }
            Step::Register(registration) => {
                let new = registration.new.clone();
                let mut namespace = namespace(&new.name, 0);
                namespace.retention = new.retention;
                namespace.owner = new.owner.unwrap_or_default();
                namespace.description = new.description.unwrap_or_default();
                namespace.data = new.data;
                observed.push(namespace);
            }
            Step::Blocked(_) => {}
        }
    }
    observed
}

fn any_namespaces() -> impl Strategy<Value = Vec<Namespace>> {
    let data = proptest::collection::btree_map("[kl]", "[ab]?", 0..3);
    let one = (1u64..100, any::<bool>(), 0..4u8, "[ab]?", "[ab]?", data, "active|dc2");
    let many = proptest::collection::btree_map("[a-d]{1,2}|temporal-system", one, 0..12);
    many.prop_map(|many| {
        let build = |(name, (days, is_global, state, owner, description, data, active)): (String, _)| {
            let states = [NamespaceState::Registered, NamespaceState::Deprecated, NamespaceState::Deleted];
            let state: u8 = state;
            let state = states.get(usize::from(state)).copied().unwrap_or(NamespaceState::Registered);
            let active_cluster = Some(active);
            Namespace { is_global, state, owner, description, data, active_cluster, ..namespace(&name, days) }
        };
        many.into_iter().map(build).collect()
    })
}

fn any_policy() -> impl Strategy<Value = RetentionPolicy> {
    let data = proptest::collection::btree_map("[kl]", "[ab]?", 0..3);
    let one = (proptest::option::of(1u64..2000), proptest::option::of("[ab]"), any::<bool>(), data);
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
                .map(|(name, (retention, owner, ensure, data))| {
                    let retention = retention.map(hours_of);
                    let data = data.into_iter().map(|(key, value)| (key.try_into().unwrap(), value)).collect();
                    let owner = owner.map(text);
                    let wanted = NamespacePolicy { retention, owner, data, ensure, ..NamespacePolicy::default() };
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
        let mut plan = decide(&observed, Some("active"), &policy);
        let found = plan.shortened().into_keys().map(|id| (id, Deletable::Unknown(String::new()))).collect();
        plan.weigh(&found, Consent::Given);
        let blocked: Vec<_> = plan.steps.iter().filter(|step| matches!(step, Step::Blocked(_))).cloned().collect();
        let again = decide(&applied(&plan, observed), Some("active"), &policy);
        prop_assert_eq!(again.steps, blocked);
    }

    #[test]
    fn without_consent_no_retention_gets_shorter_and_only_those_are_left(
        observed in any_namespaces(),
        policy in any_policy(),
    ) {
        let mut plan = decide(&observed, Some("active"), &policy);
        let found = plan.shortened().into_keys().map(|id| (id, Deletable::Known(Expired::default()))).collect();
        plan.weigh(&found, Consent::Policy);
        let after = applied(&plan, observed.clone());
        for before in &observed {
            let after = after.iter().find(|one| one.id == before.id).unwrap();
            prop_assert!(after.retention >= before.retention);
        }
        for step in decide(&after, Some("active"), &policy).steps {
            prop_assert!(step.is_destructive() || matches!(step, Step::Blocked(_)));
        }
    }

    #[test]
    fn the_systems_namespace_and_what_is_not_in_use_are_in_no_step(
        observed in any_namespaces(),
        policy in any_policy(),
    ) {
        for step in decide(&observed, Some("active"), &policy).steps {
            prop_assert_ne!(step.namespace(), SYSTEM_NAMESPACE);
            if let Step::Update(update) = step {
                let named = policy.namespaces.keys().any(|name| name.as_str() == update.observed.name);
                let state = update.observed.state;
                prop_assert!(state == NamespaceState::Registered || named && state == NamespaceState::Deprecated);
                prop_assert!(!update.observed.is_global || update.observed.active_cluster.as_deref() == Some("active"));
                prop_assert!(!update.set.is_empty());
            }
        }
    }
}
