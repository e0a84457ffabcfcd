//! What is not adopted, and why. Each refusal leaves the index as it is.

use serde_json::{Value, json};

use super::Ground;
use crate::support::cluster::{Cluster, Index};
use crate::support::load::{Load, LoadOptions};
use crate::support::postgres;
use crate::support::search::Engine;
use crate::support::site::Site;

/// Refused with this text, both when it is asked and when it is done; afterwards the index is as before.
#[track_caller]
fn refused(ground: &Ground, args: &[&str], text: &str) {
    for dry in [&["--dry-run"][..], &[]] {
        let said = ground.adopt(&[args, dry].concat()).expect(1);
        assert!(said.err.contains(text) && said.err.contains("hint: "), "`{text}` is not in\n{}", said.err);
    }
    let engine = &ground.scratch.engine;
    for made in [1, 2] {
        let index = ground.scratch.index(made);
        let theirs = engine.http("GET", &format!("/{index}/_alias"), None).1;
        let aliases = theirs[&index]["aliases"].as_object().map(|aliases| aliases.len());
        assert!(aliases.is_none_or(|aliases| aliases == 0), "{theirs}");
    }
}

fn settings(ground: &Ground, settings: Value) {
    ground.scratch.engine.ok("PUT", &format!("/{}/_settings", ground.name()), Some(settings));
}

fn refusals_of_the_index(engine: fn() -> Engine) {
    let ground = Ground::new(engine(), 5);
    let (engine, name) = (&ground.scratch.engine, ground.name());
    let before = ground.documents(&name);
    // Not `metadata`: one index with that block makes calls fail that ask for no index in particular.
    for (block, text) in [
        ("write", "a block that is not sexton's: index.blocks.write"),
        ("read_only", "a block that is not sexton's: index.blocks.read_only"),
        ("read_only_allow_delete", "a disk passed the flood-stage watermark"),
    ] {
        let key = format!("index.blocks.{block}");
        settings(&ground, json!({&key: true}));
        refused(&ground, &[], text);
        let still = engine.ok("GET", &format!("/{name}/_settings?flat_settings=true"), None);
        assert_eq!(still[&name]["settings"][&key], "true", "a block of somebody else stays");
        settings(&ground, json!({&key: null}));
    }
    settings(&ground, json!({"index.auto_expand_replicas": false, "index.number_of_replicas": 1}));
    refused(&ground, &[], "is yellow, not green");
    settings(&ground, json!({"index.auto_expand_replicas": "0-2"}));

    engine.ok("POST", &format!("/{name}/_close"), None);
    refused(&ground, &[], &format!("index `{name}` is closed"));
    engine.ok("POST", &format!("/{name}/_open"), None);
    engine.ok("GET", &format!("/_cluster/health/{name}?wait_for_status=green&timeout=30s"), None);

    let alias = |what: &str| {
        let actions = json!({"actions": [{what: {"index": &name, "alias": format!("{name}_theirs")}}]});
        engine.ok("POST", "/_aliases", Some(actions));
    };
    alias("add");
    refused(&ground, &[], "is behind other aliases as well");
    alias("remove");

    // Also one that a later rollover would run into, and one that a person cloned or created by hand.
    for number in [1, 2, 17] {
        let taken = ground.scratch.index(number);
        ground.scratch.create(&taken, json!({}));
        ground.write(&taken, 0..2);
        refused(&ground, &[], &format!("there is an index `{taken}` already"));
        assert_eq!(ground.scratch.count(&taken), 2, "what is not sexton's is not touched");
        engine.ok("DELETE", &format!("/{taken}"), None);
    }
    assert!(ground.adopt(&["--deadline", "1s"]).expect(64).err.contains("give between 5s and 30m"));
    ground.is_as_before(&before);

    engine.ok("DELETE", &format!("/{name}"), None);
    refused(&ground, &[], &format!("there is no index `{name}` to adopt"));
    // No node has this attribute, so that the index's shard is never allocated.
    let nowhere = json!({"settings": {"index.routing.allocation.require.nowhere": "x"}});
    engine.ok("PUT", &format!("/{name}?wait_for_active_shards=0"), Some(nowhere));
    refused(&ground, &[], "is red, not green");
}

#[test]
fn what_is_refused_of_an_index_on_opensearch() {
    refusals_of_the_index(Engine::opensearch);
}

#[test]
fn what_is_refused_of_an_index_on_elasticsearch() {
    refusals_of_the_index(Engine::elasticsearch6);
}

#[test]
fn an_index_that_a_policy_manages_is_refused() {
    let ground = Ground::new(Engine::elasticsearch6(), 1);
    let (engine, theirs) = (&ground.scratch.engine, format!("{}-theirs", ground.name()));
    engine.ok("PUT", &format!("/_ilm/policy/{theirs}"), Some(json!({"policy": {"phases": {}}})));
    settings(&ground, json!({"index.lifecycle.name": &theirs}));
    refused(&ground, &[], &format!("is managed by the policy `{theirs}`"));
    settings(&ground, json!({"index.lifecycle.name": null}));
    engine.ok("DELETE", &format!("/_ilm/policy/{theirs}"), None);
    refused(&ground, &["--method", "clone"], "Elasticsearch 6.8.23 cannot clone an index");
}

/// A clone that somebody made by hand of the very index, on the way that the engine's documentation shows.
#[test]
fn a_clone_made_by_hand_is_not_taken_for_sextons() {
    let ground = Ground::new(Engine::opensearch(), 5);
    let (engine, name, first) = (&ground.scratch.engine, ground.name(), ground.scratch.index(1));
    let before = ground.documents(&name);
    settings(&ground, json!({"index.blocks.write": true}));
    let body = json!({"settings": {"index.blocks.write": null}});
    engine.ok("POST", &format!("/{name}/_clone/{first}"), Some(body));
    settings(&ground, json!({"index.blocks.write": null}));
    refused(&ground, &[], &format!("there is an index `{first}` already"));
    assert_eq!(ground.documents(&first), before);
}

#[test]
fn a_missing_privilege_is_named() {
    let ground = Ground::new(Engine::elasticsearch6(), 3);
    let (engine, name) = (&ground.scratch.engine, ground.name());
    let before = ground.documents(&name);
    let user = format!("{name}_user");
    let indices = |privileges: &[&str]| json!([{"names": [&name, format!("{name}-*")], "privileges": privileges}]);
    let role = |cluster: &[&str], indices: Value| {
        engine.ok("PUT", &format!("/_security/role/{user}"), Some(json!({"cluster": cluster, "indices": indices})));
    };
    role(&[], json!([]));
    let body = json!({"password": "low-privileges", "roles": [&user]});
    engine.ok("PUT", &format!("/_security/user/{user}"), Some(body));
    let config = std::fs::read_to_string(ground.site.path().join("sexton.yaml")).unwrap();
    let config = config.replace("user: elastic,", &format!("user: {user},")).replace("STACK_ES6_PASSWORD", "LOW");
    std::fs::write(ground.site.path().join("low.yaml"), config).unwrap();
    let adopt = || ground.site.run_with(&["adopt", "--config", "low.yaml"], &[("LOW", "low-privileges")]);

    // Without `monitor` it cannot even be asked what the engine is.
    let said = adopt().expect(1);
    assert!(said.err.contains("cluster:monitor/main"), "{}", said.err);
    let everything = ["monitor", "manage_index_templates", "manage_ilm"];
    role(&everything, indices(&["monitor", "read", "view_index_metadata", "write"]));
    let said = adopt().expect(1);
    for missing in ["`manage` on", "`delete_index` on", "`create_index` on", &name] {
        assert!(said.err.contains(missing), "{missing} is not in {}", said.err);
    }
    role(&["monitor"], indices(&["all"]));
    let said = adopt().expect(1);
    assert!(said.err.contains("lacks `manage_index_templates` on the cluster"), "{}", said.err);
    ground.is_as_before(&before);
    role(&everything, indices(&["read", "write", "manage"]));
    let said = adopt();
    engine.ok("DELETE", &format!("/_security/user/{user}"), None);
    engine.ok("DELETE", &format!("/_security/role/{user}"), None);
    said.expect(0);
    ground.is_adopted(&before);
}

/// A real cluster, whose effects on its table are what is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn close_workflow_cleanup_and_a_long_retention_are_seen_in_a_real_cluster() {
    let cleanup = "history.visibilityProcessorEnableCloseWorkflowCleanup: [{value: true}]";
    let cluster = Cluster::start_with("cleanup", Index::Concrete, &[cleanup]).await;
    let ledger = postgres::Scratch::new("ledger");
    let policy = |more: &str| format!("index: {}\n{more}", cluster.index);
    let site = Site::of_cluster(&cluster, &ledger);
    let adopt = |more: &str| {
        std::fs::write(site.path().join("policies/visibility.yaml"), policy(more)).unwrap();
        site.run(&["adopt", "--dry-run"])
    };
    // The namespace keeps three days, and Temporal itself a week.
    let said = adopt("delete: {after: 2d}\n").expect(1);
    assert!(said.err.contains("a namespace keeps closed workflows for"), "{}", said.err);
    adopt("").expect(2);

    let load = Load::start(&cluster, LoadOptions::default());
    load.until("runs that ended", |tally| tally.completed > 5 && tally.terminated > 0).await;
    load.stop().await;
    let said = adopt("").expect(1);
    assert!(said.err.contains("Temporal moves memos and search attributes"), "{}", said.err);
    assert!(said.err.contains("visibilityProcessorEnableCloseWorkflowCleanup"), "{}", said.err);

    // A database that is not Temporal's: what cannot be seen is said, and no reason to refuse.
    let config = std::fs::read_to_string(site.path().join("sexton.yaml")).unwrap();
    let config = config.replace(&cluster.database.name, "postgres");
    std::fs::write(site.path().join("sexton.yaml"), config).unwrap();
    let said = adopt("").expect(2);
    assert!(said.out.contains("whether close-workflow cleanup is on is not known"), "{}", said.out);
}
