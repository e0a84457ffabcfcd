//! Moves that are killed at random instants and run again: they end done or as if never begun, and Temporal is started at
//! the one place it is pointed at.

use std::time::{Duration, Instant};

use super::moves::quiet;
use crate::kills::{Seed, kills};
use crate::support::postgres::Server;

#[test]
fn a_killed_move_ends_done_or_as_if_it_had_never_begun() {
    let mut seed = Seed::new("kills of moves");
    let ground = quiet("killed");
    let (dump, access) = (ground.source.dump(), ground.access());
    let clock = Instant::now();
    ground.run().expect(0);
    let whole = clock.elapsed();
    let moved = Server::Pg17.psql(&ground.target, "SELECT count(*) FROM history_node");
    ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
    let (mut done, mut undone) = (0, 0);
    for round in 0..kills() {
        // Every second one fails in the end, so that its way back is killed as well.
        let fails = round % 2 == 1;
        ground.command("start", if fails { "[ $(cat place) = here ]" } else { "" });
        ground.approve();
        for _ in 0..=round % 3 {
            let mut running = ground.site.start(&["migrate", "run", "move-database", "-q"], "killed.log");
            std::thread::sleep(seed.part_of(whole));
            running.signal("KILL");
            running.wait();
        }
        // A statement of the killed run may still be at work for some seconds.
        let mut said = ground.run();
        for _ in 0..20 {
            // Nor is a busy server that takes nobody in for a while an end.
            let told = format!("{}{}", said.out, said.err);
            if !told.contains("another session") && !told.contains("cannot be reached") {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
            said = ground.run();
        }
        let state = ground.ledger.psql("SELECT state FROM migrations");
        println!("{}: {state}", round + 1);
        match (said.code, state.as_str()) {
            (0, "applied") => {
                assert!(!fails, "{said:?}");
                done += 1;
                assert_eq!(ground.place(), "there");
                assert!(!ground.lets_temporal_in());
                assert_eq!(Server::Pg17.psql(&ground.target, "SELECT count(*) FROM history_node"), moved);
                let log = ground.log();
                assert_eq!(log.last().map(String::as_str), Some("start"), "{log:?}");
                ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
            }
            // Killed before it had begun, or right after its end: there is nothing to go on with, and no approval.
            (2, "undone") | (6, "undone") => undone += 1,
            other => panic!("{other:?}: {said:?}"),
        }
        super::moves::as_before(&ground, &dump, &access);
        ground.site.run(&["migrate", "approve", "move-database", "--revoke"]).expect(0);
    }
    println!("{done} ended done, {undone} as if never begun");
    let open = ground.ledger.psql("SELECT count(*) FROM migration_steps WHERE state IN ('intended', 'undoing')");
    assert_eq!(open, "0");
}
