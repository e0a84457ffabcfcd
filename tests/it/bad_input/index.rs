//! An alias that cannot be kept in order: what `reconcile` and `visibility` say of each such state, and that they leave
//! it as it is.

use serde_json::{Value, json};

use super::{Case, GOOD, SECRET, Table};
use crate::support::executions::Executions;
use crate::support::postgres::Scratch as Database;
use crate::support::search::{Engine, Scratch};
use crate::support::site::{Site, postgres_sections};
use crate::support::stack;

/// The `search:` section for an engine of the stack, with its administrator or this user whose password is the secret.
fn search(engine: &Engine, user: Option<&str>) -> String {
    let admin = engine.user.as_ref().map(|(user, _)| (user.as_str(), "STACK_ES6_PASSWORD"));
    let login = user.map(|user| (user, "IT_SECRET")).or(admin);
    let basic = login.map(|(user, env)| format!(", basic: {{user: {user}, password: {{env: {env}}}}}"));
    let ca = engine.ca.as_ref().map(|ca| format!(", ca: '{}'", ca.display()));
    format!("search: {{url: '{}'{}{}}}\n", engine.url, basic.unwrap_or_default(), ca.unwrap_or_default())
}

/// A case in which neither PostgreSQL nor Temporal answers: the index is looked at first.
fn case(name: &'static str, scratch: &Scratch, job: &str) -> Case {
    let config = format!("{GOOD}{}", search(&scratch.engine, None));
    let site = Site::new(&config).policy("visibility", &format!("index: {}\n", scratch.alias));
    Case::new(name, site, format!("once {job} --dry-run")).hide(&scratch.alias, "INDEX")
}

/// Both jobs say the same.
fn both(table: Table, name: &'static str, scratch: &Scratch, text: &'static str) -> Table {
    ["reconcile", "visibility"].into_iter().fold(table, |table, job| table.case(case(name, scratch, job).says(1, text)))
}

/// An alias of two indices; the settings are put on the old one, and taken off at the end: a block keeps an index from
/// being deleted as well.
struct Blocked(Scratch, &'static str);

impl Blocked {
    fn new(engine: Engine, setting: &'static str) -> Self {
        let scratch = Scratch::new(engine);
        scratch.member(1, false);
        scratch.member(2, true);
        let blocked = Self(scratch, setting);
        blocked.set(json!(true));
        blocked
    }

    fn set(&self, value: Value) {
        let path = format!("/{}/_settings", self.0.index(1));
        self.0.engine.http("PUT", &path, Some(json!({self.1: value})));
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.set(Value::Null);
    }
}

#[test]
fn states_of_the_indices() {
    let engine = Engine::opensearch();
    let red = Scratch::new(engine.clone());
    red.member(2, true);
    let nowhere = json!({"index.routing.allocation.require.x": "y"});
    let aliases = json!({&red.alias: {"is_write_index": false}});
    let create = format!("/{}?wait_for_active_shards=0", red.index(1));
    engine.ok("PUT", &create, Some(json!({"settings": nowhere, "aliases": aliases})));
    let closed = Scratch::new(engine.clone());
    closed.member(1, false);
    closed.member(2, true);
    engine.ok("POST", &format!("/{}/_close", closed.index(1)), None);
    let writes = Blocked::new(engine.clone(), "index.blocks.write");
    let read_only = Blocked::new(engine.clone(), "index.blocks.read_only");
    // OpenSearch takes this one off by itself as soon as it sees that the disk is not full.
    let full = Blocked::new(Engine::elasticsearch6(), "index.blocks.read_only_allow_delete");
    let mut table = Table::default();
    table = both(
        table,
        "red",
        &red,
        "\
error: index `INDEX-000001` behind `INDEX` is red
  hint: find the missing shards with `GET _cluster/allocation/explain` for INDEX-000001",
    );
    table = both(
        table,
        "closed",
        &closed,
        "\
error: index `INDEX-000001` behind `INDEX` is closed
  hint: open it (`POST INDEX-000001/_open`) or take it out of the alias",
    );
    table = both(table, "write block", &writes.0, "\
error: index `INDEX-000001` takes no writes: its block `write` is set
  hint: take the block off (`PUT INDEX-000001/_settings` with `{\"index.blocks.write\": null}`): stale documents are removed from old indices too");
    table = both(table, "read-only", &read_only.0, "\
error: index `INDEX-000001` takes no writes: its block `read_only` is set
  hint: take the block off (`PUT INDEX-000001/_settings` with `{\"index.blocks.read_only\": null}`): stale documents are removed from old indices too");
    table = both(table, "disk full", &full.0, "\
error: index `INDEX-000001` takes no writes: a disk is fuller than the engine's flood-stage watermark
  hint: free disk space; the engine then lifts the block by itself, or old ones after `PUT INDEX-000001/_settings` with `{\"index.blocks.read_only_allow_delete\": null}`");
    table.check();
}

#[test]
fn aliases() {
    let engine = Engine::opensearch();
    let none = Scratch::new(engine.clone());
    none.create(&none.index(1), json!({"aliases": {&none.alias: {}}}));
    none.create(&none.index(2), json!({"aliases": {&none.alias: {}}}));
    // The engine writes to the only index of an alias, but says nothing of it, and no rollover would.
    let alone = Scratch::new(engine.clone());
    alone.create(&alone.index(1), json!({"aliases": {&alone.alias: {}}}));
    let concrete = Scratch::new(engine.clone());
    concrete.create(&concrete.alias, json!({}));
    let missing = Scratch::new(engine.clone());
    let no_write_index = "\
error: alias `INDEX` has 0 write indices (none), not one
  hint: say `is_write_index` for each member with one `POST _aliases` call: true for the newest, false for the rest";
    let mut table = both(Table::default(), "no write index", &none, no_write_index);
    table = both(table, "one index that is not said to be it", &alone, no_write_index);
    table = both(
        table,
        "missing",
        &missing,
        "\
error: there is no index or alias `INDEX`
  hint: set up Temporal's index first (temporal-elasticsearch-tool), or correct `index`",
    );
    table
        .case(case("plain index", &concrete, "reconcile").says(
            1,
            "\
error: `INDEX` is a plain index, not an alias
  hint: turn it into an alias with `sexton adopt`",
        ))
        .check();

    // Two write indices are what no engine lets come about.
    for engine in [engine, Engine::elasticsearch6()] {
        let two = Scratch::new(engine);
        two.member(1, true);
        let second = json!({"aliases": {&two.alias: {"is_write_index": true}}});
        let (status, answer) = two.engine.http("PUT", &format!("/{}", two.index(2)), Some(second));
        assert!(!(200..300).contains(&status), "{answer}");
        assert!(answer.to_string().contains("more than one write index"), "{answer}");
    }
}

#[test]
fn somebody_elses_policy() {
    let engine = Engine::elasticsearch6();
    let foreign = Scratch::new(engine.clone());
    foreign.member(1, true);
    let theirs = format!("{}-theirs", foreign.alias);
    engine.ok("PUT", &format!("/_ilm/policy/{theirs}"), Some(json!({"policy": {"phases": {}}})));
    let settings = json!({"index.lifecycle.name": theirs});
    engine.ok("PUT", &format!("/{}/_settings", foreign.index(1)), Some(settings));
    Table::default()
        .case(case("another lifecycle policy", &foreign, "visibility").says(1, "\
error: index `INDEX-000001` is managed by the policy `INDEX-theirs`, which is not sexton's
  hint: take the policy off (`POST INDEX-000001/_ilm/remove` or `_plugins/_ism/remove/INDEX-000001`), or leave the index to it"))
        .check();
    engine.ok("DELETE", &format!("/{}", foreign.index(1)), None);
    engine.ok("DELETE", &format!("/_ilm/policy/{theirs}"), None);
}

#[test]
fn a_namespace_that_keeps_longer_than_the_index_lives() {
    let scratch = Scratch::new(Engine::opensearch());
    scratch.member(1, true);
    let temporal = format!("temporal: {{address: '{}'}}\n", stack().get("TEMPORAL_ADDRESS"));
    let config = format!("{GOOD}{}{temporal}", search(&scratch.engine, None));
    // Other tests' namespaces come and go; all of them keep a day at least.
    let policy = format!("index: {}\nrollover: {{max_age: 1h}}\ndelete: {{after: 2h}}\n", scratch.alias);
    let site = Site::new(&config).policy("visibility", &policy).env("IT_SECRET", SECRET);
    let said = site.run(&["once", "visibility", "--dry-run"]).expect(1);
    let (error, hint) = said.err.trim_end().split_once('\n').unwrap();
    assert!(error.starts_with("error: a namespace keeps closed workflows for "), "{said:?}");
    assert!(error.ends_with(", but their documents may be deleted after 2h"), "{said:?}");
    assert_eq!(hint, "  hint: shorten the namespace's retention or lengthen `delete.after`");
    assert_eq!(said.out, "");
}

/// A user of Elasticsearch with these privileges on the alias and its indices; it goes away with the value.
struct User<'a>(&'a Scratch, String);

impl<'a> User<'a> {
    fn new(scratch: &'a Scratch, privileges: &[&str]) -> Self {
        let name = format!("{}-user", scratch.alias);
        let indices = json!([{"names": [format!("{}*", scratch.alias)], "privileges": privileges}]);
        let role = json!({"cluster": ["monitor", "read_ilm"], "indices": indices});
        scratch.engine.ok("PUT", &format!("/_security/role/{name}"), Some(role));
        let user = json!({"password": SECRET, "roles": [&name]});
        scratch.engine.ok("PUT", &format!("/_security/user/{name}"), Some(user));
        Self(scratch, name)
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for what in ["user", "role"] {
            self.0.engine.http("DELETE", &format!("/_security/{what}/{}", self.1), None);
        }
    }
}

#[test]
fn missing_privileges() {
    let (looks, reads) = (Scratch::new(Engine::elasticsearch6()), Scratch::new(Engine::elasticsearch6()));
    let (temporal, ledger) = (Executions::new(), Database::new("ledger"));
    temporal.run("w", true);
    for scratch in [&looks, &reads] {
        scratch.member(1, false);
        scratch.member(2, true);
        scratch.document(&scratch.index(1), "w", 5, true, json!({}));
    }
    let site = |scratch: &Scratch, user: &User<'_>| {
        let sections = postgres_sections(&ledger, &temporal.database.name);
        let config = format!("{sections}{}", search(&scratch.engine, Some(&user.1)));
        Site::new(&config).policy("visibility", &format!("index: {}\n", scratch.alias)).env("IT_SECRET", SECRET)
    };
    let (looker, reader) = (
        User::new(&looks, &["view_index_metadata", "monitor"]),
        User::new(&reads, &["read", "view_index_metadata", "monitor", "manage"]),
    );
    site(&looks, &looker).run(&["ledger", "init"]).expect(0);
    Table::default()
        .case(Case::new("may not read", site(&looks, &looker), "once reconcile").prints("reconcile: failed").hide(&looks.alias, "INDEX").says(
            1,
            "\
error: search engine forbids `POST /INDEX/_refresh`: action [indices:admin/refresh] is unauthorized for user [INDEX-user]
  hint: grant the user the index privileges `manage`, `read`, `write` and `view_index_metadata` on the alias and its indices, and the cluster privileges `monitor`, `manage_index_templates` and, for ILM, `manage_ilm`",
        ))
        .case(Case::new("may not write", site(&reads, &reader), "once reconcile -q").prints("reconcile: failed, nothing was changed").hide(&reads.alias, "INDEX").says(
            1,
            "\
error: search engine forbids `POST /_bulk`: action [indices:data/write/bulk] is unauthorized for user [INDEX-user]
  hint: grant the user the index privileges `manage`, `read`, `write` and `view_index_metadata` on the alias and its indices, and the cluster privileges `monitor`, `manage_index_templates` and, for ILM, `manage_ilm`",
        ))
        .check();
    assert_eq!(looks.version(&looks.index(1), "w"), Some(5));
    assert_eq!(reads.version(&reads.index(1), "w"), Some(5));
    assert_eq!(ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'failed'"), "2");
}

/// Not only in a dry run: the run stands in the ledger as refused, and nothing was changed.
#[test]
fn a_refused_reconcile_is_no_completed_run() {
    let blocked = Blocked::new(Engine::opensearch(), "index.blocks.write");
    let (temporal, ledger) = (Executions::new(), Database::new("ledger"));
    blocked.0.document(&blocked.0.index(2), "ghost", 5, false, json!({}));
    let config = format!("{}{}", postgres_sections(&ledger, &temporal.database.name), search(&blocked.0.engine, None));
    let site = Site::new(&config).policy("visibility", &format!("index: {}\n", blocked.0.alias));
    site.run(&["ledger", "init"]).expect(0);
    let said = site.run(&["once", "reconcile"]).expect(1);
    assert!(said.err.contains("its block `write` is set") && said.err.contains("hint: "), "{said:?}");
    assert_eq!(ledger.psql("SELECT job, outcome FROM runs"), "reconcile|refused");
    assert_eq!(blocked.0.version(&blocked.0.index(2), "ghost"), Some(5));
    blocked.set(Value::Null);
    site.run(&["once", "reconcile"]).expect(0);
    assert_eq!(blocked.0.version(&blocked.0.index(2), "ghost"), None);
}
