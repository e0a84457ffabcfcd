//! Two jobs that remove documents and indices do not work at one time.

use std::time::Duration;

use sexton::daemon::ledger::Ledger;
use tokio_util::sync::CancellationToken;

use super::Stage;
use crate::support::postgres::{Scratch, Server};
use crate::support::search::Engine;
use crate::support::site::{Site, postgres_sections};

#[tokio::test]
async fn a_reconcile_waits_until_the_job_that_deletes_indices_has_ended() {
    let (stage, ledger) = (Stage::new(Engine::opensearch(), 2), Scratch::new("ledger"));
    stage.temporal.run("w", true);
    stage.document(1, "w", 5, true);
    let sections = postgres_sections(&ledger, &stage.temporal.database.name);
    let site = Site::new(&format!("{sections}search: {{url: {}}}\n", stage.scratch.engine.url))
        .policy("visibility", &format!("index: {}\n", stage.scratch.alias));
    site.run(&["ledger", "init"]).expect(0);

    let held = Ledger::open(std::sync::Arc::new(Server::Pg15.client()), &ledger.name).await.unwrap();
    let name = format!("documents of {}", stage.scratch.alias);
    let lock = held.lock(&name, Duration::ZERO, &CancellationToken::new()).await.unwrap().unwrap();
    let mut running = site.start(&["once", "reconcile"], "waiting.log");
    running.wait_for("another job is at work there");
    assert_eq!(stage.versions("w"), [Some(5), None]);
    lock.release().await;
    running.wait();
    assert_eq!(stage.versions("w"), [None, Some(5)]);
    assert_eq!(ledger.psql("SELECT job, outcome FROM runs"), "reconcile|changed");
}
