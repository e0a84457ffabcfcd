use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::clients::search::{Engine, IndexDescription, Product, Version};
use crate::policy::visibility::{CountedFrom, Delete, IndexName};
use crate::visibility::adopt::Numbered;
use crate::visibility::adopt::marks::tag;

const NAME: &str = "temporal_visibility_v1";

fn live() -> Live {
    let version = Version { major: 3, minor: 6 };
    Live {
        name: NAME.into(),
        engine: Engine { product: Product::OpenSearch, version, number: "3.6.0".into(), cluster: "c".into() },
        index: IndexDescription {
            aliases: BTreeSet::new(),
            settings: BTreeMap::from([("index.number_of_shards".to_owned(), json!("1"))]),
            mapping: json!({"properties": {"CloseTime": {"type": "date_nanos"}}}),
        },
        uuid: "uuid".into(),
        write: WriteBlock::Off,
        closed: false,
        health: Some(Health::Green),
        policy: None,
        docs: 100,
        bytes: 1 << 30,
        all_bytes: 2 << 30,
        numbered: BTreeMap::new(),
        template: None,
        cluster: BTreeMap::from([(AUTO_CREATE.to_owned(), "false".to_owned())]),
        disks: vec![NodeDisk { node: "n".into(), total: 100 << 30, available: 50 << 30 }],
        missing_privileges: None,
    }
}

fn around() -> Surroundings {
    Surroundings { longest_retention: Some(Span::days(30)), cleanup: Cleanup::NotSeen { looked: 3 } }
}

fn wanted() -> Wanted {
    Wanted { method: Method::Auto, deadline: Span::seconds(60) }
}

fn run(live: Live) -> Result<AdoptPlan, AdoptRefusal> {
    decide(&World::Concrete(Box::new(live)), &VisibilityPolicy::default(), wanted(), &around())
}

fn marked(live: &mut Live) -> String {
    let mark = Mark::Adopts { deadline: Timestamp::from_second(1_800_000_000).unwrap(), id: "a".into() }.alias(NAME);
    live.index.aliases.insert(mark.clone());
    mark
}

fn block(live: &mut Live, what: &str) {
    live.index.settings.insert(format!("index.blocks.{what}"), Value::from("true"));
    if what == "write" {
        live.write = WriteBlock::On;
    }
}

fn part(live: &mut Live, number: u64, part: Part) -> String {
    let name = numbered(NAME, number);
    live.numbered.insert(name.clone(), Numbered { part, writes: Some(0) });
    name
}

/// Every world of the table in the module's documentation that has a plan: what is undone first, and what is gone on
/// with.
#[test]
fn each_world_has_its_plan() {
    let check = |change: &dyn Fn(&mut Live), method, blocked: bool, marks: usize, removed: &[u64], resumes: bool| {
        let mut live = live();
        change(&mut live);
        let wanted = Wanted { method, ..wanted() };
        let world = World::Concrete(Box::new(live));
        let plan = decide(&world, &VisibilityPolicy::default(), wanted, &around()).unwrap();
        let adoption = plan.adoption.unwrap();
        let removed: Vec<String> = removed.iter().map(|number| numbered(NAME, *number)).collect();
        assert_eq!((adoption.leftovers.blocked, adoption.leftovers.marks.len()), (blocked, marks));
        assert_eq!((adoption.leftovers.indices, adoption.resumes), (removed, resumes));
        assert_eq!((adoption.read, adoption.write), (numbered(NAME, 1), numbered(NAME, 2)));
    };
    let next = |live: &mut Live| drop(part(live, 2, Part::Next));
    let clone = |live: &mut Live| drop(part(live, 1, Part::Clone));
    let copy = |live: &mut Live| drop(part(live, 1, Part::Copy));
    let mark = |live: &mut Live| drop(marked(live));
    let blocked = |live: &mut Live| {
        marked(live);
        block(live, "write");
    };
    let both = |a: &dyn Fn(&mut Live), b: &dyn Fn(&mut Live), live: &mut Live| {
        a(live);
        b(live);
    };
    let auto = Method::Auto;
    check(&|_| {}, auto, false, 0, &[], false);
    check(&next, auto, false, 0, &[2], false);
    check(&|live| both(&next, &clone, live), auto, false, 0, &[1, 2], false);
    check(&mark, auto, false, 1, &[], false);
    check(&|live| both(&blocked, &next, live), auto, true, 1, &[2], false);
    check(&|live| both(&blocked, &|live| both(&next, &clone, live), live), auto, true, 1, &[1, 2], false);
    // A copy is gone on with by a copy, and of no use to a clone.
    check(&|live| both(&copy, &next, live), Method::Copy, false, 0, &[2], true);
    check(&|live| both(&blocked, &copy, live), Method::Copy, true, 1, &[], true);
    check(&copy, auto, false, 0, &[1], false);
    check(&clone, Method::Copy, false, 0, &[1], false);
}

#[test]
fn an_alias_is_adopted_and_nothing_is_refused() {
    let alias = World::Alias { members: vec![numbered(NAME, 1)] };
    let plan = decide(&alias, &VisibilityPolicy::default(), wanted(), &around()).unwrap();
    assert!(plan.plan().is_empty() && plan.notes[0].contains("alias already"), "{plan:?}");
    let missing = decide(&World::Missing, &VisibilityPolicy::default(), wanted(), &around());
    assert_eq!(missing, Err(AdoptRefusal::Missing(NAME.into())));
}

#[test]
fn unsound_indices_are_refused() {
    let check = |change: &dyn Fn(&mut Live), expect: &dyn Fn(&AdoptRefusal) -> bool| {
        let mut live = live();
        change(&mut live);
        let refusal = run(live).unwrap_err();
        assert!(expect(&refusal), "{refusal:?}");
        assert!(!refusal.hint().is_empty());
    };
    check(&|live| live.closed = true, &|r| matches!(r, AdoptRefusal::Closed(_)));
    check(&|live| live.health = Some(Health::Yellow), &|r| r.to_string().contains("is yellow, not green"));
    check(&|live| live.health = None, &|r| r.to_string().contains("unknown health"));
    check(&|live| block(live, "read_only_allow_delete"), &|r| matches!(r, AdoptRefusal::FloodStage(_)));
    check(&|live| block(live, "write"), &|r| matches!(r, AdoptRefusal::WriteBlocked { begun: false, .. }));
    // In force, though the setting does not say so.
    let begun = |live: &mut Live| live.write = WriteBlock::Begun;
    check(&begun, &|r| r.hint().contains("_block/write"));
    for other in ["read_only", "metadata", "read"] {
        check(&|live| block(live, other), &|r| matches!(r, AdoptRefusal::Blocked { block, .. } if block == other));
    }
    check(&|live| live.index.aliases.extend(["mine".to_owned()]), &|r| matches!(r, AdoptRefusal::Aliased { .. }));
    let rolled = |live: &mut Live| {
        live.name = format!("{NAME}-000001");
        live.index.aliases.extend([NAME.to_owned()]);
    };
    check(&rolled, &|r| r.hint().contains(&format!("write `index: {NAME}`")));
    check(&|live| live.policy = Some("p".into()), &|r| matches!(r, AdoptRefusal::Managed { .. }));
    check(&|live| drop(part(live, 3, Part::Foreign)), &|r| matches!(r, AdoptRefusal::Taken { .. }));
    let written = |live: &mut Live| {
        let name = part(live, 2, Part::Next);
        live.numbered.insert(name, Numbered { part: Part::Next, writes: Some(1) });
    };
    let silent = |live: &mut Live| {
        let name = part(live, 2, Part::Next);
        live.numbered.insert(name, Numbered { part: Part::Next, writes: None });
    };
    check(&silent, &|r| matches!(r, AdoptRefusal::Silent { .. }));
    check(&written, &|r| matches!(r, AdoptRefusal::NotEmpty { writes: 1, .. }));
    let missing = |live: &mut Live| live.missing_privileges = Some(vec!["`manage` on the index".into()]);
    check(&missing, &|r| r.to_string().ends_with("lacks `manage` on the index"));
    check(&|live| live.all_bytes = 90 << 30, &|r| matches!(r, AdoptRefusal::Disk { .. }));
}

#[test]
fn what_would_go_wrong_afterwards_is_refused() {
    let check = |policy: &VisibilityPolicy, wanted, around: &Surroundings, expect: &dyn Fn(&AdoptRefusal) -> bool| {
        let refusal = decide(&World::Concrete(Box::new(live())), policy, wanted, around).unwrap_err();
        assert!(expect(&refusal), "{refusal:?}");
    };
    let policy = VisibilityPolicy::default();
    let long = Surroundings { longest_retention: Some(Span::days(91)), ..around() };
    check(&policy, wanted(), &long, &|r| matches!(r, AdoptRefusal::Retention { .. }));
    let creation = Delete { after: Span::days(50), counted_from: CountedFrom::Creation };
    let short = VisibilityPolicy { delete: creation, ..VisibilityPolicy::default() };
    check(&short, wanted(), &around(), &|r| matches!(r, AdoptRefusal::Retention { .. }));
    let seen = Surroundings { cleanup: Cleanup::Seen { workflow: "w".into() }, ..around() };
    check(&policy, wanted(), &seen, &|r| r.to_string().contains("`w`"));
    for deadline in [Span::seconds(4), Span::minutes(31)] {
        let wanted = Wanted { deadline, ..wanted() };
        check(&policy, wanted, &around(), &|r| matches!(r, AdoptRefusal::Deadline(_)));
    }
}

#[test]
fn a_name_of_200_bytes_is_adopted_and_a_longer_one_refused() {
    let named = |length: usize| {
        let name = "x".repeat(length);
        let policy =
            VisibilityPolicy { index: IndexName::try_from(name.clone()).unwrap(), ..VisibilityPolicy::default() };
        decide(&World::Concrete(Box::new(Live { name, ..live() })), &policy, wanted(), &around())
    };
    assert!(named(200).is_ok());
    assert!(matches!(named(201), Err(AdoptRefusal::TooLong(_))));
}

#[test]
fn an_engine_without_clones_copies() {
    let old = || {
        let mut live = live();
        live.engine.product = Product::Elasticsearch;
        live.engine.version = Version { major: 6, minor: 8 };
        // A copy writes documents; a clone does not.
        live.missing_privileges = Some(vec![]);
        live
    };
    assert_eq!(run(old()).unwrap().adoption.unwrap().way, Way::Copy);
    let wanted = Wanted { method: Method::Clone, ..wanted() };
    let refused = decide(&World::Concrete(Box::new(old())), &VisibilityPolicy::default(), wanted, &around());
    assert!(matches!(refused, Err(AdoptRefusal::NoClone(_))));
    let mut unwritable = old();
    unwritable.missing_privileges = Some(vec!["`write` on the index".into()]);
    assert!(matches!(run(unwritable.clone()), Err(AdoptRefusal::Privileges { .. })));
    unwritable.engine.version = Version { major: 8, minor: 1 };
    assert_eq!(run(unwritable).unwrap().adoption.unwrap().way, Way::Clone);
}

#[test]
fn an_index_of_the_family_is_ours_only_by_its_marks() {
    use crate::visibility::adopt::observe::part;
    let check = |aliases: &[String], source: Option<&str>, expect: Part| {
        let settings = source.map(|uuid| ("index.resize.source.uuid".to_owned(), json!(uuid))).into_iter().collect();
        let aliases: BTreeSet<String> = aliases.iter().cloned().collect();
        let index = IndexDescription { aliases: aliases.clone(), settings, mapping: Value::Null };
        assert_eq!(part(NAME, "uuid", &index), expect, "{aliases:?} {source:?}");
    };
    let clone = |uuid: &str| Mark::Clone { of: tag(uuid) }.alias(NAME);
    check(&[], Some("uuid"), Part::Foreign);
    check(&[clone("uuid")], Some("uuid"), Part::Clone);
    check(&[clone("uuid")], None, Part::Foreign);
    check(&[clone("uuid")], Some("other"), Part::Foreign);
    check(&[clone("other")], Some("uuid"), Part::Foreign);
    check(&[clone("uuid"), "theirs".into()], Some("uuid"), Part::Foreign);
    check(&[Mark::Copy { of: tag("uuid") }.alias(NAME)], None, Part::Copy);
    check(&[Mark::Copy { of: tag("other") }.alias(NAME)], None, Part::Foreign);
    check(&[Mark::Next { id: "x".into() }.alias(NAME)], None, Part::Next);
    check(&[Mark::Next { id: "x".into() }.alias(NAME), NAME.into()], None, Part::Foreign);
}

#[test]
fn the_disk_a_watermark_keeps_free_is_counted_out() {
    let check = |watermark: &str, expect: u64| assert_eq!(reserve(watermark, 1_000_000), expect, "{watermark}");
    check("85%", 150_000);
    check("0.85", 150_000);
    check("100%", 0);
    check("10kb", 10 << 10);
    check("nonsense", 0);
    check("-3", 0);

    let fits = |low: &str, threshold: &str, all_bytes: u64| {
        let mut live = live();
        live.cluster.insert(LOW_WATERMARK.into(), low.into());
        live.cluster.insert(DISK_THRESHOLD.into(), threshold.into());
        live.all_bytes = all_bytes;
        run(live).is_ok()
    };
    // 100 GB, of them 50 free, of those 15 kept; a clone needs what the replicas take.
    assert!(fits("85%", "true", 36 << 30));
    assert!(!fits("85%", "true", 37 << 30));
    assert!(fits("85%", "false", 51 << 30));
    assert!(!fits("85%", "false", 52 << 30));
}

#[test]
fn auto_creation_is_decided_by_the_first_pattern_that_matches() {
    let check = |setting: Option<&str>, expect: bool| assert_eq!(creates(setting, NAME), expect, "{setting:?}");
    check(None, true);
    check(Some("true"), true);
    check(Some("false"), false);
    check(Some("-temporal_visibility_v1,+*"), false);
    check(Some("-temporal*,*"), false);
    check(Some("+*,-temporal*"), true);
    check(Some("logs-*"), false);
    check(Some("-*_visibility_*1,+*"), false);
    check(Some("-*_visibility_*2,+*"), true);
    check(Some("[\"-temporal_visibility_v1*\",\"*\"]"), false);
}

#[test]
fn warnings_stand_in_the_plan_and_not_in_its_digest() {
    let mut open = live();
    open.cluster.remove(AUTO_CREATE);
    let (quiet, warned) = (run(live()).unwrap(), run(open).unwrap());
    assert_eq!(quiet.plan().digest(), warned.plan().digest());
    assert_eq!(warned.notes.len(), quiet.notes.len() + 1);
    assert!(quiet.notes.iter().any(|note| note.contains("manageSchema")), "{quiet:?}");
    let swap = quiet.plan().changes.pop().unwrap();
    assert!(swap.destructive && swap.subject == format!("swap {NAME}"), "{swap:?}");
}
