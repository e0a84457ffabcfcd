//! The proof of a backup that counts: a real Temporal server on the restored database serves the histories. Both kinds
//! of cluster: visibility in the search engine, and in PostgreSQL behind mutual TLS.

use std::path::PathBuf;
use std::process::Command;

use crate::support::postgres::{Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::{stack, suffix, temporal};

/// One more Temporal server, from the stack's own script; dropped, it is stopped and its index removed.
struct Second {
    name: String,
    index: Option<String>,
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stack/temporal-server")
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Second {
    /// With an empty search index of its own. Returns its address as well.
    fn with_index(main: &Scratch) -> (Self, String) {
        let name = format!("it{}", suffix());
        let index = format!("it-restored-{name}");
        let mut tool = Command::new(stack().get("TEMPORAL_ES_TOOL"));
        succeed(tool.args(["--endpoint", stack().get("OPENSEARCH_URL"), "create-index", "--index", &index]));
        let second = Self { name, index: Some(index.clone()) };
        let address = second.start(&["--database", &main.name, "--search-index", &index]);
        (second, address)
    }

    /// With the restored visibility database.
    fn with_visibility(main: &Scratch, visibility: &Scratch) -> (Self, String) {
        let second = Self { name: format!("it{}", suffix()), index: None };
        let address = second.start(&["--database", &main.name, "--visibility-database", &visibility.name]);
        (second, address)
    }

    fn start(&self, args: &[&str]) -> String {
        succeed(Command::new(script()).args(["start", &self.name, "--pg", "17"]).args(args))
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = Command::new(script()).args(["stop", &self.name]).output();
        if let Some(index) = &self.index {
            let url = format!("{}/{index}", stack().get("OPENSEARCH_URL"));
            let _ = Command::new("curl").args(["-sS", "-X", "DELETE", &url]).output();
        }
    }
}

/// A site with a store in its folder and PostgreSQL 17 as the scratch server.
fn site(ledger: &Scratch, databases: &str) -> Site {
    let get = |name| stack().get(name);
    let more = format!(
        "scratch: {{host: {}, port: {}, user: {}, password: {{env: STACK_PG17_PASSWORD}}}}\nstore: {{directory: store}}\n",
        get("PG17_HOST"),
        get("PG17_PORT"),
        get("PG17_USER")
    );
    let site = Site::new(&format!("{}{more}", postgres_sections(ledger, databases))).policy("backup", "{}");
    site.run(&["ledger", "init"]).expect(0);
    site
}

#[test]
fn a_temporal_server_on_the_restored_database_serves_the_histories() {
    let original = temporal::plain();
    let namespace = original.namespace(&temporal::prefix(), "restored", "72h");
    original.start_workflow(&namespace.name, "stays-open");
    original.start_workflow(&namespace.name, "is-closed");
    original.terminate_workflow(&namespace.name, "is-closed");

    let ledger = Scratch::new("restored");
    let site = site(&ledger, stack().get("TEMPORAL_DATABASE"));
    let run = site.run(&["once", "backup", "--json"]).expect(0).json();
    assert_eq!(run["runs"][0]["outcome"], "changed");
    // What happens after the backup must not be in the restored database.
    original.start_workflow(&namespace.name, "came-later");

    let target = Scratch::on(Server::Pg17, "restored");
    site.run(&["backup", "restore", "--scratch", "--into", &target.name]).expect(0);

    let (_second, address) = Second::with_index(&target);
    let restored = original.at(address);
    for id in ["stays-open", "is-closed"] {
        let show = ["workflow", "show", "--namespace", &namespace.name, "--workflow-id", id];
        let (there, here) = (original.cli_json(&show), restored.cli_json(&show));
        assert!(there["events"].as_array().is_some_and(|events| events.len() > 1), "{there}");
        assert_eq!(there, here, "the histories of {id} differ");
    }
    let describe = ["workflow", "describe", "--namespace", &namespace.name, "--workflow-id", "stays-open"];
    assert_eq!(
        restored.cli_json(&describe)["workflowExecutionInfo"]["status"],
        "WORKFLOW_EXECUTION_STATUS_RUNNING",
        "an open workflow stays open"
    );
    let later = ["workflow", "describe", "--namespace", &namespace.name, "--workflow-id", "came-later"];
    assert!(!restored.runs(&later), "a workflow from after the backup is in the restored database");
}

#[test]
fn with_sql_visibility_the_restored_server_lists_them_too() {
    let original = temporal::mutual();
    let namespace = original.namespace(&temporal::prefix(), "listed", "72h");
    original.start_workflow(&namespace.name, "stays-open");
    original.start_workflow(&namespace.name, "is-closed");
    original.terminate_workflow(&namespace.name, "is-closed");
    let list = ["workflow", "list", "--namespace", &namespace.name];
    let statuses = |list: &serde_json::Value| -> Vec<String> {
        let of = |entry: &serde_json::Value| format!("{} {}", entry["execution"]["workflowId"], entry["status"]);
        let mut found: Vec<String> = list.as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default();
        found.sort();
        found
    };
    let expected = [
        "\"is-closed\" \"WORKFLOW_EXECUTION_STATUS_TERMINATED\"",
        "\"stays-open\" \"WORKFLOW_EXECUTION_STATUS_RUNNING\"",
    ];
    // Visibility follows a moment later.
    let there = crate::support::site::eventually(std::time::Duration::from_secs(30), || {
        statuses(&original.cli_json(&list)) == expected
    });
    assert!(there, "{}", original.cli_json(&list));

    let ledger = Scratch::new("listed");
    let (main, visibility) = (stack().get("TEMPORAL_SQL_DATABASE"), stack().get("TEMPORAL_SQL_VISIBILITY_DATABASE"));
    let site = site(&ledger, &format!("{main}, visibility: {visibility}"));
    site.run(&["once", "backup"]).expect(0);
    let targets = (Scratch::on(Server::Pg17, "listed"), Scratch::on(Server::Pg17, "listed_vis"));
    for (source, target) in [(main, &targets.0), (visibility, &targets.1)] {
        site.run(&["backup", "restore", "--scratch", "--database", source, "--into", &target.name]).expect(0);
    }

    let (_second, address) = Second::with_visibility(&targets.0, &targets.1);
    let restored = temporal::plain().at(address);
    assert_eq!(statuses(&restored.cli_json(&list)), expected);
}
