//! What is kept to undo a step: read before it acts, and by nothing later overwritten.

use sexton::migrate::{MigrateError, undo};
use sqlx::{Connection, Executor};

use super::{Ground, from_text};
use crate::support::postgres::postgres15;

async fn counter() -> Ground {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)");
    ground
}

fn counting(name: &str, more: &str) -> sexton::migrate::Migration {
    from_text(&format!(
        "name: {name}\ndescription: x\ndatabase: main\non_failure: stop\nstages:\n  - name: s\n    steps:\n      \
         - name: count\n        do: {{sql: {{attempts: 1, lock_timeout: 50ms, run: [UPDATE counter SET n = n + 10], {more}}}}}\n"
    ))
}

#[tokio::test]
async fn a_retry_that_was_taken_back_does_not_hide_what_was_committed_before() {
    let ground = counter().await;
    let holds = "check: SELECT n = 11 FROM counter, verify: SELECT n = 11 FROM counter";
    let former = "undo_query: \"SELECT format('UPDATE counter SET n = %s', n) FROM counter\"";
    let migration = counting("hidden", &format!("{holds}, {former}"));
    let not_verified = async || {
        let error = ground.run(&migration).await.unwrap_err();
        assert!(matches!(error, MigrateError::NotVerified { .. }), "{error}");
    };
    not_verified().await;
    let mut holder = postgres15().connect(&ground.main.name).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    held.execute("LOCK TABLE counter IN SHARE MODE").await.unwrap();
    let locked = ground.run(&migration).await.unwrap_err();
    assert!(matches!(&locked, MigrateError::Step { source, .. } if source.is_locked()), "{locked}");
    held.rollback().await.unwrap();
    not_verified().await;
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "20");
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "0");
}

#[tokio::test]
async fn a_row_that_is_no_statement_is_refused_before_anything_is_done() {
    let ground = counter().await;
    let refused = async |name: &str, query: &str, why: &str| {
        let error = ground.run(&counting(name, &format!("undo_query: \"{query}\""))).await.unwrap_err();
        assert!(error.to_string().contains(why), "{query}: {error}");
    };
    for (name, row, why) in [
        ("ends", "COMMIT", "`COMMIT` would begin or end a transaction"),
        ("empty", "", "must not be empty"),
        ("comment", "-- nothing", "more than a comment"),
        ("garbage", "garbage here", "garbage here: syntax error at or near"),
        ("several", "SELECT 1; SELECT 2", "cannot insert multiple commands"),
        ("unfilled", "SELECT $1::int", "which nothing fills"),
        ("open", "UPDATE counter SET n = ''0", "unterminated quoted string"),
        ("ordered", "SELECT 1 ORDER BY 1 ORDER BY 1", "syntax error"),
        ("limited", "(SELECT 1 LIMIT 1) LIMIT 2", "multiple LIMIT clauses"),
    ] {
        refused(name, &format!("SELECT '{row}'::text"), why).await;
    }
    refused("nothing", "SELECT NULL::text", "must be one text that is not null; one is NULL").await;
    refused("number", "SELECT 1", "; write `::text` behind").await;
    refused("columns", "SELECT 'SELECT 1'::text, 2", "; it has several columns").await;
    refused("large", "SELECT repeat('x', 1000000) FROM generate_series(1, 9)", "come to more than 8.0 MiB").await;
    refused("many", "SELECT ''::text FROM generate_series(1, 100000000)", "come to more than 8.0 MiB").await;
    refused("multirange", "SELECT '{[1,2)}'::int4multirange", "; write `::text` behind").await;
    refused("bad", "SELECT garbage", "column \"garbage\" does not exist").await;
    assert_eq!((ground.main.psql("SELECT n FROM counter").as_str(), ground.steps().as_str()), ("0", ""));
}

#[tokio::test]
async fn what_undoes_it_may_name_what_it_makes() {
    let ground = counter().await;
    // What the second one says of `wider` fits it only when the step has changed it.
    ground.main.psql("CREATE TABLE wider (n int)");
    let query = "undo_query: \"SELECT s FROM (VALUES ('UPDATE made SET n = 7'), ('INSERT INTO wider VALUES (1, 2)'), \
                 ('ALTER TABLE wider DROP COLUMN m'), ('DROP TABLE made')) v (s)\"";
    let migration = from_text(&format!(
        "name: makes\ndescription: x\ndatabase: main\nstages:\n  - name: s\n    steps:\n      \
         - name: make\n        do: {{sql: {{run: [CREATE TABLE made (n int), ALTER TABLE wider ADD COLUMN m int], {query}}}}}\n"
    ));
    ground.run(&migration).await.unwrap();
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(
        ground.main.psql("SELECT to_regclass('made') IS NULL, (SELECT string_agg(w::text, '') FROM wider w)"),
        "t|(1)"
    );
}

/// Who waits for a lock only to be read stands in nobody's way, and is told of no mistake.
#[tokio::test]
async fn rows_are_read_also_while_somebody_holds_what_they_name() {
    let ground = counter().await;
    ground.main.psql("CREATE TABLE held (n int)");
    let row = "SELECT format('UPDATE held SET n = %s', g) FROM generate_series(1, 100) g";
    let migration = counting("behind", &format!("undo_query: \"{row}\""));
    let mut holder = postgres15().connect(&ground.main.name).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    held.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let began = std::time::Instant::now();
    ground.run(&migration).await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(25), "{:?}", began.elapsed());
    held.rollback().await.unwrap();
    assert_eq!(ground.main.psql("SELECT n FROM counter"), "10");
}
