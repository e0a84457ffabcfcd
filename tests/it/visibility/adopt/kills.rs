//! The real binary, killed at random instants while it adopts: started again it finishes, and no document is lost.
//!
//! Two kills by default, as many as `SEXTON_SOAK` says in `make soak`; the seed is printed.

use std::time::{Duration, Instant};

use super::Ground;
use crate::kills::{Seed, kills};
use crate::support::search::Engine;
use crate::support::site::eventually;

fn a_killed_adoption_is_finished(what: &str, engine: fn() -> Engine, documents: u64) {
    let whole = {
        let ground = Ground::new(engine(), documents);
        let clock = Instant::now();
        ground.adopt(&["-q"]).expect(0);
        clock.elapsed()
    };
    let mut seed = Seed::new(what);
    let mut pauses = Vec::new();
    for _ in 0..kills() {
        let ground = Ground::new(engine(), documents);
        let before = ground.documents(&ground.name());
        let at = seed.part_of(whole);
        let mut running = ground.site.start(&["adopt", "-q"], "killed.log");
        std::thread::sleep(at);
        running.signal("KILL");
        running.wait();
        let clock = Instant::now();
        let lifted = eventually(Duration::from_secs(15), || !ground.is_blocked());
        assert!(lifted, "killed after {at:?}: writes stay blocked:\n{}", running.log());
        let lifted = clock.elapsed();
        assert!(lifted < Duration::from_secs(8), "killed after {at:?}, the block was off {lifted:?} later");
        let said = ground.adopt(&["--json", "-q"]).expect(0).json();
        let report = &said["runs"][0]["report"];
        println!("{what}: killed after {at:?}; {} {}", report["pause_ms"], report["undone"]);
        pauses.extend(report["pause_ms"].as_u64());
        ground.is_adopted(&before);
    }
    pauses.sort_unstable();
    println!("{what}: median pause {:?} ms of {}", pauses.get(pauses.len() / 2), pauses.len());
}

#[test]
fn a_killed_adoption_by_clone_is_finished() {
    a_killed_adoption_is_finished("adoptions by clone", Engine::opensearch, 300);
}

#[test]
fn a_killed_adoption_by_copy_is_finished() {
    a_killed_adoption_is_finished("adoptions by copy", Engine::elasticsearch6, 3_000);
}
