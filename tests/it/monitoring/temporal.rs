//! The names of Temporal's metrics, as a running server tells them, and the rules as a running Prometheus evaluates them.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::metrics::documented;
use super::{RULES, component};
use crate::support::prometheus::{Prometheus, curl, eventually};
use crate::support::{stack, suffix};

fn client(arguments: &[&str]) -> std::process::Output {
    let fixed = ["--address", stack().get("TEMPORAL_ADDRESS"), "--namespace", "default"];
    Command::new(stack().get("TEMPORAL_CLI")).args(arguments).args(fixed).output().unwrap()
}

/// A workflow that nobody works on, terminated, and deleted.
fn one_workflow() {
    let (id, queue) = (format!("monitored-{}", suffix()), format!("nobody-{}", suffix()));
    let done = |arguments: &[&str]| {
        let output = client(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["workflow", "start", "--workflow-id", &id, "--type", "nothing", "--task-queue", &queue]);
    done(&["workflow", "terminate", "--workflow-id", &id]);
    done(&["workflow", "delete", "--yes", "--workflow-id", &id]);
    eventually("the deletion", || {
        (!client(&["workflow", "describe", "--workflow-id", &id]).status.success()).then_some(())
    });
}

/// Scrapes Temporal each second and evaluates the rules.
fn prometheus() -> Prometheus {
    let target = url::Url::parse(stack().get("TEMPORAL_METRICS_URL")).unwrap();
    let target = format!("127.0.0.1:{}", target.port().unwrap());
    let rules = RULES.map(|name| component().join(format!("rules/{name}.yaml")));
    Prometheus::start(json!({"job_name": "temporal", "static_configs": [{"targets": [target]}]}), &rules)
}

/// Which of them a server tells that has nothing to complain of is what this can look at; what it never met it does not tell.
#[test]
fn a_running_temporal_tells_the_metrics_that_the_rules_read() {
    one_workflow();
    let wanted = [
        "workflow_terminate",
        "workflow_cleanup_delete",
        "approximate_backlog_count",
        "approximate_backlog_age_seconds",
        "persistence_requests",
        "persistence_latency_bucket",
        "persistence_error_with_type",
    ];
    let listed = documented("Temporal");
    for name in wanted {
        assert!(listed.contains(name.trim_end_matches("_bucket")), "{name}");
    }
    eventually("all of them", || {
        let told = curl(&[stack().get("TEMPORAL_METRICS_URL")])?;
        let told: BTreeSet<&str> = told.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        wanted.iter().all(|name| told.contains(name)).then_some(())
    });
}

#[test]
fn a_running_prometheus_unifies_them() {
    let prometheus = prometheus();
    eventually("the target", || prometheus.ask("up == 1"));
    // What is new between two scrapes has a rate.
    one_workflow();
    for (expression, label) in [
        ("temporal:persistence_requests:rate5m > 0", None),
        ("temporal:persistence_latency_seconds:p99_5m > 0", Some("operation")),
        ("temporal:task_backlog:count", Some("taskqueue")),
        ("temporal:task_backlog_age:seconds", Some("temporal_namespace")),
        ("temporal:workflow_closed:rate10m{outcome=\"terminate\"}", Some("temporal_namespace")),
        ("temporal:workflow_cleanup_delete:rate1h", None),
    ] {
        let series = eventually(expression, || prometheus.ask(expression));
        if let Some(label) = label {
            assert!(series.iter().all(|one| one["metric"][label].is_string()), "{expression}: {series:#?}");
        }
    }
    let groups = prometheus.get("rules", &[]).unwrap();
    let rules: Vec<&Value> =
        super::list(&groups["groups"]).iter().flat_map(|group| super::list(&group["rules"])).collect();
    assert_eq!(rules.len(), super::rules().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
    // Nobody scrapes sexton here.
    let pending = eventually("SextonDown", || prometheus.ask("ALERTS{alertname=\"SextonDown\"}"));
    assert_eq!(pending[0]["metric"]["alertstate"], "pending");
}
