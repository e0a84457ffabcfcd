//! A move that ends while Temporal is stopped says so last, wherever it ends. The judge is the log of the commands that
//! stop and start it.

use std::time::Duration;

use super::moves::quiet;
use crate::support::site::eventually;

const WHERE_TO: &str =
    "go on with `sexton migrate run move-database` or go back with `sexton migrate undo move-database`";

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default().trim()
}

fn stopped(to: &str) -> String {
    format!("Temporal is stopped: step `stop-temporal` is done, and `start-temporal` is not; {to}")
}

#[test]
fn a_failure_that_leaves_temporal_stopped_says_so_last() {
    let ground = quiet("left_stopped");
    ground.recipe(|text| format!("{text}\non_failure: stop\n"));
    ground.approve();
    ground.command("switch", "exit 3");
    let failed = ground.site.run(&["migrate", "run", "move-database", "-q"]).expect(1);
    assert_eq!(ground.log(), ["stop", "switch there"]);
    assert_eq!(last_line(&failed.err), stopped(WHERE_TO), "{failed:?}");
    assert!(
        failed.err.contains("The source's databases are closed to everybody but sexton: step `fence-source` is done")
    );
    let hint = ground.run().expect(1).json()["runs"][0]["error"]["hint"].as_str().unwrap().to_owned();
    assert_eq!(last_line(&hint), stopped(WHERE_TO));
    let kept = ground.ledger.psql("SELECT error->>'hint' FROM runs ORDER BY started_at DESC LIMIT 1");
    assert_eq!(last_line(&kept), stopped(WHERE_TO), "for the status of tomorrow");

    // A run that never comes to acting leaves it as stopped as it was.
    let refused = ground.site.run_with(&["migrate", "run", "move-database", "-q"], &[("THERE", "wrong")]).expect(1);
    assert_eq!(last_line(&refused.err), stopped(WHERE_TO), "{refused:?}");

    // Going back fails, too: only back is open then.
    ground.command("switch", "echo $1 >place");
    ground.command("start", "exit 4");
    let half = ground.site.run(&["migrate", "undo", "move-database", "-q"]).expect(1);
    let said = "Temporal may be stopped: step `stop-temporal` is half undone, and `start-temporal` is not; \
                it is going back: go on with `sexton migrate undo move-database`; where the undo of `stop-temporal` cannot \
                succeed, undo it by hand and say so: `sexton migrate undo move-database --by-hand stop-temporal`";
    assert_eq!(last_line(&half.err), said, "{half:?}");
    ground.command("start", "");
    let back = ground.site.run(&["migrate", "undo", "move-database", "-q"]).expect(0);
    assert!(!format!("{}{}", back.out, back.err).contains("stopped"), "{back:?}");
    assert_eq!(ground.log().last().unwrap(), "start");
}

#[test]
fn a_run_that_is_told_to_stop_says_what_it_leaves() {
    let ground = quiet("told_to_stop");
    // As far as it was to go.
    let until = ground.site.run(&["migrate", "run", "move-database", "--until", "stop", "-q"]).expect(0);
    assert!(last_line(&until.out).ends_with(&stopped(WHERE_TO)), "{until:?}");
    assert!(until.out.contains("the next run goes on with stage copy"), "{until:?}");
    // By a signal, in a step that ends at once.
    ground.command("switch", "sleep 300");
    let mut running = ground.site.start(&["migrate", "run", "move-database", "-q"], "term.log");
    assert!(
        eventually(Duration::from_secs(120), || ground.log().contains(&"switch there".to_owned())),
        "{}",
        running.log()
    );
    running.signal("TERM");
    assert_eq!(running.wait(), Some(1));
    assert_eq!(last_line(&running.log()), stopped(WHERE_TO), "{}", running.log());
    ground.command("switch", "echo $1 >place");
    ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
    assert_eq!(ground.log().last().unwrap(), "start");
}

/// Silence would mean that it runs.
#[test]
fn what_the_ledger_cannot_tell_is_said() {
    let ground = quiet("no_ledger");
    ground.command("switch", "sleep 300");
    let mut running = ground.site.start(&["migrate", "run", "move-database", "-q"], "cut.log");
    let is_there = || ground.log().contains(&"switch there".to_owned());
    assert!(eventually(Duration::from_secs(120), is_there), "{}", running.log());
    ground.ledger.goes_away();
    running.wait_for("Whether `move-database` has left Temporal stopped could not be read: ");
    // It goes on trying to write how it ended.
    ground.ledger.comes_back();
    assert_eq!(running.wait(), Some(1), "{}", running.log());
    ground.command("switch", "echo $1 >place");
    ground.site.run(&["migrate", "undo", "move-database", "-q"]).expect(0);
    assert_eq!(ground.log().last().unwrap(), "start");
}
