//! How sexton gets to a cluster, judged by the tools that take it there: helm, a real Kubernetes API, actionlint with
//! shellcheck, mdBook; and the least roles of docs/roles, tried on the real engines.

mod book;
mod chart;
mod deploy;
mod roles;
mod search_roles;
mod workflows;

use std::process::{Command, Output};

use crate::support::stack;

/// A program of the stack, from the project's folder.
fn program(name: &str) -> Command {
    let mut command = Command::new(stack().get(name));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
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
