//! The load and its judge, without sexton: what the other tests of visibility stand on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Index};
use crate::support::judge::{Judge, Key};
use crate::support::load::{Load, LoadOptions};
use crate::support::search::eventually;
use crate::support::stack;

#[tokio::test]
async fn with_one_index_temporal_tells_a_load_exactly() {
    let cluster = Cluster::start("load", Index::Alias).await;
    let mut load = Load::start(&cluster, LoadOptions::default());
    let judge = Judge::of(&cluster);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        load.quiesce().await;
        judge.agree().await;
        load.resume();
    }
    load.until("each kind of change", |tally| {
        let changes = [tally.started, tally.upserted, tally.completed, tally.failed, tally.continued];
        changes.iter().chain(&[tally.terminated, tally.deleted]).all(|done| *done > 0)
    })
    .await;
    let tally = load.stop().await;
    println!("{tally}");
    assert!(tally.errors.is_empty() && tally.unanswered == 0, "{tally:?}");
    let runs = judge.agree().await;
    judge.agree_by_cli();
    // The database itself says that the deletions happened and nothing else is gone.
    assert!(runs as u64 + tally.deleted >= tally.started + tally.continued, "{runs} runs after {tally}");
    assert!(runs as u64 <= tally.started + tally.continued, "{runs} runs after {tally}");
}

/// The document of a run, with its id and version.
fn document(cluster: &Cluster, (_, run): &Key) -> Value {
    let query = json!({"query": {"term": {"RunId": run}}, "version": true});
    cluster.engine.ok("POST", &format!("/{}/_search", cluster.index), Some(query))["hits"]["hits"][0].clone()
}

/// Writes a run's document with changes, behind everybody's back.
fn rewrite(cluster: &Cluster, index: &str, key: &Key, changes: Value) {
    let mut document = document(cluster, key);
    for (name, value) in changes.as_object().into_iter().flatten() {
        // Null takes a field away: a document with a null that Temporal does not expect fails its whole list.
        match document["_source"].as_object_mut() {
            Some(source) if value.is_null() => drop(source.remove(name)),
            _ => document["_source"][name] = value.clone(),
        }
    }
    let (id, version) = (document["_id"].as_str().unwrap(), document["_version"].as_u64().unwrap() + 1);
    let path = format!("/{index}/_doc/{id}?version={version}&version_type=external");
    cluster.engine.ok("PUT", &path, Some(document["_source"].clone()));
}

#[tokio::test]
async fn the_judge_sees_each_kind_of_lie() {
    let cluster = Cluster::start("lies", Index::Alias).await;
    let load = Load::start(&cluster, LoadOptions::default());
    load.until("forty starts", |tally| tally.started >= 40).await;
    println!("{}", load.stop().await);
    let judge = Judge::of(&cluster);
    let runs = judge.agree().await;

    // Ids that stand in a path as they are.
    let truth = judge.truth();
    let plain = truth.iter().filter(|(key, run)| {
        // A run that was continued has no memo to forget.
        key.0.starts_with("order-") && run.status == "Running" && run.attributes.contains_key("memo.reason")
    });
    let keys: Vec<Key> = plain.map(|(key, _)| key.clone()).collect();
    let [deleted, copied, closed, changed, forgotten] = &keys[..5] else { unreachable!() };
    let [first, second] = [1, 2].map(|number| format!("{}-{number:06}", cluster.index));
    let behind = json!({"aliases": {&cluster.index: {"is_write_index": false}}});
    cluster.engine.ok("PUT", &format!("/{second}"), Some(behind));
    let mapping = cluster.engine.ok("GET", &format!("/{first}/_mapping"), None)[&first]["mappings"].clone();
    cluster.engine.ok("PUT", &format!("/{second}/_mapping"), Some(mapping));

    let id = document(&cluster, deleted)["_id"].as_str().unwrap().to_owned();
    cluster.engine.ok("DELETE", &format!("/{first}/_doc/{id}"), None);
    rewrite(&cluster, &second, copied, json!({}));
    rewrite(&cluster, &first, closed, json!({"ExecutionStatus": "Completed", "CloseTime": "2026-01-01T00:00:00Z"}));
    rewrite(&cluster, &first, changed, json!({"CustomerTier": "none"}));
    rewrite(&cluster, &first, forgotten, json!({"Memo": null, "MemoEncoding": null}));
    let never = "11111111-2222-4333-8444-555555555555";
    let nobody = json!({
        "VisibilityTaskKey": "1~1", "NamespaceId": cluster.namespace_id, "WorkflowId": "nobody", "RunId": never,
        "WorkflowType": "Checkout", "TaskQueue": "load", "ExecutionStatus": "Running",
        "StartTime": "2026-01-01T00:00:00Z", "ExecutionTime": "2026-01-01T00:00:00Z",
    });
    cluster.engine.ok("PUT", &format!("/{second}/_doc/nobody~{never}"), Some(nobody));

    let verdict = judge.compare().await;
    println!("{verdict}");
    assert_eq!(verdict.runs, runs);
    assert_eq!(verdict.missing, std::slice::from_ref(deleted));
    assert_eq!(verdict.duplicated, [(copied.clone(), 2)]);
    assert_eq!(verdict.wrong_status, [(closed.clone(), "Running".into(), "Completed".into())]);
    let wrong: Vec<_> = verdict.wrong_attribute.iter().map(|(key, name, _, _)| (key, name.as_str())).collect();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong.contains(&(changed, "CustomerTier")) && wrong.contains(&(forgotten, "memo.reason")), "{wrong:?}");
    assert_eq!(verdict.extra, [("nobody".into(), never.into())]);
    let count = |query: &str| verdict.counts.iter().find(|count| count.query == query);
    for query in ["", "GROUP BY ExecutionStatus: Completed", "ExecutionStatus = 'Completed'"] {
        assert!(count(query).is_some_and(|count| count.told == count.want + 1), "{query}: {:?}", count(query));
    }
}

#[tokio::test]
async fn a_cluster_outlives_its_server_and_counts_what_it_gave_up() {
    let impatient = "history.TaskDLQUnexpectedErrorAttempts: [{value: 3}]";
    let cluster = Cluster::start_with("killed", Index::Concrete, &[impatient]).await;
    let mut load = Load::start(&cluster, LoadOptions::default());
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.kill_server();
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.restart();
    tokio::time::sleep(Duration::from_secs(3)).await;
    load.pause().await;
    let still = load.tally();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(load.tally(), still, "a load that is held does nothing");
    let tally = load.stop().await;
    assert!(tally.errors.is_empty(), "{tally:?}");
    let judge = Judge::of(&cluster);
    judge.agree().await;
    assert_eq!(cluster.dlq(), 0);

    let block = |on: bool| {
        let settings = json!({"index.blocks.write": on});
        cluster.engine.ok("PUT", &format!("/{}/_settings", cluster.index), Some(settings));
    };
    block(true);
    let run = cluster.server.start_workflow(&cluster.namespace, "given-up");
    eventually("the task is in the dead letter queue", async || (cluster.dlq() == 1).then_some(())).await;
    block(false);
    // Temporal's own administration tool reads the same queue.
    let tdbg = std::process::Command::new(stack().get("TDBG"))
        .args(["--address", &cluster.server.address, "dlq", "--dlq-version", "v2", "list"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tdbg.stdout);
    println!("{said}");
    assert!(said.contains("4_active_active") && said.contains('1'), "{said} {tdbg:?}");
    assert_eq!(judge.compare().await.missing, [("given-up".into(), run)]);
}
