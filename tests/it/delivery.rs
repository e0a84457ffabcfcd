//! How sexton gets to a cluster, judged by the tools that take it there: helm, a real Kubernetes API, actionlint with
//! shellcheck, mdBook; and the least roles of docs/roles, tried on the real engines.

mod book;
mod chart;
mod deploy;
mod release;
mod roles;
mod search_roles;
mod workflows;

use std::process::{Command, Output};

use serde_json::json;

use crate::k8s::api::Ground;
use crate::support::stack;

/// A program of the stack, from the project's folder.
fn program(name: &str) -> Command {
    let mut command = Command::new(stack().get(name));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Writes into a Job's status what its controller would: `Complete` or `Failed`.
fn end_job(ground: &Ground, name: &str, condition: &str) {
    let before = if condition == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
    let now = "2026-01-01T00:00:00Z";
    let mut status = json!({"startTime": now, "conditions": [
        {"type": before, "status": "True", "lastTransitionTime": now},
        {"type": condition, "status": "True", "lastTransitionTime": now},
    ]});
    if condition == "Complete" {
        status["completionTime"] = now.into();
    }
    let patch = json!({ "status": status }).to_string();
    let args = ["patch", "job", name, "-n", &ground.sexton, "--subresource", "status", "--type", "merge", "-p", &patch];
    ground.api.ask(&args).done();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it wrote to standard output; it must have succeeded.
#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
