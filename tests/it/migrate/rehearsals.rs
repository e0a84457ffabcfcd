//! Rehearsals of real upgrades on restored backups: what they measure is compared with what the server itself says, and
//! what they predict with the real run.

use std::process::Command;

use serde_json::Value;

use crate::support::postgres::{Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::stack;

/// Who rehearses holds it: some look for what rehearsals have left on the server.
pub(super) static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// One of Temporal's schemas at a version, made by its own tool.
pub(super) fn schema_at(schema: &str, version: &str) -> Scratch {
    let database = Scratch::new(schema);
    for arguments in [
        &["setup-schema", "-v", "0.0"] as &[&str],
        &["update-schema", "--schema-name", &format!("postgresql/v12/{schema}"), "--version", version],
    ] {
        let mut tool = Command::new(stack().get("TEMPORAL_SQL_TOOL"));
        tool.args(["--plugin", "postgres12", "--db", &database.name]).args(arguments);
        tool.env("SQL_HOST", stack().get("PG15_HOST")).env("SQL_PORT", stack().get("PG15_PORT"));
        tool.env("SQL_USER", stack().get("PG15_USER")).env("SQL_PASSWORD", stack().get("PG15_PASSWORD"));
        let output = tool.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    database
}

pub(super) fn fill(database: &Scratch, rows: u32) {
    database.psql(&format!(
        "INSERT INTO executions_visibility (namespace_id, run_id, start_time, execution_time, workflow_id, workflow_type_name, status, close_time, history_length, memo, encoding, task_queue, search_attributes)
         SELECT md5('ns'), md5(n::text), now() - n * interval '1 second', now(), 'order-' || n, 'Checkout', 2, now() - n * interval '1 millisecond', 10, '\\x', 'Json', 'load',
           jsonb_build_object('CustomKeywordField', 'k' || n % 97) FROM generate_series(1, {rows}) n"
    ));
    database.psql("ANALYZE");
}

/// A site whose visibility database is this one, with a store and PostgreSQL 15 itself as scratch server: so times compare.
pub(super) fn site(ledger: &Scratch, main: &Scratch, visibility: &Scratch) -> Site {
    let get = |name| stack().get(name);
    let config = postgres_sections(ledger, &main.name).replace(
        &format!("databases: {{main: {}}}", main.name),
        &format!("databases: {{main: {}, visibility: {}}}", main.name, visibility.name),
    );
    let more = format!(
        "scratch: {{host: {}, port: {}, user: {}, password: {{env: STACK_PG15_PASSWORD}}}}\nstore: {{directory: store}}\n\
         migrations: {{recipes: recipes, sql_tool: {}}}\n",
        get("PG15_HOST"),
        get("PG15_PORT"),
        get("PG15_USER"),
        get("TEMPORAL_SQL_TOOL")
    );
    let site = Site::new(&format!("{config}{more}")).policy("backup", "{}");
    std::fs::create_dir(site.path().join("recipes")).unwrap();
    site.run(&["ledger", "init"]).expect(0);
    site
}

pub(super) fn version(database: &Scratch) -> String {
    database.psql("SELECT curr_version FROM schema_version")
}

fn left_over() -> String {
    Server::Pg15.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'sexton_rehearsal_%'")
}

#[test]
fn a_visibility_upgrade_is_rehearsed_approved_and_run_as_predicted() {
    let _alone = ALONE.lock();
    let rows = if std::env::var_os("SEXTON_SOAK").is_some() { 1_000_000 } else { 60_000 };
    let (ledger, main, visibility) = (Scratch::new("ledger"), Scratch::new("main"), schema_at("visibility", "1.9"));
    main.psql("CREATE TABLE history_node (n int); CREATE TABLE executions (n int)");
    fill(&visibility, rows);
    let site = site(&ledger, &main, &visibility);
    let name = "upgrade-visibility-schema";
    let due = site.run(&["migrate", "plan", name]).expect(2);
    assert!(due.out.contains("behind step visibility there is no way back"), "{due:?}");
    let none = site.run(&["migrate", "rehearse", name]).expect(1);
    assert!(none.err.contains("no backup has been proven yet"), "{none:?}");
    site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(2);
    site.run(&["once", "backup", "-q"]).expect(0);
    site.run(&["once", "drill", "-q"]).expect(0);

    let file = site.path().join("rehearsal.html");
    let report = site.run(&["migrate", "rehearse", name, "--json", "-q", "--html", "rehearsal.html"]).expect(0).json();
    assert_eq!(version(&visibility), "1.9", "production is as it was");
    let step = &report["steps"][0];
    let versions: Vec<&str> =
        step["found"]["versions"].as_array().unwrap().iter().map(|one| one["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["1.10", "1.11", "1.12", "1.13", "1.14"], "one after the other");
    let rewritten = step["cost"]["rewrites"].as_array().unwrap();
    assert!(
        rewritten
            .iter()
            .any(|one| one["kind"] == "table" && one["relation"].as_str().unwrap().ends_with("executions_visibility"))
    );
    let exclusive: u64 = (report["locks"].as_array().unwrap().iter())
        .filter(|held| {
            held["mode"] == "AccessExclusiveLock"
                && held["relation"].as_str().unwrap().ends_with(".executions_visibility")
        })
        .map(|held| held["milliseconds"].as_u64().unwrap())
        .max()
        .unwrap();
    // The load was kept waiting by it: what was seen is what was felt.
    let felt = report["felt"]
        .as_array()
        .unwrap()
        .iter()
        .find(|felt| felt["table"].as_str().unwrap().ends_with(".executions_visibility"));
    let felt = felt.unwrap()["longest_milliseconds"].as_u64().unwrap();
    println!("{rows} rows: ACCESS EXCLUSIVE for {exclusive} ms, the load waited {felt} ms");
    assert!(exclusive > 100 && felt * 2 > exclusive && felt < exclusive * 2 + 1000, "{exclusive} {felt}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("AccessExclusive") && page.contains("<svg") && !page.contains("<script"));
    assert_eq!(left_over(), "0");

    // In production, within what was predicted.
    site.run(&["migrate", "run", name]).expect(2);
    site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(0);
    let run = site.run(&["migrate", "run", name, "--json", "-q"]).expect(0).json();
    assert_eq!(version(&visibility), "1.14");
    let took = run["runs"][0]["report"]["migrations"][0]["steps"][0]["milliseconds"].as_u64().unwrap();
    let window = report["window_milliseconds"].as_u64().unwrap();
    println!("{rows} rows: predicted {window} ms, took {took} ms, ratio {:.2}", took as f64 / window as f64);
    let approval =
        ledger.psql("SELECT a.rehearsal = r.id, r.passed FROM migration_approvals a, migration_rehearsals r");
    assert_eq!(approval, "t|t", "the approval names the rehearsal");
    site.run(&["migrate", "run", name]).expect(0);
}

const RECIPE: &str = "name: mine
description: Locks a table for a while
database: visibility
limits: {lock: 500ms}
stages:
  - name: only
    steps:
      - name: locks
        do: {sql: {run: [LOCK TABLE executions_visibility IN SHARE MODE, SELECT pg_sleep(SECONDS)], undo: [SELECT 1]}}
      - {name: outside, do: {exec: {run: [/bin/false], undo: [/bin/true]}}}
";

fn rehearsed(site: &Site, recipe: &str, code: i32) -> Value {
    std::fs::write(site.path().join("recipes/mine.yaml"), recipe).unwrap();
    site.run(&["migrate", "rehearse", "mine", "--json", "-q"]).expect(code).json()
}

#[test]
fn a_rehearsal_fails_beyond_its_limits_and_leaves_nothing() {
    let _alone = ALONE.lock();
    let (ledger, main, visibility) = (Scratch::new("ledger"), Scratch::new("main"), schema_at("visibility", "1.14"));
    main.psql("CREATE TABLE history_node (n int)");
    let site = site(&ledger, &main, &visibility);
    site.run(&["once", "backup", "-q"]).expect(0);
    site.run(&["once", "drill", "-q"]).expect(0);
    let before = visibility.dump();
    let short = rehearsed(&site, &RECIPE.replace("SECONDS", "0.2"), 0);
    assert_eq!((&short["passed"], short["skipped"][0]["step"].as_str()), (&Value::Bool(true), Some("outside")));
    let long = rehearsed(&site, &RECIPE.replace("SECONDS", "1.5"), 3);
    assert!(long["findings"][0].as_str().unwrap().contains("ShareLock on"), "{long}");
    let broken = rehearsed(&site, &RECIPE.replace("pg_sleep(SECONDS)", "1 / 0"), 3);
    assert!(broken["findings"][0].as_str().unwrap().contains("division by zero"), "{broken}");
    assert_eq!(ledger.psql("SELECT passed FROM migration_rehearsals ORDER BY ended_at"), "t\nf\nf");
    assert_eq!(visibility.dump(), before);
    assert_eq!(ledger.psql("SELECT count(*) FROM migrations"), "0");

    // What a killed rehearsal leaves goes with the next one; a database that is somebody else's stays.
    Server::Pg15.psql("postgres", "CREATE DATABASE sexton_rehearsal_theirs; CREATE DATABASE sexton_rehearsal_left");
    Server::Pg15.psql("postgres", "COMMENT ON DATABASE sexton_rehearsal_left IS 'sexton: a rehearsal''s'");
    let mut running = site.start(&["migrate", "rehearse", "mine", "-q"], "killed.log");
    std::thread::sleep(std::time::Duration::from_millis(700));
    running.signal("KILL");
    running.wait();
    rehearsed(&site, &RECIPE.replace("SECONDS", "0.2"), 0);
    let left = Server::Pg15.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'sexton_rehearsal_%'");
    Server::Pg15.psql("postgres", "DROP DATABASE sexton_rehearsal_theirs");
    assert_eq!(left, "sexton_rehearsal_theirs");
}
