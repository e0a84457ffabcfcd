//! One migration over several stores: object store, both databases, the search engine. The judges are psql, curl and the
//! store's own files.

use serde_json::json;

use crate::support::cluster::schema;
use crate::support::postgres::{self, Server};
use crate::support::search::{Engine, Scratch};
use crate::support::site::{Site, postgres_sections};

struct Stores {
    main: postgres::Scratch,
    visibility: postgres::Scratch,
    index: Scratch,
    ledger: postgres::Scratch,
    site: Site,
}

impl Stores {
    fn new(with_visibility: bool) -> Self {
        let main = postgres::Scratch::copy_of(Server::Pg15, "stores", schema());
        let visibility = postgres::Scratch::new("visibility");
        visibility.psql("CREATE TABLE executions_visibility (n int) WITH (autovacuum_vacuum_scale_factor = 0.3)");
        let (ledger, index) = (postgres::Scratch::new("ledger"), Scratch::new(Engine::opensearch()));
        index.create(&index.alias, json!({}));
        let document = json!({
            "VisibilityTaskKey": "1~1000", "NamespaceId": "n", "WorkflowId": "w", "RunId": "r", "WorkflowType": "T",
            "TaskQueue": "q", "ExecutionStatus": "Completed", "StartTime": "2026-01-01T00:00:00Z", "CloseTime": "2026-01-01T00:01:00Z",
        });
        index.bulk([(index.alias.clone(), ("w~r".to_owned(), 1_000, document))]);
        let mut databases = format!("databases: {{main: {}", main.name);
        let sections = postgres_sections(&ledger, &main.name);
        let former = databases.clone();
        if with_visibility {
            databases += &format!(", visibility: {}", visibility.name);
        }
        let config = format!(
            "{}search: {{url: '{}'}}\nstore: {{directory: store}}\nmigrations: {{recipes: recipes}}\n",
            sections.replace(&former, &databases),
            index.engine.url
        );
        let site = Site::new(&config).policy("visibility", &format!("index: {}\n", index.alias)).policy("backup", "{}");
        std::fs::create_dir(site.path().join("recipes")).unwrap();
        site.run(&["ledger", "init"]).expect(0);
        Self { main, visibility, index, ledger, site }
    }

    /// Reloptions of the tables, the members of the alias, backups in the store.
    fn seen(&self) -> (String, String, usize, usize) {
        let of = |database: &postgres::Scratch| {
            database.psql(
                "SELECT string_agg(relname || ' ' || reloptions::text, ' ' ORDER BY relname) FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r' AND relnamespace = 'public'::regnamespace",
            )
        };
        let alias = self.index.engine.http("GET", &format!("/_alias/{}", self.index.alias), None);
        let members = if alias.0 == 200 { alias.1.as_object().unwrap().len() } else { 0 };
        let backups = self.site.path().join("store/backups");
        let backups = std::fs::read_dir(backups).map_or(0, |all| all.count());
        (of(&self.main), of(&self.visibility), members, backups)
    }
}

const TUNED: &str = "{autovacuum_vacuum_scale_factor=0.01}";

#[test]
fn the_first_day_reaches_every_store() {
    let stores = Stores::new(true);
    let site = &stores.site;
    let planned = site.run(&["migrate", "plan", "first-day"]).expect(2);
    assert!(planned.out.contains("behind step adopt-index there is no way back"), "{}", planned.out);
    site.run(&["migrate", "run", "first-day", "-q"]).expect(2);
    assert_eq!(
        stores.seen(),
        (String::new(), "executions_visibility {autovacuum_vacuum_scale_factor=0.3}".into(), 0, 0)
    );
    site.run(&["migrate", "approve", "first-day", "--by", "Ada"]).expect(0);
    site.run(&["migrate", "run", "first-day", "-q"]).expect(0);
    let main = ["executions", "history_node", "history_tree"].map(|table| format!("{table} {TUNED}")).join(" ");
    assert_eq!(stores.seen(), (main, format!("executions_visibility {TUNED}"), 2, 1));
    // The adoption was a run of the job, which `sexton status` tells.
    assert_eq!(stores.ledger.psql("SELECT outcome FROM runs WHERE job = 'visibility'"), "changed");
    site.run(&["migrate", "plan", "first-day"]).expect(0);
    let refused = site.run(&["migrate", "undo", "first-day"]).expect(1);
    assert!(refused.err.contains("no way back behind step `adopt-index`"), "{refused:?}");
    // Adopted already, there is nothing to approve and nothing to do.
    site.run(&["migrate", "run", "adopt-rollover", "-q"]).expect(0);
}

#[test]
fn what_fails_in_one_store_is_taken_back_in_the_others() {
    let stores = Stores::new(true);
    let before = stores.seen();
    // As somebody leaves it who blocks writes by hand: no adoption begins.
    let (engine, name) = (&stores.index.engine, &stores.index.alias);
    let approved = stores.site.run(&["migrate", "approve", "first-day", "--by", "Ada"]);
    approved.expect(0);
    // It is there when the steps before it have been made, and gone when its turn comes.
    stores.visibility.psql(
        "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3); END';
         CREATE EVENT TRIGGER slow ON ddl_command_end EXECUTE FUNCTION slow()",
    );
    let mut running = stores.site.start(&["migrate", "run", "first-day", "-q"], "run.log");
    let there = "SELECT count(*) FROM migration_steps WHERE step LIKE 'visibility-tables%' AND state = 'intended'";
    assert!(crate::support::site::eventually(std::time::Duration::from_secs(60), || stores.ledger.psql(there) == "1"));
    engine.ok("POST", &format!("/{name}/_close"), None);
    assert_eq!(running.wait(), Some(6), "{}", running.log());
    engine.ok("POST", &format!("/{name}/_open"), None);
    stores.visibility.psql("DROP EVENT TRIGGER slow");
    // The backup stays: it changes nothing.
    assert_eq!(stores.seen(), (before.0, before.1, 0, 1));
    assert_eq!(stores.ledger.psql("SELECT state FROM migrations"), "undone");
}

#[test]
fn a_store_that_the_site_does_not_have_is_passed_over() {
    let stores = Stores::new(false);
    stores.site.run(&["migrate", "approve", "first-day", "--by", "Ada"]).expect(0);
    stores.site.run(&["migrate", "run", "first-day", "-q"]).expect(0);
    let (main, visibility, members, backups) = stores.seen();
    assert!(main.contains(TUNED) && visibility.contains("0.3"), "{main} {visibility}");
    assert_eq!((members, backups), (2, 1));
}

#[test]
fn recipes_are_examined_without_a_configuration() {
    let site = Site::new("not: [a configuration");
    let clean = site.run(&["migrate", "lint", "--strict"]).expect(0);
    assert!(clean.out.ends_with("9 recipes: 0 errors, 0 warnings\n"), "{}", clean.out);
    let bad = "name: bad\ndescription: d\ndatabase: main\nstages:\n  - name: s\n    steps:\n      - name: t\n        do:\n          sql:\n            \
               run:\n              - CREATE INDEX CONCURRENTLY i ON t (n)\n              - ALTER TABLE t ALTER COLUMN n TYPE bigint\n            undo: [SELECT 1]\n";
    let site = site.file("bad.yaml", bad).file("typo.yaml", &bad.replace("t (n)", "${tbale} (n)"));
    let found = site.run(&["migrate", "lint", "bad.yaml"]).expect(3);
    let lines: Vec<&str> = found.out.lines().collect();
    assert!(
        lines[0].starts_with("bad.yaml:11: error[transaction] step `t`: CONCURRENTLY does not run in a transaction"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("bad.yaml:12: warning[rewrite] step `t`: "), "{lines:?}");
    assert_eq!(lines[2..], ["1 recipe: 1 error, 1 warning"]);
    let json = site.run(&["migrate", "lint", "bad.yaml", "--json"]).expect(3).json();
    assert_eq!((&json["recipes"], &json["findings"][0]["line"]), (&1.into(), &11.into()));
    let typo = site.run(&["migrate", "lint", "typo.yaml"]).expect(78);
    assert!(typo.err.contains("typo.yaml:7:15") && typo.err.contains("`${tbale}` is not a parameter"), "{}", typo.err);
    let site = site.file("ends.yaml", &bad.replace("CREATE INDEX CONCURRENTLY i ON t (n)", "COMMIT"));
    let ends = site.run(&["migrate", "lint", "ends.yaml"]).expect(78);
    assert!(ends.err.contains("ends.yaml:11:17: `COMMIT` would begin or end a transaction"), "{}", ends.err);
    let endless = site.run(&["migrate", "lint", "/dev/zero"]).expect(78);
    assert!(endless.err.contains("/dev/zero: cannot be read: it is larger than 16 MiB"), "{}", endless.err);
    let none = site.run(&["migrate", "lint", "no-such.yaml"]).expect(78);
    assert!(none.err.contains("no-such.yaml: cannot be read: there is no such file"), "{}", none.err);
}
