//! The manifests as kubectl renders them, what a real Kubernetes API says of them, and what their accounts may do there.

mod accepted;
mod access;
pub(crate) mod api;
pub(crate) mod certificates;
mod image;
mod moving;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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

/// What one may apply.
const FOLDERS: [&str; 6] = [
    "k8s/overlays/cronjobs",
    "k8s/overlays/daemon",
    "k8s/overlays/staging",
    "k8s/recipes/ledger-init",
    "k8s/recipes/move-database",
    "k8s/recipes/tune-autovacuum",
];

/// `STACK_KUBECTL` or the kubectl on `PATH`.
pub(crate) fn kubectl() -> Command {
    Command::new(std::env::var("STACK_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned()))
}

/// Every document of a rendered folder.
pub(crate) fn render(folder: impl AsRef<Path>) -> Vec<Value> {
    let output = kubectl().arg("kustomize").arg(folder.as_ref()).output().expect("kubectl is needed to render k8s/");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap()
}

pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let named = documents.iter().filter(|d| d["kind"] == kind);
    named.map(|d| (at(d, "/metadata/name").as_str().unwrap(), d)).collect()
}

/// The template of every pod that something of these makes, by the kind and name of what makes it.
pub(crate) fn templates(documents: &[Value]) -> BTreeMap<String, &Value> {
    let template = |of: &Value| match of["kind"].as_str().unwrap() {
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        "Job" | "Deployment" => Some("/spec/template"),
        _ => None,
    };
    let named = documents.iter().filter_map(|of| Some((of, at(of, template(of)?))));
    named.map(|(of, template)| (format!("{} {}", of["kind"], at(of, "/metadata/name")), template)).collect()
}

/// What is true of every pod, and that whatever it names is there. Only one that speaks to the Kubernetes API has an account
/// of its own, and a token.
fn check_pod(documents: &[Value], pod: &Value, arguments: &[&str]) {
    let account = at(pod, "/serviceAccountName").as_str().unwrap();
    let accounts = of_kind(documents, "ServiceAccount");
    assert_eq!(accounts[account]["automountServiceAccountToken"], false);
    assert_eq!(at(pod, "/automountServiceAccountToken"), account != "sexton");
    assert_eq!(at(pod, "/securityContext/runAsNonRoot"), true);
    assert_eq!(at(pod, "/securityContext/seccompProfile/type"), "RuntimeDefault");
    assert_eq!(at(pod, "/terminationGracePeriodSeconds"), 60);

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

/// The arguments of a template's container.
fn arguments(template: &Value) -> Vec<&str> {
    let arguments = at(template, "/spec/containers/0/args").as_array().unwrap();
    arguments.iter().map(|word| word.as_str().unwrap()).collect()
}

/// Every secret of the configuration comes from a documented key of the one Secret, and nothing else does.
fn check_environment(container: &Value, config: &Value) {
    let readme = std::fs::read_to_string("k8s/README.md").unwrap();
    let mut provided = BTreeSet::new();
    for variable in at(container, "/env").as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let Some(reference) = variable.pointer("/valueFrom/secretKeyRef") else {
            match name {
                "SEXTON_CONFIG" => assert_eq!(variable["value"], "/etc/sexton/config/sexton.yaml"),
                "HOME" => assert_eq!(variable["value"], "/tmp"),
                other => panic!("{other} is not a secret's"),
            }
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
fn every_folder_is_known_here_and_none_of_its_pods_differs_where_it_must_not() {
    let mut there = Vec::new();
    for folder in ["k8s/overlays", "k8s/recipes"] {
        let entries = std::fs::read_dir(folder).unwrap();
        there.extend(entries.map(|entry| entry.unwrap().path().to_string_lossy().into_owned()));
    }
    there.sort();
    assert_eq!(there, FOLDERS);
    for folder in FOLDERS {
        let documents = render(folder);
        check_config_maps(&documents);
        let level = "/metadata/labels/pod-security.kubernetes.io~1enforce";
        assert_eq!(at(of_kind(&documents, "Namespace")["sexton"], level), "restricted");
        let templates = templates(&documents);
        assert!(!templates.is_empty(), "{folder}");
        for (name, template) in templates {
            check_pod(&documents, at(template, "/spec"), &arguments(template));
            let labels = at(template, "/metadata/labels");
            assert_eq!(labels["app.kubernetes.io/name"], "sexton", "{name}: the NetworkPolicy would not find it");
        }
    }
}

#[test]
fn the_base_runs_nothing() {
    assert!(templates(&render("k8s/base")).is_empty());
}

#[test]
fn there_is_one_cron_job_per_job_within_bounds() {
    let documents = render("k8s/overlays/cronjobs");
    let schedule: Value = serde_saphyr::from_str(&std::fs::read_to_string("policies/schedule.yaml").unwrap()).unwrap();
    let cron_jobs = of_kind(&documents, "CronJob");
    assert_eq!(cron_jobs.keys().copied().collect::<Vec<_>>(), CRON_JOBS);
    for (name, cron_job) in cron_jobs {
        let job = name.strip_prefix("sexton-").unwrap();
        let deadline: Span = at(&schedule, &format!("/jobs/{job}/deadline")).as_str().unwrap().parse().unwrap();
        check_cron_job(name, cron_job, Some(deadline));
        assert_eq!(arguments(at(cron_job, "/spec/jobTemplate/spec/template")), ["once", job]);
    }
}

/// With which a process of sexton's ends by itself, when not all is well.
const ENDS: [u8; 8] = [1, 2, 3, 4, 5, 6, 64, 78];

/// One that never meets itself, is started at times that are told in UTC, and is not killed before its own deadline.
fn check_cron_job(name: &str, cron_job: &Value, deadline: Option<Span>) {
    let spec = &cron_job["spec"];
    assert_eq!(at(cron_job, "/metadata/namespace"), "sexton");
    assert_eq!(spec["concurrencyPolicy"], "Forbid");
    assert_eq!(spec["timeZone"], "Etc/UTC");
    // Below 10 s the controller may never start it: it looks at CronJobs every 10 s.
    assert!(spec["startingDeadlineSeconds"].as_u64().unwrap() >= 10);
    assert_eq!((&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]), (&3.into(), &5.into()));
    let template = &spec["jobTemplate"]["spec"];
    assert_eq!(template["backoffLimit"], 1);
    // A pod that had to leave its node ends with 1 as well, and is to come again: what is told of its node counts first.
    let rules = serde_json::json!([
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "sexton", "operator": "In", "values": ENDS}},
    ]);
    assert_eq!(at(template, "/podFailurePolicy/rules"), &rules);
    assert_eq!(at(template, "/template/spec/restartPolicy"), "Never");
    let active = template["activeDeadlineSeconds"].as_u64().unwrap();
    if let Some(deadline) = deadline {
        assert!(
            active > deadline.as_secs(),
            "{name}: Kubernetes would kill it at {active} s, before its own {deadline}"
        );
    }
}

#[test]
fn the_daemon_is_two_pods_of_which_one_always_stays() {
    let documents = render("k8s/overlays/daemon");
    assert!(of_kind(&documents, "CronJob").is_empty(), "what the daemon schedules nothing else must");
    let deployment = of_kind(&documents, "Deployment")["sexton"];
    let spec = &deployment["spec"];
    assert_eq!((&spec["replicas"], at(spec, "/strategy/rollingUpdate/maxSurge")), (&2.into(), &0.into()));
    assert_eq!(arguments(at(spec, "/template")), ["run"]);
    let selector = at(spec, "/selector/matchLabels");
    assert_eq!(selector, at(spec, "/template/metadata/labels"));
    assert_eq!(selector, at(of_kind(&documents, "PodDisruptionBudget")["sexton"], "/spec/selector/matchLabels"));
    let schedule: Value = serde_saphyr::from_str(&std::fs::read_to_string("policies/schedule.yaml").unwrap()).unwrap();
    let grace: Span = at(&schedule, "/shutdown_grace").as_str().unwrap().parse().unwrap();
    assert!(at(spec, "/template/spec/terminationGracePeriodSeconds").as_u64().unwrap() > grace.as_secs());
}

#[test]
fn staging_rehearses_on_a_schedule_and_writes_to_no_store() {
    let documents = render("k8s/overlays/staging");
    let cron_jobs = of_kind(&documents, "CronJob");
    let expected: BTreeSet<&str> = CRON_JOBS.into_iter().chain(["sexton-rehearse"]).collect();
    let writing = ["sexton-backup", "sexton-drill", "sexton-prune"].into();
    assert_eq!(cron_jobs.keys().copied().collect::<BTreeSet<_>>(), &expected - &writing);
    let rehearse = cron_jobs["sexton-rehearse"];
    check_cron_job("sexton-rehearse", rehearse, None);
    let template = at(rehearse, "/spec/jobTemplate/spec/template");
    assert_eq!(arguments(template), ["migrate", "rehearse", "tune-autovacuum", "--json"]);
}

#[test]
fn a_recipe_is_a_job_that_runs_it_and_is_not_repeated_where_that_is_of_no_use() {
    let recipes: [(&str, &[&str]); 3] = [
        ("ledger-init", &["ledger", "init"]),
        ("move-database", &["migrate", "run", "move-database-kubernetes"]),
        ("tune-autovacuum", &["migrate", "run", "tune-autovacuum"]),
    ];
    for (recipe, runs) in recipes {
        let documents = render(format!("k8s/recipes/{recipe}"));
        assert!(of_kind(&documents, "CronJob").is_empty());
        let jobs = of_kind(&documents, "Job");
        assert_eq!(jobs.keys().copied().collect::<Vec<_>>(), [format!("sexton-{recipe}")]);
        let spec = &jobs.values().next().unwrap()["spec"];
        assert_eq!(arguments(at(spec, "/template")), runs);
        assert_eq!(at(spec, "/template/spec/restartPolicy"), "Never");
        assert!(spec["activeDeadlineSeconds"].as_u64().unwrap() > 0 && spec["ttlSecondsAfterFinished"].is_u64());
        // A failure may pass, such as a lock that was not to be had. What the other exit codes say does not.
        assert!(spec["backoffLimit"].as_u64().unwrap() >= 2);
        let rule = at(spec, "/podFailurePolicy/rules/0");
        assert_eq!((&rule["action"], at(rule, "/onExitCodes/operator")), (&"FailJob".into(), &"In".into()));
        assert_eq!(at(rule, "/onExitCodes/values"), &serde_json::json!([2, 3, 4, 5, 6, 64, 78]));
    }
}
