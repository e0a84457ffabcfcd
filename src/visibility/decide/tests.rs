use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::clients::search::{Engine, Health, Product, RolloverAnswer, StoredPolicy, Template, Version};
use crate::policy::visibility::{Delete, DriverChoice};
use crate::visibility::observe::Documents;
use crate::visibility::rollover::{DriverState, own_name};
use crate::visibility::sound::rolls_by_name;

const NAME: &str = "temporal_visibility_v1";

fn day(day: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap()
}

fn mapping(extra: &str) -> Value {
    let mut mapping = json!({"dynamic": "false", "properties": {"CloseTime": {"type": "date_nanos"}}});
    if !extra.is_empty() {
        mapping["properties"][extra] = json!({"type": "keyword"});
    }
    mapping
}

/// Index `number`, created on one day and rolled over on another; the write index is the one never rolled.
fn index(number: u32, created: i64, rolled: Option<i64>, open: u64) -> IndexState {
    IndexState {
        name: format!("{NAME}-{number:06}"),
        uuid: format!("uuid{number}"),
        write: rolled.is_none(),
        narrowed: false,
        created: day(created),
        rolled: rolled.map(day),
        closed: false,
        health: Some(Health::Green),
        documents: Some(Documents { count: 100, open, bytes: 1 << 20 }),
        policy: None,
        rollover_alias: None,
        stuck: None,
        shards: 1,
        blocks: vec![],
        unfiled: Vec::new(),
        mapping: mapping(""),
    }
}

fn carried() -> Template {
    Template { order: 10, index_patterns: vec![format!("{NAME}-0*")], settings: BTreeMap::new(), mappings: mapping("") }
}

/// On OpenSearch, with the template there and no rollover due.
fn alias(indices: Vec<IndexState>) -> AliasState {
    let to = format!("{NAME}-000099");
    let dry_run = RolloverAnswer { from: "w".into(), to, rolled: false, met: vec![] };
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
        driver: Some(DriverState {
            template: Some(carried()),
            lifecycle_running: true,
            dry_run: Some(dry_run),
            ..DriverState::default()
        }),
    }
}

fn run(alias: AliasState, policy: &VisibilityPolicy, today: i64) -> Result<VisibilityPlan, Refusal> {
    decide(&Observed::Alias(Box::new(alias)), policy, Some(Span::days(30)), day(today))
}

fn deleted(plan: &VisibilityPlan) -> Vec<&str> {
    let names = plan.steps.iter().filter_map(|step| match step {
        Step::DeleteIndex { index, .. } => Some(index.as_str()),
        _ => None,
    });
    names.collect()
}

#[test]
fn a_plain_index_is_left_alone_and_a_missing_one_refused() {
    let policy = VisibilityPolicy::default();
    let plan = decide(&Observed::Concrete, &policy, None, day(0)).unwrap();
    assert!(plan.plan().is_empty() && plan.notes[0].contains("adopted"), "{plan:?}");
    assert_eq!(decide(&Observed::Missing, &policy, None, day(0)), Err(Refusal::Missing(NAME.into())));
}

#[test]
fn unsound_aliases_are_refused() {
    let check = |change: &dyn Fn(&mut AliasState), expect: &dyn Fn(&Refusal) -> bool| {
        let mut state = alias(vec![index(1, 0, Some(30), 0), index(2, 30, None, 5)]);
        change(&mut state);
        let refusal = run(state, &VisibilityPolicy::default(), 31).unwrap_err();
        assert!(expect(&refusal), "{refusal:?}");
    };
    check(&|s| s.indices[0].closed = true, &|r| matches!(r, Refusal::Closed { .. }));
    check(&|s| s.indices[0].health = Some(Health::Red), &|r| matches!(r, Refusal::Red { .. }));
    check(&|s| s.indices[0].narrowed = true, &|r| matches!(r, Refusal::Narrowed { .. }));
    check(&|s| s.indices[1].write = false, &|r| matches!(r, Refusal::WriteIndices { write, .. } if write.is_empty()));
    check(&|s| s.indices[0].write = true, &|r| matches!(r, Refusal::WriteIndices { write, .. } if write.len() == 2));
    check(&|s| s.indices[1].name = "other-000002".into(), &|r| matches!(r, Refusal::Name { .. }));
    check(&|s| s.indices[0].policy = Some("their".into()), &|r| matches!(r, Refusal::ForeignPolicy { .. }));
    check(&|s| s.indices[1].policy = Some(own_name(NAME)), &|r| matches!(r, Refusal::TwoDrivers { .. }));
}

#[test]
fn policies_the_engine_or_the_namespaces_do_not_allow_are_refused() {
    let state = || alias(vec![index(2, 30, None, 5)]);
    let ilm = VisibilityPolicy { driver: DriverChoice::Ilm, ..Default::default() };
    assert!(matches!(run(state(), &ilm, 31), Err(Refusal::NoLifecycle { .. })));
    let engine = VisibilityPolicy { deletion: Deletion::Engine, ..Default::default() };
    assert!(matches!(run(state(), &engine, 31), Err(Refusal::NoEngineDeletion { .. })));
    let creation = Delete { after: Span::days(50), counted_from: CountedFrom::Creation };
    let short = VisibilityPolicy { delete: creation, ..Default::default() };
    let expect = Refusal::Retention { retention: Span::days(30), life: Span::days(20) };
    assert_eq!(run(state(), &short, 31), Err(expect));
}

#[test]
fn indices_go_when_their_age_says_so() {
    let rollover = VisibilityPolicy::default();
    let counted_from = CountedFrom::Creation;
    let creation = VisibilityPolicy { delete: Delete { after: Span::days(90), counted_from }, ..Default::default() };
    let check = |policy: &VisibilityPolicy, first: IndexState, today: i64, gone: bool| {
        let plan = run(alias(vec![first, index(2, 30, None, 5)]), policy, today).unwrap();
        assert_eq!((deleted(&plan).len(), plan.held_back.len()), (usize::from(gone), 0), "day {today}: {plan:?}");
    };
    check(&rollover, index(1, 0, Some(30), 0), 119, false);
    check(&rollover, index(1, 0, Some(30), 0), 120, true);
    // What is open in it is carried forward first.
    check(&rollover, index(1, 0, Some(30), 3), 120, true);
    check(&creation, index(1, 0, Some(30), 0), 89, false);
    check(&creation, index(1, 0, Some(30), 0), 90, true);
    // Rolled 20 days late: its last documents are kept 60 days all the same.
    check(&creation, index(1, 0, Some(50), 0), 109, false);
    check(&creation, index(1, 0, Some(50), 0), 110, true);
    // Rolled early, by size: creation decides.
    check(&creation, index(1, 0, Some(5), 0), 89, false);
}

#[test]
fn the_write_index_never_goes_however_old() {
    let plan = run(alias(vec![index(2, 0, None, 0)]), &VisibilityPolicy::default(), 1000).unwrap();
    assert_eq!(deleted(&plan), Vec::<&str>::new());
}

#[test]
fn deletions_are_bounded_and_the_oldest_go_first() {
    let mut indices: Vec<_> = (1..=14).map(|n| index(n, i64::from(n), Some(i64::from(n) + 1), 0)).collect();
    indices.push(index(15, 15, None, 0));
    let plan = run(alias(indices), &VisibilityPolicy::default(), 1000).unwrap();
    assert_eq!(deleted(&plan).len(), DELETIONS_PER_RUN);
    assert_eq!(deleted(&plan)[0], format!("{NAME}-000001"));
    assert_eq!(plan.held_back.len(), 4);
}

#[test]
fn nothing_is_deleted_while_retentions_are_unknown() {
    let observed = Observed::Alias(Box::new(alias(vec![index(1, 0, Some(30), 0), index(2, 30, None, 5)])));
    let plan = decide(&observed, &VisibilityPolicy::default(), None, day(500)).unwrap();
    assert_eq!(deleted(&plan), Vec::<&str>::new());
    assert_eq!(plan.held_back.len(), 1);
}

#[test]
fn the_daemon_rolls_when_the_engine_says_so_and_the_index_holds_something() {
    let check = |met: &[&str], count: u64, rolls: bool| {
        let mut state = alias(vec![index(1, 0, None, 0)]);
        let driver = state.driver.as_mut().unwrap();
        driver.dry_run.as_mut().unwrap().met = met.iter().map(|met| (*met).to_owned()).collect();
        state.indices[0].documents.as_mut().unwrap().count = count;
        let plan = run(state, &VisibilityPolicy::default(), 31).unwrap();
        assert_eq!(plan.steps.iter().any(|step| matches!(step, Step::Rollover { .. })), rolls, "{plan:?}");
    };
    check(&["[max_age: 30d]"], 100, true);
    check(&["[max_age: 30d]"], 0, false);
    check(&[], 100, false);
}

#[test]
fn a_new_search_attribute_goes_into_the_template_and_a_lost_one_into_the_write_index() {
    let mut state = alias(vec![index(1, 0, Some(30), 0), index(2, 30, None, 5)]);
    state.indices[1].mapping = mapping("Fresh");
    state.indices[0].mapping = mapping("Lost");
    let plan = run(state, &VisibilityPolicy::default(), 31).unwrap();
    let [Step::AddFields { properties, .. }, Step::PutTemplate { new_fields, .. }] = plan.steps.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["Lost"]);
    assert_eq!(new_fields, &["Fresh"]);
}

#[test]
fn ilm_is_set_up_once_and_then_left_alone() {
    let own = own_name(NAME);
    let mut state = alias(vec![index(1, 0, None, 0)]);
    state.has_lifecycle = true;
    state.driver.as_mut().unwrap().template = None;
    let plan = run(state.clone(), &VisibilityPolicy::default(), 1).unwrap();
    let [Step::PutLifecyclePolicy { policy, .. }, Step::PutTemplate { template, .. }, Step::AttachPolicy { .. }] =
        plan.steps.as_slice()
    else {
        panic!("{plan:?}");
    };
    assert_eq!(policy.pointer("/phases/delete"), None);
    let driver = state.driver.as_mut().unwrap();
    driver.template = Some(template.clone());
    driver.policy = Some(StoredPolicy { body: policy.clone(), version: 1, modified: None, guard: None });
    state.indices[0].policy = Some(own);
    state.indices[0].rollover_alias = Some(NAME.into());
    let again = run(state, &VisibilityPolicy::default(), 1).unwrap();
    assert!(again.plan().is_empty(), "{again:?}");
}

#[test]
fn names_that_roll_end_in_a_number_behind_the_alias() {
    let check = |index: &str, rolls: bool| assert_eq!(rolls_by_name("v1", index), rolls, "{index}");
    check("v1-000001", true);
    check("v1-1", true);
    check("v1-2026.11-000004", true);
    check("v1", false);
    check("v1-", false);
    check("v1x-000001", false);
    check("v1-000001-old", false);
}
