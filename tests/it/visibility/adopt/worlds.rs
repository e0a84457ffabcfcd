//! What an adoption that died may have left, made by hand: each is finished or undone, and nothing else is touched.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sexton::visibility::adopt::Mark;

use super::{Documents, Ground};
use crate::support::search::Engine;

/// What there is of an unfinished adoption.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// The write block.
    block: bool,
    /// The mark, with its deadline in so many seconds.
    mark: Option<i64>,
    /// The clone or copy.
    first: bool,
    /// The next index.
    next: bool,
}

fn tag(ground: &Ground) -> String {
    let name = ground.name();
    let settings = ground.scratch.engine.ok("GET", &format!("/{name}/_settings?flat_settings=true"), None);
    let uuid = settings[&name]["settings"]["index.uuid"].as_str().unwrap().to_owned();
    blake3::hash(uuid.as_bytes()).to_hex().chars().take(12).collect()
}

fn leave(ground: &Ground, left: Left, copy: bool) {
    let (engine, name) = (&ground.scratch.engine, ground.name());
    let (first, next) = (ground.scratch.index(1), ground.scratch.index(2));
    let block = |on: Value| {
        engine.ok("PUT", &format!("/{name}/_settings"), Some(json!({"index.blocks.write": on})));
    };
    if left.next {
        let mark = Mark::Next { id: "dead".into() }.alias(&name);
        ground.scratch.create(&next, json!({"aliases": {mark: {}}}));
        // Where it copies, the engine has no `must_exist`.
        if copy {
            let mark = Mark::Key { id: "dead".into() }.alias(&name);
            ground.scratch.create(&format!("{name}-sexton-key-dead"), json!({"aliases": {mark: {}}}));
        }
    }
    if left.first && copy {
        let mark = Mark::Copy { of: tag(ground) }.alias(&name);
        ground.scratch.create(&first, json!({"aliases": {mark: {}}}));
        // Begun, and with a document that the live index has lost since.
        ground.write(&first, 0..3);
        ground.write(&first, 500..501);
    } else if left.first {
        block(json!(true));
        let mark = Mark::Clone { of: tag(ground) }.alias(&name);
        let body = json!({"settings": {"index.blocks.write": null}, "aliases": {mark: {}}});
        engine.ok("POST", &format!("/{name}/_clone/{first}"), Some(body));
        block(Value::Null);
    }
    if let Some(seconds) = left.mark {
        let deadline = Timestamp::now() + SignedDuration::from_secs(seconds);
        let mark = Mark::Adopts { deadline, id: "dead".into() }.alias(&name);
        engine.ok("POST", "/_aliases", Some(json!({"actions": [{"add": {"index": &name, "alias": mark}}]})));
    }
    if left.block {
        block(json!(true));
    }
}

/// Adopts from each world. The bystander's name is one that a careless pattern would take along.
fn finished(engine: fn() -> Engine, args: &[&str], copy: bool) {
    let marks = [None, Some(-5), Some(3)];
    let worlds = marks.into_iter().flat_map(|mark| {
        [false, true].map(|block| (mark, block && mark.is_some())).into_iter().flat_map(|(mark, block)| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(first, next)| Left {
                block,
                mark,
                first,
                next,
            })
        })
    });
    let mut seen = Vec::new();
    for left in worlds {
        if seen.contains(&format!("{left:?}")) {
            continue;
        }
        seen.push(format!("{left:?}"));
        let ground = Ground::new(engine(), 20);
        let before: Documents = ground.documents(&ground.name());
        let bystander = format!("{}-000001-old", ground.name());
        ground.scratch.create(&bystander, json!({}));
        ground.write(&bystander, 0..4);
        leave(&ground, left, copy);
        let said = ground.adopt(args);
        assert_eq!(said.code, 0, "{left:?}: {said:?}");
        ground.is_adopted(&before);
        assert_eq!(ground.scratch.count(&bystander), 4, "{left:?}");
    }
    println!("{} worlds", seen.len());
}

#[test]
fn an_adoption_by_clone_is_finished_from_every_world() {
    finished(Engine::opensearch, &[], false);
}

#[test]
fn an_adoption_by_copy_is_finished_from_every_world() {
    finished(Engine::elasticsearch6, &[], true);
}

#[test]
fn a_copy_that_was_begun_is_of_no_use_to_a_clone() {
    let ground = Ground::new(Engine::opensearch(), 20);
    let before = ground.documents(&ground.name());
    leave(&ground, Left { first: true, next: true, ..Left::default() }, true);
    ground.adopt(&["--method", "clone"]).expect(0);
    ground.is_adopted(&before);
}

#[test]
fn a_next_index_that_somebody_wrote_to_is_not_removed() {
    let ground = Ground::new(Engine::opensearch(), 5);
    let before = ground.documents(&ground.name());
    leave(&ground, Left { next: true, ..Left::default() }, false);
    let next = ground.scratch.index(2);
    ground.write(&next, 7..8);
    let said = ground.adopt(&[]).expect(1);
    assert!(said.err.contains("has been written to since (1 writes)"), "{}", said.err);
    assert_eq!(ground.scratch.count(&next), 1);
    assert_eq!(ground.documents(&ground.name()), before);
}

/// The mark of an adoption of another index that had the name before: nothing of this one.
#[test]
fn what_was_made_of_another_index_of_the_name_is_not_removed() {
    let ground = Ground::new(Engine::opensearch(), 5);
    let first = ground.scratch.index(1);
    let mark = Mark::Copy { of: "0123456789ab".into() }.alias(&ground.name());
    ground.scratch.create(&first, json!({"aliases": {mark: {}}}));
    ground.write(&first, 0..2);
    let said = ground.adopt(&[]).expect(1);
    assert!(said.err.contains(&format!("there is an index `{first}` already")), "{}", said.err);
    assert_eq!(ground.scratch.count(&first), 2);
}
