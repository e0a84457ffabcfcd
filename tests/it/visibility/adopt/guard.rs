//! The write block never stays: not past its deadline, not when the process is killed, frozen or stopped.
//!
//! The engine is reached through a proxy that makes each answer late, so that the short part is long enough to be hit.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sexton::clients::search::{Search, SearchError};
use sexton::context::Context;
use sexton::failure::{Explain, Kind};
use sexton::policy::visibility::{IndexName, VisibilityPolicy};
use sexton::units::Span;
use sexton::visibility::adopt::{
    self, AdoptError, AdoptPlan, Cleanup, GuardCommand, Method, Surroundings, Undone, Wanted,
};

use super::block::slow_write;
use super::{Ground, site};
use crate::support::postgres;
use crate::support::proxy::Proxy;
use crate::support::search::Engine;
use crate::support::site::{Running, Site, binary, eventually};

/// A sexton that is in its short part when this returns.
pub struct Blocked {
    pub ground: Ground,
    late: Site,
    pub running: Running,
    _proxy: Proxy,
    _ledger: postgres::Scratch,
}

impl Blocked {
    fn new(deadline: &str) -> Self {
        Self::with(Ground::new(Engine::opensearch(), 30), deadline, |_| ()).0
    }

    /// The same while a write is under way that takes about so many seconds.
    pub fn under_a_slow_write(deadline: &str, seconds: u64) -> (Self, std::thread::JoinHandle<()>) {
        Self::with(Ground::new(Engine::opensearch(), 30), deadline, |ground| slow_write(ground, seconds))
    }

    /// The same on this ground; what is to happen before writes are blocked happens while it prepares.
    pub fn with<T>(ground: Ground, deadline: &str, before: impl FnOnce(&Ground) -> T) -> (Self, T) {
        let proxy = Proxy::new(ground.scratch.engine.url.trim_start_matches("http://"));
        proxy.add("latency", "downstream", json!({"latency": 150}));
        let ledger = postgres::Scratch::new("ledger");
        let late = site(&ground.scratch, &ledger, &format!("http://{}", proxy.address));
        let running = late.start(&["adopt", "--deadline", deadline, "--log-format", "text"], "adopt.log");
        let prepares = eventually(Duration::from_secs(40), || ground.scratch.exists(&ground.scratch.index(2)));
        assert!(prepares, "it never begins:\n{}", running.log());
        let happened = before(&ground);
        let blocked = eventually(Duration::from_secs(40), || ground.is_blocked());
        assert!(blocked, "writes are never blocked:\n{}", running.log());
        (Self { ground, late, running, _proxy: proxy, _ledger: ledger }, happened)
    }

    /// The process ids of this adoption's guards.
    fn guards(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = |id: &u32| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words.contains(&b"adopt-guard".as_slice()) && words.contains(&self.ground.name().as_bytes())
        };
        ids.filter(ours).collect()
    }

    /// How long until writes are allowed again.
    #[track_caller]
    fn unblocked_within(&self, limit: Duration) -> Duration {
        let clock = Instant::now();
        assert!(eventually(limit, || !self.ground.is_blocked()), "writes stay blocked:\n{}", self.running.log());
        clock.elapsed()
    }

    /// What Temporal writes now is there after the next adoption, and nothing else is lost.
    fn goes_on(&self) {
        let name = self.ground.name();
        self.ground.write(&name, 900..901);
        let before = self.ground.documents(&name);
        assert_eq!(before.len(), 31);
        self.ground.adopt(&[]).expect(0);
        self.ground.is_adopted(&before);
        assert!(eventually(Duration::from_secs(20), || self.guards().is_empty()), "a guard stays");
    }
}

#[test]
fn the_guard_lifts_the_block_of_a_killed_process() {
    let mut blocked = Blocked::new("60s");
    assert_eq!(blocked.guards().len(), 1);
    blocked.running.signal("KILL");
    blocked.running.wait();
    let took = blocked.unblocked_within(Duration::from_secs(10));
    println!("the block was off {took:?} after the kill");
    assert!(took < Duration::from_secs(5), "{took:?}");
    blocked.goes_on();
}

/// As when a whole pod is killed: nobody is left to lift the block, until sexton is started again.
#[test]
fn the_next_adoption_lifts_the_block_when_the_guard_was_killed_too() {
    let mut blocked = Blocked::new("60s");
    let [guard] = blocked.guards()[..] else { panic!("not one guard") };
    let killed = std::process::Command::new("kill").args(["-KILL", &guard.to_string()]).status().unwrap();
    assert!(killed.success());
    blocked.running.signal("KILL");
    blocked.running.wait();
    std::thread::sleep(Duration::from_secs(2));
    assert!(blocked.ground.is_blocked(), "who lifted it?");
    let before = blocked.ground.documents(&blocked.ground.name());
    let said = blocked.ground.adopt(&["--json"]).expect(0).json();
    let undone = &said["runs"][0]["report"]["undone"];
    assert!(undone.as_str().is_some_and(|text| text.contains("the write block is off")), "{said}");
    blocked.ground.is_adopted(&before);
}

/// The same where nobody starts an adoption again: the job that runs anyway does it, once the deadline has passed.
#[test]
fn the_job_visibility_lifts_a_block_past_its_deadline() {
    let mut blocked = Blocked::new("6s");
    let [guard] = blocked.guards()[..] else { panic!("not one guard") };
    let killed = std::process::Command::new("kill").args(["-KILL", &guard.to_string()]).status().unwrap();
    assert!(killed.success());
    blocked.running.signal("KILL");
    blocked.running.wait();
    std::thread::sleep(Duration::from_secs(7));
    assert!(blocked.ground.is_blocked(), "who lifted it?");
    let before = blocked.ground.documents(&blocked.ground.name());
    let planned = blocked.ground.site.run(&["plan", "visibility"]).expect(2);
    assert!(planned.out.contains("index.blocks.write true -> none"), "{planned:?}");
    // What goes is named with its documents.
    let next = blocked.ground.scratch.index(2);
    let line = planned.out.lines().find(|line| line.contains(&next)).unwrap_or_default();
    assert!(line.contains("0 documents") && line.contains("[destructive]"), "{planned:?}");
    blocked.ground.site.run(&["once", "visibility"]).expect(0);
    blocked.ground.is_as_before(&before);
    blocked.ground.site.run(&["plan", "visibility"]).expect(0);
    blocked.goes_on();
}

/// A process that sleeps past its deadline and wakes again must not swap: what was written meanwhile would be lost.
#[test]
fn a_frozen_process_does_no_harm_when_it_wakes() {
    let mut blocked = Blocked::new("6s");
    blocked.running.signal("STOP");
    let took = blocked.unblocked_within(Duration::from_secs(12));
    println!("the block was off {took:?} after the process froze");
    assert!(took < Duration::from_secs(7), "{took:?}");
    let name = blocked.ground.name();
    blocked.ground.write(&name, 800..801);
    blocked.running.signal("CONT");
    let code = blocked.running.wait();
    assert_eq!(code, Some(6), "{}", blocked.running.log());
    assert!(blocked.running.log().contains("the adoption was undone"), "{}", blocked.running.log());
    let before = blocked.ground.documents(&name);
    assert_eq!(before.len(), 31);
    blocked.ground.is_as_before(&before);
    assert!(!blocked.ground.scratch.exists(&blocked.ground.scratch.index(1)));
    assert!(!blocked.ground.scratch.exists(&blocked.ground.scratch.index(2)));
    let outcome = blocked.late.run(&["status", "--json"]).expect(0).json();
    assert!(outcome.to_string().contains("failed"), "{outcome}");
    blocked.ground.adopt(&[]).expect(0);
    blocked.ground.is_adopted(&before);
}

#[test]
fn a_stopped_process_undoes_at_once() {
    let mut blocked = Blocked::new("60s");
    blocked.running.signal("TERM");
    blocked.unblocked_within(Duration::from_secs(5));
    assert_eq!(blocked.running.wait(), Some(1), "{}", blocked.running.log());
    blocked.goes_on();
}

/// The plan of an adoption through the library.
pub async fn library_plan(ground: &Ground, search: &Search, deadline: Span) -> AdoptPlan {
    let policy = VisibilityPolicy { index: IndexName::try_from(ground.name()).unwrap(), ..VisibilityPolicy::default() };
    let around = Surroundings { longest_retention: None, cleanup: Cleanup::NotSeen { looked: 0 } };
    let wanted = Wanted { method: Method::Auto, deadline };
    adopt::plan(search, &policy, wanted, &around).await.unwrap()
}

/// The real guard, before which a shell does something.
pub fn guard_after(ground: &Ground, first: &str) -> GuardCommand {
    let folder = ground.site.path().display();
    let script =
        format!("{first} cd '{folder}' && exec '{}' adopt-guard --config '{folder}/sexton.yaml' \"$0\"", binary());
    GuardCommand { program: "sh".into(), arguments: vec!["-c".into(), script.into()] }
}

/// An adoption through the library, whose guard's command does something before the guard starts: after everything is
/// prepared and before writes are blocked.
pub async fn with_interference(ground: &Ground, deadline: Span, calls: &[(&str, String, Value)]) -> AdoptError {
    let engine = &ground.scratch.engine;
    let search = engine.client().await;
    let plan = library_plan(ground, &search, deadline).await;
    // No password in arguments.
    let mut login = String::new();
    if let (Some((user, password)), Some(ca)) = (&engine.user, &engine.ca) {
        login = format!("user = \"{user}:{password}\"\ncacert = \"{}\"\n", ca.display());
    }
    let file = ground.site.path().join("curl");
    std::fs::write(&file, login).unwrap();
    let calls = calls.iter().map(|(method, path, body)| {
        let url = format!("{}{path}", engine.url.trim_end_matches('/'));
        format!(
            "curl -sS -m 20 -o /dev/null -K '{}' -X {method} '{url}' -H 'content-type: application/json' -d '{body}'; ",
            file.display()
        )
    });
    let guard = guard_after(ground, &calls.collect::<String>());
    let error = adopt::apply(&plan, &search, &guard, &Context::plain()).await.unwrap_err();
    println!("{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_never_gets_green_is_undone_at_the_deadline() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let (name, before) = (ground.name(), ground.documents(&ground.name()));
    // No node has this attribute. The live index's shard stays where it is; a clone of it has nowhere to go.
    let settings = format!("/{name}/_settings");
    let nowhere = |value: Value| json!({"index.routing.allocation.require.nowhere": value});
    let deadline = Span::seconds(5);
    let error = with_interference(&ground, deadline, &[("PUT", settings.clone(), nowhere("x".into()))]).await;
    assert_eq!(error.kind(), Kind::Compensated);
    assert!(error.to_string().contains("waiting for the clone to be green: "), "{error}");
    let AdoptError::Undone { cause, back, pause_ms } = error else { panic!() };
    assert!(matches!(*cause, AdoptError::Deadline { .. }), "{cause:?}");
    let (first, next) = (ground.scratch.index(1), ground.scratch.index(2));
    assert_eq!(back, Undone::Back { lifted: true, removed: vec![first, next] });
    let pause = pause_ms.unwrap();
    assert!((2_000..5_000).contains(&pause), "{pause} ms");
    ground.is_as_before(&before);

    ground.scratch.engine.ok("PUT", &settings, Some(nowhere(Value::Null)));
    ground.adopt(&[]).expect(0);
    ground.is_adopted(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_whose_next_index_was_removed_is_undone() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let before = ground.documents(&ground.name());
    let removal = ("DELETE", format!("/{}", ground.scratch.index(2)), json!({}));
    let error = with_interference(&ground, Span::seconds(60), &[removal]).await;
    assert!(matches!(error, AdoptError::Undone { .. }), "{error:?}");
    ground.is_as_before(&before);
}

/// Where the engine has no `must_exist` the swap needs a key, which an undoing removes.
#[tokio::test(flavor = "multi_thread")]
async fn a_swap_whose_key_was_removed_is_undone() {
    let ground = Ground::new(Engine::elasticsearch6(), 30);
    let before = ground.documents(&ground.name());
    let removal = ("DELETE", format!("/{}-sexton-key-*", ground.name()), json!({}));
    let error = with_interference(&ground, Span::seconds(60), &[removal]).await;
    let AdoptError::Undone { cause, back, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*cause, AdoptError::Search(SearchError::NotFound { .. })), "{cause:?}");
    assert_eq!(back, Undone::Back { lifted: true, removed: vec![ground.scratch.index(2)] });
    // The copy stays, for the next adoption to go on with.
    assert_eq!(ground.documents(&ground.name()), before);
    ground.adopt(&[]).expect(0);
    ground.is_adopted(&before);
}

/// An adoption that is undone takes its key along.
#[tokio::test(flavor = "multi_thread")]
async fn an_undone_adoption_leaves_no_key() {
    let ground = Ground::new(Engine::elasticsearch6(), 30);
    let block = ("PUT", format!("/{}/_settings", ground.name()), json!({"index.blocks.write": true}));
    let error = with_interference(&ground, Span::seconds(60), &[block]).await;
    let AdoptError::Undone { back: Undone::Back { lifted: false, removed }, .. } = error else { panic!("{error:?}") };
    let key = format!("{}-sexton-key-", ground.name());
    assert_eq!(removed.iter().filter(|index| index.starts_with(&key)).count(), 1, "{removed:?}");
    assert_eq!(ground.scratch.engine.ok("GET", &format!("/{key}*"), None), json!({}));
}

/// A guard that cannot be started: nothing is blocked at all.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_guard_nothing_is_blocked() {
    let ground = Ground::new(Engine::opensearch(), 3);
    let before = ground.documents(&ground.name());
    let search = ground.scratch.engine.client().await;
    let plan = library_plan(&ground, &search, Span::seconds(60)).await;
    // The last is connected, and dies when it is told what to watch.
    let dies = vec!["-c".into(), "echo ready; read mark".into()];
    let guards = [("false", vec![]), ("no-such-program", vec![]), ("echo", vec!["hello".into()]), ("sh", dies)];
    for (program, arguments) in guards {
        let guard = GuardCommand { program: program.into(), arguments };
        let error = adopt::apply(&plan, &search, &guard, &Context::plain()).await.unwrap_err();
        let AdoptError::Undone { cause, pause_ms: None, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**cause, AdoptError::Guard(_)), "{error}");
        ground.is_as_before(&before);
    }
}
