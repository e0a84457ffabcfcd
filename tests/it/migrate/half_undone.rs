//! Migrations whose way back stops in the middle: the ledger gone, a signal, an undo that can never succeed. Each says where it
//! stands and where to go, and ends as if it had never been begun. The judge is the database.

use std::time::Duration;

use sqlx::Executor;

use super::undo::{GATE, Ground};
use crate::support::site::{Running, eventually};

impl Ground {
    /// With one migration whose step `three` is undone by this, in statements of its own.
    fn undone_by(name: &str, undo: &str) -> Self {
        let ground = Self::new(&[name], "", "");
        let file = ground.site.path().join(format!("recipes/{name}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("undo: [DROP TABLE IF EXISTS three]", undo);
        assert!(text.contains(undo), "{text}");
        std::fs::write(&file, text).unwrap();
        ground.site.run(&["migrate", "run", name, "-q"]).expect(0);
        ground
    }

    fn left(&self) -> String {
        self.main.psql(
            "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relname IN ('one', 'two', 'three')",
        )
    }

    fn is_undoing(&self, running: &Running) {
        let asked = "SELECT count(*) FROM migration_steps WHERE step = 'three' AND state = 'undoing'";
        assert!(eventually(Duration::from_secs(60), || self.ledger.psql(asked) == "1"), "{}", running.log());
    }
}

const GATED: &str = "undo: [SELECT pg_advisory_xact_lock(44), DROP TABLE IF EXISTS three]";

#[test]
fn what_was_undone_by_hand_is_taken_for_undone() {
    let ground = Ground::undone_by("mine", "undo: [SELECT 1 / 0]");
    let undo = |more: &[&str]| ground.site.run(&[&["migrate", "undo", "mine"], more].concat());
    let early = undo(&["--by-hand", "three"]).expect(1);
    assert!(early.err.contains("is not one whose undoing failed: the migration is applied"), "{early:?}");
    let failed = undo(&[]).expect(1);
    assert!(failed.err.contains("division by zero"), "{failed:?}");
    assert!(failed.err.contains("`sexton migrate undo mine --by-hand three`"), "{failed:?}");
    for (step, why) in [("two", "it is done"), ("four", "the journal has none of that name")] {
        let refused = undo(&["--by-hand", step]).expect(1);
        assert!(refused.err.contains(why), "{refused:?}");
        assert_eq!(ground.left(), "one,three,two", "nothing is undone for {step}");
    }
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "undoing");
    // What is said to be done by hand is not looked at: it is the person's word.
    ground.main.psql("DROP TABLE three");
    ground.main.psql("CREATE VIEW theirs AS SELECT * FROM two");
    let stuck = undo(&["--by-hand", "three"]).expect(1);
    assert!(stuck.err.contains("`sexton migrate undo mine --by-hand two`"), "the next one, then: {stuck:?}");
    assert!(stuck.out.lines().any(|line| line.contains("three") && line.contains("undone by hand")), "{stuck:?}");
    ground.main.psql("DROP VIEW theirs");
    // Said once more, as after a kill, it is as true as before.
    let undone = undo(&["--by-hand", "three"]).expect(0);
    undo(&["--by-hand", "three"]).expect(0);
    assert!(undone.out.lines().any(|line| line.contains("two")) && !undone.out.contains("three"), "{undone:?}");
    assert_eq!((ground.left().as_str(), ground.ledger.psql("SELECT state FROM migrations").as_str()), ("", "undone"));
    let by_hand = "SELECT string_agg(step, ',') FROM migration_steps WHERE evidence @> '{\"by_hand\": true}'";
    assert_eq!(ground.ledger.psql(by_hand), "three");
}

#[test]
fn a_step_that_nothing_undid_says_so() {
    let ground = Ground::undone_by("mine", "undo_query: SELECT 'DROP TABLE three'::text WHERE false");
    let undone = ground.site.run(&["migrate", "undo", "mine"]).expect(0);
    let line = undone.out.lines().find(|line| line.contains("three")).unwrap_or_default();
    assert!(line.contains("undone: no statement did it"), "{undone:?}");
    assert_eq!(ground.left(), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_goes_away_leaves_it_half_undone_and_says_so() {
    let ground = Ground::undone_by("mine", GATED);
    let mut gate = ground.gate().await;
    let mut running = ground.site.start(&["migrate", "undo", "mine", "-q"], "undo.log");
    ground.is_undoing(&running);
    ground.ledger.goes_away();
    running.wait_for("was being undone, and stands half undone at step `three`");
    ground.ledger.comes_back();
    assert_eq!(running.wait(), Some(1), "{}", running.log());
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "undoing");
    let told = running.log();
    assert!(
        told.contains("bring the ledger's database back as it was, then `sexton migrate undo mine` goes on"),
        "{told}"
    );
    gate.execute("SELECT pg_advisory_unlock(44)").await.unwrap();
    let goes_on = || ground.site.run(&["migrate", "undo", "mine", "-q"]).code == 0;
    assert!(eventually(Duration::from_secs(60), goes_on), "{}", ground.runs());
    assert_eq!(ground.left(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_does_not_end_an_undo_and_is_told_so() {
    let ground = Ground::undone_by("mine", GATED);
    let mut gate = ground.gate().await;
    let mut running = ground.site.start(&["migrate", "undo", "mine"], "undo.log");
    ground.is_undoing(&running);
    running.signal("TERM");
    running.wait_for("it goes on being undone: it is not left half undone");
    gate.execute("SELECT pg_advisory_unlock(44)").await.unwrap();
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert_eq!((ground.left().as_str(), ground.ledger.psql("SELECT state FROM migrations").as_str()), ("", "undone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_undone_does_not_disturb_a_run() {
    let ground = Ground::new(&["mine"], GATE, "");
    let mut gate = ground.gate().await;
    let mut running = ground.run_to_the_gate("mine");
    let refused = ground.site.run(&["migrate", "undo", "mine", "--by-hand", "one"]).expect(1);
    assert!(refused.err.contains("is not one whose undoing failed: the migration is running"), "{refused:?}");
    assert_eq!(ground.ledger.psql("SELECT undo_requested_at IS NULL FROM migrations"), "t");
    gate.execute("SELECT pg_advisory_unlock(44)").await.unwrap();
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "applied");
}

/// A program of the undo that was cut off is ended before anybody's word is taken for what it did.
#[test]
fn a_program_that_was_undoing_a_step_is_ended_first() {
    let ground = Ground::new(&["mine"], "", "");
    let file = ground.site.path().join("recipes/mine.yaml");
    std::fs::write(
        &file,
        "name: mine\ndescription: x\ndatabase: main\napproval: none\nstages:\n  - name: s\n    steps:\n      \
         - {name: one, do: {exec: {run: ['true'], undo: [sleep, '3141'], timeout: 1h}}}\n",
    )
    .unwrap();
    ground.site.run(&["migrate", "run", "mine", "-q"]).expect(0);
    let mut running = ground.site.start(&["migrate", "undo", "mine", "-q"], "undo.log");
    let noted = "SELECT evidence::text FROM migration_steps WHERE evidence::text LIKE '%pid%'";
    assert!(eventually(Duration::from_secs(60), || !ground.ledger.psql(noted).is_empty()), "{}", running.log());
    running.signal("KILL");
    running.wait();
    let sleeps = || {
        let all = std::process::Command::new("pgrep").args(["-f", "^sleep 3141$"]).output().unwrap();
        String::from_utf8(all.stdout).unwrap()
    };
    assert_ne!(sleeps(), "", "the program outlives the kill");
    let again = || ground.site.run(&["migrate", "undo", "mine", "--by-hand", "one"]).code == 0;
    assert!(eventually(Duration::from_secs(60), again), "{}", ground.runs());
    assert_eq!(sleeps(), "");
}
