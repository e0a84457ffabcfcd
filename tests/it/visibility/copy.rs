//! The versioned copy, within an engine and from Elasticsearch 6.8 to OpenSearch 3.6, judged by curl on both sides.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sexton::context::Context;
use sexton::failure::{Explain, Kind};
use sexton::visibility::copy::{Copy, CopyError, Difference, Position, copy_indices};

use crate::support::search::{Engine, Scratch};

fn document(number: u64, version: u64) -> (String, u64, Value) {
    let source = json!({
        "WorkflowId": format!("w{number}"), "RunId": format!("r{number}"), "ExecutionStatus": "Running",
        "StartTime": "2026-01-01T00:00:00.123456789Z", "CloseTime": "2026-01-01T00:00:01Z",
        "OrderId": format!("o{}", number % 7), "Amount": number, "Notes": "several words", "Memo": "bytes, not indexed",
    });
    // Ids as Temporal makes them, with what workflow ids may hold.
    (format!("w/{number} ü~r{number}"), version, source)
}

/// An index with custom search attributes that the target's template does not have.
fn filled(engine: Engine, documents: u64) -> Scratch {
    let scratch = Scratch::new(engine);
    scratch.create(&scratch.index(1), json!({"settings": {"index.number_of_shards": 2}}));
    let fields = json!({"OrderId": {"type": "keyword"}, "Amount": {"type": "long"}, "Notes": {"type": "text"}});
    scratch.engine.put_mapping(&scratch.index(1), json!({"properties": fields}));
    scratch.bulk((0..documents).map(|number| (scratch.index(1), document(number, 10 + number))));
    scratch
}

/// By id: version and source.
fn seen(engine: &Engine, index: &str) -> BTreeMap<String, (u64, Value)> {
    engine.ok("POST", &format!("/{index}/_refresh"), None);
    let query = json!({"size": 10_000, "version": true, "query": {"match_all": {}}});
    let found = engine.ok("POST", &format!("/{index}/_search"), Some(query));
    let hits = found["hits"]["hits"].as_array().unwrap().iter();
    hits.map(|hit| {
        (hit["_id"].as_str().unwrap().to_owned(), (hit["_version"].as_u64().unwrap(), hit["_source"].clone()))
    })
    .collect()
}

async fn copies_everything(from: Engine, to: Engine) {
    let (source, target) = (filled(from, 2_500), Scratch::new(to));
    let pairs = [(source.index(1), target.index(1))];
    let [reads, writes] = [source.engine.client().await, target.engine.client().await];
    let verified = copy_indices(&reads, &writes, &pairs, &Context::plain()).await.unwrap();
    assert_eq!((verified[0].compared, verified[0].source, verified[0].target), (2_500, 2_500, 2_500));
    let before = seen(&source.engine, &source.index(1));
    assert_eq!(seen(&target.engine, &target.index(1)), before);
    assert_eq!(before.len(), 2_500);
    // The attributes are indexed, and an instant keeps the nanoseconds where the target has them.
    assert_eq!(target.found(&target.index(1), "OrderId", "o3"), 357);
    assert_eq!(target.found(&target.index(1), "Notes", "words"), 2_500);
    let exactly = json!({"query": {"range": {"StartTime": {"gt": "2026-01-01T00:00:00.123456788Z"}}}});
    let body = target.engine.ok("POST", &format!("/{}/_count", target.index(1)), Some(exactly));
    assert_eq!(body["count"], 2_500);

    // Made twice, it writes nothing; what the source changed is written, what it lost is swept.
    let copy = Copy { source: &reads, from: &source.index(1), target: &writes, to: &target.index(1) };
    let again = copy.pass(&Position::new(), &Context::plain()).await.unwrap();
    assert_eq!((again.written, again.present), (0, 2_500));
    source.bulk([(source.index(1), document(7, 9_000)), (source.index(1), document(5_000, 9_001))]);
    let gone = source.index(1);
    let gone = format!("/{gone}/_delete_by_query?refresh=true&conflicts=proceed");
    source.engine.ok("POST", &gone, Some(json!({"query": {"term": {"WorkflowId": "w9"}}})));
    let pass = copy.pass(&again.next, &Context::plain()).await.unwrap();
    assert_eq!(pass.written, 2, "only what was written since is read");
    let verified = copy.verify(&Position::new(), None, &Context::plain()).await.unwrap();
    assert_eq!((verified.differing, verified.source, verified.target), (0, 2_500, 2_501));
    assert!(!verified.equal());
    assert_eq!(copy.sweep(&Context::plain()).await.unwrap(), 1);
    assert!(copy.verify(&Position::new(), None, &Context::plain()).await.unwrap().equal());
    assert_eq!(seen(&target.engine, &target.index(1)), seen(&source.engine, &source.index(1)));
}

#[tokio::test]
async fn everything_is_copied_from_elasticsearch_to_opensearch() {
    copies_everything(Engine::elasticsearch6(), Engine::opensearch()).await;
}

#[tokio::test]
async fn everything_is_copied_within_opensearch() {
    copies_everything(Engine::opensearch(), Engine::opensearch()).await;
}

#[tokio::test]
async fn a_difference_is_named_and_a_higher_version_is_never_overwritten() {
    let (source, target) = (filled(Engine::opensearch(), 20), Scratch::new(Engine::opensearch()));
    target.create(&target.index(1), json!({}));
    // Somebody else's document of a higher version under the same id.
    let (id, _, _) = document(3, 0);
    target.bulk([(target.index(1), document(3, 999))]);
    let client = source.engine.client().await;
    let pairs = [(source.index(1), target.index(1))];
    let error = copy_indices(&client, &client, &pairs, &Context::plain()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::VerificationFailed);
    let CopyError::Differs { verified, .. } = &error else { panic!("{error:?}") };
    assert_eq!(verified.differences, [Difference { id, source: 13, target: Some(999) }]);
    assert!(error.to_string().contains("is version 999 and should be version 13"), "{error}");
    assert_eq!(target.count(&target.index(1)), 20);
    target.bulk([(target.index(1), document(77, 1))]);
    let copy = Copy { source: &client, from: &source.index(1), target: &client, to: &target.index(1) };
    let verified = copy.verify(&Position::new(), None, &Context::plain()).await.unwrap();
    assert_eq!((verified.source, verified.target, verified.differing), (20, 21, 1));
}

#[tokio::test]
async fn a_document_that_the_target_refuses_is_named() {
    let (source, target) = (filled(Engine::opensearch(), 3), Scratch::new(Engine::opensearch()));
    target.create(&target.index(1), json!({}));
    target.engine.put_mapping(&target.index(1), json!({"properties": {"OrderId": {"type": "long"}}}));
    let client = source.engine.client().await;
    let pairs = [(source.index(1), target.index(1))];
    let error = copy_indices(&client, &client, &pairs, &Context::plain()).await.unwrap_err();
    let CopyError::Refused { id, reason, .. } = &error else { panic!("{error:?}") };
    assert!(id.starts_with("w/") && reason.contains("OrderId"), "{error}");
}
