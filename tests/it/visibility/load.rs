//! The load and its judge, without sexton: what the other tests of visibility stand on.

use std::time::Duration;

use crate::support::cluster::{Cluster, Index};
use crate::support::load::{Load, LoadOptions};

#[tokio::test]
async fn a_load() {
    let cluster = Cluster::start("load", Index::Alias).await;
    let mut load = Load::start(&cluster, LoadOptions::default());
    tokio::time::sleep(Duration::from_secs(10)).await;
    load.quiesce(&cluster).await;
    let tally = load.stop(&cluster).await;
    println!("{tally} {:?}", tally.errors);
    println!(
        "{}",
        cluster.server.cli(&["workflow", "count", "-n", &cluster.namespace, "--query", "GROUP BY ExecutionStatus"])
    );
    println!("{}", cluster.database.psql("select count(*) from executions"));
}
