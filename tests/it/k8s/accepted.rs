//! What a real API says of the manifests. Nothing is written but namespaces.

use serde_json::{Value, json};

use super::api::{Api, Ground, Said};
use super::{FOLDERS, render, templates};

/// The namespaces that the manifests name, which a dry run does not make.
fn with_namespaces() -> Api {
    let api = Api::administrator();
    api.ask(&["apply", "--server-side", "-f", "k8s/base/namespace.yaml"]).done();
    let temporal = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "temporal"}});
    api.tell(&["apply", "--server-side", "-f", "-"], &temporal.to_string()).done();
    api
}

#[test]
fn every_folder_can_be_applied() {
    let api = with_namespaces();
    for folder in FOLDERS {
        let said = api.would_apply(folder).done();
        assert_eq!(said.warnings(), Vec::<&str>::new(), "{folder}");
        let applied = said.out.lines().filter(|line| line.ends_with("serverside-applied (server dry run)")).count();
        assert_eq!(applied, render(folder).len(), "{folder}: {said:#?}");
    }
}

/// Without it the test above would say nothing.
#[test]
fn a_mistake_in_a_manifest_is_found() {
    let api = with_namespaces();
    let refused = |why: &str, spoil: &dyn Fn(&mut Value)| {
        let mut documents = render("k8s/overlays/daemon");
        let deployment = documents.iter_mut().find(|d| d["kind"] == "Deployment").unwrap();
        spoil(deployment);
        api.tell(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &deployment.to_string()).refused(why);
    };
    refused("readonlyRootFilesystem", &|of| of["spec"]["template"]["spec"]["readonlyRootFilesystem"] = true.into());
    refused("selector", &|of| of["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] = "other".into());
    refused("no-such-volume", &|of| {
        of["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = "no-such-volume".into();
    });
    let mut documents = render("k8s/overlays/cronjobs");
    let cron_job = documents.iter_mut().find(|d| d["kind"] == "CronJob").unwrap();
    cron_job["spec"]["timeZone"] = "Etc/Nowhere".into();
    let said = api.tell(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &cron_job.to_string());
    said.refused("Etc/Nowhere");
}

/// What the API would say of a pod of this template, in sexton's namespace, where `restricted` is enforced.
fn pod(ground: &Ground, template: &Value) -> Said {
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = "pod".into();
    pod["metadata"]["namespace"] = ground.sexton.clone().into();
    ground.api.tell(&["create", "--dry-run=server", "-f", "-"], &pod.to_string())
}

#[test]
fn the_pods_are_let_in_where_pod_security_is_restricted() {
    for folder in FOLDERS {
        let ground = Ground::of(folder);
        for (name, template) in templates(&render(folder)) {
            let said = pod(&ground, template);
            assert!(said.ok && said.warnings().is_empty(), "{folder}, {name}: {said:#?}");
        }
    }
}

#[test]
fn a_pod_that_may_more_is_kept_out() {
    let ground = Ground::of("k8s/overlays/daemon");
    let documents = render("k8s/overlays/daemon");
    let template = *templates(&documents).values().next().unwrap();
    pod(&ground, template).done();
    let off = |pointer: &str, value: Value, why: &str| {
        let mut spoilt = template.clone();
        match spoilt.pointer_mut(pointer) {
            Some(there) => *there = value,
            None => {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                spoilt.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        let said = pod(&ground, &spoilt);
        assert!(said.err.contains("violates PodSecurity \"restricted:latest\""), "{pointer}: {said:#?}");
        said.refused(why);
    };
    let container = "/spec/containers/0/securityContext";
    off("/spec/securityContext/runAsNonRoot", false.into(), "runAsNonRoot");
    off("/spec/securityContext/runAsUser", 0.into(), "runAsUser=0");
    off("/spec/securityContext/seccompProfile", Value::Null, "seccompProfile");
    off("/spec/hostNetwork", true.into(), "host namespaces");
    off("/spec/volumes/2", json!({"name": "tmp", "hostPath": {"path": "/"}}), "hostPath");
    off(&format!("{container}/capabilities"), Value::Null, "unrestricted capabilities");
    off(&format!("{container}/allowPrivilegeEscalation"), true.into(), "allowPrivilegeEscalation");
    off(
        &format!("{container}/capabilities"),
        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "unrestricted capabilities",
    );
}
