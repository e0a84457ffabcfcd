//! The manifests as kubectl renders them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use sexton::units::Span;

const CRON_JOBS: [&str; 8] = [
    "sexton-audit",
    "sexton-backup",
    "sexton-drill",
    "sexton-overdue",
    "sexton-prune",
    "sexton-reconcile",
    "sexton-retention",
    "sexton-visibility",
];

/// Every document of a rendered folder; `STACK_KUBECTL` or the kubectl on `PATH` renders it.
fn render(folder: &str) -> Vec<Value> {
    let kubectl = std::env::var("STACK_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let output = Command::new(kubectl).args(["kustomize", folder]).output().expect("kubectl is needed to render k8s/");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap()
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let named = documents.iter().filter(|d| d["kind"] == kind);
    named.map(|d| (at(d, "/metadata/name").as_str().unwrap(), d)).collect()
}

/// What is true of every pod, and that whatever it names is there.
fn check_pod(documents: &[Value], pod: &Value, arguments: &[&str]) {
    let account = at(pod, "/serviceAccountName").as_str().unwrap();
    let accounts = of_kind(documents, "ServiceAccount");
    assert_eq!(accounts[account]["automountServiceAccountToken"], false);
    assert_eq!(at(pod, "/automountServiceAccountToken"), false);
    assert_eq!(at(pod, "/securityContext/runAsNonRoot"), true);
    assert_eq!(at(pod, "/securityContext/seccompProfile/type"), "RuntimeDefault");
    assert_eq!(at(pod, "/restartPolicy"), "Never");

    let containers = at(pod, "/containers").as_array().unwrap();
    assert_eq!(containers.len(), 1);
    let container = &containers[0];
    assert_eq!(container["image"], "sexton:0.1.0");
    assert_eq!(container["args"], serde_json::json!(arguments));
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    for pointer in ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/memory"] {
        assert!(at(container, pointer).is_string(), "{pointer}");
    }

    let config_maps = of_kind(documents, "ConfigMap");
    let mut mounted = BTreeMap::new();
    for volume in at(pod, "/volumes").as_array().unwrap() {
        if let Some(map) = volume.pointer("/configMap/name") {
            let map = map.as_str().unwrap();
            assert!(config_maps.contains_key(map), "ConfigMap {map} is not rendered");
            mounted.insert(volume["name"].as_str().unwrap(), map);
        }
    }
    let mounts = at(container, "/volumeMounts").as_array().unwrap();
    let mut folders = BTreeMap::new();
    for mount in mounts.iter().filter(|m| mounted.contains_key(m["name"].as_str().unwrap())) {
        assert_eq!(mount["readOnly"], true);
        folders.insert(mount["mountPath"].as_str().unwrap(), mounted[mount["name"].as_str().unwrap()]);
    }
    assert!(folders["/etc/sexton/config"].starts_with("sexton-config-"));
    assert!(folders["/etc/sexton/policies"].starts_with("sexton-policies-"));
    check_environment(container, at(config_maps[folders["/etc/sexton/config"]], "/data/sexton.yaml"));
}

/// Every secret of the configuration comes from a documented key of the one Secret, and nothing else does.
fn check_environment(container: &Value, config: &Value) {
    let readme = std::fs::read_to_string("k8s/README.md").unwrap();
    let mut provided = BTreeSet::new();
    for variable in at(container, "/env").as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let Some(reference) = variable.pointer("/valueFrom/secretKeyRef") else {
            assert_eq!((name, &variable["value"]), ("SEXTON_CONFIG", &"/etc/sexton/config/sexton.yaml".into()));
            continue;
        };
        assert_eq!(reference["name"], "sexton");
        let key = reference["key"].as_str().unwrap();
        assert!(readme.contains(&format!("`{key}`")), "the key {key} is not documented");
        provided.insert(name.to_owned());
    }
    let config = config.as_str().unwrap();
    let wanted = config.split("{env: ").skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect();
    assert_eq!(provided, wanted, "the environment is exactly what the configuration asks for");
    assert!(config.contains("policies: /etc/sexton/policies"));
}

fn check_config_maps(documents: &[Value]) {
    let maps = of_kind(documents, "ConfigMap");
    let policies = maps.iter().find(|(name, _)| name.starts_with("sexton-policies-")).unwrap().1;
    let data: BTreeMap<String, String> = serde_json::from_value(at(policies, "/data").clone()).unwrap();
    let mut shipped = BTreeMap::new();
    for entry in std::fs::read_dir("policies").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            shipped.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    assert_eq!(data, shipped);
    assert_eq!(shipped.len(), 4);
    assert!(of_kind(documents, "Secret").is_empty(), "no Secret is part of the manifests");
}

#[test]
fn the_base_is_one_cron_job_per_job_within_bounds() {
    let documents = render("k8s/base");
    check_config_maps(&documents);
    let namespaces = of_kind(&documents, "Namespace");
    let level = "/metadata/labels/pod-security.kubernetes.io~1enforce";
    assert_eq!(at(namespaces["sexton"], level), "restricted");

    let schedule: Value = serde_saphyr::from_str(&std::fs::read_to_string("policies/schedule.yaml").unwrap()).unwrap();
    let cron_jobs = of_kind(&documents, "CronJob");
    assert_eq!(cron_jobs.keys().copied().collect::<Vec<_>>(), CRON_JOBS);
    for (name, cron_job) in cron_jobs {
        let job = name.strip_prefix("sexton-").unwrap();
        let spec = &cron_job["spec"];
        assert_eq!(at(cron_job, "/metadata/namespace"), "sexton");
        assert_eq!(spec["concurrencyPolicy"], "Forbid");
        assert_eq!(spec["timeZone"], "Etc/UTC");
        // Below 10 s the controller may never start it: it looks at CronJobs every 10 s.
        assert!(spec["startingDeadlineSeconds"].as_u64().unwrap() >= 10);
        assert_eq!((&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]), (&3.into(), &5.into()));
        let template = &spec["jobTemplate"]["spec"];
        assert_eq!(template["backoffLimit"], 1);
        let deadline: Span = at(&schedule, &format!("/jobs/{job}/deadline")).as_str().unwrap().parse().unwrap();
        let active = template["activeDeadlineSeconds"].as_u64().unwrap();
        assert!(
            active > deadline.as_secs(),
            "{name}: Kubernetes would kill it at {active} s, before its own {deadline}"
        );
        check_pod(&documents, at(template, "/template/spec"), &["once", job]);
    }
}

#[test]
fn a_recipe_is_a_job_that_runs_it_once() {
    let documents = render("k8s/recipes/tune-autovacuum");
    check_config_maps(&documents);
    assert!(of_kind(&documents, "CronJob").is_empty());
    let jobs = of_kind(&documents, "Job");
    assert_eq!(jobs.keys().copied().collect::<Vec<_>>(), ["sexton-tune-autovacuum"]);
    let spec = &jobs["sexton-tune-autovacuum"]["spec"];
    assert!(spec["activeDeadlineSeconds"].as_u64().unwrap() > 0);
    assert_eq!(spec["backoffLimit"], 2);
    assert!(spec["ttlSecondsAfterFinished"].is_u64());
    check_pod(&documents, at(spec, "/template/spec"), &["migrate", "run", "tune-autovacuum"]);
}
