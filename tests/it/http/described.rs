//! The API does what its description says. The judge is schemathesis, which makes requests from it, right and wrong ones,
//! and holds each answer against it.

use std::process::Command;

use serde_json::Value;

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
        .args(["300", stack().get("SCHEMATHESIS"), "run", &url, "--header", &bearer, "--max-examples", EXAMPLES])
        // A stream without an end is no answer that it could wait for; `runs.rs` reads it.
        .args(["--exclude-path", "/api/v1/events"])
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
    assert!(said.contains(&format!("{} selected / {all} total", all - 1)), "{said}");
    let told = &description["paths"]["/api/v1/events"]["get"]["responses"]["200"]["content"];
    assert!(told["text/event-stream"].is_object(), "{told}");
    tells_no_secret(&log);
    api.is_sound();
}

/// A path without what varies in it: `/runs/{id}` and `/runs/{{ an expression }}` are both `/runs/{}`.
fn shape(path: &str) -> String {
    let (mut shape, mut depth) = (String::new(), 0);
    for c in path.chars() {
        match c {
            '{' => {
                depth += 1;
                if depth == 1 {
                    shape.push_str("{}");
                }
            }
            '}' => depth -= 1,
            _ if depth == 0 => shape.push(c),
            _ => {}
        }
    }
    shape
}

#[test]
fn the_workflow_for_n8n_asks_for_what_is_described() {
    let api = Api::new("n8npaths");
    let description = api.ask("", "/openapi.json", &[]).expect(200).json();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/n8n/backup.json");
    let workflow: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut asked = Vec::new();
    for node in workflow["nodes"].as_array().unwrap() {
        if node["type"] != "n8n-nodes-base.httpRequest" {
            continue;
        }
        let parameters = &node["parameters"];
        let method = parameters["method"].as_str().unwrap_or("GET").to_lowercase();
        let url = shape(parameters["url"].as_str().unwrap());
        let path = url.strip_prefix("={}").unwrap_or_else(|| panic!("it does not begin with the address: {url}"));
        let mut paths = description["paths"].as_object().unwrap().iter();
        let (_, operations) = paths.find(|(there, _)| shape(there) == path).unwrap_or_else(|| panic!("no path {path}"));
        let described = operations[&method]["parameters"].as_array().unwrap_or_else(|| panic!("no {method} {path}"));
        for of in ["queryParameters", "headerParameters"] {
            for sent in parameters[of]["parameters"].as_array().into_iter().flatten() {
                assert!(described.iter().any(|one| one["name"] == sent["name"]), "{method} {path}: {}", sent["name"]);
            }
        }
        asked.push(format!("{method} {path}"));
    }
    assert_eq!(asked, ["post /api/v1/jobs/{}/runs", "get /api/v1/runs/{}"]);
    api.is_sound();
}
