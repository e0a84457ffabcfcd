//! Alerts, the dashboard and what brings them into a cluster. The judges: promtool, a Prometheus that scrapes Temporal, kubectl,
//! and a Kubernetes API that knows the Prometheus operator's kinds. What sexton itself serves is not looked at here.

mod kubernetes;
pub mod metrics;
mod temporal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::stack;

const RULES: [&str; 2] = ["sexton", "temporal"];
/// Where the runbooks are, unless an overlay says otherwise.
const RUNBOOKS: &str = "https://sexton.example.com/docs/runbooks/";

/// What brings the rules and the dashboard into a cluster.
pub fn component() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/components/monitoring")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of rules, as Prometheus reads it.
fn rules_file(name: &str) -> Value {
    serde_saphyr::from_str(&read(format!("k8s/components/monitoring/rules/{name}.yaml"))).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value:#}"))
}

/// Every rule, recorded ones too.
fn rules() -> Vec<Value> {
    let files = RULES.map(rules_file);
    let groups = files.iter().flat_map(|file| list(&file["groups"]));
    groups.flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn alerts() -> BTreeMap<String, Value> {
    let named = rules().into_iter().filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule)));
    let alerts: BTreeMap<_, _> = named.collect();
    assert!(alerts.len() > 25);
    alerts
}

/// Files below a folder, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|of| of == extension)).collect();
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new(stack().get("PROMTOOL")).args(arguments).args(files).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("SUCCESS").count(), files.len(), "{said}");
}

#[test]
fn promtool_takes_the_rules_and_every_alert_does_what_its_tests_say() {
    promtool(&["check", "rules"], &RULES.map(|name| component().join(format!("rules/{name}.yaml"))));
    promtool(&["test", "rules"], &files("tests/monitoring", "yaml"));
}

/// In one test of its own an alert is silent first and fires later, and in another it never fires.
#[test]
fn every_alert_is_tried_before_its_time_at_its_time_and_when_nothing_is_wrong() {
    let (mut rising, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("tests/monitoring", "yaml") {
        let tests: Value = serde_saphyr::from_str(&read(file)).unwrap();
        for test in list(&tests["tests"]) {
            let mut fired: BTreeMap<String, Vec<bool>> = BTreeMap::new();
            for check in list(&test["alert_rule_test"]) {
                let name = check["alertname"].as_str().unwrap().to_owned();
                fired.entry(name).or_default().push(!list(&check["exp_alerts"]).is_empty());
            }
            for (name, fired) in fired {
                if fired.contains(&true) && fired[0] != fired[fired.len() - 1] && !fired[0] {
                    rising.insert(name);
                } else if !fired.contains(&true) {
                    silent.insert(name);
                }
            }
        }
    }
    let all: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(rising, all, "silent just before, and then not");
    assert_eq!(silent, all, "never");
}

#[test]
fn every_alert_has_a_severity_figures_a_runbook_and_a_line_in_the_list() {
    let mut seen = BTreeSet::new();
    let table = read("docs/alerts.md");
    for (name, alert) in alerts() {
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}");
        assert!(alert["for"].is_string(), "{name}: nothing fires for one scrape");
        let annotation = |of: &str| alert["annotations"][of].as_str().unwrap_or_else(|| panic!("{name}: no {of}"));
        assert!(!annotation("summary").is_empty() && !annotation("summary").ends_with('.'), "{name}");
        assert!(annotation("description").ends_with('.'), "{name}");
        assert_eq!(annotation("runbook_url"), format!("{RUNBOOKS}{name}.md"));

        let page = read(format!("docs/runbooks/{name}.md"));
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for heading in ["\n## Look\n", "\n## Do\n", "\n## When it is noise\n"] {
            assert!(page.contains(heading), "{name}: no {heading}");
        }
        let row = format!("| [`{name}`](runbooks/{name}.md) | {severity} |");
        assert!(table.contains(&row), "docs/alerts.md lacks {row}");
        seen.insert(name);
    }
    let pages = files("docs/runbooks", "md").into_iter().map(|page| page.file_stem().unwrap().to_str().unwrap().into());
    assert_eq!(pages.collect::<BTreeSet<String>>(), seen, "a page for each alert, and none for what is no alert");
    let rows = table.lines().filter(|line| line.starts_with("| [`")).count();
    assert_eq!(rows, seen.len());
}
