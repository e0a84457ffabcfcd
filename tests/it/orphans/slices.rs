//! Histories compared with runs slice by slice. The judge is plain SQL over the whole tables.

use std::process::Stdio;

use sexton::clients::persistence::{Compared, Session, Slice};

use super::forest::{Forest, session};
use crate::kills::Seed;
use crate::support::cluster::schema;
use crate::support::postgres::{Scratch, Server};

const SHARDS: i32 = 5;

/// Cut into so many shards at a time, and each of these into so many parts.
fn cut(step: i32, parts: u32) -> impl Iterator<Item = Slice> {
    let all = Slice::ALL_TREES.end;
    (1..=SHARDS).step_by(step as usize).flat_map(move |from| {
        let shards = from..(from + step).min(SHARDS + 1);
        (0..parts).map(move |part| Slice {
            shards: shards.clone(),
            trees: all / parts * part..if part + 1 < parts { all / parts * (part + 1) } else { all },
        })
    })
}

async fn compared(session: &mut Session, slices: impl Iterator<Item = Slice>) -> Compared {
    let mut all = Compared::default();
    for slice in slices {
        let found = session.compare_histories(&slice).await.unwrap();
        all.doubtful.extend(found.doubtful);
        all.leftovers.extend(found.leftovers);
        all.bare.extend(found.bare);
        all.malformed += found.malformed;
    }
    all.doubtful.sort_by_key(|branch| (branch.shard, branch.tree, branch.id));
    all.bare.sort_by_key(|branch| (branch.shard, branch.tree, branch.id));
    all.leftovers.sort_by_key(|leftover| (leftover.shard, leftover.tree, leftover.branch));
    all
}

/// Shard, tree and branch as psql writes them, and of a leftover whether there is a run of the tree's id.
fn judged(database: &Scratch) -> [Vec<String>; 3] {
    let no_run = "NOT EXISTS (SELECT FROM executions e WHERE e.shard_id = k.shard_id AND e.run_id = k.tree_id)";
    let read = |what: &str, from: &str, condition: &str| {
        let rows = database.psql(&format!(
            "SELECT DISTINCT shard_id, encode(tree_id, 'hex'), encode(branch_id, 'hex') {what} FROM {from} AS k \
             WHERE {condition} ORDER BY 1, 2, 3"
        ));
        rows.lines().map(str::to_owned).collect()
    };
    let several = "(SELECT count(*) FROM history_tree t WHERE t.shard_id = k.shard_id AND t.tree_id = k.tree_id) > 1";
    let without = |table: &str| {
        format!(
            "NOT EXISTS (SELECT FROM {table} o WHERE o.shard_id = k.shard_id AND o.tree_id = k.tree_id \
             AND o.branch_id = k.branch_id)"
        )
    };
    [
        read("", "history_tree", &format!("{no_run} OR {several}")),
        read(&format!(", NOT {no_run}"), "history_node", &without("history_tree")),
        read("", "history_tree", &without("history_node")),
    ]
}

fn lines(found: &Compared) -> [Vec<String>; 3] {
    let yes = |yes: bool| if yes { "t" } else { "f" };
    [
        found.doubtful.iter().map(|b| format!("{}|{}|{}", b.shard, b.tree.simple(), b.id.simple())).collect(),
        found
            .leftovers
            .iter()
            .map(|l| format!("{}|{}|{}|{}", l.shard, l.tree.simple(), l.branch.simple(), yes(l.has_run)))
            .collect(),
        found.bare.iter().map(|b| format!("{}|{}|{}", b.shard, b.tree.simple(), b.id.simple())).collect(),
    ]
}

#[tokio::test]
async fn however_the_histories_are_cut_the_same_is_found() {
    let database = Forest::of(&mut Seed::new("a forest in slices"), 300).planted("slices");
    // Branches that have no nodes of their own, and a tree's own run without anything but its nodes.
    database.psql(
        "DELETE FROM history_node n USING history_tree t WHERE t.shard_id = n.shard_id AND t.tree_id = n.tree_id \
         AND t.branch_id = n.branch_id AND get_byte(t.branch_id, 0) < 20; \
         DELETE FROM history_tree WHERE get_byte(tree_id, 0) < 20",
    );
    let judged = judged(&database);
    assert!(judged.iter().all(|class| class.len() > 5), "{judged:?}");
    let mut session = session(&database).await;
    let whole = compared(&mut session, cut(SHARDS, 1)).await;
    assert_eq!(lines(&whole), judged);
    for (step, parts) in [(1, 1), (2, 1), (1, 2), (3, 4), (1, 16), (2, 3)] {
        assert_eq!(compared(&mut session, cut(step, parts)).await, whole, "{step} shards in {parts} parts");
    }
    // The planner may find something better than the order of an index.
    database.psql(&format!("ALTER DATABASE {} SET enable_indexonlyscan = off", database.name));
    database.psql(&format!("ALTER DATABASE {} SET enable_indexscan = off", database.name));
    let mut session = self::session(&database).await;
    assert_eq!(compared(&mut session, cut(2, 2)).await, whole);

    database.psql("INSERT INTO history_tree VALUES (1, '\\x0102', '\\x03', '', 'Proto3')");
    assert_eq!(compared(&mut session, cut(2, 2)).await, Compared { malformed: 1, ..whole });
}

/// Runs that come and go with all that belongs to them, while their tables are read one after the other.
#[tokio::test]
async fn what_changes_between_two_tables_is_seen_the_same_from_both() {
    let database = Scratch::copy_of(Server::Pg15, "snapshot", schema());
    let keys = "1, ('\\x' || md5(n::text))::bytea";
    let churn = format!(
        "DO $$ BEGIN LOOP \
         INSERT INTO executions SELECT 1, '\\x00', 'w', ('\\x' || md5(n::text))::bytea, 1, 0, '', 'Proto3', '', 'Proto3', 0 \
         FROM generate_series(1, 50) n; \
         INSERT INTO history_tree SELECT {keys}, '\\x00000000000000000000000000000001', '', 'Proto3' \
         FROM generate_series(1, 50) n; \
         INSERT INTO history_node SELECT {keys}, '\\x00000000000000000000000000000001', 1, -1, '', 'Proto3', 0 \
         FROM generate_series(1, 50) n; COMMIT; \
         DELETE FROM executions; DELETE FROM history_tree; DELETE FROM history_node; COMMIT; \
         END LOOP; END $$"
    );
    let mut psql = Server::Pg15.tool("psql", &database.name);
    let mut churning = psql.args(["-Xqc", &churn]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut session = session(&database).await;
    let transactions = || database.psql("SELECT txid_snapshot_xmax(txid_current_snapshot())").parse::<i64>().unwrap();
    let before = transactions();
    let mut different = Vec::new();
    for _ in 0..300 {
        let found = session.compare_histories(&Slice { shards: 1..2, trees: Slice::ALL_TREES }).await.unwrap();
        if found != Compared::default() {
            different.push((found.doubtful.len(), found.leftovers.len(), found.bare.len()));
        }
    }
    let churned = transactions() - before;
    assert!(churning.try_wait().unwrap().is_none(), "the churn ended");
    churning.kill().unwrap();
    churning.wait().unwrap();
    database.psql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'DO %'",
        database.name
    ));
    assert!(churned > 300, "{churned} changes");
    assert_eq!(different, []);
}
