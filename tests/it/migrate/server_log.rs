//! What the scratch server's own log tells a rehearsal, on servers of the test's own. The judge is the log itself, read by
//! psql and taken apart by PostgreSQL.

use serde_json::Value;

use super::rehearsals::{fill, schema_at};
use crate::support::own_server::OwnServer;
use crate::support::postgres::Scratch;
use crate::support::site::{Site, postgres_sections};

const RECIPE: &str = "name: mine
description: Locks a table for a while
database: visibility
stages:
  - name: only
    steps:
      - name: locks
        do: {sql: {run: [LOCK TABLE executions_visibility IN SHARE MODE, SELECT pg_sleep(0.7)], undo: [SELECT 1]}}
";

struct Ground {
    _ledger: Scratch,
    _main: Scratch,
    visibility: Scratch,
    site: Site,
    config: String,
    backup: String,
}

impl Ground {
    fn new() -> Self {
        let (ledger, main, visibility) =
            (Scratch::new("ledger"), Scratch::new("main"), schema_at("visibility", "1.14"));
        main.psql("CREATE TABLE history_node (n int)");
        fill(&visibility, 5_000);
        let config = postgres_sections(&ledger, &main.name).replace(
            &format!("databases: {{main: {}}}", main.name),
            &format!("databases: {{main: {}, visibility: {}}}", main.name, visibility.name),
        );
        let config = format!("{config}store: {{directory: store}}\nmigrations: {{recipes: recipes}}\n");
        let site = Site::new(&config).policy("backup", "{}");
        std::fs::create_dir(site.path().join("recipes")).unwrap();
        std::fs::write(site.path().join("recipes/mine.yaml"), RECIPE).unwrap();
        site.run(&["ledger", "init"]).expect(0);
        site.run(&["once", "backup", "-q"]).expect(0);
        let list = site.run(&["backup", "list", "--json"]).expect(0).json();
        let backup = list["backups"][0]["id"].as_str().unwrap().to_owned();
        Self { _ledger: ledger, _main: main, visibility, site, config, backup }
    }

    /// Rehearses on a server, as this role.
    fn rehearse(&self, scratch: &str) -> Value {
        let config = format!("{}scratch: {{{scratch}}}\n", self.config);
        std::fs::write(self.site.path().join("sexton.yaml"), config).unwrap();
        let args = ["migrate", "rehearse", "mine", "--backup", &self.backup, "--json", "-q", "--html", "page.html"];
        self.site.run(&args).expect(0).json()
    }

    fn page(&self) -> String {
        std::fs::read_to_string(self.site.path().join("page.html")).unwrap()
    }

    /// That the wait is in the report as it is in the log; `logged` is the longest one there, in milliseconds.
    #[track_caller]
    fn check(&self, report: &Value, format: &str, who: Option<&str>, logged: &str) {
        let log = &report["server_log"];
        assert_eq!((&log["not_read"], log["format"].as_str()), (&Value::Null, Some(format)), "{log}");
        let relation = format!("{}.executions_visibility", self.visibility.name);
        let waits = log["waits"].as_array().unwrap();
        let wait =
            waits.iter().find(|wait| wait["relation"] == relation.as_str() && wait["mode"] == "RowExclusiveLock");
        let wait = wait.unwrap_or_else(|| panic!("{log}"));
        assert_eq!(wait["who"].as_str(), who);
        let longest = wait["longest_milliseconds"].as_u64().unwrap();
        assert_eq!(longest.to_string(), logged, "as the server says");
        assert!((200..5_000).contains(&longest), "{longest}");
        // Of a wait where no sample saw who held it there would be another note.
        let notes: &[&str] = if format == "stderr" {
            &["as stderr it does not tell whose a statement is, so none are told"]
        } else {
            &[]
        };
        assert_eq!(log["notes"], serde_json::json!(notes), "{log}");
        let page = self.page();
        assert!(page.contains("What the server's log says") && page.contains("RowExclusiveLock"), "{page}");
    }
}

/// The longest wait for a lock of writers that a log tells of, taken apart by PostgreSQL.
fn longest(server: &OwnServer, format: &str) -> String {
    server.psql(
        "postgres",
        &format!(
            "SELECT round(max(m[1]::numeric)) FROM regexp_matches(pg_read_file(pg_current_logfile('{format}')), \
             'acquired RowExclusiveLock on relation [0-9]+ of database [0-9]+ after ([0-9.]+) ms', 'g') m"
        ),
    )
}

#[test]
fn the_waits_that_the_server_logs_are_in_the_report() {
    let ground = Ground::new();
    let json = OwnServer::logging("jsonlog");
    let report = ground.rehearse(&json.section());
    ground.check(&report, "jsonlog", Some("sexton-load"), &longest(&json, "jsonlog"));
    let log = &report["server_log"];
    // When it was over: within the run, by the clocks of both.
    let at = log["waits"].as_array().unwrap().iter().filter_map(|wait| wait["at"].as_u64()).max().unwrap();
    assert!((500..60_000).contains(&at), "{log}");
    let slept = log["statements"].as_array().unwrap().iter().find(|one| one["statement"] == "SELECT pg_sleep(0.7)");
    assert!((700..3_000).contains(&slept.unwrap()["milliseconds"].as_u64().unwrap()), "{log}");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'sexton_rehearsal_%'";
    assert_eq!(json.psql("postgres", left), "0");

    for format in ["csvlog", "stderr"] {
        json.psql("postgres", &format!("ALTER SYSTEM SET log_destination = '{format}'"));
        json.psql("postgres", "SELECT pg_reload_conf(), pg_sleep(1), pg_rotate_logfile(), pg_sleep(1)");
        let report = ground.rehearse(&json.section());
        let who = if format == "csvlog" { Some("sexton-load") } else { None };
        ground.check(&report, format, who, &longest(&json, format));
    }
}

/// Each with what it lacks, one after the other.
#[test]
fn why_a_log_is_not_read_is_said() {
    let ground = Ground::new();
    let server = OwnServer::logging("jsonlog");
    server.psql("postgres", "CREATE ROLE guest LOGIN CREATEDB");
    let section = server.section().replace("user: postgres", "user: guest");
    let why = |expect: &str| {
        let report = ground.rehearse(&section);
        let said = report["server_log"]["not_read"].as_str().unwrap_or_else(|| panic!("{}", report["server_log"]));
        assert!(said.contains(expect), "{said}");
        assert!(ground.page().contains("It was not read"));
        assert_eq!(report["passed"], true, "it is no reason to fail");
    };
    why("permission denied for function pg_current_logfile");
    server.psql("postgres", "GRANT pg_monitor TO guest; GRANT EXECUTE ON FUNCTION pg_current_logfile(text) TO guest");
    why("permission denied for function pg_read_binary_file (in database postgres: GRANT EXECUTE ON FUNCTION");
    server.psql("postgres", "GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO guest");
    why("GRANT SET ON PARAMETER log_lock_waits, deadlock_timeout TO guest");
    server.psql("postgres", "GRANT SET ON PARAMETER log_lock_waits TO guest");
    let report = ground.rehearse(&section);
    let log = &report["server_log"];
    assert_eq!(log["not_read"], Value::Null, "{log}");
    assert!(log["notes"][0].as_str().unwrap().contains("waits of less than 1s are not in it"), "{log}");
    server.psql("postgres", "GRANT SET ON PARAMETER deadlock_timeout TO guest");
    let report = ground.rehearse(&section);
    ground.check(&report, "jsonlog", Some("sexton-load"), &longest(&server, "jsonlog"));

    // Without a collector there is no file to read.
    let silent = OwnServer::primary();
    let report = ground.rehearse(&silent.section());
    let said = report["server_log"]["not_read"].as_str().unwrap();
    assert!(said.contains("logging_collector is off"), "{said}");
    let text = ground.site.run(&["migrate", "rehearse", "mine", "--backup", &ground.backup, "-q"]).expect(0);
    assert!(text.out.contains("the server's log was not read: logging_collector is off"), "{}", text.out);
}
