use jiff::Timestamp;

use super::*;
use crate::clients::search::{Engine, Health, Product, StoredPolicy, Version};
use crate::policy::visibility::{CountedFrom, Delete, Deletion, Rollover};
use crate::units::{Size, Span};
use crate::visibility::observe::Documents;

const NAME: &str = "temporal_visibility_v1";

fn policy(deletion: Deletion) -> VisibilityPolicy {
    VisibilityPolicy { deletion, ..Default::default() }
}

fn wanted(deletion: Deletion) -> Value {
    body(Phases::wanted(&policy(deletion)), NAME, "temporal_visibility_v1-0*")
}

/// As the plugin writes back what it was given: its notes, and the defaults of every action.
fn stored(mut body: Value) -> Value {
    let notes = json!({"policy_id": own_name(NAME), "last_updated_time": 1_577_990_934_044_u64, "schema_version": 18,
        "error_notification": null});
    for (key, value) in notes.as_object().unwrap() {
        body[key] = value.clone();
    }
    for state in body["states"].as_array_mut().unwrap() {
        for action in state["actions"].as_array_mut().unwrap() {
            action["retry"] = json!({"count": 3, "backoff": "exponential", "delay": "1m"});
            if action.get("rollover").is_some() {
                action["rollover"]["copy_alias"] = json!(false);
            }
        }
    }
    body["ism_template"][0]["last_updated_time"] = json!(1_577_990_934_044_u64);
    body
}

/// One line per difference; `!` marks a destructive one.
fn shown(found: &Value, wanted: &Value) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    let line = |change: FieldChange| {
        let mark = if change.destructive { "!" } else { "" };
        format!("{} {} -> {}{mark}", change.field, text(change.from), text(change.to))
    };
    drift(found, wanted).into_iter().map(line).collect()
}

#[test]
fn the_delete_state_counts_from_the_rollover() {
    let check = |deletion, counted_from, age: Option<&str>| {
        let delete = Delete { after: Span::days(90), counted_from };
        let policy = VisibilityPolicy { deletion, delete, ..Default::default() };
        let body = body(Phases::wanted(&policy), NAME, "x");
        let path = "/states/0/transitions/0/conditions/min_rollover_age";
        assert_eq!(body.pointer(path).and_then(Value::as_str), age, "{body}");
        assert_eq!(body.pointer("/states/1/actions/0/delete").is_some(), age.is_some(), "{body}");
    };
    check(Deletion::Gated, CountedFrom::Rollover, None);
    check(Deletion::Engine, CountedFrom::Rollover, Some("90d"));
    check(Deletion::Engine, CountedFrom::Creation, Some("60d"));
}

#[test]
fn a_policy_reads_back_as_it_was_said() {
    let rollover = Rollover { max_age: Span::days(30), max_size: Some(Size::bytes(50 << 30)), max_docs: Some(7) };
    let policy = VisibilityPolicy { rollover, deletion: Deletion::Engine, ..Default::default() };
    let body = body(Phases::wanted(&policy), NAME, "x");
    let conditions = json!({"min_index_age": "30d", "min_size": "50gb", "min_doc_count": 7});
    assert_eq!(body.pointer("/states/0/actions/0/rollover"), Some(&conditions));
    assert_eq!(shown(&stored(body.clone()), &body), Vec::<String>::new());
    let mut single = stored(body.clone());
    single["ism_template"] = single["ism_template"][0].take();
    assert_eq!(shown(&single, &body), Vec::<String>::new(), "the documentation has a single template too");
}

#[test]
fn every_difference_is_named_and_a_deletion_is_destructive() {
    let check = |change: &dyn Fn(&mut Value), deletion, expect: &[&str]| {
        let mut found = stored(wanted(Deletion::Engine));
        change(&mut found);
        assert_eq!(shown(&found, &wanted(deletion)), expect, "{found}");
    };
    check(
        &|found| {
            found["states"][0]["actions"][0]["rollover"]["min_index_age"] = json!("960h");
            found["states"][0]["actions"][0]["retry"]["count"] = json!(5);
            found["states"][0]["transitions"][0]["conditions"]["min_rollover_age"] = json!("120d");
        },
        Deletion::Engine,
        &[
            "hot.rollover.min_index_age 40d -> 30d",
            "hot.rollover.retry.count 5 -> none",
            "hot.to delete.min_rollover_age 120d -> 90d!",
        ],
    );
    check(
        &|found| {
            found["states"][0]["transitions"] = json!([{"state_name": "warm", "conditions": {"min_index_age": "7d"}}]);
            let warm = json!({"name": "warm", "actions": [{"read_only": {}}, {"read_only": {}}], "transitions": []});
            found["states"][1] = warm;
        },
        Deletion::Engine,
        &[
            "delete.delete none -> set!",
            "hot.to delete.min_rollover_age none -> 90d!",
            "hot.to warm.min_index_age 7d -> none",
            "warm.read_only set -> none",
            "warm.read_only again set -> none",
        ],
    );
    check(&|_| (), Deletion::Gated, &["delete.delete set -> none", "hot.to delete.min_rollover_age 90d -> none"]);
    check(
        &|found| found["states"] = json!({}),
        Deletion::Gated,
        &["hot.rollover.min_index_age none -> 30d", "states set -> none"],
    );
    check(
        &|found| {
            found["default_state"] = json!("delete");
            found["ism_template"][0]["index_patterns"] = json!(["*"]);
        },
        Deletion::Engine,
        &["default_state delete -> hot", "ism_template.index_patterns * -> temporal_visibility_v1-0*"],
    );
}

fn index(number: u32, write: bool) -> IndexState {
    IndexState {
        name: format!("{NAME}-{number:06}"),
        uuid: format!("uuid{number}"),
        write,
        narrowed: false,
        created: Timestamp::UNIX_EPOCH,
        rolled: (!write).then_some(Timestamp::UNIX_EPOCH),
        closed: false,
        health: Some(Health::Green),
        documents: Some(Documents { count: 1, open: 0, bytes: 1 }),
        policy: Some(own_name(NAME)),
        rollover_alias: Some(NAME.into()),
        stuck: None,
        shards: 1,
        blocks: vec![],
        unfiled: Vec::new(),
        mapping: json!({"properties": {}}),
    }
}

fn followed(applied: &Value) -> ManagedIndex {
    let applied = Some(stored(applied.clone()));
    ManagedIndex { policy: own_name(NAME), applied, enabled: true, completed: false, failure: None }
}

/// An old index and the write index, both following `applied`, which is what the policy says too.
fn state(applied: &Value) -> AliasState {
    let indices = vec![index(1, false), index(2, true)];
    let settings = [(ROLLOVER_ALIAS, NAME.to_owned())];
    let driver = DriverState {
        template: Some(own_template(NAME, &indices[1].name, &settings, &indices[1].mapping)),
        policy: Some(StoredPolicy { body: stored(applied.clone()), version: 1, modified: None, guard: None }),
        managed: Some(indices.iter().map(|index| (index.name.clone(), followed(applied))).collect()),
        ..DriverState::default()
    };
    AliasState {
        name: NAME.into(),
        engine: Engine {
            product: Product::OpenSearch,
            version: Version { major: 3, minor: 6 },
            number: "3.6.0".into(),
            cluster: "c".into(),
        },
        has_lifecycle: false,
        indices,
        driver: Some(driver),
    }
}

fn decided(state: &AliasState, deletion: Deletion) -> (Vec<Step>, Vec<String>) {
    Ism.decide(state, state.write_index().unwrap(), &policy(deletion)).unwrap()
}

/// `index restart` of every change-over.
fn changed(steps: &[Step]) -> Vec<(&str, bool)> {
    let changes = steps.iter().filter_map(|step| match step {
        Step::ChangePolicy { index, restart, .. } => Some((&index[NAME.len() + 1..], *restart)),
        _ => None,
    });
    changes.collect()
}

#[test]
fn it_is_set_up_once_and_then_left_alone() {
    let gated = wanted(Deletion::Gated);
    assert_eq!(decided(&state(&gated), Deletion::Gated), (vec![], vec![]));
    let mut fresh = state(&gated);
    fresh.driver = Some(DriverState { managed: Some([].into()), ..DriverState::default() });
    let (steps, _) = decided(&fresh, Deletion::Gated);
    let [Step::PutLifecyclePolicy { deletes: false, .. }, Step::PutTemplate { .. }, Step::AttachPolicy { index, .. }] =
        steps.as_slice()
    else {
        panic!("{steps:?}");
    };
    assert_eq!(*index, fresh.indices[1].name, "an old index is none of ISM's business");
    // Where ISM deletes, it has to know the old one too.
    let (steps, _) = decided(&fresh, Deletion::Engine);
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::AttachPolicy { deletes: true, .. })).count(), 2);
}

#[test]
fn without_the_plugin_it_is_refused() {
    let mut bare = state(&wanted(Deletion::Gated));
    bare.driver = Some(DriverState::default());
    let refusal = Ism.decide(&bare, bare.write_index().unwrap(), &policy(Deletion::Gated)).unwrap_err();
    assert!(matches!(refusal, Refusal::NoStateManagement { .. }), "{refusal:?}");
}

#[test]
fn indices_that_follow_an_older_version_are_changed_over() {
    let (gated, engine) = (wanted(Deletion::Gated), wanted(Deletion::Engine));
    // A deletion that is taken back has to be taken back on every index.
    let (steps, _) = decided(&state(&engine), Deletion::Gated);
    assert_eq!(changed(&steps), [("000001", false), ("000002", false)]);
    // One that is through takes the new policy only when it is put back, which it need not be unless ISM deletes.
    let mut through = state(&gated);
    let managed = through.driver.as_mut().unwrap().managed.as_mut().unwrap();
    managed.get_mut(&format!("{NAME}-000001")).unwrap().completed = true;
    let (steps, _) = decided(&through, Deletion::Engine);
    assert_eq!(changed(&steps), [("000001", true), ("000002", false)]);
    let longer = Rollover { max_age: Span::days(40), ..Rollover::default() };
    let policy = VisibilityPolicy { rollover: longer, ..Default::default() };
    let (steps, _) = Ism.decide(&through, &through.indices[1], &policy).unwrap();
    assert_eq!(changed(&steps), [("000002", false)]);
    // So does one that ISM has given up on.
    let mut failed = state(&engine);
    let managed = failed.driver.as_mut().unwrap().managed.as_mut().unwrap();
    managed.get_mut(&format!("{NAME}-000001")).unwrap().failure = Some("rollover: x".into());
    let (steps, _) = decided(&failed, Deletion::Gated);
    assert_eq!(changed(&steps), [("000001", true), ("000002", false)]);
}

#[test]
fn what_stands_still_is_noted() {
    let mut still = state(&wanted(Deletion::Gated));
    still.indices[1].stuck = Some("rollover: Missing rollover_alias".into());
    let managed = still.driver.as_mut().unwrap().managed.as_mut().unwrap();
    managed.values_mut().for_each(|managed| managed.enabled = false);
    let (steps, notes) = decided(&still, Deletion::Gated);
    assert_eq!(steps, []);
    assert!(notes[0].contains("does not work on index temporal_visibility_v1-000001"), "{notes:?}");
    assert!(notes[1].contains("stuck on index temporal_visibility_v1-000002 at rollover: Missing"), "{notes:?}");
}
