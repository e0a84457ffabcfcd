//! Removal while somebody else is at the same rows, or has been since they were found.

use std::process::Stdio;
use std::time::Duration;

use sexton::context::Context;
use sexton::retention::orphans::{OrphanReport, look, remove};

use super::forest::{Forest, MIN_AGE, Rows, all_removed, session};
use crate::kills::Seed;
use crate::support::site::eventually;

/// Temporal deletes a history at the same time: the removal leaves it to Temporal and goes on with the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_temporal_deletes_meanwhile_is_left_to_it() {
    let forest = Forest::of(&mut Seed::new("a forest and Temporal"), 40);
    let database = forest.planted("beside");
    let found = look(&database.source(), MIN_AGE, usize::MAX, &Context::plain()).await.unwrap();
    let rows = Rows::read(&database);
    let row = rows.branches.difference(&forest.after.branches).next().unwrap();
    let (shard, tree, branch) = (row.0, row.1.simple(), row.2.simple());
    let mut psql = database.server.tool("psql", &database.name);
    let theirs = format!(
        "BEGIN; DELETE FROM history_tree WHERE shard_id = {shard} AND tree_id = '\\x{tree}' AND branch_id = '\\x{branch}'; \
         SELECT pg_sleep(2); COMMIT"
    );
    let mut temporal = psql.args(["-Xqc", &theirs]).stdout(Stdio::null()).spawn().unwrap();
    let held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; DELETE FROM history_tree%' \
        AND datname = current_database() AND wait_event = 'PgSleep'";
    assert!(eventually(Duration::from_secs(10), || database.psql(held) == "1"));
    let mut ours = session(&database).await;
    let (report, result) = remove(&found, &mut ours, MIN_AGE, &Context::plain()).await;
    result.unwrap();
    assert!(temporal.wait().unwrap().success());
    assert_eq!(report.trees, found.trees.len() as u64 - 1);
    let left = Rows::read(&database);
    assert!(rows.nodes.iter().filter(|node| node.1 == row.1).all(|node| left.nodes.contains(node)));
    all_removed(&database).await;
    let left = Rows::read(&database);
    for tree in forest.trees().filter(|tree| *tree != row.1) {
        assert_eq!(left.of_tree(tree), forest.after.of_tree(tree), "{}", forest.kind(tree));
    }
    assert!(forest.after.nodes.is_subset(&left.nodes));
}

/// A run that comes back between the look and the removal, as from a backup, has its history; so has one that lost its
/// row since.
#[tokio::test]
async fn everything_is_looked_at_once_more() {
    let forest = Forest::of(&mut Seed::new("a forest that changes"), 60);
    let database = forest.planted("beside");
    let found = look(&database.source(), MIN_AGE, usize::MAX, &Context::plain()).await.unwrap();
    assert!(!found.trees.is_empty());
    // Every run of the forest is there, wherever its rows are.
    database.psql("DELETE FROM executions");
    for sql in forest.all_runs() {
        database.psql(&sql);
    }
    let mut ours = session(&database).await;
    let (report, result) = remove(&found, &mut ours, MIN_AGE, &Context::plain()).await;
    result.unwrap();
    assert_eq!(report, OrphanReport::default());
    assert_eq!(Rows::read(&database), forest.before);
}
