//! The names of Temporal's metrics, as a running server tells them, and the rules as a running Prometheus evaluates them.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::metrics::documented;
use super::{RULES, component};
use crate::support::{stack, suffix};

fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl").args(["-fsS", "-m", "10"]).args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn client(arguments: &[&str]) -> std::process::Output {
    let fixed = ["--address", stack().get("TEMPORAL_ADDRESS"), "--namespace", "default"];
    Command::new(stack().get("TEMPORAL_CLI")).args(arguments).args(fixed).output().unwrap()
}

/// Asks until there is an answer.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "{what} did not come in a minute");
        std::thread::sleep(Duration::from_millis(500));
    }
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

/// A Prometheus of this test, which ends with it.
struct Prometheus {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes Temporal each second and evaluates the rules.
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let target = url::Url::parse(stack().get("TEMPORAL_METRICS_URL")).unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": RULES.map(|name| component().join(format!("rules/{name}.yaml"))),
            "scrape_configs": [{
                "job_name": "temporal",
                "static_configs": [{"targets": [format!("127.0.0.1:{}", target.port().unwrap())]}],
            }],
        });
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(stack().get("PROMETHEUS"))
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }

    fn get(&self, path: &str, query: &[&str]) -> Option<Value> {
        let url = format!("{}/api/v1/{path}", self.url);
        let mut arguments = vec!["--get", &url];
        for part in query {
            arguments.extend(["--data-urlencode", part]);
        }
        let answer: Value = serde_json::from_str(&curl(&arguments)?).ok()?;
        Some(answer["data"].clone())
    }

    /// What the expression gives now, when it gives something.
    fn ask(&self, expression: &str) -> Option<Vec<Value>> {
        let found = self.get("query", &[&format!("query={expression}")])?;
        found["result"].as_array().filter(|series| !series.is_empty()).cloned()
    }
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
    let prometheus = Prometheus::start();
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
