//! A way back that closes while Temporal is stopped: what was undone by then is done again, whatever else happens meanwhile.
//! The judges are the log of the commands and the ledger.

use std::time::Duration;

use super::Move;
use super::moves::quiet;
use crate::support::site::{Running, eventually};

const UNDO: [&str; 4] = ["migrate", "undo", "move-database", "-q"];

/// Begins to undo it. In the last moment, with Temporal about to stop, the target is written to; the command waits there
/// until it may go on.
fn closing(ground: &Move) -> Running {
    let wait = "[ $(cat place) = here ] || { touch stopping; until [ -e go ]; do sleep 0.1; done; }";
    ground.command("stop", &format!("{}\n{wait}", ground.writing()));
    let running = ground.site.start(&UNDO, "first.log");
    let stopping = ground.site.path().join("stopping");
    assert!(eventually(Duration::from_secs(60), || stopping.exists()), "{}", running.log());
    running
}

fn go_on(ground: &Move) {
    std::fs::write(ground.site.path().join("go"), "").unwrap();
}

/// It serves on the target as before.
#[track_caller]
fn serves(ground: &Move) {
    assert_eq!(ground.log(), ["stop", "switch there", "start", "stop", "start"]);
    assert_eq!(ground.ledger.psql("SELECT state, undo_requested_at FROM migrations"), "applied|");
    assert_eq!(ground.place(), "there");
    assert!(ground.has_target() && !ground.lets_temporal_in());
}

#[test]
fn a_target_that_is_written_to_in_the_last_moment_is_served_again() {
    let ground = quiet("last_moment");
    ground.run().expect(0);
    ground.command("stop", &ground.writing());
    let refused = ground.site.run(&["migrate", "undo", "move-database"]).expect(1);
    assert!(refused.err.contains("has been done again"), "{refused:?}");
    serves(&ground);
}

#[test]
fn somebody_else_who_wants_it_undone_does_not_stop_it() {
    let ground = quiet("called_again");
    ground.run().expect(0);
    let mut first = closing(&ground);
    let mut second = ground.site.start(&UNDO, "second.log");
    let asked = "SELECT undo_requested_at IS NOT NULL FROM migrations";
    assert!(eventually(Duration::from_secs(30), || ground.ledger.psql(asked) == "t"), "{}", second.log());
    go_on(&ground);
    assert_eq!(first.wait(), Some(1), "{}", first.log());
    assert!(first.log().contains("has been done again"), "{}", first.log());
    assert_eq!(second.wait(), Some(1), "{}", second.log());
    serves(&ground);
}

#[test]
fn neither_a_signal_nor_a_step_that_asks_stops_it() {
    let ground = quiet("told_again");
    let start = "  - name: start\n    deadline: 15m\n    steps:\n";
    let sure = format!("{start}      - name: sure\n        do: {{approve: {{question: May Temporal start there}}}}\n");
    ground.recipe(|text| text.replace(start, &sure));
    ground.approve();
    ground.run().expect(2);
    ground.site.run(&["migrate", "approve", "move-database", "--step", "sure", "--by", "Ada"]).expect(0);
    ground.run().expect(0);
    let mut undo = closing(&ground);
    undo.signal("TERM");
    std::thread::sleep(Duration::from_secs(1));
    go_on(&ground);
    assert_eq!(undo.wait(), Some(1), "{}", undo.log());
    assert!(undo.log().contains("has been done again"), "{}", undo.log());
    serves(&ground);
    let approved = "SELECT state, evidence->'found'->>'approved_by' FROM migration_steps WHERE step = 'sure'";
    assert_eq!(ground.ledger.psql(approved), "done|Ada");
}

#[test]
fn what_cannot_be_done_again_is_told_with_what_closed_the_way() {
    let ground = quiet("not_again");
    ground.run().expect(0);
    ground.command("stop", &ground.writing());
    ground.command("start", "exit 4");
    let failed = ground.site.run(&UNDO).expect(1);
    for words in ["the way back ends at step `way-back`", "could not be done again", "`./start` ended with 4"] {
        assert!(failed.err.contains(words), "{failed:?}");
    }
    assert!(!failed.err.contains("has been done again"), "{failed:?}");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "failed");
    ground.command("start", "");
    ground.run().expect(0);
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "applied");
}
