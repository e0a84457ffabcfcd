//! `sexton migrate undo` as a run in the ledger. The judges are the ledger's own rows and pg_dump.

use std::time::Duration;

use sexton::migrate::{MigrateError, undo};
use sqlx::{Executor, PgConnection};

use super::from_text;
use super::saga::three_tables;
use crate::support::postgres::{Scratch, postgres15};
use crate::support::site::{Running, Site, eventually, postgres_sections};

pub(super) struct Ground {
    pub(super) ledger: Scratch,
    pub(super) main: Scratch,
    pub(super) site: Site,
}

impl Ground {
    /// With one migration of three tables for each name; the last step of `first` waits for a lock of this number.
    pub(super) fn new(names: &[&str], last: &str, more: &str) -> Self {
        let (ledger, main) = (Scratch::new("ledger"), Scratch::new("main"));
        let config = format!("{}migrations: {{recipes: recipes}}\n", postgres_sections(&ledger, &main.name));
        let site = Site::new(&config);
        std::fs::create_dir(site.path().join("recipes")).unwrap();
        for name in names {
            let text = three_tables(name, last, more).replace(
                "            check: SELECT to_regclass('three')",
                "            attempts: 1000\n            lock_timeout: 100ms\n            check: SELECT to_regclass('three')",
            );
            std::fs::write(site.path().join(format!("recipes/{name}.yaml")), text).unwrap();
        }
        site.run(&["ledger", "init"]).expect(0);
        Self { ledger, main, site }
    }

    pub(super) fn runs(&self) -> String {
        self.ledger.psql(
            "SELECT job, trigger, outcome, coalesce(summary, error->>'message'), plan_digest IS NOT NULL FROM runs ORDER BY id",
        )
    }

    pub(super) async fn gate(&self) -> PgConnection {
        let mut gate = postgres15().connect(&self.main.name).await.unwrap();
        gate.execute("SELECT pg_advisory_lock(44)").await.unwrap();
        gate
    }

    /// A run of this migration, waiting in its last step for the lock that [`Ground::gate`] holds.
    #[track_caller]
    pub(super) fn run_to_the_gate(&self, name: &str) -> Running {
        let running = self.site.start(&["migrate", "run", name, "-q"], "run.log");
        let asked = "SELECT count(*) FROM migration_steps WHERE step = 'three' AND state = 'intended'";
        assert!(eventually(Duration::from_secs(60), || self.ledger.psql(asked) == "1"), "{}", running.log());
        running
    }
}

pub(super) const GATE: &str = ", SELECT pg_advisory_xact_lock(44)";

#[test]
fn an_undo_is_a_run_in_the_ledger() {
    let ground = Ground::new(&["mine"], "", "");
    let before = ground.main.dump();
    let undo = |code: i32| ground.site.run(&["migrate", "undo", "mine", "--json", "-q"]).expect(code).json();
    let never = undo(1);
    assert!(never["runs"][0]["error"]["message"].as_str().unwrap().contains("was never begun"), "{never}");
    ground.site.run(&["migrate", "run", "mine", "-q"]).expect(0);
    let undone = undo(0);
    assert_eq!(ground.main.dump(), before);
    let steps = undone["runs"][0]["report"]["migrations"][0]["steps"].as_array().unwrap();
    let steps: Vec<_> = steps.iter().map(|step| (step["step"].as_str(), step["outcome"].as_str())).collect();
    assert_eq!(steps, ["three", "two", "one"].map(|step| (Some(step), Some("undone"))));
    let again = undo(0);
    assert_eq!(again["runs"][0]["plan"]["notes"][0], "migration mine is undone: three, two, one");
    let expect = "migrate|cli|refused|migration `mine` was never begun|f\n\
                  migrate|cli|changed|applied mine|t\n\
                  migrate|cli|changed|undid mine|t\n\
                  migrate|cli|unchanged|nothing to do|t";
    assert_eq!(ground.runs(), expect);
    let id = ground.ledger.psql("SELECT id FROM runs WHERE summary = 'undid mine'");
    assert_eq!(undone["runs"][0]["id"], id.as_str());
    let status = ground.site.run(&["status"]).expect(0);
    assert!(status.out.lines().any(|line| line.contains(&id) && line.contains("undid mine")), "{}", status.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_turns_the_run_around_that_is_at_it() {
    let ground = Ground::new(&["called"], GATE, "");
    let before = ground.main.dump();
    let _gate = ground.gate().await;
    let mut running = ground.run_to_the_gate("called");
    let undo = ground.site.run(&["migrate", "undo", "called"]);
    assert_eq!(running.wait(), Some(6), "{}", running.log());
    assert_eq!(ground.main.dump(), before);
    assert_eq!(ground.ledger.psql("SELECT state, undo_requested_at FROM migrations"), "undone|");
    // It was waited for, or, on a machine that is slow today, told that it was asked.
    match undo.code {
        0 => {
            assert!(undo.out.contains("is undone: three, two, one"), "{undo:?}");
            let met = "SELECT count(*) FROM runs a, runs b WHERE a.id < b.id AND b.started_at < a.finished_at";
            assert_eq!(ground.ledger.psql(met), "0", "one run of the job at a time");
            assert!(ground.runs().ends_with("migrate|cli|unchanged|nothing to do|t"), "{}", ground.runs());
        }
        _ => assert!(undo.err.contains("which was asked to undo it"), "{undo:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_does_not_disturb_a_run_of_another_migration() {
    let ground = Ground::new(&["first", "second"], GATE, "");
    ground.site.run(&["migrate", "run", "first", "-q"]).expect(0);
    ground.main.psql("DROP TABLE three");
    let mut gate = ground.gate().await;
    let mut running = ground.run_to_the_gate("second");
    let busy = ground.site.run(&["migrate", "undo", "first"]).expect(1);
    assert!(busy.err.contains("another run of `migrate` is in progress"), "{busy:?}");
    assert_eq!(ground.ledger.psql("SELECT DISTINCT undo_requested_at IS NULL FROM migrations"), "t", "no word is left");
    gate.execute("SELECT pg_advisory_unlock(44)").await.unwrap();
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert_eq!(ground.ledger.psql("SELECT name, state FROM migrations ORDER BY name"), "first|applied\nsecond|applied");
}

#[test]
fn an_undo_has_the_deadline_of_the_job() {
    let ground = Ground::new(&["slow"], "", "");
    let file = ground.site.path().join("recipes/slow.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let slow = "undo: [\"SELECT pg_sleep(n) FROM pace\", DROP TABLE IF EXISTS two]";
    std::fs::write(&file, text.replace("undo: [DROP TABLE IF EXISTS two]", slow)).unwrap();
    ground.main.psql("CREATE TABLE pace AS SELECT 50 AS n");
    ground.site.run(&["migrate", "run", "slow", "-q"]).expect(0);
    std::fs::write(ground.site.path().join("policies/schedule.yaml"), "jobs: {migrate: {deadline: 2s}}\n").unwrap();
    let late = ground.site.run(&["migrate", "undo", "slow", "-q"]).expect(1);
    assert!(late.err.contains("the deadline of 2s passed"), "{late:?}");
    assert!(
        late.err.contains("Migration `slow` is half undone; it is going back: go on with `sexton migrate undo slow`"),
        "{late:?}"
    );
    assert!(ground.runs().ends_with("migrate|cli|cancelled|the deadline of 2s passed|t"), "{}", ground.runs());
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "undoing", "what is undone stays so");
    assert_eq!(ground.main.psql("SELECT to_regclass('three') IS NULL, to_regclass('two') IS NULL"), "t|f");
    ground.main.psql("UPDATE pace SET n = 0");
    // The server may be at the statement that was given up for some seconds.
    assert!(eventually(Duration::from_secs(60), || ground.site.run(&["migrate", "undo", "slow", "-q"]).code == 0));
    assert_eq!(ground.main.psql("SELECT count(*) FROM pg_class WHERE relname IN ('one', 'two', 'three')"), "0");
}

#[test]
fn an_edited_recipe_is_what_is_wrong_and_not_the_command_line() {
    let ground = Ground::new(&["mine"], "", "parameters: {size: {type: number, default: 1}}\n");
    ground.site.run(&["migrate", "run", "mine", "-q"]).expect(0);
    let file = ground.site.path().join("recipes/mine.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("{size:", "{breadth:")).unwrap();
    let refused = ground.site.run(&["migrate", "undo", "mine", "-q"]).expect(1);
    assert!(refused.err.contains("was begun from another recipe"), "{refused:?}");
    std::fs::write(&file, text).unwrap();
    ground.site.run(&["migrate", "undo", "mine", "-q"]).expect(0);
}

#[test]
fn what_was_begun_is_not_lost_with_its_recipe() {
    let ground = Ground::new(&["mine"], "", "approval: required\n");
    let approve = ["migrate", "approve", "mine", "--by", "Ada", "-q"];
    ground.site.run(&approve).expect(0);
    ground.site.run(&["migrate", "run", "mine", "-q"]).expect(0);
    let file = ground.site.path().join("recipes/mine.yaml");
    std::fs::remove_file(&file).unwrap();
    for args in [&["migrate", "plan", "mine"][..], &["migrate", "undo", "mine"], &approve] {
        let said = ground.site.run(args).expect(78);
        assert!(
            said.err.contains("the recipe of migration `mine`, which is applied, is not there any more"),
            "{said:?}"
        );
        assert!(said.err.contains("SELECT recipe FROM migrations WHERE name = 'mine'"), "{said:?}");
    }
    let typed = ground.site.run(&["migrate", "undo", "mien"]).expect(64);
    assert!(typed.err.contains("there is no recipe `mien`"), "{typed:?}");
    let list = ground.site.run(&["migrate", "list"]).expect(0);
    let line = list.out.lines().find(|line| line.starts_with("mine ")).unwrap_or_else(|| panic!("{list:?}"));
    assert!(line.contains("applied") && line.contains("recipe missing"), "{line}");
    let list = ground.site.run(&["migrate", "list", "--json"]).expect(0).json();
    let mine = list["recipes"].as_array().unwrap().iter().find(|one| one["name"] == "mine").unwrap();
    assert_eq!((mine["state"].as_str(), mine["source"].as_str()), (Some("applied"), Some("recipe missing")));
    // As the hint says.
    std::fs::write(&file, ground.ledger.psql("SELECT recipe FROM migrations WHERE name = 'mine'")).unwrap();
    ground.site.run(&["migrate", "undo", "mine", "-q"]).expect(0);
    assert_eq!(ground.main.psql("SELECT count(*) FROM pg_class WHERE relname IN ('one', 'two', 'three')"), "0");
    // An approval can be taken back without it.
    ground.site.run(&approve).expect(0);
    std::fs::remove_file(&file).unwrap();
    let revoked = ground.site.run(&["migrate", "approve", "mine", "--revoke"]).expect(0);
    assert!(revoked.out.contains("1 approval revoked"), "{revoked:?}");
    ground.site.run(&["migrate", "approve", "mine", "--revoke"]).expect(78);
}

#[test]
fn what_held_before_is_not_told_as_undone() {
    let ground = Ground::new(&["mine"], "", "");
    ground.main.psql("CREATE TABLE two (n int)");
    ground.site.run(&["migrate", "run", "mine", "-q"]).expect(0);
    ground.site.run(&["migrate", "undo", "mine", "-q"]).expect(0);
    assert_eq!(ground.main.psql("SELECT to_regclass('two'), to_regclass('one') IS NULL"), "two|t");
    let again = ground.site.run(&["migrate", "undo", "mine", "--json", "-q"]).expect(0).json();
    assert_eq!(again["runs"][0]["plan"]["notes"][0], "migration mine is undone: three, one");
    // Begun anew, it is looked at anew.
    ground.main.psql("DROP TABLE two");
    ground.site.run(&["migrate", "run", "mine", "-q"]).expect(0);
    assert_eq!(ground.main.psql("SELECT to_regclass('two')"), "two");
}

#[tokio::test]
async fn what_it_waited_for_may_have_begun_it_elsewhere() {
    let ground = super::Ground::new().await;
    let migration = from_text(&three_tables("waits", "", ""));
    ground.run(&migration).await.unwrap();
    let nothing = std::collections::BTreeSet::new();
    let lock = ground.journal.lock("waits", &nothing, &ground.ctx.cancel).await.unwrap();
    let patient = ground.journal.clone().with_lock_wait(Duration::from_secs(30));
    let meanwhile = async {
        let asked = "SELECT undo_requested_at IS NOT NULL FROM migrations";
        while ground.ledger.psql(asked) == "f" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ground.ledger.psql("UPDATE migrations SET target = 'elsewhere'");
        lock.release().await;
    };
    let (undone, ()) = tokio::join!(undo(&migration, &patient, &ground.world, None, &ground.ctx), meanwhile);
    let error = undone.verdict().unwrap_err();
    assert!(matches!(error, MigrateError::OtherDatabase { .. }), "{error}");
    assert_eq!(ground.main.psql("SELECT to_regclass('one')"), "one", "nothing is undone");
    assert_eq!(ground.ledger.psql("SELECT state, undo_requested_at FROM migrations"), "applied|", "no word is left");
}
