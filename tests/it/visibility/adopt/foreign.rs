//! What is somebody else's stays as it is: indices of similar names, blocks, and what cannot be seen to be empty.

use std::time::Duration;

use serde_json::{Value, json};
use sexton::clients::search::SearchError;
use sexton::units::Span;
use sexton::visibility::adopt::{self, AdoptError, Mark, Undoing, Undone, Which};

use super::Ground;
use super::block::{mark, takes_writes};
use super::guard::{Blocked, with_interference};
use crate::support::search::Engine;
use crate::support::site::eventually;

/// Names that a careless pattern would take along, each with documents and a write block of its own.
fn neighbours(ground: &Ground) -> Vec<String> {
    let name = ground.name();
    let names = ["-sexton-key-0a1b2c3d", "-000001-old", "-old", "_other", "_other-000001", "x-000002"];
    let names: Vec<String> = names.iter().map(|end| format!("{name}{end}")).collect();
    for (place, index) in names.iter().enumerate() {
        ground.scratch.create(index, json!({"aliases": {format!("{name}_theirs_{place}"): {}}}));
        ground.write(index, 0..3);
        ground.scratch.engine.ok("PUT", &format!("/{index}/_settings"), Some(json!({"index.blocks.write": true})));
    }
    names
}

/// All that there is of them, by the engine's word.
fn seen(ground: &Ground, names: &[String]) -> Value {
    let engine = &ground.scratch.engine;
    let state = engine.ok("GET", "/_cluster/state/blocks", None);
    let of = |name: &String| {
        json!([
            engine.ok("GET", &format!("/{name}?flat_settings=true"), None),
            engine.ok("GET", &format!("/{name}/_search?version=true&sort=WorkflowId"), None)["hits"]["hits"],
            state["blocks"]["indices"][name],
        ])
    };
    names.iter().map(of).collect()
}

#[test]
fn indices_of_similar_names_and_their_blocks_stay() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let names = neighbours(&ground);
    let before = seen(&ground, &names);
    assert!(before.to_string().contains("index write (api)"), "{before}");
    let (mut blocked, ()) = Blocked::with(ground, "60s", |ground| {
        // Those of the neighbours do not say that the live index is blocked.
        assert!(eventually(Duration::from_secs(40), || !takes_writes(ground, 29)), "never blocked");
    });
    blocked.running.signal("KILL");
    blocked.running.wait();
    let ground = &blocked.ground;
    assert!(eventually(Duration::from_secs(20), || takes_writes(ground, 29)), "{}", blocked.running.log());
    assert!(eventually(Duration::from_secs(20), || ground.marks().is_empty()), "{:?}", ground.marks());
    assert_eq!(seen(ground, &names), before, "after the guard");
    ground.adopt(&[]).expect(0);
    assert_eq!(seen(ground, &names), before, "after an adoption");
    assert_eq!(ground.marks(), Vec::<String>::new());
}

/// Somebody blocks writes after the plan was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_somebody_else_set_meanwhile_stays() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let settings = format!("/{}/_settings", ground.name());
    let block = ("PUT", settings.clone(), json!({"index.blocks.write": true}));
    let error = with_interference(&ground, Span::seconds(60), &[block]).await;
    let AdoptError::Undone { cause, back, pause_ms: None } = error else { panic!("{error:?}") };
    assert!(matches!(*cause, AdoptError::Stale(_)), "{cause:?}");
    assert_eq!(back, Undone::Back { lifted: false, removed: vec![ground.scratch.index(2)] });
    assert!(!takes_writes(&ground, 900), "it is not sexton's to lift");
    assert_eq!(ground.marks(), Vec::<String>::new());
}

/// The job `visibility` looks again before it undoes what it planned to undo.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_is_undone_only_while_it_is_what_was_planned() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, search) = (ground.name(), ground.scratch.engine.client().await);
    let block = |on: Value| {
        ground.scratch.engine.ok("PUT", &format!("/{name}/_settings"), Some(json!({"index.blocks.write": on})));
    };
    let seen = async || adopt::blocked(&search, &name, jiff::Timestamp::now()).await.unwrap();
    assert_eq!(seen().await, None);
    block(json!(true));
    assert_eq!(seen().await, Some(adopt::Blocked::Stranger { begun: false }));
    mark(&ground, -5);
    let Some(adopt::Blocked::Left(left)) = seen().await else { panic!("{:?}", seen().await) };
    // Another adoption has begun.
    let later = mark(&ground, 60);
    assert!(matches!(seen().await, Some(adopt::Blocked::Adopting { .. })), "{:?}", seen().await);
    assert_eq!(adopt::undo_left(&search, &name, &left).await.unwrap(), None);
    assert!(!takes_writes(&ground, 900));
    let remove = json!({"actions": [{"remove": {"index": &name, "alias": later}}]});
    ground.scratch.engine.ok("POST", "/_aliases", Some(remove));
    let undone = adopt::undo_left(&search, &name, &left).await.unwrap();
    assert_eq!(undone, Some(Undone::Back { lifted: true, removed: vec![] }));
    assert!(takes_writes(&ground, 900));
}

/// Both the plan and what `sexton visibility` shows say that writes are blocked, and by whom.
#[test]
fn blocked_writes_are_seen_before_anybody_looks_for_them() {
    let ground = Ground::new(Engine::opensearch(), 3);
    let (name, engine) = (ground.name(), &ground.scratch.engine);
    engine.ok("PUT", &format!("/{name}/_settings"), Some(json!({"index.blocks.write": true})));
    let shown = |text: &str| {
        for args in [&["plan"][..], &["visibility"]] {
            let said = ground.site.run(args);
            assert!(said.out.contains(text), "{args:?}: `{text}` is not in\n{}{}", said.out, said.err);
        }
    };
    shown("has a block that is not sexton's: index.blocks.write: what Temporal writes is not listed");
    mark(&ground, 60);
    shown(&format!("writes to {name} are blocked by an adoption, until 2"));
}

/// As long as its shards do not answer, somebody may have written to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_index_that_does_not_say_what_was_written_to_it_is_not_removed() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, next, before) = (ground.name(), ground.scratch.index(2), ground.documents(&ground.name()));
    let (engine, search) = (&ground.scratch.engine, ground.scratch.engine.client().await);
    let of_next = Mark::Next { id: "dead".into() }.alias(&name);
    ground.scratch.create(&next, json!({"aliases": {&of_next: {}}}));
    engine.ok("POST", &format!("/{next}/_close"), None);
    let said = ground.adopt(&[]).expect(1);
    assert!(said.err.contains("whether it has been written to since is not known"), "{}", said.err);
    let marks = [mark(&ground, 60)];
    let undone = Undoing::new(&search, &name, Which::Marked(&marks)).run().await.unwrap();
    assert_eq!(undone, Undone::Back { lifted: false, removed: vec![] });
    // It is known again later, and is of no use to a swap that may still come.
    assert_eq!(ground.marks(), [Mark::Next { id: "undone".into() }.alias(&name)]);
    engine.ok("POST", &format!("/{next}/_open"), None);
    engine.ok("GET", &format!("/_cluster/health/{next}?wait_for_status=green&timeout=30s"), None);
    ground.adopt(&[]).expect(0);
    ground.is_adopted(&before);
}

/// One whose shards were never started is known to be empty, as when an adoption died right after it had made it.
#[tokio::test(flavor = "multi_thread")]
async fn a_next_index_that_never_started_is_removed() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (next, before) = (ground.scratch.index(2), ground.documents(&ground.name()));
    let of_next = Mark::Next { id: "dead".into() }.alias(&ground.name());
    // No node has this attribute.
    let settings = json!({"index.routing.allocation.require.nowhere": "x"});
    let path = format!("/{next}?wait_for_active_shards=0");
    ground.scratch.engine.ok("PUT", &path, Some(json!({"settings": settings, "aliases": {of_next: {}}})));
    ground.adopt(&[]).expect(0);
    ground.is_adopted(&before);
}

/// The last shard as well, after which no gap is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_without_a_primary_is_missed() {
    for engine in [Engine::opensearch(), Engine::elasticsearch6()] {
        let ground = Ground::of_shards(engine, 30, 2);
        let (search, half) = (ground.scratch.engine.client().await, ground.scratch.index(9));
        assert_eq!(search.numbers_given(&ground.name()).await.unwrap()[&ground.name()].len(), 2);
        // The engines here have one node, which takes one of the two.
        let settings = json!({"index.number_of_shards": 2, "index.routing.allocation.total_shards_per_node": 1});
        let path = format!("/{half}?wait_for_active_shards=0");
        ground.scratch.engine.ok("PUT", &path, Some(json!({ "settings": settings })));
        let health = format!("/_cluster/health/{half}?wait_for_active_shards=1&timeout=30s");
        ground.scratch.engine.ok("GET", &health, None);
        let error = search.numbers_given(&half).await.unwrap_err();
        let last = format!("shard 1 of {half} has no primary");
        assert!(matches!(&error, SearchError::Red { reason, .. } if *reason == last), "{error:?}");
    }
}
