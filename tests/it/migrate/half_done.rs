//! Steps that were begun and are not known to be done: what became of them is asked of the server, never guessed.

use std::time::Duration;

use serde_json::json;
use sexton::failure::{Explain, Kind};
use sexton::migrate::{MigrateError, MigrationState, StepOutcome, undo};

use super::moves::{as_before, quiet};
use super::{Ground, from_text};
use crate::support::postgres::Server;
use crate::support::site::eventually;

/// A step whose undo is right only when the step has happened, and only once; nothing but the server can tell.
fn counting(name: &str, more: &str) -> sexton::migrate::Migration {
    from_text(&format!(
        "name: {name}\ndescription: x\ndatabase: main\napproval: none\non_failure: stop\nstages:\n  - name: s\n    steps:\n      \
         - name: count\n        do:\n          sql:\n            run: [UPDATE counter SET n = n + 10{more}]\n            \
         undo: [UPDATE counter SET n = n - 10]\n      - name: after\n        do: {{sql: {{run: [SELECT 1], undo: [SELECT 1]}}}}\n"
    ))
}

async fn counter() -> Ground {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)");
    ground
}

/// What is noted of a transaction that the server has taken back.
fn aborted(ground: &Ground) -> String {
    ground.main.psql(
        "BEGIN; UPDATE counter SET n = 0; SELECT json_build_object('transaction', pg_current_xact_id()::text); ROLLBACK",
    )
}

/// As a kill right after the transaction has been committed leaves the step.
fn forget_its_end(ground: &Ground, migration: &str, step: &str) {
    let noted = ground.main.psql("SELECT json_build_object('transaction', xmin::text) FROM counter");
    ground.ledger.psql(&format!(
        "UPDATE migrations SET state = '{migration}'; \
         UPDATE migration_steps SET state = '{step}', evidence = '{noted}' WHERE step = 'count'"
    ));
}

#[tokio::test]
async fn a_transaction_that_never_ended_is_not_undone() {
    let ground = counter().await;
    let migration = counting("cut-off", ", SELECT 1 / 0");
    ground.run(&migration).await.unwrap_err();
    // As a kill before the end leaves the step: the server has taken the transaction back.
    let noted = aborted(&ground);
    ground.ledger.psql(&format!("UPDATE migration_steps SET state = 'intended', evidence = '{noted}'"));
    let report = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0", "{report:?}");
    assert_eq!(ground.journal.read("cut-off").await.unwrap().unwrap().state, MigrationState::Undone);
}

#[tokio::test]
async fn a_transaction_that_was_committed_is_not_run_again_and_is_undone_once() {
    let ground = counter().await;
    let migration = counting("counts", "");
    ground.run(&migration).await.unwrap();
    forget_its_end(&ground, "running", "intended");
    let report = ground.run(&migration).await.unwrap();
    assert_eq!(report.migrations[0].steps[0].outcome, StepOutcome::Recovered);
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "10");

    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0");
    forget_its_end(&ground, "undoing", "undoing");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Undone { .. }), "{error}");
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0");
}

#[tokio::test]
async fn an_undo_that_cannot_ask_the_server_forgets_nothing() {
    let ground = counter().await;
    let migration = counting("away", ", SELECT 1 / 0");
    ground.run(&migration).await.unwrap_err();
    let noted = aborted(&ground);
    ground.ledger.psql(&format!("UPDATE migration_steps SET state = 'intended', evidence = '{noted}'"));
    ground.main.goes_away();
    let failed = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(failed, MigrateError::UndoFailed { .. }), "{failed}");
    ground.main.comes_back();
    let kept = ground.ledger.psql("SELECT state, evidence ? 'transaction', error IS NOT NULL FROM migration_steps");
    assert_eq!(kept, "intended|t|t");
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0");
}

#[tokio::test]
async fn what_cannot_be_undone_and_was_taken_back_closes_no_way() {
    let ground = counter().await;
    let text = "name: final\ndescription: x\ndatabase: main\napproval: none\non_failure: stop\nstages:\n  - name: s\n    steps:\n      \
         - {name: made, do: {sql: {run: [CREATE TABLE made ()], undo: [DROP TABLE made]}}}\n      \
         - {name: count, do: {sql: {run: [UPDATE counter SET n = n + 10, SELECT 1 / 0]}}}\n";
    let migration = from_text(text);
    ground.run(&migration).await.unwrap_err();
    let noted = aborted(&ground);
    let intended = |evidence: &str| {
        ground.ledger.psql(&format!(
            "UPDATE migration_steps SET state = 'intended', evidence = '{evidence}' WHERE step = 'count'"
        ));
    };
    // Committed, as far as the server says, it cannot be undone.
    let committed = ground.main.psql("SELECT json_build_object('transaction', xmin::text) FROM counter");
    intended(&committed);
    let refused = undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap_err();
    assert!(matches!(refused, MigrateError::NoWayBack { .. }), "{refused}");
    intended(&noted);
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n, to_regclass('made') IS NULL FROM counter"), "0|t");
}

#[tokio::test]
async fn a_step_whose_undo_never_took_effect_is_not_run_again() {
    let ground = counter().await;
    let migration = counting("turned", "");
    ground.run(&migration).await.unwrap();
    // As an undo leaves it that was killed half way, and whose way back closed then.
    let noted = aborted(&ground);
    ground.ledger.psql(&format!(
        "UPDATE migrations SET state = 'failed'; \
         UPDATE migration_steps SET state = 'undoing', evidence = '{noted}' WHERE step = 'count'"
    ));
    ground.run(&migration).await.unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "10");
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0");
}

#[tokio::test]
async fn what_was_committed_and_is_not_as_it_should_be_is_not_run_twice() {
    let ground = counter().await;
    let text = "name: wrong\ndescription: x\ndatabase: main\napproval: none\non_failure: stop\nstages:\n  - name: s\n    steps:\n      \
         - name: count\n        do: {sql: {run: [UPDATE counter SET n = n + 10], undo: [UPDATE counter SET n = n - 10], verify: SELECT n = 11 FROM counter}}\n";
    let migration = from_text(text);
    for _ in 0..2 {
        let error = ground.run(&migration).await.unwrap_err();
        assert!(matches!(error, MigrateError::NotVerified { .. }), "{error}");
        forget_its_end(&ground, "running", "intended");
    }
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "10");
    ground.run(&migration).await.unwrap_err();
    ground.run(&migration).await.unwrap_err();
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0");
}

#[tokio::test]
async fn an_undo_that_lacks_only_its_last_word_is_not_taken_for_applied() {
    let ground = counter().await;
    let migration = counting("last-word", "");
    ground.run(&migration).await.unwrap();
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    ground.ledger.psql("UPDATE migrations SET state = 'undoing'");
    let planned = ground.plan(&migration).await.unwrap().plan();
    assert!(planned.changes.iter().any(|change| change.reason.contains("journal it as undone")), "{planned:?}");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Undone { steps: 0, .. }), "{error}");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "undone");
}

#[tokio::test]
async fn what_no_transaction_holds_together_is_not_guessed_about() {
    let ground = counter().await;
    let text = "name: blind\ndescription: x\ndatabase: main\napproval: none\nstages:\n  - name: s\n    steps:\n      \
         - name: count\n        do: {sql: {transaction: false, run: [UPDATE counter SET n = n + 10]}}\n";
    let migration = from_text(text);
    ground.run(&migration).await.unwrap();
    forget_its_end(&ground, "running", "intended");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Unknown { .. }), "{error}");
    assert_eq!((error.kind(), ground.steps().as_str()), (Kind::CouldNotVerify, "count|intended"));
}

#[tokio::test]
async fn what_may_be_half_undone_is_not_guessed_about() {
    let ground = counter().await;
    let text = "name: blind\ndescription: x\ndatabase: main\nstages:\n  - name: s\n    steps:\n      \
         - name: count\n        do: {sql: {transaction: false, run: [UPDATE counter SET n = n + 10], undo: [UPDATE counter SET n = n - 10]}}\n";
    let migration = from_text(text);
    ground.run(&migration).await.unwrap();
    // As an undo leaves it that was killed half way, and whose way back closed then.
    ground.ledger.psql("UPDATE migrations SET state = 'failed'; UPDATE migration_steps SET state = 'undoing'");
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Unknown { .. }), "{error}");
    assert_eq!((ground.main.psql("SELECT n FROM counter").as_str(), ground.steps().as_str()), ("10", "count|undoing"));
}

#[test]
fn a_fence_that_failed_and_holds_later_is_taken_down_on_the_way_back() {
    let ground = quiet("fenced");
    ground.recipe(|text| format!("{text}\non_failure: stop\n"));
    let get = |sql: &str| Server::Pg15.psql("postgres", sql);
    let name = &ground.source.name;
    // One who may let others in, and whom he has let in; one who is gone when the fence comes down.
    let [lets, let_in, gone] = ["lets", "let_in", "gone"].map(|role| format!("{role}_{name}"));
    for role in [&lets, &let_in, &gone] {
        get(&format!("CREATE ROLE {role}"));
    }
    get(&format!("GRANT CONNECT ON DATABASE {name} TO {lets} WITH GRANT OPTION"));
    get(&format!("GRANT CONNECT ON DATABASE {name} TO {gone}"));
    get(&format!("SET ROLE {lets}; GRANT CONNECT ON DATABASE {name} TO {let_in}"));
    let who = "SELECT string_agg(format('%s %s', a.grantee::regrole, a.is_grantable), ', ' ORDER BY a.grantee::regrole::text) \
               FROM pg_database d, aclexplode(d.datacl) a WHERE a.privilege_type = 'CONNECT' AND d.datname = ";
    let who = format!("{who}'{name}'");
    let before = get(&who);
    ground.approve();

    let mut psql = Server::Pg15.tool("psql", name);
    let mut superuser = psql.args(["-Xqc", "SELECT pg_sleep(300)"]).spawn().unwrap();
    let theirs = |what: &str| {
        get(&format!("SELECT {what} FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE '%pg_sleep%'"))
    };
    assert!(eventually(Duration::from_secs(20), || theirs("count(*)") == "1"));
    let failed = ground.run().expect(1);
    assert!(failed.out.contains("still connected"), "{failed:?}");
    assert!(!ground.lets_temporal_in());
    theirs("count(pg_terminate_backend(pid))");
    superuser.wait().unwrap();

    ground.run().expect(0);
    assert!(!get(&who).contains(&let_in), "{}", get(&who));
    get(&format!("DROP ROLE {gone}"));
    ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
    let after = get(&who);
    for role in [&lets, &let_in] {
        get(&format!("REVOKE CONNECT ON DATABASE {name} FROM {role} CASCADE; DROP ROLE {role}"));
    }
    let without = before.split(", ").filter(|one| !one.starts_with(&gone)).collect::<Vec<_>>().join(", ");
    assert_eq!(after, without);
    assert!(ground.lets_temporal_in());
}

#[test]
fn a_database_that_has_no_mark_yet_is_still_its_own() {
    let ground = quiet("unmarked");
    let (dump, access) = (ground.source.dump(), ground.access());
    let there = |sql: &str| Server::Pg17.psql("postgres", sql);
    // The comment has to wait for this one. Others' do for a moment, too; they are told apart by the source's name.
    let mut psql = Server::Pg17.tool("psql", "postgres");
    let hold =
        format!("BEGIN; LOCK TABLE pg_shdescription IN SHARE MODE; SELECT pg_sleep(300) /* {} */", ground.source.name);
    let mut holds = psql.args(["-Xqc", &hold]).spawn().unwrap();
    let mut running = ground.site.start(&["migrate", "run", "move-database", "-q"], "killed.log");
    let sessions = |what: &str, begins: &str| {
        let name = &ground.source.name;
        there(&format!(
            "SELECT {what} FROM pg_stat_activity WHERE query LIKE '{begins}%{name}%' AND wait_event IS NOT NULL"
        ))
    };
    let commented = || sessions("substring(query FROM 'sexton_new_[0-9a-f]+')", "COMMENT ON DATABASE");
    assert!(eventually(Duration::from_secs(120), || !commented().is_empty()), "{}", running.log());
    let new = commented();
    running.signal("KILL");
    running.wait();
    for begins in ["COMMENT ON DATABASE", "BEGIN; LOCK TABLE pg_shdescription"] {
        sessions("count(pg_terminate_backend(pid))", begins);
    }
    holds.wait().unwrap();
    let has_new = || there(&format!("SELECT count(*) FROM pg_database WHERE datname = '{new}'"));
    assert_eq!((has_new().as_str(), ground.has_target()), ("1", false));
    ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
    assert_eq!(has_new(), "0");
    as_before(&ground, &dump, &access);
    ground.approve();
    ground.run().expect(0);
    assert_eq!((has_new().as_str(), ground.has_target()), ("0", true));
}

#[test]
fn a_program_that_outlived_its_run_is_ended_before_anything_is_undone() {
    let ground = quiet("outlived");
    let (dump, access) = (ground.source.dump(), ground.access());
    // It would stop the server once more, long after it was started again.
    ground.command("stop", "echo $$ >pid; sleep 300; echo late >>log");
    let mut running = ground.site.start(&["migrate", "run", "move-database", "-q"], "killed.log");
    let file = ground.site.path().join("pid");
    let pid = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    assert!(eventually(Duration::from_secs(60), || !pid().is_empty()), "{}", running.log());
    // Its first words are journaled a moment after it has started.
    let noted = "SELECT count(*) FROM migration_steps WHERE evidence ? 'program'";
    assert!(eventually(Duration::from_secs(20), || ground.ledger.psql(noted) == "1"));
    running.signal("KILL");
    running.wait();
    let lives = || std::path::Path::new(&format!("/proc/{}/cmdline", pid())).exists();
    assert!(lives());
    ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
    assert!(!lives() || std::fs::read_to_string(format!("/proc/{}/cmdline", pid())).unwrap().is_empty());
    as_before(&ground, &dump, &access);
    assert_eq!(ground.log(), ["stop", "start"]);
}

#[test]
fn a_served_target_is_not_stopped_to_learn_that_there_is_no_way_back() {
    let ground = quiet("served");
    ground.run().expect(0);
    Server::Pg17.psql(&ground.target, "UPDATE executions SET next_event_id = 9 WHERE workflow_id = 'w7'");
    let (log, access) = (ground.log(), ground.access());
    let refused = ground.site.run(&["migrate", "undo", "move-database"]).expect(1);
    assert!(refused.err.contains("the way back ends at step `way-back`"), "{refused:?}");
    assert_eq!((ground.log(), ground.access(), ground.place().as_str()), (log, access, "there"), "nothing was touched");
    assert_eq!(ground.ledger.psql("SELECT state, undo_requested_at FROM migrations"), "applied|");
    let planned = ground.site.run(&["migrate", "plan", "move-database"]).expect(0);
    assert!(planned.out.contains("nothing to do"), "{planned:?}");
}

#[test]
fn a_target_that_is_the_source_is_refused() {
    let ground = quiet("same");
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let (source, rest) = config.split_once("\ntarget:").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let target = source.replace("postgres:", "target:");
    std::fs::write(&file, format!("{source}\n{target}\n{rest}")).unwrap();
    for verb in ["plan", "run"] {
        let refused = ground.site.run(&["migrate", verb, "move-database"]).expect(78);
        assert!(refused.err.contains("the target is the source itself"), "{refused:?}");
    }
    assert_eq!(json!(ground.log()), json!([]));
}
