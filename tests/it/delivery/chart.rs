//! The Helm chart, rendered by helm: the same as the folders of kustomize field by field, taken by a real API, and refusing
//! values that are wrong.

use std::collections::BTreeMap;
use std::process::Output;

use serde_json::{Map, Value, json};

use super::{done, program, text};
use crate::k8s::api::{Api, Ground};
use crate::k8s::certificates::{Overlay, suggested};
use crate::k8s::{at, render};

/// `helm template`, as a release called `sexton` in the namespace of that name, with these values.
fn template(values: &Value) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let mut helm = program("HELM");
    // Built from its source it does not know for which Kubernetes it was built.
    helm.args(["template", "sexton", "charts/sexton", "--namespace", "sexton", "--kube-version", "1.34.0", "--values"]);
    helm.arg(file.path()).output().unwrap()
}

fn chart(values: &Value) -> Vec<Value> {
    serde_saphyr::from_multiple(&done(&template(values))).unwrap()
}

/// What must differ, taken away: Helm's own labels, by which it finds what is a release's; kustomize's hashes in the names of
/// ConfigMaps, in whose place the chart has checksums in the pods' annotations; the namespace, which `helm --namespace` gives.
fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for label in [
                "app.kubernetes.io/instance",
                "app.kubernetes.io/version",
                "app.kubernetes.io/managed-by",
                "helm.sh/chart",
            ] {
                map.remove(label);
            }
            map.retain(|key, _| !key.starts_with("checksum/"));
            if map.get("annotations").is_some_and(|annotations| annotations.as_object().is_none_or(Map::is_empty)) {
                map.remove("annotations");
            }
            for place in ["configMap", "metadata"] {
                if let Some(name) = map.get_mut(place).and_then(|at| at.get_mut("name")) {
                    let text = name.as_str().unwrap();
                    let known = ["sexton-config-", "sexton-policies-"].iter().find(|known| text.starts_with(**known));
                    if let Some(known) = known {
                        *name = known.trim_end_matches('-').into();
                    }
                }
            }
            map.values_mut().for_each(plain);
            // Annotations may have become empty by now.
            if map.get("annotations").is_some_and(|annotations| annotations.as_object().is_some_and(Map::is_empty)) {
                map.remove("annotations");
            }
        }
        Value::Array(list) => {
            list.iter_mut().for_each(plain);
            // Of variables the order means nothing: none refers to another.
            if list.iter().all(|item| item.get("value").is_some() || item.get("valueFrom").is_some()) {
                list.sort_by_key(|item| item["name"].as_str().map(str::to_owned));
            }
        }
        _ => {}
    }
}

/// What Helm makes before the release itself: it has no counterpart among the folders that one applies together.
fn is_hook(document: &Value) -> bool {
    document.pointer("/metadata/annotations/helm.sh~1hook").is_some()
}

/// By kind and name, without what must differ; the configuration as what it says.
fn comparable(documents: Vec<Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut document in documents {
        // Helm makes the release's namespace, or it is there.
        if document["kind"] == "Namespace" {
            continue;
        }
        plain(&mut document);
        let metadata = document["metadata"].as_object_mut().unwrap();
        if metadata.get("namespace").is_some_and(|namespace| namespace == "sexton") {
            metadata.remove("namespace");
        }
        if let Some(config) = document.pointer_mut("/data/sexton.yaml") {
            *config = serde_saphyr::from_str(config.as_str().unwrap()).unwrap();
        }
        let name = format!("{} {}", document["kind"].as_str().unwrap(), document["metadata"]["name"].as_str().unwrap());
        // The labels of things that only they themselves find: both put `name: sexton` on every one.
        assert!(all.insert(name.clone(), document).is_none(), "{name} is there twice");
    }
    all
}

#[track_caller]
fn same(values: &Value, kustomized: Vec<Value>) {
    let own = chart(values).into_iter().filter(|document| !is_hook(document)).collect();
    let (helm, kustomize) = (comparable(own), comparable(kustomized));
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&helm), names(&kustomize));
    for (name, theirs) in kustomize {
        assert_eq!(helm[&name], theirs, "{name}: helm on the left, kustomize on the right");
    }
}

#[test]
fn the_daemon_is_that_of_kustomize() {
    same(&json!({"config": {"http": null}}), render("k8s/overlays/daemon"));
    let with_page = Overlay::with_config(
        "resources: [../sexton/k8s/overlays/daemon]\n\
         components: [../sexton/k8s/components/http, ../sexton/k8s/components/ingress, ../sexton/k8s/components/ingress-temporal-web]\n",
        &suggested("http"),
    );
    let values = json!({"ingress": {"enabled": true}, "temporalWeb": {"ingress": {"enabled": true}}});
    same(&values, render(&with_page.path));
}

#[test]
fn the_cron_jobs_are_those_of_kustomize() {
    same(&json!({"mode": "cronjobs"}), render("k8s/overlays/cronjobs"));
}

/// The recipe's values in the chart: its Job, its account, and what that may. The rest is the daemon's.
#[test]
fn a_move_is_that_of_kustomize_and_may_the_same() {
    let config = std::fs::read_to_string("k8s/recipes/move-database/sexton.yaml").unwrap();
    let mut config: Value = serde_saphyr::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("policies");
    config["http"] = Value::Null;
    let values = json!({"config": config, "moveDatabase": {"enabled": true}});
    let (helm, kustomize) = (comparable(chart(&values)), comparable(render("k8s/recipes/move-database")));
    let mut compared = 0;
    for (name, theirs) in kustomize {
        assert_eq!(helm.get(&name), Some(&theirs), "{name}: helm on the left, kustomize on the right");
        compared += 1;
    }
    // Both accounts, the Role and its binding, two NetworkPolicies, two ConfigMaps, the Job.
    assert_eq!(compared, 9);
    let roles = |of: &BTreeMap<String, Value>| of.keys().filter(|name| name.contains("Role")).count();
    assert_eq!(roles(&helm), 2);
    // By default there is no right in the cluster at all.
    assert_eq!(roles(&comparable(chart(&json!({})))), 0);
}

#[test]
fn a_key_that_is_null_is_left_out() {
    let values = json!({"config": {"search": null, "postgres": {"role": null, "user": "null"}, "store": {"s3": {"kms_key": null}}}});
    let documents = chart(&values);
    let config = documents.iter().find(|document| document["metadata"]["name"] == "sexton-config").unwrap();
    let config: Value = serde_saphyr::from_str(config["data"]["sexton.yaml"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&config["postgres"]["user"], &config["postgres"]["host"]),
        (&json!("null"), &json!("postgres.temporal"))
    );
    for place in ["/search", "/postgres/role", "/store/s3/kms_key"] {
        assert_eq!(config.pointer(place), None, "{place}");
    }
}

/// The ledger's Job runs before anything else is there: it has ConfigMaps of its own, and the namespace's account.
#[test]
fn the_ledger_s_job_is_that_of_kustomize_and_comes_before_the_rest() {
    for mode in ["daemon", "cronjobs"] {
        let documents = chart(&json!({"mode": mode}));
        let (hooks, rest): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_hook);
        let order = |document: &Value| {
            let notes = &document["metadata"]["annotations"];
            assert_eq!(notes["helm.sh/hook"], "pre-install,pre-upgrade");
            let weight = notes["helm.sh/hook-weight"].as_str().map_or(0, |weight| weight.parse::<i32>().unwrap());
            (document["kind"].as_str().unwrap().to_owned(), weight)
        };
        let expected =
            [("ConfigMap", -5), ("ConfigMap", -5), ("Job", 0)].map(|(kind, weight)| (kind.to_owned(), weight));
        assert_eq!(hooks.iter().map(order).collect::<Vec<_>>(), expected);
        let rest = comparable(rest);
        let mut hooks = comparable(hooks);
        for name in ["config", "policies"] {
            let own = hooks.remove(&format!("ConfigMap sexton-ledger-init-{name}")).unwrap();
            assert_eq!(own["data"], rest[&format!("ConfigMap sexton-{name}")]["data"]);
        }
        let mut job = hooks.remove("Job sexton-ledger-init").unwrap();
        job["metadata"].as_object_mut().unwrap().remove("annotations");
        let pod = job.pointer_mut("/spec/template/spec").unwrap();
        assert_eq!(
            (&pod["serviceAccountName"], &pod["automountServiceAccountToken"]),
            (&json!("default"), &json!(false))
        );
        pod["serviceAccountName"] = "sexton".into();
        for (place, name) in [(0, "config"), (1, "policies")] {
            let map = pod.pointer_mut(&format!("/volumes/{place}/configMap/name")).unwrap();
            assert_eq!(*map, format!("sexton-ledger-init-{name}"));
            *map = format!("sexton-{name}").into();
        }
        let theirs = comparable(render("k8s/recipes/ledger-init")).remove("Job sexton-ledger-init").unwrap();
        assert_eq!(job, theirs, "helm on the left, kustomize on the right");
    }
    assert!(!chart(&json!({"ledgerInit": {"enabled": false}})).iter().any(is_hook));
}

#[test]
fn the_api_takes_it_without_a_warning() {
    let ground = Ground::of("k8s/base");
    let everything = json!({
        "config": {"target": {"host": "new"}, "kubernetes": {"namespace": "temporal"}},
        "temporalNamespace": ground.temporal,
        "ingress": {"enabled": true}, "temporalWeb": {"ingress": {"enabled": true}}, "moveDatabase": {"enabled": true},
        "files": {"temporal-tls": {"secret": "sexton-temporal-tls", "path": "/etc/sexton/tls/temporal"}},
        "serviceAccount": {"annotations": {"a": "b"}}, "podAnnotations": {"a": "b"}, "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a", "operator": "Exists"}], "priorityClassName": "",
        "image": {"repository": "registry.example/sexton", "digest": format!("sha256:{}", "0".repeat(64)), "pullPolicy": "Always"},
        "networkPolicy": {"ingress": [{"from": [{"podSelector": {}}]}], "egress": [{"ports": [{"port": 9000}]}]},
    });
    for values in [json!({}), everything, json!({"mode": "cronjobs", "cronjobs": {"drill": {"enabled": false}}})] {
        let mut documents = chart(&values);
        for document in &mut documents {
            // As `helm --namespace` does.
            let metadata = document["metadata"].as_object_mut().unwrap();
            metadata.entry("namespace").or_insert_with(|| ground.sexton.clone().into());
        }
        let rendered = json!({"apiVersion": "v1", "kind": "List", "items": documents}).to_string();
        let args = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
        let said = ground.api.tell(&args, &rendered).done();
        assert_eq!(said.warnings(), Vec::<&str>::new());
        let applied = said.out.lines().filter(|line| line.ends_with("serverside-applied (server dry run)")).count();
        assert_eq!(applied, documents.len());
    }
    // A pod that may more would be warned of there.
    let daemon = chart(&json!({})).into_iter().find(|document| document["kind"] == "Deployment").unwrap();
    let spoilt = daemon.to_string().replace("\"runAsNonRoot\":true", "\"runAsNonRoot\":false");
    let said =
        ground.api.tell(&["apply", "--server-side", "--dry-run=server", "-n", &ground.sexton, "-f", "-"], &spoilt);
    assert!(said.done().warnings()[0].contains("runAsNonRoot"));
}

/// As a release that somebody installs: the real API answers helm, and the notes say what is to be done.
#[test]
fn an_installation_says_what_is_to_be_done() {
    let api = Api::administrator();
    api.ask(&["apply", "--server-side", "-f", "k8s/base/namespace.yaml"]).done();
    let install = |more: &[&str]| {
        let mut helm = program("HELM");
        api.lend(&mut helm);
        helm.args(["install", "ground", "charts/sexton", "--namespace", "sexton", "--dry-run=server"]).args(more);
        let said = done(&helm.output().unwrap());
        said.split("\nNOTES:\n").nth(1).unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let secrets = |notes: &str| {
        let list = notes.split("does not make:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        list.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let pods = [
        "sexton, key postgres-password   (SEXTON_POSTGRES_PASSWORD)",
        "sexton, key s3-access-key   (SEXTON_S3_ACCESS_KEY)",
        "sexton, key s3-secret-key   (SEXTON_S3_SECRET_KEY)",
        "sexton, key scratch-password   (SEXTON_SCRATCH_PASSWORD)",
    ];
    let token = "sexton, key http-token   (SEXTON_HTTP_TOKEN)";
    let notes = install(&["--set", "ingress.enabled=true"]);
    assert_eq!(secrets(&notes), [&pods[..], &[token]].concat());
    let mtls = ["--set", "files.tls.secret=temporal-tls,files.tls.path=/etc/sexton/tls/temporal"];
    let moves = "moveDatabase.enabled=true,config.target.host=new,config.kubernetes.namespace=temporal";
    let more = [&mtls[..], &["--set", moves]].concat();
    let all = [
        "sexton, key target-password   (SEXTON_TARGET_PASSWORD)",
        "temporal-tls   (files in /etc/sexton/tls/temporal)",
    ];
    assert_eq!(secrets(&install(&more)), [&pods[..], &[token], &all].concat());
    assert_eq!(secrets(&install(&["--set", "config.http=null"])), pods);
    for word in ["2 pods, of which one leads", "deploy/ground-sexton -- sexton doctor", "https://sexton.example.com"] {
        assert!(notes.contains(word), "`{word}` is not in\n{notes}");
    }
    assert!(notes.contains("logs job/ground-sexton-ledger-init"), "{notes}");
    assert!(install(&["--set", "ledgerInit.enabled=false"]).contains("     sexton ledger init\n"));
    let notes = install(&["--set", "mode=cronjobs"]);
    assert!(notes.contains("--from cronjob/ground-sexton-retention") && !notes.contains("deploy/"), "{notes}");
    assert_eq!(secrets(&notes), pods);
}

#[test]
fn helm_lints_it_and_packs_the_policies() {
    let said = done(&program("HELM").args(["lint", "--strict", "charts/sexton"]).output().unwrap());
    assert!(said.contains("0 chart(s) failed") && !said.contains("[WARNING]"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    done(&program("HELM").args(["package", "charts/sexton", "--destination"]).arg(folder.path()).output().unwrap());
    let mut tar = std::process::Command::new("tar");
    let packed = done(&tar.arg("-tzf").arg(folder.path().join("sexton-0.1.0.tgz")).output().unwrap());
    let policies: Vec<&str> = packed.lines().filter_map(|line| line.strip_prefix("sexton/policies/")).collect();
    let mut policies: Vec<&str> = policies.into_iter().filter(|name| !name.is_empty()).collect();
    policies.sort_unstable();
    assert_eq!(policies, ["backup.yaml", "retention.yaml", "schedule.yaml", "visibility.yaml"]);
}

#[test]
fn wrong_values_are_refused_and_named() {
    let refused = |values: Value, why: &str| {
        let output = template(&values);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{values}: `{why}` is not in\n{said}");
    };
    refused(json!({"replicas": 2}), "'replicas' not allowed");
    refused(json!({"mode": "deamon"}), "'/mode'");
    refused(json!({"daemon": {"replicas": 0}}), "'/daemon/replicas'");
    refused(json!({"daemon": {"replicas": "two"}}), "'/daemon/replicas'");
    refused(json!({"image": {"digest": "sha256:abc"}}), "'/image/digest'");
    refused(json!({"image": {"repository": ""}}), "'/image/repository'");
    refused(json!({"config": {"elasticsearch": {}}}), "'elasticsearch' not allowed");
    refused(json!({"config": {"policies": "elsewhere"}}), "'policies' not allowed");
    refused(json!({"config": {"postgres": {"password": "secret"}}}), "'/config/postgres/password'");
    refused(json!({"config": {"postgres": null}}), "'postgres'");
    refused(json!({"config": {"http": {"listen": "0.0.0.0:9090"}}}), "'/config/http/listen'");
    refused(json!({"config": {"http": {"trusted_proxies": ["nginx"]}}}), "'/config/http/trusted_proxies/0'");
    refused(json!({"policies": {"retentions": {}}}), "'retentions' not allowed");
    refused(json!({"env": {"A": "secret"}}), "'/env/A'");
    refused(json!({"env": {"A-B": {"secret": "s", "key": "k"}}}), "A-B");
    refused(json!({"files": {"tls": {"secret": "s", "path": "relative"}}}), "'/files/tls/path'");
    refused(json!({"cronjobs": {"retention": {"schedule": "hourly"}}}), "'/cronjobs/retention/schedule'");
    refused(json!({"cronjobs": {"migrate": {}}}), "'migrate' not allowed");
    refused(json!({"ingress": {"enabled": "yes"}}), "'/ingress/enabled'");
    refused(json!({"ingress": {"host": "https://a.example"}}), "'/ingress/host'");
    refused(json!({"temporalWeb": {"ingress": {"port": 0}}}), "'/temporalWeb/ingress/port'");
    refused(json!({"networkPolicy": {"egressPorts": ["all"]}}), "'/networkPolicy/egressPorts/0'");
    // What no schema can say.
    refused(json!({"ingress": {"enabled": true}, "config": {"http": null}}), "ingress.enabled needs config.http");
    refused(json!({"ledgerInit": {"enabled": "yes"}}), "'/ledgerInit/enabled'");
    refused(json!({"moveDatabase": {"enabled": true}}), "moveDatabase.enabled needs config.target");
}

/// Every section that sexton knows may be set.
#[test]
fn the_schema_knows_every_section_of_the_configuration() {
    let written = std::fs::read_to_string("src/config/written.rs").unwrap();
    let whole = written.split("struct Written {").nth(1).unwrap().split("\n}").next().unwrap();
    let sections = whole.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string("charts/sexton/values.schema.json").unwrap()).unwrap();
    let known = at(&schema, "/properties/config/properties").as_object().unwrap();
    let missing: Vec<&str> = sections.filter(|name| *name != "policies" && !known.contains_key(*name)).collect();
    assert!(missing.is_empty(), "add to `config` in values.schema.json: {missing:?}");
}

/// A policy of the values stands in the place of the shipped one, numbers as they were written.
#[test]
fn a_policy_of_the_values_replaces_the_shipped_one() {
    let documents =
        chart(&json!({"policies": {"visibility": {"index": "other", "rollover": {"max_docs": 200_000_000}}}}));
    let policies = documents.iter().find(|d| d["metadata"]["name"] == "sexton-policies").unwrap();
    let visibility = at(policies, "/data/visibility.yaml").as_str().unwrap();
    let visibility: Value = serde_saphyr::from_str(visibility).unwrap();
    assert_eq!(visibility, json!({"index": "other", "rollover": {"max_docs": 200_000_000}}));
    let shipped = std::fs::read_to_string("policies/retention.yaml").unwrap();
    assert_eq!(at(policies, "/data/retention.yaml"), shipped.as_str());
}
