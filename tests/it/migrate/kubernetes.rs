//! `move-database-kubernetes` against a real Kubernetes API. No kubelet is behind it: a helper of the test's own plays one,
//! which makes and removes pods as a Deployment is scaled, and starts and stops the real Temporal server with them.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::ground::Move;
use super::moves::quiet;
use crate::support::cluster::Cluster;
use crate::support::postgres::{Scratch, Server};
use crate::support::site::eventually;
use crate::support::{stack, suffix};

const NAME: &str = "move-database-kubernetes";

fn kubectl(args: &[&str], stdin: Option<&Value>) -> Result<String, String> {
    let mut command = Command::new(stack().get("KUBECTL"));
    command.args(["--kubeconfig", stack().get("KUBECONFIG")]).args(args).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    if let Some(document) = stdin {
        std::io::Write::write_all(&mut pipe, document.to_string().as_bytes()).unwrap();
    }
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// A namespace with Deployments and a Secret; dropped, it goes away.
struct Namespace(String);

impl Namespace {
    fn new(deployments: &[(&str, u32)], secret: &[(&str, &str)]) -> Self {
        let this = Self(format!("it-{}", suffix()));
        kubectl(&["create", "namespace", &this.0], None).unwrap();
        for (name, replicas) in deployments {
            let labels = json!({ "app": name });
            this.apply(&json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
                "spec": { "replicas": replicas, "selector": { "matchLabels": labels }, "template": {
                    "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "server", "image": "none" }] } } },
            }));
        }
        let data: serde_json::Map<String, Value> =
            secret.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        this.apply(
            &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "temporal-db" }, "stringData": data }),
        );
        this
    }

    fn apply(&self, document: &Value) {
        kubectl(&["-n", &self.0, "apply", "-f", "-"], Some(document)).unwrap();
    }

    fn get(&self, what: &str, path: &str) -> String {
        kubectl(&["-n", &self.0, "get", what, "-o", &format!("jsonpath={path}")], None).unwrap()
    }

    fn replicas(&self, deployment: &str) -> String {
        self.get(&format!("deployment/{deployment}"), "{.spec.replicas}")
    }

    /// A key of the Secret.
    fn secret(&self, key: &str) -> String {
        let encoded = self.get("secret/temporal-db", &format!("{{.data.{key}}}"));
        let decoded = Command::new("sh").args(["-c", &format!("echo {encoded} | base64 -d")]).output().unwrap();
        String::from_utf8(decoded.stdout).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "namespace", &self.0, "--wait=false"], None);
    }
}

/// Plays the part of a kubelet for Deployments until it is dropped: a pod for every replica, and `act` when their number
/// changes between none and some.
struct Kubelet {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Kubelet {
    fn start(namespace: &str, deployments: &[&str], stuck: bool, act: impl Fn(&str, bool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, namespace) = (Arc::clone(&stop), namespace.to_owned());
        let deployments: Vec<String> = deployments.iter().map(|name| (*name).to_owned()).collect();
        kubectl(&["-n", &namespace, "create", "serviceaccount", "default"], None).ok();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for name in &deployments {
                    let get =
                        ["-n", &namespace, "get", &format!("deployment/{name}"), "-o", "jsonpath={.spec.replicas}"];
                    let Ok(wanted) = kubectl(&get, None) else { continue };
                    let list = [
                        "-n",
                        &namespace,
                        "get",
                        "pods",
                        "-l",
                        &format!("app={name}"),
                        "-o",
                        "jsonpath={.items[*].metadata.name}",
                    ];
                    let there = kubectl(&list, None).unwrap_or_default();
                    let (wanted, there): (usize, Vec<&str>) =
                        (wanted.parse().unwrap_or(0), there.split_whitespace().collect());
                    if wanted > there.len() {
                        if there.is_empty() {
                            act(name, true);
                        }
                        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("{name}-{}", there.len()), "labels": { "app": name } },
                            "spec": { "containers": [{ "name": "server", "image": "none" }], "automountServiceAccountToken": false } });
                        let _ = kubectl(&["-n", &namespace, "apply", "-f", "-"], Some(&pod));
                    } else if wanted < there.len() && !stuck {
                        if wanted == 0 && there.len() == 1 {
                            act(name, false);
                        }
                        let last = there[there.len() - 1];
                        let _ =
                            kubectl(&["-n", &namespace, "delete", "pod", last, "--grace-period=0", "--force"], None);
                    }
                }
                std::thread::sleep(Duration::from_millis(700));
            }
        });
        Self { stop, thread: Some(thread) }
    }

    fn wait_for(namespace: &Namespace, pods: usize) {
        for _ in 0..100 {
            let all = namespace.get("pods", "{.items[*].metadata.name}");
            if all.split_whitespace().count() == pods {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        panic!("the pods did not come");
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn configure(ground: &Move, namespace: &Namespace, deployments: &str) {
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let parameters = format!(
        "parameters: {{{NAME}: {{deployments: '{deployments}', secret: temporal-db, database_key: database}}, move-database:"
    );
    let config = config.replace("parameters: {move-database:", &parameters);
    let section = format!("kubernetes: {{namespace: {}, kubeconfig: {}}}\n", namespace.0, stack().get("KUBECONFIG"));
    std::fs::write(file, format!("{config}{section}")).unwrap();
    ground.site.run(&["migrate", "approve", NAME, "--by", "Ada"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_in_kubernetes_is_moved() {
    let cluster = Cluster::start_as_temporal("kubernetes").await;
    let database = &cluster.database;
    let ground = Move::new(Scratch { server: database.server, name: database.name.clone() }, &cluster.server.address);
    let (script, name, args) = cluster.script();
    let namespace = Namespace::new(
        &[("frontend", 2), ("history", 1)],
        &[("host", "pg15"), ("port", stack().get("PG15_PORT")), ("database", &database.name), ("other", "stays")],
    );
    cluster.server.start_workflow(&cluster.namespace, "open");
    let (names, in_namespace) =
        ([(stack().get("PG15_PORT"), "15"), (stack().get("PG17_PORT"), "17")], namespace.0.clone());
    let kubelet = Kubelet::start(&namespace.0, &["frontend", "history"], false, move |deployment, up| {
        // The history service stands for the whole server; it reads its Secret when it starts.
        if deployment != "history" {
            return;
        }
        let mut command = Command::new(&script);
        if !up {
            assert!(command.args(["kill", &name]).status().unwrap().success());
            return;
        }
        let key = |key: &str| {
            let read = format!(
                "{} --kubeconfig {} -n {in_namespace} get secret temporal-db -o 'jsonpath={{.data.{key}}}' | base64 -d",
                stack().get("KUBECTL"),
                stack().get("KUBECONFIG")
            );
            String::from_utf8(Command::new("sh").args(["-c", &read]).output().unwrap().stdout).unwrap()
        };
        let port = key("port");
        let major = names.iter().find(|(of, _)| *of == port).unwrap().1;
        command.args(["start", &name, "--pg", major, "--database", &key("database")]).args(&args);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || said.contains("runs already"), "{said}");
    });
    Kubelet::wait_for(&namespace, 3);
    configure(&ground, &namespace, "frontend, history");

    let run = ground.site.run(&["migrate", "run", NAME, "--json", "-q"]).expect(0).json();
    let steps = run["runs"][0]["report"]["migrations"][0]["steps"].as_array().unwrap();
    for step in steps {
        println!("  {:>8} ms  {}", step["milliseconds"], step["step"]);
    }
    assert_eq!([namespace.replicas("frontend"), namespace.replicas("history")], ["2", "1"], "as many as there were");
    assert_eq!([namespace.secret("port"), namespace.secret("database")], [stack().get("PG17_PORT"), &ground.target]);
    assert_eq!(namespace.secret("other"), "stays");
    let serves = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{}' AND usename = 'temporal'",
        ground.target
    );
    assert_eq!(Server::Pg17.psql("postgres", &serves), "t");
    let describe = ["workflow", "describe", "--namespace", &cluster.namespace, "--workflow-id", "open"];
    assert_eq!(
        cluster.server.cli_json(&describe)["workflowExecutionInfo"]["status"],
        "WORKFLOW_EXECUTION_STATUS_RUNNING"
    );
    // What the Secret held before is in the journal, and cannot be read there.
    let kept = ground.ledger.psql("SELECT undo FROM migration_steps WHERE step = 'switch'");
    assert!(kept.contains("sealed") && !kept.contains("pg15") && !kept.contains(&hex::encode("pg15")), "{kept}");
    drop(kubelet);
}

#[test]
fn what_fails_in_kubernetes_leads_back() {
    let ground = quiet("kubefails");
    let namespace =
        Namespace::new(&[("frontend", 2), ("history", 1)], &[("host", "pg15"), ("port", "1"), ("database", "d")]);
    configure(&ground, &namespace, "frontend,history");
    let run = |code: i32| {
        let said = ground.site.run(&["migrate", "run", NAME, "--json", "-q"]).expect(code).json();
        said["runs"][0]["error"]["message"].as_str().unwrap_or_default().to_owned()
    };
    let before = |word: &str| {
        assert_eq!([namespace.replicas("frontend"), namespace.replicas("history")], ["2", "1"], "{word}");
        assert_eq!([namespace.secret("host"), namespace.secret("port")], ["pg15", "1"], "{word}");
        assert!(ground.lets_temporal_in() && !ground.has_target(), "{word}");
        ground.site.run(&["migrate", "approve", NAME, "--by", "Ada"]).expect(0);
    };
    // A pod that does not go away.
    let recipe = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/migrations/recipes/move-database-kubernetes.yaml"
    ))
    .unwrap();
    let impatient = |pods: &str| {
        let recipe = recipe
            .replace("\", within: 10m", &format!("\", within: {pods}"))
            .replace("health: {within: 10m", "health: {within: 2s");
        std::fs::write(ground.site.path().join("recipes/kubernetes.yaml"), recipe).unwrap();
    };
    impatient("2s");
    ground.site.run(&["migrate", "approve", NAME, "--by", "Ada"]).expect(0);
    let stuck = Kubelet::start(&namespace.0, &["frontend", "history"], true, |_, _| {});
    Kubelet::wait_for(&namespace, 3);
    let said = run(6);
    assert!(said.contains("pods are still there after 2s: ") && said.contains("history-0"), "{said}");
    impatient("3m");
    before("pods");
    drop(stuck);
    let _kubelet = Kubelet::start(&namespace.0, &["frontend", "history"], false, |_, _| {});
    Kubelet::wait_for(&namespace, 3);

    // A Deployment that is not there: nothing was scaled.
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("'frontend,history'", "'frontend,hystory'")).unwrap();
    let planned = ground.site.run(&["migrate", "plan", NAME]).expect(1);
    assert!(planned.err.contains("there is no Deployment `hystory`"), "{planned:?}");
    assert_eq!(namespace.replicas("frontend"), "2");
    std::fs::write(&file, &config).unwrap();

    // Everything is at 0: how many to start is not known.
    kubectl(&["-n", &namespace.0, "scale", "deployment", "--replicas=0", "--all"], None).unwrap();
    assert!(run(6).contains("every Deployment has 0 replicas already"));
    kubectl(&["-n", &namespace.0, "scale", "deployment/frontend", "--replicas=2"], None).unwrap();
    kubectl(&["-n", &namespace.0, "scale", "deployment/history", "--replicas=1"], None).unwrap();
    before("zero");

    // Temporal never serves, and meanwhile somebody else sets the Secret: that is told, and not overwritten.
    std::fs::write(&file, config.replace(&crate::support::temporal::plain().address, "127.0.0.1:1")).unwrap();
    ground.site.run(&["migrate", "approve", NAME, "--by", "Ada"]).expect(0);
    let mut running = ground.site.start(&["migrate", "run", NAME, "-q"], "run.log");
    let set = eventually(Duration::from_secs(120), || namespace.secret("port") != "1");
    assert!(set, "{}", std::fs::read_to_string(ground.site.path().join("run.log")).unwrap());
    let theirs = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "temporal-db" }, "stringData": { "host": "theirs" } });
    namespace.apply(&theirs);
    assert_eq!(running.wait(), Some(1));
    assert_eq!(namespace.secret("host"), "theirs");
    let said = ground.ledger.psql("SELECT error FROM migrations");
    assert!(said.contains("was set by somebody else meanwhile"), "{said}");
    let target = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "temporal-db" }, "stringData": { "host": stack().get("PG17_HOST") } });
    namespace.apply(&target);
    ground.site.run(&["migrate", "undo", NAME]).expect(0);
    before("secret");
}

/// The Deployment controller's part: every replica is of the newest template, and available.
fn roll_out(namespace: &Namespace, deployment: &str) {
    let generation: u64 = namespace.get(&format!("deployment/{deployment}"), "{.metadata.generation}").parse().unwrap();
    let status = json!({ "status": { "observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2 } });
    let patch = status.to_string();
    let args =
        ["-n", &namespace.0, "patch", "deployment", deployment, "--subresource=status", "--type=merge", "-p", &patch];
    kubectl(&args, None).unwrap();
}

#[test]
fn pods_are_made_anew_and_waited_for() {
    let ground = quiet("restarts");
    let namespace = Namespace::new(&[("frontend", 2)], &[("host", "pg15")]);
    configure(&ground, &namespace, "frontend");
    let recipe = |within: &str| {
        let text = format!(
            "name: restarts\ndescription: d\ndatabase: main\nstages:\n  - name: s\n    steps:\n      \
             - {{name: anew, do: {{restart: {{deployments: frontend, within: {within}}}}}}}\n"
        );
        std::fs::write(ground.site.path().join("recipes/restarts.yaml"), text).unwrap();
    };
    let at = || {
        namespace
            .get("deployment/frontend", "{.spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}")
    };
    recipe("30s");
    roll_out(&namespace, "frontend");
    assert_eq!(at(), "");
    let mut running = ground.site.start(&["migrate", "run", "restarts", "-q"], "restarts.log");
    assert!(eventually(Duration::from_secs(30), || !at().is_empty()), "{}", running.log());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations WHERE name = 'restarts'"), "running", "it waits");
    roll_out(&namespace, "frontend");
    assert_eq!(running.wait(), Some(0), "{}", running.log());

    // Nobody makes them anew: told, and taken back as far as that goes.
    let first = at();
    ground.site.run(&["migrate", "undo", "restarts"]).expect(1);
    assert_ne!(at(), first, "they are to read what was there before");
}
