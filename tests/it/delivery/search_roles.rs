//! The roles that docs/roles/search-role.sh prints, on a real Elasticsearch: sexton does its work as them, and what each
//! must not the engine refuses, asked with curl. OpenSearch's are not run: the stack's has no security plugin.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::executions::Executions;
use crate::support::postgres::Scratch as Database;
use crate::support::search::{Engine, Scratch};
use crate::support::site::{Site, postgres_sections};
use crate::support::stack;

const PASSWORD: &str = "least-privileges";

fn printed(arguments: &[&str]) -> (Option<i32>, String) {
    let mut script = Command::new("docs/roles/search-role.sh");
    let output = script.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A user of Elasticsearch with the role for one purpose; both go away with the value.
struct User<'a> {
    scratch: &'a Scratch,
    name: String,
}

impl<'a> User<'a> {
    fn new(scratch: &'a Scratch, purpose: &str) -> Self {
        let name = format!("{}-{purpose}", scratch.alias);
        let (code, role) = printed(&[purpose, &scratch.alias]);
        assert_eq!(code, Some(0));
        scratch.engine.ok("PUT", &format!("/_security/role/{name}"), Some(serde_json::from_str(&role).unwrap()));
        let user = json!({"password": PASSWORD, "roles": [&name]});
        scratch.engine.ok("PUT", &format!("/_security/user/{name}"), Some(user));
        Self { scratch, name }
    }

    /// The engine as this user reaches it.
    fn engine(&self) -> Engine {
        let mut engine = self.scratch.engine.clone();
        engine.user = Some((self.name.clone(), PASSWORD.to_owned()));
        engine
    }

    #[track_caller]
    fn must_not(&self, calls: &[(&str, &str, Value)]) {
        for (method, path, body) in calls {
            let body = (!body.is_null()).then(|| body.clone());
            let (status, answer) = self.engine().http(method, path, body);
            assert_eq!(status, 403, "{method} {path}: {answer}");
        }
    }

    fn site(&self, temporal: &Executions, ledger: &Database, policy: &str) -> Site {
        let engine = &self.scratch.engine;
        let ca = engine.ca.as_ref().unwrap().display().to_string();
        let config = format!(
            "{}search: {{url: '{}', ca: '{ca}', basic: {{user: {}, password: {{env: IT_SEARCH}}}}}}\n",
            postgres_sections(ledger, &temporal.database.name),
            engine.url,
            self.name
        );
        let policy = format!("index: {}\n{policy}", self.scratch.alias);
        let site = Site::new(&config).policy("visibility", &policy).env("IT_SEARCH", PASSWORD);
        site.run(&["ledger", "init"]).expect(0);
        site
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for what in ["user", "role"] {
            self.scratch.engine.http("DELETE", &format!("/_security/{what}/{}", self.name), None);
        }
    }
}

/// An alias of two indices with an open workflow in the old one.
fn begun() -> (Scratch, Executions, Database) {
    let scratch = Scratch::new(Engine::elasticsearch6());
    let (temporal, ledger) = (Executions::new(), Database::new("ledger"));
    temporal.run("w", true);
    scratch.member(1, false);
    scratch.member(2, true);
    scratch.document(&scratch.index(1), "w", 5, true, json!({}));
    (scratch, temporal, ledger)
}

/// What neither may: another index, users, the cluster.
fn of_others(other: &str) -> Vec<(&'static str, String, Value)> {
    vec![
        ("GET", format!("/{other}/_search"), Value::Null),
        ("DELETE", format!("/{other}"), Value::Null),
        ("PUT", format!("/{other}/_doc/1"), json!({"a": 1})),
        ("PUT", "/_security/user/it_never".into(), json!({"password": "never-ever", "roles": ["superuser"]})),
        ("GET", "/_security/user".into(), Value::Null),
        ("PUT", "/_cluster/settings".into(), json!({"transient": {"indices.recovery.max_bytes_per_sec": "1mb"}})),
        ("PUT", "/_snapshot/it_never".into(), json!({"type": "fs", "settings": {"location": "/x"}})),
    ]
}

fn borrowed<'a>(calls: &'a [(&'static str, String, Value)]) -> Vec<(&'a str, &'a str, Value)> {
    calls.iter().map(|(method, path, body)| (*method, path.as_str(), body.clone())).collect()
}

#[test]
fn one_that_looks_sees_the_indices_and_changes_nothing() {
    let (scratch, temporal, ledger) = begun();
    let other = Scratch::new(Engine::elasticsearch6());
    other.member(1, true);
    let user = User::new(&scratch, "read");
    let site = user.site(&temporal, &ledger, "driver: ilm\n");
    let seen = site.run(&["visibility", "--json"]).expect(0).json();
    assert!(seen.to_string().contains(&scratch.index(2)), "{seen}");
    let planned = site.run(&["plan", "visibility"]);
    assert!([0, 2].contains(&planned.code), "{planned:?}");
    // Where the daemon rolls, looking asks the engine whether it would, which only who may roll may ask.
    let policy = format!("index: {}\ndriver: daemon\n", scratch.alias);
    std::fs::write(site.path().join("policies/visibility.yaml"), policy).unwrap();
    assert!(site.run(&["visibility"]).expect(1).err.contains("indices:admin/rollover"));
    user.must_not(&borrowed(&of_others(&other.index(1))));
    let own = [
        ("DELETE", format!("/{}", scratch.index(1)), Value::Null),
        ("POST", format!("/{}/_rollover", scratch.alias), json!({})),
        ("PUT", format!("/{}/_doc/1", scratch.index(2)), json!({"a": 1})),
        ("PUT", format!("/{}/_settings", scratch.index(1)), json!({"index.blocks.write": true})),
        ("PUT", "/_template/it_never".into(), json!({"index_patterns": ["it_never"]})),
        ("PUT", "/_ilm/policy/it_never".into(), json!({"policy": {"phases": {}}})),
    ];
    user.must_not(&borrowed(&own));
}

#[test]
fn one_for_the_upkeep_rolls_reconciles_deletes_and_reaches_no_other_index() {
    let (scratch, temporal, ledger) = begun();
    let other = Scratch::new(Engine::elasticsearch6());
    other.member(1, true);
    let user = User::new(&scratch, "upkeep");
    // By ILM, then by the daemon: templates, policies and settings of both.
    let site = user.site(&temporal, &ledger, "driver: ilm\n");
    site.run(&["once", "reconcile", "-q"]).expect(0);
    assert_eq!(scratch.version(&scratch.index(1), "w"), None, "the open workflow is carried forward");
    assert_eq!(scratch.version(&scratch.index(2), "w"), Some(5));
    site.run(&["once", "visibility", "-q"]).expect(0);
    let policy = scratch.engine.ok("GET", &format!("/_ilm/policy/sexton-{}", scratch.alias), None);
    assert!(policy.to_string().contains("max_age"), "{policy}");
    user.must_not(&borrowed(&of_others(&other.index(1))));
}

#[test]
fn one_for_the_upkeep_adopts_a_plain_index() {
    let scratch = Scratch::new(Engine::elasticsearch6());
    let (temporal, ledger) = (Executions::new(), Database::new("ledger"));
    temporal.run("w", true);
    scratch.create(&scratch.alias, json!({}));
    scratch.document(&scratch.alias, "w", 5, true, json!({}));
    let user = User::new(&scratch, "upkeep");
    let site = user.site(&temporal, &ledger, "driver: daemon\n");
    site.run(&["adopt"]).expect(0);
    assert_eq!(scratch.write_index(), scratch.index(2));
    assert_eq!(scratch.count(&scratch.alias), 1);
}

#[test]
fn the_script_refuses_what_it_does_not_know() {
    for arguments in
        [&["everything", "a"][..], &["read"], &["read", "a*"], &["read", "a\"b"], &["read", "a", "solr"], &[]]
    {
        assert_eq!(printed(arguments), (Some(64), String::new()), "{arguments:?}");
    }
    for purpose in ["read", "upkeep"] {
        let (_, role) = printed(&[purpose, "temporal_visibility_v1", "opensearch"]);
        let role: Value = serde_json::from_str(&role).unwrap();
        let patterns = json!(["temporal_visibility_v1", "temporal_visibility_v1-*"]);
        assert_eq!(role["index_permissions"][0]["index_patterns"], patterns);
    }
    let _ = stack();
}
