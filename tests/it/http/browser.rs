//! The status page in a real Chromium. What is looked at is in tests/browser/check.mjs; here is the site that it looks at.

use std::process::Command;

use serde_json::{Value, json};

use super::lived::{INDEX_MARKUP, Lived, MARKUP};
use super::{APPROVE, tells_no_secret};
use crate::support::stack;

/// What the script found wrong; pictures go to a folder.
fn looked_at(lived: &Lived, pictures: &str) -> Value {
    let stranger = format!("{}-{INDEX_MARKUP}", lived.alias());
    let [audit, overdue] = lived.telling.each_ref().map(|run| format!("/runs/{run}"));
    // Where each of the names must be read as it is.
    let told = json!([
        [audit, MARKUP],
        [overdue, MARKUP],
        ["/migrations", MARKUP],
        ["/migrations/one-table", MARKUP],
        ["/visibility", stranger]
    ]);
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/check.mjs"))
        .args([&lived.api.base, pictures, &told.to_string()])
        .env("BROWSER_TOKEN", APPROVE)
        .env("STACK_BROWSER", stack().get("BROWSER"))
        .env("STACK_CHROMIUM", stack().get("CHROMIUM"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complaint}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_in_a_real_browser() {
    let lived = Lived::new("browser").await;
    lived.is_known();
    let pictures = concat!(env!("CARGO_TARGET_TMPDIR"), "/pictures");
    std::fs::create_dir_all(pictures).unwrap();
    let found = looked_at(&lived, pictures);
    assert_eq!(found["wrong"], json!([]), "{}", lived.api.daemon.log());
    // That it looked is seen by what it counted, and that it did something by the ledger.
    assert!(found["looks"].as_u64() >= Some(60), "{found}");
    let by_page = |job: &str| {
        lived.api.psql(&format!(
            "SELECT count(*) FROM runs WHERE job = '{job}' AND trigger = 'http' AND outcome IN ('changed', 'unchanged')"
        ))
    };
    assert_eq!(by_page("backup"), "1");
    assert_eq!(
        lived.api.psql(
            "SELECT count(*) FROM migration_approvals WHERE migration = 'tune-autovacuum' AND approved_by = 'ada'"
        ),
        "1"
    );
    assert_eq!(lived.api.psql("SELECT state FROM migrations WHERE name = 'one-table'"), "undone");
    tells_no_secret(&lived.api.daemon.log());
    lived.api.is_sound();
}
