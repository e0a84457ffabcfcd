//! The binary killed while it deletes overdue runs.

use std::time::{Duration, Instant};

use super::{Stage, names, plain};
use crate::kills::{Seed, kills};
use crate::support::search::eventually;
use crate::support::workflows::Workflows;

/// Runs that one run of the job sees to.
const MOST: usize = 8;

/// However often it is killed: what is young or open stays, and the next run goes on until nothing is overdue.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_deletion_comes_to_the_same_end() {
    let mut seed = Seed::new("killed deletions");
    let policy =
        |most: usize| format!("default: 1h\noverdue: {{action: delete, slack: 5m, per_second: 20, most: {most}}}\n");
    let stage = Stage::new("killed", &policy(MOST)).await;
    stage.retention("2160h");
    let workflows = Workflows::on(&stage.cluster).await;
    let many = MOST * (kills() as usize + 1);
    let mut old = Vec::new();
    for number in 0..many {
        let run = workflows.start_on(&format!("old-{number}"), "nobody", "Order").await;
        workflows.terminate(&run).await;
        old.push(run.id);
    }
    let (young, open) = (stage.closed("young"), stage.open("open"));
    stage.backdate(&old.iter().collect::<Vec<_>>(), 180);
    stage.backdate(&[&young], 62);
    stage.retention("1h");
    // The history service reads namespaces every 2 seconds and more.
    tokio::time::sleep(Duration::from_secs(12)).await;

    let run = ["once", "overdue", "-q", "--wait", "30s"];
    let clock = Instant::now();
    stage.site.run(&run).expect(0);
    let whole = clock.elapsed();
    let (stay, all) = (plain(&[&young, &open]), plain(&old.iter().chain([&young, &open]).collect::<Vec<_>>()));
    for _ in 0..kills() {
        let mut running = stage.site.start(&run, "killed.log");
        std::thread::sleep(seed.part_of(whole));
        running.signal("KILL");
        running.wait();
        let left = stage.runs();
        assert!(left.is_superset(&stay) && left.is_subset(&all), "{left:?}");
    }
    // However many the kills have left, in few runs. A deletion goes on in Temporal after it was asked for, so that some
    // are met again.
    let left = stage.runs().len() - stay.len();
    println!("{left} of {many} overdue runs were left by {} kills", kills());
    std::fs::write(stage.site.path().join("policies/retention.yaml"), policy(many)).unwrap();
    for _ in 0..10 {
        stage.site.run(&run).expect(0);
        if stage.runs() == stay {
            break;
        }
    }
    assert_eq!(stage.runs(), stay);
    eventually("Temporal's list", async || (stage.listed() == names(&["young", "open"])).then_some(())).await;
    assert!(stage.site.run(&["once", "overdue", "--prove"]).expect(0).out.contains("holds"));
    assert_eq!(stage.ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'running'"), "0");
    assert_eq!(stage.cluster.dlq(), 0);
}
