//! Calls that arrive late, because their sender slept, gave up or died while they were on their way: none of them does
//! harm.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::json;
use sexton::clients::search::Search;
use sexton::context::Context;
use sexton::units::Span;
use sexton::visibility::adopt::{self, AdoptError, Undoing, Undone, Which};

use super::block::{mark, takes_writes};
use super::guard::{guard_after, library_plan};
use super::{Ground, site};
use crate::support::intercept::Intercept;
use crate::support::postgres;
use crate::support::search::Engine;
use crate::support::site::eventually;

/// A call that is held until it is let go: what holds it, and the two ends for the test.
fn held() -> (impl FnOnce() + Send + 'static, Receiver<()>, Sender<()>) {
    let ((reached, reaches), (let_go, waits)) = (channel(), channel());
    let hold = move || {
        reached.send(()).unwrap();
        // The test may have failed.
        let _ = waits.recv_timeout(Duration::from_secs(60));
    };
    (hold, reaches, let_go)
}

fn swap_of(name: &str) -> String {
    format!("{{\"remove_index\":{{\"index\":\"{name}\"}}}}")
}

/// The guard of an adoption that died wakes up between a later adoption's last comparison and its swap. What was written
/// then would go with the live index.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_lift_does_not_take_off_the_block_of_a_later_adoption() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, before) = (ground.name(), ground.documents(&ground.name()));
    let old = [mark(&ground, -5)];
    let settings = format!("/{name}/_settings");
    ground.scratch.engine.ok("PUT", &settings, Some(json!({"index.blocks.write": true})));

    let (hold, reached, let_go) = held();
    let door = Intercept::new(ground.scratch.engine.clone());
    door.before("PUT /", "index.blocks.write", hold);
    let (search, index) = (Search::connect(&door.settings()).await.unwrap(), name.clone());
    let guard = tokio::spawn(async move { Undoing::new(&search, &index, Which::Marked(&old)).run().await });
    tokio::task::block_in_place(|| reached.recv_timeout(Duration::from_secs(20)).unwrap());

    let later = Intercept::new(ground.scratch.engine.clone());
    let (engine, url) = (ground.scratch.engine.clone(), format!("/{name}/_doc/late"));
    let (tell, told) = channel();
    later.before("POST /_aliases", &swap_of(&name), move || {
        let_go.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        tell.send(engine.http("PUT", &url, Some(json!({"WorkflowId": "late"}))).0).unwrap();
    });
    let search = Search::connect(&later.settings()).await.unwrap();
    let plan = library_plan(&ground, &search, Span::seconds(60)).await;
    let report = adopt::apply(&plan, &search, &guard_after(&ground, ""), &Context::plain()).await.unwrap();
    later.all_happened();
    assert_eq!(told.recv().unwrap(), 403, "a write came in between comparison and swap");
    assert_eq!(report.docs, 30);
    ground.is_adopted(&before);
    guard.await.unwrap().unwrap();
    ground.is_adopted(&before);
}

/// The block's own call is on its way still when the process gives up.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_comes_after_its_deadline_is_lifted() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let before = ground.documents(&ground.name());
    let door = Intercept::new(ground.scratch.engine.clone());
    // Longer than the deadline, and longer than it takes to undo everything.
    door.before(&format!("PUT /{}-sexton-adopts", ground.name()), "", || std::thread::sleep(Duration::from_secs(9)));
    let search = Search::connect(&door.settings()).await.unwrap();
    let plan = library_plan(&ground, &search, Span::seconds(5)).await;
    let error = adopt::apply(&plan, &search, &guard_after(&ground, ""), &Context::plain()).await.unwrap_err();
    door.all_happened();
    let AdoptError::Undone { cause, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**cause, AdoptError::Deadline { .. }), "{error}");
    ground.is_as_before(&before);
    assert!(takes_writes(&ground, 900));
}

/// The same of its mark, under which somebody else's block would be taken for an adoption's.
#[test]
fn a_mark_that_comes_when_the_process_is_stopped_does_not_stay() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, before) = (ground.name(), ground.documents(&ground.name()));
    let (hold, reached, let_go) = held();
    let door = Intercept::new(ground.scratch.engine.clone());
    door.before("POST /_aliases", &format!("\"alias\":\"{name}-sexton-adopts"), hold);
    let ledger = postgres::Scratch::new("ledger");
    let site = site(&ground.scratch, &ledger, door.settings().url.as_str());
    let mut running = site.start(&["adopt", "--log-format", "text"], "adopt.log");
    reached.recv_timeout(Duration::from_secs(40)).unwrap_or_else(|_| panic!("{}", running.log()));
    running.signal("TERM");
    std::thread::sleep(Duration::from_millis(700));
    let_go.send(()).unwrap();
    assert_eq!(running.wait(), Some(1), "{}", running.log());
    std::thread::sleep(Duration::from_millis(500));
    ground.is_as_before(&before);
}

/// The block's own call comes when nobody is left who knows of it: without its mark it cannot be carried out.
#[test]
fn a_block_that_comes_after_its_process_died_and_all_was_undone_is_refused() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, before) = (ground.name(), ground.documents(&ground.name()));
    let (hold, reached, let_go) = held();
    let door = Intercept::new(ground.scratch.engine.clone());
    door.before(&format!("PUT /{name}-sexton-adopts"), "", hold);
    let ledger = postgres::Scratch::new("ledger");
    let site = site(&ground.scratch, &ledger, door.settings().url.as_str());
    let mut running = site.start(&["adopt", "--log-format", "text"], "adopt.log");
    reached.recv_timeout(Duration::from_secs(40)).unwrap_or_else(|_| panic!("{}", running.log()));
    running.signal("KILL");
    running.wait();
    let undone = eventually(Duration::from_secs(40), || ground.marks().is_empty());
    assert!(undone, "{:?}\n{}", ground.marks(), running.log());
    let_go.send(()).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    ground.is_as_before(&before);
    assert!(takes_writes(&ground, 900));
}

/// The block comes after the last look at it and before its mark is taken off, so that nobody would know whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_comes_right_before_its_mark_goes_is_lifted() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, before) = (ground.name(), ground.documents(&ground.name()));
    let marks = [mark(&ground, -5)];
    let door = Intercept::new(ground.scratch.engine.clone());
    let (engine, block) = (ground.scratch.engine.clone(), format!("/{}/_block/write", marks[0]));
    door.before("POST /_aliases", "\"remove\"", move || drop(engine.ok("PUT", &block, None)));
    let search = Search::connect(&door.settings()).await.unwrap();
    let undone = Undoing::new(&search, &name, Which::Marked(&marks)).run().await.unwrap();
    door.all_happened();
    assert_eq!(undone, Undone::Back { lifted: true, removed: vec![] });
    ground.is_as_before(&before);
    assert!(takes_writes(&ground, 900));
}

/// The swap is on its way when the process gives up. Carried out later, it would take what was written since.
#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_comes_after_everything_was_undone_is_refused() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let name = ground.name();
    let (hold, reached, let_go) = held();
    let door = Intercept::new(ground.scratch.engine.clone());
    door.before("POST /_aliases", &swap_of(&name), hold);
    let search = Search::connect(&door.settings()).await.unwrap();
    let plan = library_plan(&ground, &search, Span::seconds(5)).await;
    let error = adopt::apply(&plan, &search, &guard_after(&ground, ""), &Context::plain()).await.unwrap_err();
    reached.try_recv().unwrap();
    assert!(matches!(error, AdoptError::Undone { .. }), "{error:?}");
    assert!(takes_writes(&ground, 900));
    let before = ground.documents(&name);
    // Also not when a later adoption has come as far as the earlier one had.
    ground.scratch.create(&ground.scratch.index(2), json!({}));
    let_go.send(()).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    ground.is_as_before(&before);
    assert!(ground.scratch.exists(&ground.scratch.index(2)));
}
