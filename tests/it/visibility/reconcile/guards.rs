//! Databases on whose word nothing is removed.

use serde_json::json;
use sexton::clients::persistence::{ForeignShards, Persistence};
use sexton::clients::postgres::{Postgres, Settings};
use sexton::context::Context;
use sexton::failure::{Explain, Kind};
use sexton::visibility::reconcile::{Bookmarks, Ground, ReconcileReport, plan};
use sexton::visibility::{Refusal, VisibilityError};

use super::Stage;
use crate::support::executions::{SHARD, document_of};
use crate::support::own_server::OwnServer;
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::search::Engine;

/// The first task id that shard 1, which is in its range 7, cannot have handed out.
const BOUND: u64 = 8 << 20;

async fn refused(stage: &Stage) -> Refusal {
    match stage.try_plan(&stage.policy(), &Bookmarks::default()).await {
        Err(VisibilityError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_database_that_is_behind_the_index_is_refused_by_the_task_ids_it_has_handed_out() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "last", BOUND - 1, false);
    assert_eq!(stage.reconcile().await, ReconcileReport { ghosts: 1, ..ReconcileReport::default() });
    stage.document(1, "first", BOUND, false);
    let expected = Refusal::Behind { index: stage.index(1), id: document_of("first"), shard: SHARD };
    assert_eq!(refused(&stage).await, expected);
    assert_eq!(stage.versions("first"), [Some(BOUND), None]);
    // A run that is there needs no such proof, and neither does a shard that has begun its next range.
    stage.temporal.run("first", false);
    assert_eq!(stage.reconcile().await, ReconcileReport::default());
    stage.temporal.remove("first");
    stage.temporal.database.psql("UPDATE shards SET range_id = 8");
    assert_eq!(stage.reconcile().await.ghosts, 1);
}

#[tokio::test]
async fn a_shard_that_the_database_does_not_have_is_refused() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.scratch.document(&stage.index(1), "w", 5, true, json!({"VisibilityTaskKey": "4000~5"}));
    assert_eq!(refused(&stage).await, Refusal::Behind { index: stage.index(1), id: document_of("w"), shard: 4000 });
}

/// The tables of two clusters in one, or a cluster set up again with fewer shards: which runs are this cluster's is not
/// known.
#[tokio::test]
async fn a_shard_beyond_those_of_the_cluster_is_refused() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "ghost", 5, false);
    let database = &stage.temporal.database;
    // `ClusterMetadata` with a history_shard_count of `SHARD`, which is the highest there is.
    database.psql(&format!("INSERT INTO cluster_metadata_info VALUES (0, 'active', '\\x10{SHARD:02x}', 'Proto3', 1)"));
    let beyond = ForeignShards { database: database.name.clone(), said: SHARD, highest: SHARD + 1 };
    let expected = Refusal::Shards(beyond);
    stage.temporal.run("elsewhere", false);
    database.psql("UPDATE executions SET shard_id = shard_id + 1");
    assert_eq!(refused(&stage).await, expected);
    database.psql("DELETE FROM executions; INSERT INTO shards SELECT shard_id + 1, range_id FROM shards");
    assert_eq!(refused(&stage).await, expected);
    database.psql(&format!("DELETE FROM shards WHERE shard_id > {SHARD}"));
    assert_eq!(stage.reconcile().await.ghosts, 1);
}

/// Temporal's own namespace has this id in every cluster.
const SYSTEM: &str = "32049b68-7872-4094-8e63-d0dd59896a83";

#[tokio::test]
async fn a_database_without_a_namespace_in_common_is_refused_and_temporals_own_does_not_count() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "w", 5, false);
    stage.scratch.document(&stage.index(1), "system", 6, false, json!({"NamespaceId": SYSTEM}));
    let bytes = SYSTEM.replace('-', "");
    stage.temporal.database.psql(&format!(
        "UPDATE namespaces SET id = '\\x00000000000000000000000000000009', name = 'theirs';
         INSERT INTO namespaces VALUES (0, '\\x{bytes}', 'temporal-system')"
    ));
    let strangers =
        Refusal::Strangers { index: stage.scratch.alias.clone(), database: stage.temporal.database.name.clone() };
    assert_eq!(refused(&stage).await, strangers);
    // A database that was set up anew has no other namespace at all.
    stage.temporal.database.psql("DELETE FROM namespaces WHERE name = 'theirs'");
    assert_eq!(refused(&stage).await, strangers);
    assert_eq!(stage.scratch.count(&stage.scratch.alias), 2);
}

async fn asked(stage: &Stage, postgres: Postgres, database: &str) -> VisibilityError {
    let persistence = Persistence::new(postgres, database);
    let ground = Ground { persistence, ..stage.ground().await };
    plan(&ground, &stage.policy(), &Bookmarks::default(), &Context::plain()).await.unwrap_err()
}

#[tokio::test]
async fn a_database_without_temporals_tables_is_no_ground_for_removing_anything() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "w", 5, false);
    let empty = Scratch::new("empty");
    let error = asked(&stage, Server::Pg15.client(), &empty.name).await;
    assert!(error.to_string().ends_with("relation \"shards\" does not exist (SQLSTATE 42P01)"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("postgres.databases.main")), "{:?}", error.hint());
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!(stage.versions("w"), [Some(5), None]);
}

#[tokio::test]
async fn a_role_that_may_not_read_the_tables_is_told_what_to_grant() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "w", 5, false);
    let (role, database) = (Role::new(Server::Pg15), &stage.temporal.database);
    let settings =
        Settings { user: role.name.clone(), password: Some(role.password.clone().into()), ..Server::Pg15.settings() };
    let ask = async || asked(&stage, Postgres::new(settings.clone()), &database.name).await;
    let error = ask().await;
    assert!(error.to_string().contains("permission denied for table shards"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&format!("grant role `{}`", role.name))), "{error:?}");
    // Each table by itself: with the first alone nothing is removed either.
    database.psql(&format!("GRANT SELECT ON shards TO {}", role.name));
    let error = ask().await;
    assert!(error.to_string().contains("permission denied for table executions"), "{error}");
    assert_eq!(stage.versions("w"), [Some(5), None]);
    database.psql(&format!("REVOKE ALL ON shards FROM {}", role.name));
}

#[tokio::test]
async fn a_standby_is_refused_because_it_may_lack_runs() {
    let stage = Stage::new(Engine::opensearch(), 2);
    stage.document(1, "w", 5, false);
    let planned = stage.plan().await;
    let standby = OwnServer::waiting_standby();
    let settings = standby.settings();
    let refused = Refusal::Standby { database: "postgres".into() };
    let error = asked(&stage, Postgres::new(settings.clone()), "postgres").await;
    assert_eq!(error, VisibilityError::Refused(refused.clone()));

    // Also when a failover comes between plan and apply.
    let persistence = Persistence::new(Postgres::new(settings), "postgres");
    let ground = Ground { persistence, ..stage.ground().await };
    let error = sexton::visibility::reconcile::apply(&planned, &ground, &Context::plain()).await.unwrap_err();
    let VisibilityError::Unfinished { cause, .. } = error else { panic!("{error:?}") };
    assert_eq!(*cause, VisibilityError::Refused(refused));
    assert_eq!(stage.versions("w"), [Some(5), None]);
}
