//! Migrations that fail, are called back, or are killed: they end done or as if they had never been begun. The judge of
//! "as before" is pg_dump.

use std::time::Duration;

use sexton::context::Context;
use sexton::failure::{Explain, Kind};
use sexton::migrate::{
    MigrateError, MigrationOutcome, MigrationState, Options, Place, StepOutcome, World, apply, undo,
};
use sqlx::{Connection, Executor};

use super::{Ground, from_text};
use crate::support::postgres::{Scratch, postgres15};

/// Three steps that make a table each; the last one does what it is told as well.
pub(super) fn three_tables(name: &str, last: &str, more: &str) -> String {
    let step = |table: &str, also: &str| {
        format!(
            "      - name: {table}\n        do:\n          sql:\n            check: SELECT to_regclass('{table}') IS NOT NULL\n            \
             run: [CREATE TABLE {table} (n int){also}]\n            undo: [DROP TABLE IF EXISTS {table}]\n"
        )
    };
    format!(
        "name: {name}\ndescription: Three tables\ndatabase: main\n{more}stages:\n  - name: early\n    steps:\n{}{}  - name: late\n    steps:\n{}",
        step("one", ""),
        step("two", ""),
        step("three", last)
    )
}

const FAILS: &str = ", SELECT 1 / (SELECT count(*) FROM one WHERE n = 7)";

#[tokio::test]
async fn a_failed_migration_is_as_if_it_had_never_been() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)");
    let before = ground.main.dump();
    let migration = from_text(&three_tables("fails", FAILS, ""));
    let planned = ground.plan(&migration).await.unwrap();
    let report = apply(&planned, &ground.journal, &ground.world, &Options::default(), &ground.ctx).await;
    let steps: Vec<_> = report.migrations[0].steps.iter().map(|step| (step.step.as_str(), step.outcome)).collect();
    use StepOutcome::{Done, Undone};
    assert_eq!(steps, [("one", Done), ("two", Done), ("two", Undone), ("one", Undone)], "in reverse");
    assert_eq!(report.migrations[0].outcome, MigrationOutcome::Undone);
    let failed = report.migrations[0].failed.as_ref().map(|at| (at.stage.as_str(), at.step.as_str()));
    assert_eq!(failed, Some(("late", "three")));
    let error = report.verdict().unwrap_err();
    assert_eq!(error.kind(), Kind::Compensated);
    assert!(
        error.to_string().contains("division by zero") && error.to_string().contains("2 steps were undone"),
        "{error}"
    );
    assert_eq!(ground.main.dump(), before);
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "undone");
    assert_eq!(ground.steps(), "one|undone\ntwo|undone\nthree|failed");

    // Begun anew, once the cause is gone, it is applied.
    let planned = ground.plan(&migration).await.unwrap();
    assert_eq!(planned.plan().changes.len(), 3);
    let mut gate = postgres15().connect(&ground.main.name).await.unwrap();
    gate.execute("CREATE TABLE one (n int); INSERT INTO one VALUES (7)").await.unwrap();
    assert_eq!(ground.run(&migration).await.unwrap().changed, 1);
    assert_eq!(ground.steps(), "one|present\ntwo|done\nthree|done");
}

#[tokio::test]
async fn what_was_undone_may_be_begun_from_an_edited_recipe() {
    let ground = Ground::new().await;
    ground.run(&from_text(&three_tables("edited", FAILS, ""))).await.unwrap_err();
    let edited = from_text(&three_tables("edited", "", "").replace("name: two\n", "name: second\n"));
    assert_eq!(ground.run(&edited).await.unwrap().changed, 1);
    assert_eq!(ground.steps(), "one|done\nsecond|done\nthree|done");
    let other = ground.run(&from_text(&three_tables("edited", "", ""))).await.unwrap_err();
    assert!(matches!(other, MigrateError::Edited { .. }), "{other}");
}

#[tokio::test]
async fn what_was_there_before_is_not_undone() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE two (old text)");
    let before = ground.main.dump();
    let error = ground.run(&from_text(&three_tables("fails", FAILS, ""))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Compensated, "{error}");
    assert_eq!(ground.main.dump(), before, "the table that was there is there");
}

#[tokio::test]
async fn behind_a_step_that_cannot_be_undone_there_is_only_forward() {
    let ground = Ground::new().await;
    let text = three_tables("forward", FAILS, "approval: none\n").replacen(
        "            undo: [DROP TABLE IF EXISTS two]\n",
        "",
        1,
    );
    let migration = from_text(&text);
    let planned = ground.plan(&migration).await.unwrap().plan();
    assert!(planned.notes.iter().any(|note| note.contains("behind step two there is no way back")), "{planned:?}");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::OnlyForward { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!(ground.main.psql("SELECT to_regclass('one'), to_regclass('two')"), "one|two", "nothing is undone");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "failed");
    let refused = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(refused, MigrateError::NoWayBack { .. }), "{refused}");

    ground.main.psql("INSERT INTO one VALUES (7)");
    assert_eq!(ground.run(&migration).await.unwrap().changed, 1);
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "applied");
}

#[tokio::test]
async fn a_recipe_may_stop_where_it_fails() {
    let ground = Ground::new().await;
    let migration = from_text(&three_tables("stays", FAILS, "on_failure: stop\n"));
    let error = ground.run(&migration).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!(ground.steps(), "one|done\ntwo|done\nthree|failed");
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT count(*) FROM pg_class WHERE relname IN ('one', 'two', 'three')"), "0");
}

#[tokio::test]
async fn an_applied_migration_can_be_undone_and_applied_again() {
    let ground = Ground::new().await;
    let before = ground.main.dump();
    let migration = from_text(&three_tables("twice", "", ""));
    let never = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(never, MigrateError::NeverBegun { .. }), "{never}");
    ground.run(&migration).await.unwrap();
    let report = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(report.migrations[0].steps.len(), 3);
    assert_eq!(ground.main.dump(), before);
    let again = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(again.migrations[0].outcome, MigrationOutcome::Unchanged);
    assert_eq!(ground.run(&migration).await.unwrap().changed, 1);
    assert_eq!(ground.steps(), "one|done\ntwo|done\nthree|done");
}

#[tokio::test]
async fn a_stage_has_its_time_and_no_more() {
    let ground = Ground::new().await;
    let before = ground.main.dump();
    let slow = three_tables("slow", ", SELECT pg_sleep(30)", "")
        .replace("  - name: late\n", "  - name: late\n    deadline: 1s\n");
    let clock = std::time::Instant::now();
    let error = ground.run(&from_text(&slow)).await.unwrap_err();
    assert!(error.to_string().contains("was not done within its deadline of 1s"), "{error}");
    assert_eq!(error.kind(), Kind::Compensated);
    assert!(clock.elapsed() < Duration::from_secs(29));
    // The server may still be at the statement that was given up; it ends with its session.
    eventually_dumps(&ground, &before);
}

#[tokio::test]
async fn a_stage_of_short_steps_has_no_more_time_either() {
    let ground = Ground::new().await;
    let text = three_tables("short", "", "").replace("  - name: early\n", "  - name: early\n    deadline: 500ms\n");
    let text =
        text.replacen("run: [CREATE TABLE one (n int)]", "run: [CREATE TABLE one (n int), SELECT pg_sleep(2)]", 1);
    let error = ground.run(&from_text(&text)).await.unwrap_err();
    assert!(error.to_string().contains("was not done within its deadline of 500ms"), "{error}");
    assert_eq!((error.kind(), ground.steps().as_str()), (Kind::Compensated, "one|undone"));
}

#[tokio::test]
async fn a_refused_undo_does_not_disturb_a_run() {
    let ground = Ground::new().await;
    let gated = |text: String| {
        let text = text.replacen("            undo: [DROP TABLE IF EXISTS one]\n", "", 1);
        text.replace(
            "            check: SELECT to_regclass('three')",
            "            attempts: 1000\n            lock_timeout: 100ms\n            check: SELECT to_regclass('three')",
        )
    };
    let migration = from_text(&gated(three_tables("steady", ", SELECT pg_advisory_xact_lock(43)", "approval: none\n")));
    let mut gate = postgres15().connect(&ground.main.name).await.unwrap();
    gate.execute("SELECT pg_advisory_lock(43)").await.unwrap();
    let planned = ground.plan(&migration).await.unwrap();
    let (journal, world, ctx) = (ground.journal.clone(), ground.world.clone(), ground.ctx.clone());
    let run = tokio::spawn(async move { apply(&planned, &journal, &world, &Options::default(), &ctx).await.verdict() });
    while !ground.steps().contains("three|intended") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(refused, MigrateError::NoWayBack { .. }), "{refused}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.execute("SELECT pg_advisory_unlock(43)").await.unwrap();
    assert_eq!(run.await.unwrap().unwrap().changed, 1);
}

fn eventually_dumps(ground: &Ground, before: &[String]) {
    for _ in 0..100 {
        if ground.main.dump() == before {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(ground.main.dump(), before);
}

#[tokio::test]
async fn it_goes_as_far_as_it_is_told() {
    let ground = Ground::new().await;
    let migration = from_text(&three_tables("partly", "", ""));
    let options = Options::until(Some("early".to_owned().try_into().unwrap()));
    let planned = ground.plan(&migration).await.unwrap();
    let report = apply(&planned, &ground.journal, &ground.world, &options, &ground.ctx).await.verdict().unwrap();
    assert_eq!(report.migrations[0].outcome, MigrationOutcome::Stopped);
    assert_eq!(ground.steps(), "one|done\ntwo|done");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "stopped");
    ground.run(&migration).await.unwrap();
    assert_eq!(ground.steps(), "one|done\ntwo|done\nthree|done");
}

/// Starts a migration that waits in its last step until a lock is let go.
async fn waiting(
    ground: &Ground,
    name: &str,
) -> (tokio::task::JoinHandle<Result<(), MigrateError>>, sqlx::PgConnection) {
    let mut gate = postgres15().connect(&ground.main.name).await.unwrap();
    gate.execute("SELECT pg_advisory_lock(42)").await.unwrap();
    let migration = from_text(&three_tables(name, ", SELECT pg_advisory_xact_lock(42)", "").replace(
        "            check: SELECT to_regclass('three')",
        "            attempts: 1000\n            lock_timeout: 100ms\n            check: SELECT to_regclass('three')",
    ));
    let planned = ground.plan(&migration).await.unwrap();
    let (journal, world, ctx) = (ground.journal.clone(), ground.world.clone(), ground.ctx.clone());
    let task =
        tokio::spawn(
            async move { apply(&planned, &journal, &world, &Options::default(), &ctx).await.verdict().map(drop) },
        );
    for _ in 0..500 {
        if ground.steps().contains("three|intended") {
            return (task, gate);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come to its last step: {}", ground.steps());
}

#[tokio::test]
async fn a_run_that_is_called_back_undoes_what_it_did() {
    let ground = Ground::new().await;
    let before = ground.main.dump();
    let (task, _gate) = waiting(&ground, "called").await;
    let migration = from_text(&three_tables("called", ", SELECT pg_advisory_xact_lock(42)", "").replace(
        "            check: SELECT to_regclass('three')",
        "            attempts: 1000\n            lock_timeout: 100ms\n            check: SELECT to_regclass('three')",
    ));
    let asked = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(asked, MigrateError::UndoAsked { .. }), "{asked}");
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, MigrateError::Undone { cause: None, .. }), "{error}");
    assert_eq!(ground.main.dump(), before);
}

#[tokio::test]
async fn a_ledger_that_goes_away_stops_it_and_it_goes_on() {
    let ground = Ground::new().await;
    let (task, mut gate) = waiting(&ground, "ledgerless").await;
    ground.ledger.goes_away();
    gate.execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert!(!matches!(error, MigrateError::Undone { .. }), "nothing is undone without a journal: {error}");
    ground.ledger.comes_back();
    let state = ground.ledger.psql("SELECT state FROM migrations");
    assert_eq!(state, "running", "as it was when the ledger went");
    let text = three_tables("ledgerless", ", SELECT pg_advisory_xact_lock(42)", "").replace(
        "            check: SELECT to_regclass('three')",
        "            attempts: 1000\n            lock_timeout: 100ms\n            check: SELECT to_regclass('three')",
    );
    assert_eq!(ground.run(&from_text(&text)).await.unwrap().changed, 1);
    assert_eq!(
        ground.main.psql("SELECT to_regclass('one'), to_regclass('two'), to_regclass('three')"),
        "one|two|three"
    );
}

#[tokio::test]
async fn an_undo_that_was_killed_goes_on_and_a_failing_one_can_be_repeated() {
    let ground = Ground::new().await;
    let before = ground.main.dump();
    let migration = from_text(&three_tables("killed", "", ""));
    ground.run(&migration).await.unwrap();
    // As a kill in the middle of the way back leaves it.
    ground.main.psql("DROP TABLE three");
    ground.ledger.psql(
        "UPDATE migrations SET state = 'undoing'; UPDATE migration_steps SET state = 'undoing' WHERE step = 'three'",
    );
    // Somebody's view keeps the next table from being dropped.
    ground.main.psql("CREATE VIEW theirs AS SELECT * FROM two");
    let planned = ground.plan(&migration).await.unwrap();
    assert!(planned.plan().changes.iter().all(|change| change.reason.contains("going back")), "{planned:?}");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::UndoFailed { .. }), "{error}");
    assert!(error.to_string().contains("depend"), "{error}");
    assert_eq!(ground.journal.read("killed").await.unwrap().unwrap().state, MigrationState::Undoing);
    assert_eq!(ground.main.psql("SELECT to_regclass('one'), to_regclass('two')"), "one|two");
    ground.main.psql("DROP VIEW theirs");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Undone { .. }), "{error}");
    assert_eq!(ground.main.dump(), before);
}

#[tokio::test]
async fn two_migrations_of_one_database_are_never_run_at_once() {
    let ground = Ground::new().await;
    let (task, mut gate) = waiting(&ground, "first").await;
    let second = from_text(&three_tables("second", "", "").replace(" three", " four").replace("'three'", "'four'"));
    let error = ground.run(&second).await.unwrap_err();
    assert!(matches!(error, MigrateError::BusyThing { .. }), "{error}");
    // Another database is none of its business.
    let other = Scratch::new("other");
    let world = World::of(Place::new(postgres15(), &other.name, None));
    let elsewhere = Ground {
        world,
        main: other,
        ledger: Scratch::new("none"),
        journal: ground.journal.clone(),
        ctx: Context::plain(),
    };
    assert_eq!(elsewhere.run(&second).await.unwrap().changed, 1);
    gate.execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    task.await.unwrap().unwrap();
    gate.close().await.unwrap();
}

#[tokio::test]
async fn a_word_that_is_left_while_a_run_begins_is_not_lost() {
    let ground = Ground::new().await;
    let slow = "requires: [{that: it is late, query: SELECT pg_sleep(2) IS NOT NULL}]\n";
    let migration = from_text(&three_tables("begins", "", slow));
    ground.run(&from_text(&three_tables("begins", FAILS, &format!("on_failure: stop\n{slow}")))).await.unwrap_err();
    ground.ledger.psql(&format!("UPDATE migrations SET digest = '{}'", migration.digest));
    let planned = ground.plan(&migration).await.unwrap();
    let (journal, world, ctx) = (ground.journal.clone(), ground.world.clone(), ground.ctx.clone());
    let run = tokio::spawn(async move { apply(&planned, &journal, &world, &Options::default(), &ctx).await.verdict() });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let asked = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(asked, MigrateError::UndoAsked { .. }), "{asked}");
    let error = run.await.unwrap().unwrap_err();
    assert!(matches!(error, MigrateError::Undone { cause: None, .. }), "{error}");
    assert_eq!(ground.main.psql("SELECT to_regclass('one'), to_regclass('three')"), "|");
    assert_eq!(ground.ledger.psql("SELECT state, undo_requested_at FROM migrations"), "undone|");
}

#[tokio::test]
async fn what_cannot_be_undone_stays_applied_when_somebody_asks() {
    let ground = Ground::new().await;
    let text = three_tables("for-good", "", "approval: none\n");
    let migration = from_text(&text.replacen("            undo: [DROP TABLE IF EXISTS two]\n", "", 1));
    ground.run(&migration).await.unwrap();
    let refused = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(refused, MigrateError::NoWayBack { .. }), "{refused}");
    assert_eq!(ground.ledger.psql("SELECT state, undo_requested_at FROM migrations"), "applied|");
    assert!(ground.plan(&migration).await.unwrap().plan().is_empty());
}

/// What a step sets in its session does not reach the next one, its role included.
#[tokio::test]
async fn a_step_leaves_nothing_set() {
    let ground = Ground::new().await;
    let text = "name: leaves\ndescription: x\ndatabase: main\napproval: none\nstages:\n  - name: s\n    steps:\n      \
         - {name: sets, do: {sql: {transaction: false, run: [SET ROLE pg_monitor, SET work_mem = '1MB']}}}\n      \
         - {name: makes, do: {sql: {run: [\"CREATE TABLE made AS SELECT current_user::text AS who, current_setting('work_mem') AS mem\"]}}}\n";
    ground.run(&from_text(text)).await.unwrap();
    let made = ground.main.psql("SELECT who <> 'pg_monitor', mem <> '1MB' FROM made");
    assert_eq!(made, "t|t");
}
