//! Standard output that cannot be written to.

use std::process::{Command, Stdio};

use crate::support::site::binary;

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = Command::new(binary()).args(["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("standard output could not be written to"), "{text}");

    let mut command = Command::new(binary());
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let said = child.wait_with_output().unwrap();
    assert_eq!((said.status.code(), said.stderr.len()), (Some(0), 0));
}
