//! The proof of a backup that counts: a real Temporal server on the restored database serves the histories.

use std::path::PathBuf;
use std::process::Command;

use crate::support::postgres::{Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::{stack, suffix, temporal};

/// One more Temporal server, from the stack's own script; dropped, it is stopped and its index removed.
struct Second {
    name: String,
    index: String,
}

fn stack_script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stack/temporal-server")
}

impl Second {
    fn start(database: &str) -> (Self, String) {
        let name = format!("it{}", suffix());
        let second = Self { index: format!("it-restored-{name}"), name };
        let search = stack().get("OPENSEARCH_URL");
        let tool = Command::new(stack().get("TEMPORAL_ES_TOOL"))
            .args(["--endpoint", search, "create-index", "--index", &second.index])
            .output()
            .unwrap();
        assert!(tool.status.success(), "{}", String::from_utf8_lossy(&tool.stderr));
        let output = Command::new(stack_script())
            .args(["start", &second.name, "--pg", "17", "--database", database, "--search-index", &second.index])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let address = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        (second, address)
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = Command::new(stack_script()).args(["stop", &self.name]).output();
        let index = format!("{}/{}", stack().get("OPENSEARCH_URL"), self.index);
        let _ = Command::new("curl").args(["-sS", "-X", "DELETE", &index]).output();
    }
}

#[test]
fn a_temporal_server_on_the_restored_database_serves_the_histories() {
    let original = temporal::plain();
    let namespace = original.namespace(&temporal::prefix(), "restored", "72h");
    original.start_workflow(&namespace.name, "stays-open");
    original.start_workflow(&namespace.name, "is-closed");
    original.terminate_workflow(&namespace.name, "is-closed");

    let ledger = Scratch::new("restored");
    let get = |name| stack().get(name);
    let scratch = format!(
        "scratch: {{host: {}, port: {}, user: {}, password: {{env: STACK_PG17_PASSWORD}}}}\nstore: {{directory: store}}\n",
        get("PG17_HOST"),
        get("PG17_PORT"),
        get("PG17_USER")
    );
    let config = format!("{}{scratch}", postgres_sections(&ledger, get("TEMPORAL_DATABASE")));
    let site = Site::new(&config).policy("backup", "{}");
    site.run(&["ledger", "init"]).expect(0);
    let run = site.run(&["once", "backup", "--json"]).expect(0).json();
    assert_eq!(run["runs"][0]["outcome"], "changed");
    // What happens after the backup must not be in the restored database.
    original.start_workflow(&namespace.name, "came-later");

    let target = Scratch::on(Server::Pg17, "restored");
    site.run(&["backup", "restore", "--scratch", "--into", &target.name]).expect(0);

    let (_second, address) = Second::start(&target.name);
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
