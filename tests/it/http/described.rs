//! The API does what its description says. The judge is schemathesis, which makes requests from it, right and wrong ones,
//! and holds each answer against it.

use std::process::Command;

use super::{APPROVE, Api, section, site, tells_no_secret};
use crate::support::postgres::Scratch;
use crate::support::site::postgres_sections;
use crate::support::stack;

/// Requests of each kind for each operation.
const EXAMPLES: &str = "12";

#[test]
fn the_api_is_as_it_is_described() {
    let (ledger, main) = (Scratch::new("described"), Scratch::new("describes"));
    // Its jobs are harmless: nothing is configured but an empty database, and no recipe may be applied by itself.
    let config = format!("{}{}", postgres_sections(&ledger, &main.name), section(""));
    let api = Api::of(site(&config).policy("visibility", "{}"), ledger);
    // So that there is something to be found.
    api.post(APPROVE, "/api/v1/jobs/visibility/runs?wait=20s", "").expect(200);
    // That another request had the same key is refused, which no description can say beforehand.
    let settings = "[checks]\npositive_data_acceptance.expected-statuses = ['2xx', 401, 403, 404, 409, 422, '5xx']\n";
    std::fs::write(api.site.path().join("schemathesis.toml"), settings).unwrap();
    let (url, bearer) = (api.url("/openapi.json"), format!("Authorization: Bearer {APPROVE}"));
    let output = Command::new("timeout")
        .args(["120", stack().get("SCHEMATHESIS"), "run", &url, "--header", &bearer, "--max-examples", EXAMPLES])
        .args(["--request-timeout", "30", "--workers", "1", "--seed", "1", "--no-color"])
        .current_dir(api.site.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let log = api.daemon.log();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let description = api.ask("", "/openapi.json", &[]).expect(200).json();
    let paths = description["paths"].as_object().unwrap().values();
    let all: usize = paths.map(|operations| operations.as_object().unwrap().len()).sum();
    assert!(said.contains(&format!("{all} selected / {all} total")), "{said}");
    tells_no_secret(&log);
    api.is_sound();
}
