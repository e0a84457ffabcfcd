//! Trees by the hundred, from a seed: written into Temporal's tables as a server would have, then damaged. The model
//! knows from how each was made which nodes have to be left, and nothing else is asked.

mod plant;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sexton::context::Context;
use sexton::policy::retention::ScanPolicy;
use sexton::retention::Source;
use sexton::retention::orphans::{OrphanReport, look, remove};
use sexton::units::Span;

pub use self::plant::Forest;
use crate::kills::{Seed, kills};
use crate::support::histories::{BranchKey, NodeKey};
use crate::support::postgres::{Scratch, Server, postgres15};

pub const MIN_AGE: Span = Span::days(7);

/// The rows that histories consist of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    pub branches: BTreeSet<BranchKey>,
    pub nodes: BTreeSet<NodeKey>,
}

impl Rows {
    pub fn read(database: &Scratch) -> Self {
        let id = |hex: &str| uuid::Uuid::parse_str(hex).unwrap();
        let branches =
            database.psql("SELECT shard_id, encode(tree_id, 'hex'), encode(branch_id, 'hex') FROM history_tree");
        let nodes = database.psql(
            "SELECT shard_id, encode(tree_id, 'hex'), encode(branch_id, 'hex'), node_id, txn_id FROM history_node",
        );
        let branch = |line: &str| {
            let row: Vec<&str> = line.split('|').collect();
            (row[0].parse().unwrap(), id(row[1]), id(row[2]))
        };
        let node = |line: &str| {
            let row: Vec<&str> = line.split('|').collect();
            (row[0].parse().unwrap(), id(row[1]), id(row[2]), row[3].parse().unwrap(), row[4].parse().unwrap())
        };
        Self { branches: branches.lines().map(branch).collect(), nodes: nodes.lines().map(node).collect() }
    }

    pub fn of_tree(&self, tree: uuid::Uuid) -> Self {
        Self {
            branches: self.branches.iter().filter(|key| key.1 == tree).copied().collect(),
            nodes: self.nodes.iter().filter(|key| key.1 == tree).copied().collect(),
        }
    }

    /// Panics with the difference.
    #[track_caller]
    pub fn assert_is(&self, expected: &Self, forest: &Forest) {
        let of = |key: &NodeKey| format!("{key:?} {}", forest.kind(key.1));
        let gone: Vec<String> = expected.nodes.difference(&self.nodes).map(of).collect();
        assert!(gone.is_empty(), "{} nodes that live are gone: {:.2000}", gone.len(), gone.join("\n"));
        let left: Vec<String> = self.nodes.difference(&expected.nodes).map(of).collect();
        assert!(left.is_empty(), "{} nodes are left: {:.2000}", left.len(), left.join("\n"));
        assert_eq!(self.branches, expected.branches);
    }
}

fn soaks() -> bool {
    std::env::var("SEXTON_SOAK").is_ok()
}

#[tokio::test]
async fn no_living_node_goes_and_no_orphan_stays() {
    let mut seed = Seed::new("a forest");
    for part in 0..if soaks() { 20 } else { 1 } {
        let forest = Forest::of(&mut seed, if soaks() { 500 } else { 400 });
        let database = forest.planted("forest");
        let before = Rows::read(&database);
        before.assert_is(&forest.before, &forest);
        let (found, mut session) =
            (look(&database.source(), MIN_AGE, usize::MAX, &Context::plain()).await.unwrap(), session(&database).await);
        Rows::read(&database).assert_is(&before, &forest);
        let (report, result) = remove(&found, &mut session, MIN_AGE, &Context::plain()).await;
        result.unwrap();
        let after = Rows::read(&database);
        after.assert_is(&forest.after, &forest);
        assert_eq!(report.branches as usize, before.branches.len() - after.branches.len());
        assert_eq!(report.nodes as usize, before.nodes.len() - after.nodes.len());
        assert_eq!(
            (found.branches, found.nodes + found.leftover_nodes),
            (report.branches, report.nodes),
            "part {part}"
        );
        assert_eq!(found.trees.len() as u64, report.trees);
        let again = look(&database.source(), MIN_AGE, usize::MAX, &Context::plain()).await.unwrap();
        assert_eq!((again.branches, again.leftover_branches, again.trees.len()), (0, 0, 0), "{again:?}");
        println!("part {part}: {} of {} nodes in {} trees went", report.nodes, before.nodes.len(), report.trees);
    }
}

pub async fn session(database: &Scratch) -> sexton::clients::persistence::Session {
    database.source().primary().connect().await.unwrap()
}

/// The future dropped at some instant, or its connection ended by the server: each tree is as before or as after, and
/// the next run comes to the same end.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_cut_off_is_taken_up_again() {
    let mut seed = Seed::new("removals cut off");
    let forest = Forest::of(&mut seed, 80);
    let planted = forest.planted("cut");
    let copy = || Scratch::copy_of(Server::Pg15, "cut", &planted.name);
    let whole = {
        let database = copy();
        let clock = Instant::now();
        all_removed(&database).await;
        Rows::read(&database).assert_is(&forest.after, &forest);
        clock.elapsed()
    };
    for round in 0..kills() * 2 {
        let database = copy();
        let at = seed.part_of(whole);
        if round % 2 == 0 {
            let _ = tokio::time::timeout(at, all_removed(&database)).await;
        } else {
            let name = database.name.clone();
            let cut = tokio::spawn(async move {
                let source = Source::new(&postgres15(), None, &name, ScanPolicy::default());
                let found = look(&source, MIN_AGE, usize::MAX, &Context::plain()).await?;
                let mut session = source.primary().connect().await?;
                remove(&found, &mut session, MIN_AGE, &Context::plain()).await.1
            });
            tokio::time::sleep(at).await;
            let end = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' \
                 AND application_name = 'sexton'",
                database.name
            );
            let ended = Server::Pg15.psql("postgres", &end);
            let result = cut.await.unwrap();
            assert!(ended == "0" || result.is_err() || Rows::read(&database) == forest.after, "{result:?}");
        }
        wait_for_the_end(&database).await;
        let now = Rows::read(&database);
        for tree in forest.trees() {
            let (now, before, after) = (now.of_tree(tree), forest.before.of_tree(tree), forest.after.of_tree(tree));
            assert!(now == before || now == after, "a tree is half removed: {}", forest.kind(tree));
        }
        all_removed(&database).await;
        Rows::read(&database).assert_is(&forest.after, &forest);
    }
}

pub async fn all_removed(database: &Scratch) -> OrphanReport {
    let found = look(&database.source(), MIN_AGE, usize::MAX, &Context::plain()).await.unwrap();
    let mut session = session(database).await;
    let (report, result) = remove(&found, &mut session, MIN_AGE, &Context::plain()).await;
    result.unwrap();
    report
}

/// A server may go on with the statement of a client that is gone.
async fn wait_for_the_end(database: &Scratch) {
    let busy = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'sexton'",
        database.name
    );
    crate::support::search::eventually("the connection has ended", async || {
        (Server::Pg15.psql("postgres", &busy) == "0").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}
