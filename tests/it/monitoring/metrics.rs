//! That rules and dashboard name metrics that there are: sexton's as docs/metrics.md lists them, Temporal's as listed there.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{list, read, rules};

/// What stands in an expression in a name's place and is none.
const WORDS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"];
/// What a list of labels comes after.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The metrics that an expression reads.
pub fn named(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let after = |close: char| rest.find(close).map_or("", |at| &rest[at + close.len_utf8()..]);
        match first {
            '"' | '\'' => rest = rest[1..].split_once(first).unwrap_or_default().1,
            '{' => rest = after('}'),
            '[' => rest = after(']'),
            _ if first.is_ascii_alphabetic() || first == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
                let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
                rest = behind;
                // An aggregation may have its labels before what it aggregates.
                let call = ["(", "by (", "without ("].iter().any(|next| behind.trim_start().starts_with(next));
                if call && BEFORE_LABELS.contains(&word) {
                    rest = behind.split_once(')').unwrap_or_default().1;
                } else if !call && !WORDS.contains(&word.to_lowercase().as_str()) {
                    found.insert(word.to_owned());
                }
            }
            _ if first.is_ascii_digit() => {
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            }
            _ => rest = &rest[first.len_utf8()..],
        }
    }
    found
}

/// The names in the first column of the tables of a section, without their labels.
pub fn documented(heading: &str) -> BTreeSet<String> {
    let page = read("docs/metrics.md");
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(|name| name.split('{').next().unwrap().to_owned()).collect()
}

/// A metric under all the names that Temporal and Prometheus give it.
fn is_of(name: &str, base: &BTreeSet<String>) -> bool {
    let bare = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let unit = ["_total", "_seconds", "_milliseconds"].into_iter().find_map(|end| bare.strip_suffix(end));
    [name, bare, unit.unwrap_or(name)].into_iter().any(|name| base.contains(name))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("k8s/components/monitoring/dashboards/sexton.json")).unwrap()
}

/// Every panel, those within rows too.
fn panels(of: &Value) -> Vec<&Value> {
    let panels = list(&of["panels"]).iter();
    panels.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten())).collect()
}

#[test]
fn every_metric_of_the_rules_and_of_the_dashboard_is_listed() {
    let (own, temporal) = (documented("sexton"), documented("Temporal"));
    assert!(own.len() > 40 && temporal.len() > 10, "{own:?}, {temporal:?}");
    let recorded: BTreeSet<String> = rules().iter().filter_map(|r| Some(r["record"].as_str()?.to_owned())).collect();
    let dashboard = dashboard();
    let targets = panels(&dashboard).into_iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let shown: Vec<Value> = targets.cloned().collect();
    assert!(shown.len() > 25, "{}", shown.len());
    let mut seen = BTreeSet::new();
    for source in rules().iter().chain(&shown) {
        let names = named(source["expr"].as_str().unwrap());
        assert!(!names.is_empty(), "{source:#}");
        for name in names {
            let known = recorded.contains(&name)
                || own.contains(&name)
                || is_of(&name, &own) && name.starts_with("sexton_http_request_duration_seconds")
                || is_of(&name, &temporal);
            assert!(known, "{name} is no metric: {source:#}");
            seen.insert(name);
        }
    }
    let unused: Vec<_> = recorded.difference(&seen).collect();
    assert!(unused.is_empty(), "recorded for nobody: {unused:?}");
}

#[test]
fn an_expression_is_taken_apart() {
    let names =
        named("max without (a, b) (x_one{l=\"y\"} > 2 * x_two[5m] offset 1d) or on () absent(x:three) and x_four");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["x:three", "x_four", "x_one", "x_two"]);
}

#[test]
fn the_dashboard_has_its_rows_and_asks_whichever_prometheus_is_chosen() {
    let dashboard = dashboard();
    let rows: Vec<_> = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] == "row").collect();
    let titles: Vec<_> = rows.iter().map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(
        titles,
        ["Health", "Jobs", "Retention", "Visibility", "Backups", "Migrations", "Webhooks and HTTP", "Temporal"]
    );
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!((&variable["name"], &variable["type"]), (&"datasource".into(), &"datasource".into()));
    let mut identifiers = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(identifiers.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel:#}");
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty() && panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        let letters: BTreeSet<_> = list(&panel["targets"]).iter().map(|t| t["refId"].as_str().unwrap()).collect();
        assert_eq!(letters.len(), list(&panel["targets"]).len(), "{title}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{title}");
    }
}
