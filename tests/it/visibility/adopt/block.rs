//! The block as it is in force, and not as the settings show it: begun while a slow write is under way, late, somebody
//! else's. What counts is that a write succeeds.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sexton::failure::Explain;
use sexton::visibility::adopt::{Mark, UndoError, Undoing, Which};

use super::guard::Blocked;
use super::{Ground, document};
use crate::support::search::Engine;
use crate::support::site::eventually;

/// A bulk to the live index that takes about so many seconds and changes nothing; it is under way when this returns.
pub fn slow_write(ground: &Ground, seconds: u64) -> JoinHandle<()> {
    let (engine, name) = (ground.scratch.engine.clone(), ground.name());
    let loop_ = "double sum = 0; for (int i = 0; i < 900000; i++) { sum += Math.sin(i) } ctx.op = 'none'";
    let item = |number: u64| {
        let head = json!({"update": {"_index": name, "_id": document(number % 3).0}});
        format!("{head}\n{}\n", json!({"script": {"source": loop_}}))
    };
    // About 70 ms for each.
    let lines: String = (0..seconds * 14).map(item).collect();
    let write = std::thread::spawn(move || {
        let (status, answer) = engine.send("POST", "/_bulk", Some(&lines));
        assert!(status == 200 && answer.contains("\"errors\":false"), "{status} {answer:.300}");
    });
    let name = ground.name();
    let under_way = eventually(Duration::from_secs(10), || {
        let tasks = ground.scratch.engine.ok("GET", "/_tasks?actions=*bulk*&detailed&group_by=none", None);
        let mut tasks = tasks["tasks"].as_array().unwrap().iter();
        tasks.any(|task| task["action"] == "indices:data/write/bulk[s][p]" && task.to_string().contains(&name))
    });
    assert!(under_way, "the bulk never begins");
    write
}

fn is_begun(ground: &Ground) -> bool {
    let state = ground.scratch.engine.ok("GET", "/_cluster/state/blocks", None);
    state["blocks"]["indices"][ground.name()]["8"]["uuid"].is_string()
}

/// Whether the engine takes a write as Temporal sends it.
pub fn takes_writes(ground: &Ground, number: u64) -> bool {
    let (id, version, source) = document(number);
    let path = format!("/{}/_doc/{id}?version={version}&version_type=external_gte&refresh=true", ground.name());
    let (status, answer) = ground.scratch.engine.http("PUT", &path, Some(source));
    assert!(matches!(status, 200 | 201 | 403), "{status} {answer}");
    status != 403
}

/// Puts the mark of an adoption on the live index whose deadline is in so many seconds.
pub fn mark(ground: &Ground, seconds: i64) -> String {
    let deadline = Timestamp::now() + SignedDuration::from_secs(seconds);
    let mark = Mark::Adopts { deadline, id: "dead".into() }.alias(&ground.name());
    let add = json!({"actions": [{"add": {"index": ground.name(), "alias": &mark}}]});
    ground.scratch.engine.ok("POST", "/_aliases", Some(add));
    mark
}

/// A block that was begun and never finished, whose setting somebody has taken off: what was left of a sexton that
/// looked at settings.
fn half_a_block(ground: &Ground) {
    let write = slow_write(ground, 2);
    let (engine, name) = (&ground.scratch.engine, ground.name());
    let answer = engine.ok("PUT", &format!("/{name}/_block/write?timeout=50ms"), None);
    assert_eq!(answer["acknowledged"], false, "{answer}");
    engine.ok("PUT", &format!("/{name}/_settings"), Some(json!({"index.blocks.write": null})));
    write.join().unwrap();
    assert!(!ground.is_blocked() && is_begun(ground), "the settings say nothing of it");
    assert!(!takes_writes(ground, 700));
}

/// The process dies while the engine waits for a write under way: the block is in force already, and comes to stay when
/// the write is over, whatever the setting says by then.
#[test]
fn writes_go_on_although_the_process_was_killed_while_it_blocked_them() {
    let deadline = Duration::from_secs(60);
    let (mut blocked, write) = Blocked::under_a_slow_write("60s", 8);
    assert!(is_begun(&blocked.ground), "the engine does not wait for the write:\n{}", blocked.running.log());
    let clock = Instant::now();
    blocked.running.signal("KILL");
    blocked.running.wait();
    assert!(!takes_writes(&blocked.ground, 900));
    let taken = eventually(deadline, || takes_writes(&blocked.ground, 900));
    assert!(taken && clock.elapsed() < deadline, "writes are refused after {:?}", clock.elapsed());
    println!("writes are taken {:?} after the kill under a slow write", clock.elapsed());
    write.join().unwrap();
    // And it stays off.
    std::thread::sleep(Duration::from_secs(3));
    assert!(takes_writes(&blocked.ground, 901));
    let gone = eventually(Duration::from_secs(20), || blocked.ground.marks().is_empty());
    assert!(gone, "{:?}", blocked.ground.marks());
    let before = blocked.ground.documents(&blocked.ground.name());
    assert_eq!(before.len(), 32);
    blocked.ground.adopt(&[]).expect(0);
    blocked.ground.is_adopted(&before);
}

#[test]
fn a_process_that_gives_up_while_a_write_is_under_way_leaves_no_block() {
    let (mut blocked, write) = Blocked::under_a_slow_write("5s", 8);
    assert_eq!(blocked.running.wait(), Some(6), "{}", blocked.running.log());
    assert!(takes_writes(&blocked.ground, 900), "{}", blocked.running.log());
    assert_eq!(blocked.ground.marks(), Vec::<String>::new());
    write.join().unwrap();
    assert!(takes_writes(&blocked.ground, 901));
}

#[test]
fn a_block_that_was_only_begun_is_lifted_by_whoever_comes_next() {
    let ground = Ground::new(Engine::opensearch(), 30);
    mark(&ground, -5);
    half_a_block(&ground);
    let planned = ground.site.run(&["plan", "visibility"]).expect(2);
    assert!(planned.out.contains("index.blocks.write true -> none"), "{planned:?}");
    ground.site.run(&["once", "visibility"]).expect(0);
    assert!(takes_writes(&ground, 900));
    assert_eq!(ground.marks(), Vec::<String>::new());

    mark(&ground, -5);
    half_a_block(&ground);
    let before = ground.documents(&ground.name());
    let said = ground.adopt(&["--json"]).expect(0).json();
    let undone = &said["runs"][0]["report"]["undone"];
    assert!(undone.as_str().is_some_and(|text| text.contains("the write block is off")), "{said}");
    ground.is_adopted(&before);
}

#[test]
fn somebody_elses_block_is_refused_also_where_it_was_only_begun() {
    let ground = Ground::new(Engine::opensearch(), 30);
    half_a_block(&ground);
    let said = ground.adopt(&[]).expect(1);
    assert!(said.err.contains("a block that is not sexton's"), "{}", said.err);
    assert!(said.err.contains("`PUT") && said.err.contains("/_block/write` finishes it"), "{}", said.err);
    ground.site.run(&["once", "visibility"]).expect(0);
    assert!(is_begun(&ground), "it stays");
}

/// The error says what to do, and that does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_does_not_go_is_an_error_with_the_commands_that_take_it_off() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let search = ground.scratch.engine.client().await;
    let marks = [mark(&ground, 60)];
    let write = slow_write(&ground, 8);
    let path = format!("/{}/_block/write?timeout=50ms", ground.name());
    ground.scratch.engine.ok("PUT", &path, None);
    let name = ground.name();
    let mut undoing = Undoing::new(&search, &name, Which::Marked(&marks));
    undoing.limit = Duration::from_secs(2);
    let error = undoing.run().await.unwrap_err();
    println!("{error}\nhint: {}", error.hint().unwrap());
    assert!(matches!(error, UndoError::StillBlocked { .. }), "{error:?}");
    assert_eq!(ground.marks(), marks, "the block is still this adoption's");
    write.join().unwrap();
    let hint = error.hint().unwrap();
    let commands = hint.split_once("login: ").unwrap().1;
    let said = std::process::Command::new("sh").args(["-c", commands]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(takes_writes(&ground, 900), "{commands}");
}
