//! Approvals: for exactly this plan, on exactly this source, once, and not for ever.

use std::time::Duration;

use sexton::failure::{Explain, Kind};
use sexton::migrate::{Granted, MigrateError, Migration, approve, revoke, undo};

use super::saga::three_tables;
use super::{Ground, from_text};

const DAY: Duration = Duration::from_secs(86_400);

fn granted(seen: Option<&str>) -> Granted<'_> {
    Granted { id: uuid::Uuid::now_v7(), by: "Ada", expires: DAY, step: None, seen }
}

async fn approved(ground: &Ground, migration: &Migration) {
    approve(migration, &ground.journal, &ground.world, &granted(None), &ground.ctx).await.unwrap();
}

/// Runs it, and gives back the error that kept it from beginning.
async fn refused(ground: &Ground, migration: &Migration) -> MigrateError {
    let error = ground.run(migration).await.unwrap_err();
    assert_eq!(ground.ledger.psql("SELECT count(*) FROM migrations WHERE state NOT IN ('undone')"), "0", "{error}");
    assert_eq!(ground.main.psql("SELECT to_regclass('three') IS NULL"), "t", "{error}");
    error
}

fn required() -> Migration {
    from_text(&three_tables("asks", "", "approval: required\n"))
}

#[tokio::test]
async fn an_approval_is_for_one_beginning() {
    let ground = Ground::new().await;
    let migration = required();
    let error = refused(&ground, &migration).await;
    assert_eq!(error.kind(), Kind::Awaited, "{error}");
    approved(&ground, &migration).await;
    ground.run(&migration).await.unwrap();
    assert_eq!(ground.ledger.psql("SELECT approved_by, used_at IS NOT NULL FROM migration_approvals"), "Ada|t");

    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    let error = refused(&ground, &migration).await;
    assert!(error.to_string().contains("the approval of Ada was used already"), "{error}");
    assert_eq!(error.kind(), Kind::Awaited);
}

#[tokio::test]
async fn a_run_that_goes_on_needs_no_second_one() {
    let ground = Ground::new().await;
    let migration = from_text(&three_tables(
        "goes-on",
        ", SELECT 1 / (SELECT count(*) FROM one WHERE n = 7)",
        "approval: required\non_failure: stop\n",
    ));
    approved(&ground, &migration).await;
    ground.run(&migration).await.unwrap_err();
    ground.main.psql("INSERT INTO one VALUES (7)");
    assert_eq!(ground.run(&migration).await.unwrap().changed, 1);
}

#[tokio::test]
async fn an_edited_plan_is_another_one() {
    let ground = Ground::new().await;
    approved(&ground, &required()).await;
    for text in [
        three_tables("asks", ", SELECT 1", "approval: required\n"),
        three_tables("asks", "", "approval: required\n").replace("n int", "n bigint"),
        three_tables("asks", "", "approval: required\nlimits: {lock: 1s}\n"),
    ] {
        let error = refused(&ground, &from_text(&text)).await;
        assert_eq!(error.kind(), Kind::Stale, "{error}");
        assert!(error.to_string().contains("Ada approved another plan"), "{error}");
    }
    ground.run(&required()).await.unwrap();
}

#[tokio::test]
async fn another_source_is_not_what_was_approved() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE theirs (n int)");
    approved(&ground, &required()).await;
    ground.main.psql("ALTER TABLE theirs ADD COLUMN m int");
    let error = refused(&ground, &required()).await;
    assert_eq!(error.kind(), Kind::Stale, "{error}");
    assert!(error.to_string().contains("tables, columns, indexes or constraints of database"), "{error}");

    // The same tables in a database that was made anew under the same name.
    approved(&ground, &required()).await;
    let name = &ground.main.name;
    ground.main.server.psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    ground.main.server.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
    ground.main.psql("CREATE TABLE theirs (n int, m int)");
    let error = refused(&ground, &required()).await;
    assert!(error.to_string().contains("the OID of database"), "{error}");

    // Rows may change, and a third more of them at most.
    approved(&ground, &required()).await;
    ground.main.psql("INSERT INTO theirs SELECT n, n FROM generate_series(1, 300000) n");
    let error = refused(&ground, &required()).await;
    assert!(error.to_string().contains("the source has grown"), "{error}");
    approved(&ground, &required()).await;
    ground.main.psql("INSERT INTO theirs SELECT n, n FROM generate_series(1, 1000) n");
    ground.run(&required()).await.unwrap();
}

#[tokio::test]
async fn an_approval_ends_or_is_taken_back() {
    let ground = Ground::new().await;
    let migration = required();
    approved(&ground, &migration).await;
    ground.ledger.psql("UPDATE migration_approvals SET expires_at = now()");
    let error = refused(&ground, &migration).await;
    assert!(error.kind() == Kind::Stale && error.to_string().contains("expired"), "{error}");
    approved(&ground, &migration).await;
    assert_eq!(revoke("asks", &ground.journal).await.unwrap(), 2);
    let error = refused(&ground, &migration).await;
    assert!(error.kind() == Kind::Stale && error.to_string().contains("revoked"), "{error}");
}

#[tokio::test]
async fn what_was_seen_is_what_is_approved() {
    let ground = Ground::new().await;
    let migration = required();
    let digest = migration.plan_digest().to_string();
    for (seen, fits) in [(&digest[..12], true), (&digest[..4], false), ("0123456789", false), (digest.as_str(), true)] {
        let given = approve(&migration, &ground.journal, &ground.world, &granted(Some(seen)), &ground.ctx).await;
        assert_eq!(given.is_ok(), fits, "{seen}: {given:?}");
        assert!(given.map_or_else(|error| error.kind() == Kind::Stale, |_| true));
    }
}

#[tokio::test]
async fn what_cannot_be_undone_is_asked_about_and_a_rehearsal_may_be_too() {
    let ground = Ground::new().await;
    let destructive = "name: drops\ndescription: x\ndatabase: main\nstages: [{name: s, steps: [{name: t, do: {sql: {run: [SELECT 1]}}}]}]\n";
    let error = ground.run(&from_text(destructive)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Awaited, "{error}");
    let rehearsed = from_text(&three_tables("rehearsed", "", "rehearsal: required\n"));
    let error = ground.run(&rehearsed).await.unwrap_err();
    assert!(matches!(error, MigrateError::NotRehearsed { .. }), "{error}");
    let asks = from_text(&three_tables("rehearsed", "", "rehearsal: required\napproval: required\n"));
    let error = approve(&asks, &ground.journal, &ground.world, &granted(None), &ground.ctx).await.unwrap_err();
    assert!(matches!(error, MigrateError::NotRehearsed { .. }), "{error}");
}

#[tokio::test]
async fn a_step_may_wait_for_somebody() {
    let ground = Ground::new().await;
    let ask = "  - name: ask\n    steps:\n      - {name: sure, do: {approve: {question: Is Temporal stopped}}}\n  - name: late\n";
    let migration = from_text(&three_tables("waits", "", "").replace("  - name: late\n", ask));
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Awaits { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Awaited);
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "stopped");
    assert_eq!(ground.main.psql("SELECT to_regclass('two'), to_regclass('three') IS NULL"), "two|t");
    let wrong = Granted { step: Some("one"), ..granted(None) };
    let error = approve(&migration, &ground.journal, &ground.world, &wrong, &ground.ctx).await.unwrap_err();
    assert!(error.to_string().contains("those that do: sure"), "{error}");
    let right = Granted { step: Some("sure"), ..granted(None) };
    approve(&migration, &ground.journal, &ground.world, &right, &ground.ctx).await.unwrap();
    assert_eq!(ground.run(&migration).await.unwrap().changed, 1);
    assert_eq!(
        ground.ledger.psql("SELECT evidence->'found'->>'approved_by' FROM migration_steps WHERE step = 'sure'"),
        "Ada"
    );
}

#[tokio::test]
async fn a_step_is_not_approved_for_another_database() {
    let ground = Ground::new().await;
    let ask = "  - name: ask\n    steps:\n      - {name: sure, do: {approve: {question: Is Temporal stopped}}}\n  - name: late\n";
    let migration = from_text(&three_tables("waits", "", "").replace("  - name: late\n", ask));
    ground.run(&migration).await.unwrap_err();
    let step = || Granted { step: Some("sure"), ..granted(None) };
    approve(&migration, &ground.journal, &ground.world, &step(), &ground.ctx).await.unwrap();
    let other = crate::support::postgres::Scratch::new("other");
    let given = ground.ledger.psql("SELECT source FROM migration_approvals");
    let oid = |name: &str| {
        ground.main.server.psql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{name}'"))
    };
    let elsewhere = given.replace(&oid(&ground.main.name), &oid(&other.name));
    ground.ledger.psql(&format!("UPDATE migration_approvals SET source = '{elsewhere}'"));
    let error = ground.run(&migration).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stale, "{error}");
    assert!(error.to_string().contains("Ada approved step sure for another source: the OID of database"), "{error}");
    assert_eq!(ground.main.psql("SELECT to_regclass('three') IS NULL"), "t");
    approve(&migration, &ground.journal, &ground.world, &step(), &ground.ctx).await.unwrap();
    ground.run(&migration).await.unwrap();
}

#[tokio::test]
async fn a_database_that_a_step_names_is_part_of_the_source() {
    let ground = Ground::new().await;
    let named = crate::support::postgres::Scratch::new("named");
    let text = format!(
        "name: named\ndescription: x\ndatabase: main\napproval: required\nstages:\n  - name: s\n    steps:\n      \
         - name: t\n        do: {{sql: {{database: {}, run: [CREATE TABLE three ()], undo: [DROP TABLE three]}}}}\n",
        named.name
    );
    let migration = from_text(&text);
    approved(&ground, &migration).await;
    named.psql("CREATE TABLE meanwhile (n int)");
    let error = refused(&ground, &migration).await;
    assert!(error.kind() == Kind::Stale && error.to_string().contains(&named.name), "{error}");
}

#[tokio::test]
async fn a_step_that_held_when_it_was_planned_is_asked_about_when_it_does_not() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE two (n int)");
    let text = three_tables("held", "", "").replacen("            undo: [DROP TABLE IF EXISTS two]\n", "", 1);
    let migration = from_text(&text);
    let planned = ground.plan(&migration).await.unwrap();
    assert!(!sexton::migrate::is_needed(&planned.migrations[0]));
    ground.main.psql("DROP TABLE two");
    let options = sexton::migrate::Options::default();
    let run = async || {
        let report = sexton::migrate::apply(&planned, &ground.journal, &ground.world, &options, &ground.ctx);
        report.await.verdict()
    };
    let error = run().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Awaited, "{error}");
    assert_eq!(ground.main.psql("SELECT to_regclass('one'), to_regclass('two') IS NULL"), "one|t");
    assert_eq!(run().await.unwrap_err().kind(), Kind::Awaited, "also when it goes on");
    approved(&ground, &migration).await;
    run().await.unwrap();
    assert_eq!(ground.steps(), "one|done\ntwo|done\nthree|done");
}

#[tokio::test]
async fn an_approval_of_an_earlier_beginning_is_nothing_to_a_later_one() {
    let ground = Ground::new().await;
    let broken = ", SELECT 1 / (SELECT count(*) FROM pg_class WHERE relname = 'mended')";
    let text = three_tables("twice", broken, "").replacen("            undo: [DROP TABLE IF EXISTS three]\n", "", 1);
    assert!(!text.contains("EXISTS three"), "{text}");
    let migration = from_text(&text);
    approved(&ground, &migration).await;
    let error = ground.run(&migration).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Compensated, "{error}");
    ground.main.psql("CREATE TABLE mended (); CREATE TABLE three (n int)");
    let planned = ground.plan(&migration).await.unwrap();
    assert!(!sexton::migrate::is_needed(&planned.migrations[0]));
    ground.main.psql("DROP TABLE three");
    let options = sexton::migrate::Options::default();
    for _ in 0..2 {
        let report = sexton::migrate::apply(&planned, &ground.journal, &ground.world, &options, &ground.ctx);
        let error = report.await.verdict().unwrap_err();
        assert!(error.kind() == Kind::Awaited && error.to_string().contains("used already"), "{error}");
    }
    assert_eq!(ground.main.psql("SELECT to_regclass('two'), to_regclass('three') IS NULL"), "two|t");
    approved(&ground, &migration).await;
    ground.run(&migration).await.unwrap();
}

#[tokio::test]
async fn a_step_is_approved_while_the_migration_is_on_its_way_there() {
    let ground = Ground::new().await;
    let ask = "  - name: ask\n    steps:\n      - {name: sure, do: {approve: {question: Is Temporal stopped}}}\n  - name: late\n";
    let migration = from_text(&three_tables("gate", "", "").replace("  - name: late\n", ask));
    let step = || Granted { step: Some("sure"), ..granted(None) };
    let approve = async || approve(&migration, &ground.journal, &ground.world, &step(), &ground.ctx).await;
    assert_eq!(approve().await.unwrap_err().kind(), Kind::Usage, "it was never begun");
    ground.run(&migration).await.unwrap_err();
    approve().await.unwrap();
    // Undone and begun anew, it asks anew.
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(approve().await.unwrap_err().kind(), Kind::Usage, "it is undone");
    assert_eq!(ground.run(&migration).await.unwrap_err().kind(), Kind::Awaited);
    approve().await.unwrap();
    ground.run(&migration).await.unwrap();
    assert_eq!(approve().await.unwrap_err().kind(), Kind::Usage, "nothing waits any more");
}
