//! A release that helm really installs. Before everything else its hook makes the ledger: what the Job's controller and a kubelet
//! would do, the test does, with the real binary on a real PostgreSQL.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{end_job, program, text};
use crate::k8s::api::Ground;
use crate::support::postgres::Scratch;
use crate::support::site::{binary, eventually};
use crate::support::stack;

/// The values of an installation whose PostgreSQL is the stack's.
fn values(ledger: &Scratch) -> Value {
    let get = |name: &str| stack().get(name).to_owned();
    let port: u16 = get("PG15_PORT").parse().unwrap();
    json!({"config": {
        "postgres": {"host": get("PG15_HOST"), "port": port, "user": get("PG15_USER"), "tls": {"mode": "disable"}},
        "ledger": {"database": ledger.name},
    }})
}

fn helm(ground: &Ground, verb: &str, release: &str, values: &Value) -> (Child, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let mut helm = program("HELM");
    ground.api.lend(&mut helm);
    helm.args([verb, release, "charts/sexton", "--namespace", &ground.sexton, "--timeout", "120s", "--values"]);
    helm.arg(file.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (helm.spawn().unwrap(), file)
}

fn get(ground: &Ground, what: &str, name: &str) -> Option<Value> {
    let said = ground.api.ask(&["get", what, name, "-n", &ground.sexton, "-o", "json"]);
    said.ok.then(|| serde_json::from_str(&said.out).unwrap())
}

/// What the container of a Job's pod does: the files of its ConfigMaps, its variables, its arguments.
fn play(ground: &Ground, job: &Value) -> std::process::Output {
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let root = tempfile::tempdir().unwrap();
    let here = |path: &str| format!("{}{path}", root.path().display());
    for mount in container["volumeMounts"].as_array().unwrap() {
        let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let folder = here(mount["mountPath"].as_str().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        let Some(map) = volume["configMap"]["name"].as_str() else { continue };
        let map = get(ground, "configmap", map).unwrap();
        for (name, text) in map["data"].as_object().unwrap() {
            let text = text.as_str().unwrap().replace("/etc/sexton", &here("/etc/sexton"));
            std::fs::write(format!("{folder}/{name}"), text).unwrap();
        }
    }
    let mut command = Command::new(binary());
    command.env_clear().current_dir(root.path());
    for variable in container["env"].as_array().unwrap() {
        let value = match variable["value"].as_str() {
            Some(value) => value.replace("/etc/sexton", &here("/etc/sexton")),
            None => {
                let from = &variable["valueFrom"]["secretKeyRef"];
                let said = ground.api.ask(&[
                    "get",
                    "secret",
                    from["name"].as_str().unwrap(),
                    "-n",
                    &ground.sexton,
                    "-o",
                    &format!("go-template={{{{index .data \"{}\" | base64decode}}}}", from["key"].as_str().unwrap()),
                ]);
                said.done().out
            }
        };
        command.env(variable["name"].as_str().unwrap(), value);
    }
    let args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    command.args(args).output().unwrap()
}

fn with_secret(password: &str) -> Ground {
    let ground = Ground::of("k8s/base");
    let keys = ["s3-access-key", "s3-secret-key", "scratch-password", "http-token"];
    let mut data: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), json!("of-no-use"))).collect();
    data.insert("postgres-password".to_owned(), password.into());
    let metadata = json!({"name": "sexton", "namespace": ground.sexton});
    ground.apply(vec![json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})]);
    ground
}

const JOB: &str = "release-sexton-ledger-init";

#[test]
fn the_ledger_is_made_before_the_release_and_brought_up_to_date_before_each_new_one() {
    let ledger = Scratch::new("release");
    let ground = with_secret(stack().get("PG15_PASSWORD"));
    let values = values(&ledger);
    let mut before = String::new();
    for (verb, done) in [("install", "STATUS: deployed"), ("upgrade", "REVISION: 2")] {
        let (helm, _file) = helm(&ground, verb, "release", &values);
        let is_new = || get(&ground, "job", JOB).is_some_and(|job| job["metadata"]["uid"] != before.as_str());
        assert!(eventually(Duration::from_secs(60), is_new), "the Job was never made: {:?}", helm.wait_with_output());
        let job = get(&ground, "job", JOB).unwrap();
        before = job["metadata"]["uid"].as_str().unwrap().to_owned();
        if verb == "install" {
            assert!(get(&ground, "deployment", "release-sexton").is_none(), "nothing is there before the ledger is");
        }
        let ran = play(&ground, &job);
        assert!(ran.status.success(), "{ran:?}");
        end_job(&ground, JOB, "Complete");
        let output = helm.wait_with_output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains(done), "{output:?}");
    }
    assert_eq!(ledger.psql("SELECT count(*) FROM runs"), "0");
    assert!(get(&ground, "deployment", "release-sexton").is_some());
    assert!(get(&ground, "configmap", &format!("{JOB}-config")).is_none(), "what the hook read goes with it");
    assert!(get(&ground, "configmap", "release-sexton-config").is_some());
}

#[test]
fn without_a_ledger_nothing_is_installed() {
    let ledger = Scratch::new("release");
    let ground = with_secret("not-the-password");
    let (helm, _file) = helm(&ground, "install", "release", &values(&ledger));
    let is_there = || get(&ground, "job", JOB).is_some();
    assert!(eventually(Duration::from_secs(60), is_there), "the Job was never made: {:?}", helm.wait_with_output());
    let ran = play(&ground, &get(&ground, "job", JOB).unwrap());
    assert!(!ran.status.success() && text(&ran.stderr).contains("refused the password"), "{ran:?}");
    end_job(&ground, JOB, "Failed");
    let output = helm.wait_with_output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("pre-install"), "{output:?}");
    assert!(get(&ground, "deployment", "release-sexton").is_none());
    assert!(get(&ground, "job", JOB).is_some(), "its log is still to be had");
}
