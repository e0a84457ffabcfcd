//! `k8s/deploy`, which the workflow calls, against the real API. No controller is behind that: what a Deployment's or a
//! Job's would write into its status, the test writes.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{done, end_job, text};
use crate::k8s::api::{Api, Ground};
use crate::k8s::certificates::Overlay;
use crate::k8s::render;
use crate::support::site::eventually;
use crate::support::stack;

const IMAGE: &str =
    "registry.example:5000/team/sexton@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn deploy(api: &Api, arguments: &[&str]) -> Command {
    let mut command = Command::new("k8s/deploy");
    api.lend(&mut command);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.env("KUBECTL", std::env::var("STACK_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned()));
    let _ = stack();
    command
}

#[test]
fn one_image_is_set_everywhere_and_the_api_takes_it() {
    let api = Api::administrator();
    api.ask(&["apply", "--server-side", "-f", "k8s/base/namespace.yaml"]).done();
    for folder in ["k8s/overlays/staging", "k8s/overlays/daemon"] {
        let rendered = done(&deploy(&api, &["render", folder, IMAGE]).output().unwrap());
        let images: Vec<&str> = rendered.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        assert!(!images.is_empty() && images.iter().all(|image| *image == IMAGE), "{images:?}");
        let output = deploy(&api, &["apply", folder, IMAGE]).env("DEPLOY_FLAGS", "--dry-run=server").output().unwrap();
        let applied =
            done(&output).lines().filter(|line| line.ends_with("serverside-applied (server dry run)")).count();
        assert_eq!(applied, render(folder).len());
    }
    // An overlay with an image of its own would keep that.
    let own = Overlay::new(
        "resources: [../sexton/k8s/overlays/daemon]\nimages: [{name: sexton, newName: registry.example/sexton, newTag: old}]\n",
    );
    let output = deploy(&api, &["apply", own.path.to_str().unwrap(), IMAGE]).output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("sets an image of its own"), "{output:?}");
    for wrong in [vec!["render", "k8s/overlays/daemon", "sexton"], vec!["rehearse"], vec![]] {
        assert_eq!(deploy(&api, &wrong).output().unwrap().status.code(), Some(64), "{wrong:?}");
    }
}

/// The CronJob of the staging overlay, run at once; how the Job ends is how the script ends.
#[test]
fn a_rehearsal_ends_as_its_job_ends() {
    let ground = Ground::of("k8s/overlays/staging");
    let rehearse = render("k8s/overlays/staging").into_iter().filter(|d| d["metadata"]["name"] == "sexton-rehearse");
    ground.apply(rehearse.collect());
    let start = |name: &str, seconds: &str| {
        let mut command = deploy(&ground.api, &["rehearse", "sexton-rehearse", name]);
        command.env("DEPLOY_NAMESPACE", &ground.sexton).env("DEPLOY_TIMEOUT", seconds);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let job = |name: &str| ground.api.ask(&["get", "job", name, "-n", &ground.sexton, "-o", "json"]);
    let ends = |name: &str, condition: &str| {
        assert!(eventually(Duration::from_secs(30), || job(name).ok), "the Job {name} was never made");
        end_job(&ground, name, condition);
    };
    let good = start("good", "60");
    ends("good", "Complete");
    let output = good.wait_with_output().unwrap();
    assert!(text(&output.stderr).contains("the Job good is complete"), "{output:?}");
    done(&output);
    let said = job("good").done().out;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said["spec"]["template"]["spec"]["containers"][0]["args"],
        json!(["migrate", "rehearse", "tune-autovacuum", "--json"])
    );

    let bad = start("bad", "60");
    ends("bad", "Failed");
    let output = bad.wait_with_output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("the Job bad failed"), "{output:?}");

    let output = start("endless", "3").wait_with_output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("has not ended after 3 s"), "{output:?}");
}

/// A rollout that never comes is told, and not waited for for ever.
#[test]
fn a_deployment_that_does_not_come_up_fails() {
    let ground = Ground::of("k8s/overlays/daemon");
    let folder = Overlay::new(&format!("resources: [../sexton/k8s/overlays/daemon]\nnamespace: {}\n", ground.sexton));
    let output = deploy(&ground.api, &["apply", folder.path.to_str().unwrap(), IMAGE])
        .env("DEPLOY_NAMESPACE", &ground.sexton)
        .env("DEPLOY_TIMEOUT", "3")
        .output()
        .unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("timed out waiting"), "{output:?}");
    let get = ["get", "deployment", "sexton", "-n", &ground.sexton, "-o"];
    let image = [&get[..], &["jsonpath={.spec.template.spec.containers[0].image}"]].concat();
    assert_eq!(ground.api.ask(&image).done().out, IMAGE);
}

/// The ledger, before the daemon: the Job in the place of the former one, and its end is the script's.
#[test]
fn a_job_of_a_folder_is_run_in_the_place_of_the_former_one() {
    let ground = Ground::of("k8s/base");
    let text_of = |namespace: &str| format!("resources: [../sexton/k8s/recipes/ledger-init]\nnamespace: {namespace}\n");
    let folder = Overlay::new(&text_of(&ground.sexton));
    let run = |folder: &str| {
        let mut command = deploy(&ground.api, &["job", folder, IMAGE]);
        command.env("DEPLOY_NAMESPACE", &ground.sexton).env("DEPLOY_TIMEOUT", "60");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let uid = || {
        let get = ["get", "job", "sexton-ledger-init", "-n", &ground.sexton, "-o", "jsonpath={.metadata.uid}"];
        ground.api.ask(&get).out
    };
    let mut before = String::new();
    for (condition, said) in [("Complete", "is complete"), ("Failed", "failed"), ("Complete", "is complete")] {
        let child = run(folder.path.to_str().unwrap());
        let is_new = || {
            let now = uid();
            !now.is_empty() && now != before
        };
        assert!(eventually(Duration::from_secs(30), is_new), "no new Job was made");
        if condition == "Failed" {
            let early = run(folder.path.to_str().unwrap()).wait_with_output().unwrap();
            assert!(!early.status.success() && text(&early.stderr).contains("is still at work"), "{early:?}");
        }
        before = uid();
        end_job(&ground, "sexton-ledger-init", condition);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.success(), condition == "Complete", "{output:?}");
        assert!(text(&output.stderr).contains(&format!("the Job sexton-ledger-init {said}")), "{output:?}");
    }
    let mut dry = deploy(&ground.api, &["job", folder.path.to_str().unwrap(), IMAGE]);
    dry.env("DEPLOY_NAMESPACE", &ground.sexton).env("DEPLOY_FLAGS", "--dry-run=server");
    // What a Job runs cannot be changed, and the API says that of this one; nothing is deleted to have it otherwise.
    let _ = dry.output().unwrap();
    assert_eq!(uid(), before, "a dry run leaves the Job");
    let elsewhere = run("k8s/recipes/ledger-init").wait_with_output().unwrap();
    assert!(!elsewhere.status.success() && text(&elsewhere.stderr).contains("DEPLOY_NAMESPACE"), "{elsewhere:?}");
    let none = run("k8s/overlays/daemon").wait_with_output().unwrap();
    assert!(!none.status.success() && text(&none.stderr).contains("does not hold exactly one Job"), "{none:?}");
}
