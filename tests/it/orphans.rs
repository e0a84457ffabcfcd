//! Orphaned histories on a real Temporal server: workflows are reset, and resets reset, and then rows are taken away as
//! failures do. The judge is `support::histories`; that runs are whole is said by the server itself.

mod beside;
mod binary;
pub mod forest;
mod slices;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use sexton::clients::persistence::Persistence;
use sexton::context::Context;
use sexton::retention::orphans::{OrphanReport, Orphans, look, remove};
use sexton::units::Span;
use temporalio_protos::temporal::api::history::v1::HistoryEvent;
use uuid::Uuid;

use crate::support::cluster::{Cluster, Index};
use crate::support::histories::{Histories, rewrite};
use crate::support::postgres::{Scratch, postgres15};
use crate::support::search::eventually;
use crate::support::wire::{self, Value};
use crate::support::workflows::{Run, Workflows, worker};

const NO_AGE: Span = Span::seconds(0);

/// Temporal's own workflows, which would go on while tables are compared.
const NO_SCANNERS: [&str; 2] =
    ["worker.historyScannerEnabled: [{value: false}]", "worker.taskQueueScannerEnabled: [{value: false}]"];

/// A base and its resets:
/// `0` the base; `1` and `2` of the base, at its third and its first answer; `3` of `1`, at an answer of its own; `4` of
/// `1`, at one that it has from the base; `5` of `3`, at an answer of its own.
struct Tree(Vec<Run>);

impl Tree {
    /// Every other base is closed before its first reset.
    async fn grow(workflows: &Workflows, name: &str, closed: bool) -> Self {
        let base = workflows.start(name).await;
        workflows.signal(&base, "one").await;
        workflows.signal(&base, "two").await;
        workflows.signal(&base, if closed { "finish" } else { "three" }).await;
        let one = workflows.reset(&base, 2).await;
        workflows.signal(&one, "four").await;
        let two = workflows.reset(&base, 0).await;
        let three = workflows.reset(&one, 3).await;
        workflows.signal(&three, "five").await;
        let four = workflows.reset(&one, 0).await;
        workflows.signal(&four, "six").await;
        let five = workflows.reset(&three, 4).await;
        Self(vec![base, one, two, three, four, five])
    }

    fn ids(&self, which: &[usize]) -> String {
        let ids = which.iter().map(|at| format!("'\\x{}'::bytea", Uuid::parse_str(&self.0[*at].id).unwrap().simple()));
        ids.collect::<Vec<_>>().join(", ")
    }

    fn of_tree(&self) -> String {
        format!("tree_id = {}", self.ids(&[0]))
    }

    /// The condition for the row of a run's branch, which names the run at its end.
    fn made_for(&self, which: usize) -> String {
        format!("position(':{}'::bytea IN data) > 0", self.0[which].id)
    }

    /// As a start or a deletion that stopped half-way leaves it.
    fn lose_runs(&self, database: &Scratch, which: &[usize]) {
        let ids = self.ids(which);
        database.psql(&format!(
            "DELETE FROM executions WHERE run_id IN ({ids}); DELETE FROM current_executions WHERE run_id IN ({ids});"
        ));
    }

    fn lose_branch(&self, database: &Scratch, which: usize) {
        let ours = self.of_tree();
        let gone =
            database.psql(&format!("DELETE FROM history_tree WHERE {ours} AND {} RETURNING 1", self.made_for(which)));
        assert_eq!(gone, "1");
    }
}

async fn found(database: &Scratch, min_age: Span) -> Orphans {
    look(&database.source(), min_age, usize::MAX, &Context::plain()).await.unwrap()
}

async fn removed(database: &Scratch, orphans: &Orphans, min_age: Span) -> OrphanReport {
    let mut session = Persistence::new(postgres15(), &database.name).connect().await.unwrap();
    let (report, result) = remove(orphans, &mut session, min_age, &Context::plain()).await;
    result.unwrap();
    report
}

/// Panics unless the judge finds the same, no more and no less; returns what it is.
#[track_caller]
fn assert_fits(found: &Orphans, before: &Histories) -> crate::support::histories::Orphaned {
    let judged = before.orphaned();
    let trees: Vec<(i32, Uuid)> = found.trees.keys().map(|tree| (tree.shard, tree.id)).collect();
    assert_eq!(trees, judged.trees().into_iter().collect::<Vec<_>>());
    assert_eq!(found.branches, judged.branches.len() as u64);
    assert_eq!(found.nodes + found.leftover_nodes, judged.nodes.len() as u64);
    assert_eq!(found.not_measured, 0);
    judged
}

/// The tables once nothing has changed in them for two seconds: a server that has just started does work of its own.
async fn settled(database: &Scratch) -> Histories {
    eventually("nothing changes", async || {
        let before = Histories::read(database);
        tokio::time::sleep(Duration::from_secs(2)).await;
        (Histories::read(database) == before).then_some(before)
    })
    .await
}

async fn histories(workflows: &Workflows, runs: &[Run]) -> BTreeMap<Run, Vec<HistoryEvent>> {
    join_all(runs.iter().map(async |run| (run.clone(), workflows.history(run).await))).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_orphan_goes_and_every_history_stays() {
    let cluster = Cluster::start_with("orphans", Index::Concrete, &NO_SCANNERS).await;
    let (database, workflows) = (&cluster.database, Workflows::on(&cluster).await);
    let mut load = worker(&cluster);
    let names: Vec<String> = (0..15).map(|number| format!("order:{number}")).collect();
    let trees: Vec<Tree> =
        join_all(names.iter().enumerate().map(|(n, name)| Tree::grow(&workflows, name, n % 2 == 0))).await;
    load.quiesce().await;
    let nothing = found(database, NO_AGE).await;
    assert_eq!(nothing, Orphans::default(), "a healthy cluster");

    // Temporal itself deletes bases and forks, so that ancestors without a run and without a row of their own are there.
    let deleted: [(usize, &[usize]); 4] = [(5, &[0, 2]), (6, &[0, 1]), (7, &[0, 1, 2, 3, 4]), (8, &[1])];
    for (tree, runs) in deleted {
        for run in runs {
            workflows.delete(&trees[tree].0[*run]).await;
        }
    }
    eventually("Temporal has deleted what it was told to", async || {
        let rows = Histories::read(database);
        let names = rows.runs.iter().map(|run| &run.name).chain(rows.branches.values().map(|branch| &branch.name));
        let of = |(tree, runs): &(usize, &[usize])| {
            runs.iter().map(|run| trees[*tree].0[*run].id.clone()).collect::<Vec<_>>()
        };
        let gone: Vec<String> = deleted.iter().flat_map(of).collect();
        (!names.into_iter().any(|name| gone.iter().any(|id| name.ends_with(id.as_str())))).then_some(())
    })
    .await;
    load.quiesce().await;
    assert_eq!(found(database, NO_AGE).await, Orphans::default(), "ancestors of forks that live are no orphans");

    // Starts that Temporal refuses, for which it has written a history by then.
    for tree in &trees[..3] {
        workflows.refused_start(&tree.0[0].workflow).await;
    }
    println!("refused starts leave {} trees", Histories::read(database).orphaned().trees().len());
    cluster.kill_server();
    // Bases, forks, forks of forks, whole trees.
    let lost: [(usize, &[usize]); 12] = [
        (1, &[0]),
        (2, &[1]),
        (3, &[3, 5]),
        (4, &[0, 1, 2, 3, 4, 5]),
        (5, &[4, 5]),
        (7, &[5]),
        (8, &[2]),
        (9, &[0, 1, 2, 3, 4, 5]),
        (10, &[1, 2, 3, 4, 5]),
        (11, &[0, 1, 2, 4, 5]),
        (12, &[2, 4]),
        (13, &[2]),
    ];
    for (tree, runs) in lost {
        trees[tree].lose_runs(database, runs);
    }
    // Nodes without a row, in a tree that lives and in one of which only nodes are left; a row without nodes.
    trees[8].lose_branch(database, 2);
    database.psql(&format!("DELETE FROM history_tree WHERE {}", trees[9].of_tree()));
    let (ours, own) = (trees[12].of_tree(), trees[12].made_for(2));
    database.psql(&format!(
        "DELETE FROM history_node WHERE {ours} AND branch_id = \
         (SELECT branch_id FROM history_tree WHERE {ours} AND {own})"
    ));
    // Damage: the base lives and has lost its row; a fork of a fork lives and has lost its row; a run has a second version
    // of its history, in the branch of a run that is gone; a tree lives in every way and has lost a row.
    trees[10].lose_branch(database, 0);
    trees[11].lose_branch(database, 3);
    let token = database.psql(&format!(
        "SELECT encode(data, 'hex') FROM history_tree WHERE {} AND {}",
        trees[13].of_tree(),
        trees[13].made_for(2)
    ));
    let token = hex::decode(token).unwrap();
    let changed = rewrite(database, "executions", "data", &format!("run_id = {}", trees[13].ids(&[5])), |data| {
        second_version(data, wire::one(&token, 1))
    });
    assert_eq!(changed, 1);
    trees[14].lose_branch(database, 1);
    cluster.restart();

    let gone = |tree: usize, run: usize| {
        let is = |all: &[(usize, &[usize])]| all.iter().any(|(of, runs)| *of == tree && runs.contains(&run));
        is(&deleted) || is(&lost)
    };
    let live: Vec<Run> = trees
        .iter()
        .enumerate()
        .flat_map(|(tree, Tree(runs))| runs.iter().enumerate().map(move |(at, run)| (tree, at, run)))
        .filter(|(tree, at, _)| !gone(*tree, *at))
        .map(|(_, _, run)| run.clone())
        .collect();
    let (before, told) = (settled(database).await, histories(&workflows, &live).await);
    assert_eq!(before.runs.len(), live.len());

    let young = found(database, Span::days(7)).await;
    assert_eq!((young.branches, young.leftover_branches, young.trees.len()), (0, 0, 0), "{young:?}");
    let orphans = found(database, NO_AGE).await;
    assert_eq!(orphans.lost, 3, "{orphans:?}");
    let judged = assert_fits(&orphans, &before);
    assert!(judged.branches.len() > 15 && judged.nodes.len() > 60, "{judged:?}");
    assert!(young.young > 0);

    // Found without an age and removed with one: each tree is judged again.
    assert_eq!(removed(database, &orphans, Span::days(7)).await, OrphanReport::default());
    let report = removed(database, &orphans, NO_AGE).await;
    let counted = (report.trees, report.branches, report.nodes);
    assert_eq!(
        counted,
        (judged.trees().len() as u64, judged.branches.len() as u64, judged.nodes.len() as u64),
        "{report:?}"
    );
    Histories::read(database).assert_lacks_only(&before, &judged);
    assert_eq!(histories(&workflows, &live).await, told);
    for run in live.iter().step_by(7) {
        let args = ["workflow", "show", "--namespace", &cluster.namespace, "-w", &run.workflow, "-r", &run.id];
        let shown = cluster.server.cli_json(&args);
        assert_eq!(shown["events"].as_array().unwrap().len(), told[run].len(), "{run:?}");
    }
    let again = found(database, NO_AGE).await;
    assert_eq!((again.branches, again.leftover_branches, again.trees.len()), (0, 0, 0), "{again:?}");
    assert_eq!(removed(database, &orphans, NO_AGE).await, OrphanReport::default(), "what was found, once more");

    // What lives goes on living: a reset from the deepest fork still works.
    load.resume();
    let last = workflows.reset(&trees[6].0[5], 1).await;
    workflows.signal(&last, "on").await;
    drop(load);
}

/// Adds to a run's version histories the same one in another branch.
fn second_version(info: &[u8], branch: &[u8]) -> Vec<u8> {
    let mut histories = wire::one(info, 54).to_vec();
    let copy = wire::replace(wire::one(&histories, 2), 1, Value::Bytes(branch));
    wire::put(&mut histories, 2, Value::Bytes(&copy));
    wire::replace(info, 54, Value::Bytes(&histories))
}
