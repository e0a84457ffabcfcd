//! The verifying examples of docs/webhooks.md, run on a request that sexton has sent.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{hook, site};
use crate::support::postgres::Scratch;
use crate::support::receiver::{Receiver, SECRET};

/// The block of code in this language.
fn example(language: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/webhooks.md")).unwrap();
    let block = page.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// The program says whether what it is given is genuine: timestamp, signature, and the body on its input.
fn genuine(command: &mut Command, timestamp: &str, signature: &str, body: &str) -> bool {
    command.args([timestamp, signature]).env("SEXTON_WEBHOOK_SECRET", SECRET);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    match String::from_utf8_lossy(&output.stdout).trim() {
        "genuine" => true,
        "refused" => false,
        said => panic!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn assert_verifies(mut command: impl FnMut() -> Command) {
    let (ledger, receiver) = (Scratch::new("verify"), Receiver::new());
    let site = site(&ledger, &hook("ops", &receiver, ""));
    site.run(&["webhooks", "test", "ops"]).expect(0);
    let request = receiver.seen().remove(0);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let timestamp = text(&request["headers"]["x-sexton-timestamp"]);
    let signature = text(&request["headers"]["x-sexton-signature"]);
    let body = text(&request["body"]);
    assert!(genuine(&mut command(), &timestamp, &signature, &body));
    assert!(!genuine(&mut command(), &timestamp, &signature, &format!("{body} ")), "another body");
    let later = (timestamp.parse::<i64>().unwrap() + 1).to_string();
    assert!(!genuine(&mut command(), &later, &signature, &body), "another time");
    assert!(!genuine(&mut command(), &timestamp, "v1=00", &body), "another signature");
    assert!(!genuine(&mut command(), "1767225600", &old(&body), &body), "a replay of long ago");
}

/// A genuine signature of long ago, by other code.
fn old(body: &str) -> String {
    let script = "import hashlib, hmac, sys; print('v1=' + hmac.new(sys.argv[1].encode(), \
                  b'1767225600.' + sys.argv[2].encode(), hashlib.sha256).hexdigest())";
    let output = Command::new("python3").args(["-c", script, SECRET, body]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_example_in_python_tells_genuine_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("verify.py"), example("python")).unwrap();
    assert_verifies(|| {
        let mut command = Command::new("python3");
        command.arg(dir.path().join("verify.py"));
        command
    });
}

#[test]
fn the_example_in_go_tells_genuine_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("verify.go"), example("go")).unwrap();
    let program = dir.path().join("verify");
    let built =
        Command::new("go").args(["build", "-o"]).arg(&program).arg("verify.go").current_dir(dir.path()).output();
    let built = built.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_verifies(|| Command::new(&program));
}
