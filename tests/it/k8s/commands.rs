//! The commands with which the recipe move-database stops, starts and points a Temporal in Kubernetes, run as the Job runs
//! them: with its account's token and its role. There is no controller, so pods come and go by the test's hand.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::api::{Api, Ground};
use crate::support::site::eventually;
use crate::support::stack;

const PARTS: [&str; 4] = ["frontend", "history", "matching", "worker"];

/// A Temporal of four Deployments, of 1 to 4 replicas, and the Secret with its database's address.
struct Temporal {
    ground: Ground,
    account: Api,
}

impl Temporal {
    fn new() -> Self {
        let ground = Ground::of("k8s/recipes/move-database");
        let account = ground.account("sexton-move-database");
        let labels = |part: &str| json!({"app.kubernetes.io/component": part});
        let mut all: Vec<_> = (1..)
            .zip(PARTS)
            .map(|(replicas, part)| {
                json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": format!("temporal-{part}"), "namespace": ground.temporal},
                    "spec": {
                        "replicas": replicas, "selector": {"matchLabels": labels(part)},
                        "template": {
                            "metadata": {"labels": labels(part)},
                            "spec": {"containers": [{"name": "temporal", "image": "temporal"}]},
                        },
                    },
                })
            })
            .collect();
        all.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "temporal-database", "namespace": ground.temporal},
            "stringData": {"POSTGRES_SEEDS": "old", "DB_PORT": "5432", "DBNAME": "temporal", "POSTGRES_PWD": "kept"},
        }));
        all.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": ground.temporal},
        }));
        ground.apply(all);
        Self { ground, account }
    }

    fn command(&self, verb: &str) -> Child {
        let mut command = Command::new("k8s/recipes/move-database/temporal");
        self.account.lend(&mut command);
        for which in ["SOURCE", "TARGET"] {
            let host = if which == "SOURCE" { "old" } else { "new.example" };
            command.env(format!("SEXTON_{which}_HOST"), host).env(format!("SEXTON_{which}_PORT"), "5433");
            command.env(format!("SEXTON_{which}_DATABASE"), "temporal");
            command.env(format!("SEXTON_{which}_VISIBILITY_DATABASE"), "");
        }
        // The image has kubectl on its PATH.
        let kubectl = std::path::Path::new(stack().get("KUBECTL")).parent().unwrap();
        let path = format!("{}:{}", kubectl.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("TEMPORAL_NAMESPACE", &self.ground.temporal);
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[track_caller]
    fn done(&self, verb: &str) {
        let output = self.command(verb).wait_with_output().unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn replicas(&self) -> Vec<String> {
        let field = "jsonpath={.spec.replicas}{.metadata.annotations}";
        let of = |part: &str| {
            ["get", "deployment", &format!("temporal-{part}"), "-n", &self.ground.temporal, "-o", field]
                .map(str::to_owned)
        };
        PARTS.into_iter().map(|part| self.ground.api.ask(&of(part).each_ref().map(String::as_str)).done().out).collect()
    }

    fn secret(&self, key: &str) -> String {
        let field = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.ground
            .api
            .ask(&["get", "secret", "temporal-database", "-n", &self.ground.temporal, "-o", &field])
            .done()
            .out
    }
}

#[test]
fn temporal_is_stopped_and_started_with_as_many_replicas_as_before() {
    let temporal = Temporal::new();
    let before = temporal.replicas();
    assert_eq!(before, ["1", "2", "3", "4"]);
    for _ in 0..2 {
        temporal.done("stop");
        let stopped: Vec<String> = before.iter().map(|n| format!("0{{\"sexton/replicas\":\"{n}\"}}")).collect();
        assert_eq!(temporal.replicas(), stopped);
    }
    for _ in 0..2 {
        temporal.done("start");
        assert_eq!(temporal.replicas(), before);
    }
}

#[test]
fn a_stop_returns_when_the_last_pod_is_gone() {
    let temporal = Temporal::new();
    let namespace = temporal.ground.temporal.as_str();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "last", "namespace": namespace, "labels": {"app.kubernetes.io/component": "history"}},
        "spec": {"containers": [{"name": "temporal", "image": "temporal"}]},
    });
    temporal.ground.apply(vec![pod]);
    let mut stop = temporal.command("stop");
    assert!(eventually(Duration::from_secs(60), || temporal.replicas().iter().all(|r| r.starts_with('0'))));
    std::thread::sleep(Duration::from_secs(3));
    assert!(stop.try_wait().unwrap().is_none(), "a pod is still there");
    temporal.ground.api.ask(&["delete", "pod", "last", "-n", namespace, "--grace-period", "0", "--force"]).done();
    assert!(stop.wait().unwrap().success());
}

#[test]
fn an_api_that_does_not_answer_is_no_pod_that_is_gone() {
    let temporal = Temporal::new();
    temporal.ground.api.ask(&["delete", "rolebinding", "sexton-move-database", "-n", &temporal.ground.temporal]).done();
    let output = temporal.command("stop").wait_with_output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("forbidden"));
    assert_eq!(temporal.replicas(), ["1", "2", "3", "4"]);
}

#[test]
fn temporal_is_pointed_at_the_other_server_and_back() {
    let temporal = Temporal::new();
    for (verb, host) in [("switch", "new.example"), ("switch", "new.example"), ("switch-back", "old")] {
        temporal.done(verb);
        assert_eq!((temporal.secret("POSTGRES_SEEDS"), temporal.secret("DB_PORT")), (host.into(), "5433".into()));
        assert_eq!((temporal.secret("DBNAME"), temporal.secret("POSTGRES_PWD")), ("temporal".into(), "kept".into()));
    }
}
