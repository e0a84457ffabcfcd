//! The component, as kubectl renders it beside the daemon, and what an API says of it that knows the operator's own kinds.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{RULES, RUNBOOKS, list, rules_file};
use crate::k8s::api::Api;
use crate::k8s::{at, of_kind, render};
use crate::support::stack;

/// An overlay of somebody's own, beside a clone of the project that is called `sexton`.
struct Overlay(TempDir);

impl Overlay {
    fn new(rest: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), folder.path().join("sexton")).unwrap();
        let path = folder.path().join("overlay");
        std::fs::create_dir(&path).unwrap();
        let head = "resources: [../sexton/k8s/overlays/daemon]\ncomponents: [../sexton/k8s/components/monitoring]\n";
        std::fs::write(path.join("kustomization.yaml"), format!("{head}{rest}")).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("overlay")
    }
}

/// Every label that a selector wants is there.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = at(selector, "/matchLabels").as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn the_operator_and_promtool_read_the_same_rules() {
    let overlay = Overlay::new("");
    let documents = render(overlay.path());
    let rendered = of_kind(&documents, "PrometheusRule");
    assert_eq!(rendered.keys().copied().collect::<Vec<_>>(), RULES);
    for (name, rule) in rendered {
        assert_eq!(rule["spec"], rules_file(name), "k8s/components/monitoring/render was not run");
    }
}

#[test]
fn the_monitor_finds_the_service_and_the_network_lets_prometheus_to_the_pods() {
    let overlay = Overlay::new("");
    let documents = render(overlay.path());
    let monitor = of_kind(&documents, "ServiceMonitor")["sexton"];
    let service = of_kind(&documents, "Service")["sexton"];
    assert!(selects(at(monitor, "/spec/selector"), at(service, "/metadata/labels")));
    let endpoint = at(monitor, "/spec/endpoints/0");
    let ports = list(at(service, "/spec/ports"));
    let port = ports.iter().find(|port| port["name"] == endpoint["port"]).unwrap();
    assert_eq!((&port["port"], &endpoint["path"]), (&8080.into(), &"/metrics".into()));
    // `job` and `namespace` are labels of sexton's own metrics.
    assert_eq!(endpoint["honorLabels"], true);

    let pod = at(of_kind(&documents, "Deployment")["sexton"], "/spec/template");
    let of_service = json!({"matchLabels": at(service, "/spec/selector")});
    assert!(selects(&of_service, at(pod, "/metadata/labels")));
    let target = &port["targetPort"];
    let numbers = list(at(pod, "/spec/containers/0/ports"));
    let number = numbers.iter().find(|number| number["name"] == *target).map(|number| &number["containerPort"]);
    let policy = of_kind(&documents, "NetworkPolicy")["sexton-metrics"];
    assert!(selects(at(policy, "/spec/podSelector"), at(pod, "/metadata/labels")));
    let ingress = list(at(policy, "/spec/ingress"));
    assert_eq!(ingress.len(), 1);
    assert_eq!(Some(at(&ingress[0], "/ports/0/port")), number);
    // Not from everywhere, and not more than coming in: what goes out is the base's.
    assert!(!list(&ingress[0]["from"]).is_empty());
    assert_eq!(at(policy, "/spec/policyTypes"), &json!(["Ingress"]));

    let names = of_kind(&documents, "ConfigMap");
    let dashboard = names["sexton-dashboard"];
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = dashboard["data"]["sexton.json"].as_str().unwrap();
    assert_eq!(text, super::read("k8s/components/monitoring/dashboards/sexton.json"));
    // A ConfigMap that is larger than this cannot be annotated by kubectl apply.
    assert!(text.len() < 200_000);
    for kind in ["ServiceMonitor", "PrometheusRule", "NetworkPolicy", "ConfigMap"] {
        for (name, document) in of_kind(&documents, kind) {
            assert_eq!(document["metadata"]["namespace"], "sexton", "{kind} {name}");
        }
    }
}

/// As k8s/README.md has it.
#[test]
fn the_runbooks_may_be_elsewhere() {
    let readme = super::read("k8s/README.md");
    let example = readme.split("## Monitoring\n").nth(1).unwrap().split("```yaml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap().split_once("configMapGenerator:").unwrap().1;
    let overlay = Overlay::new(&format!("configMapGenerator:{example}"));
    let documents = render(overlay.path());
    let mut seen = 0;
    for rule in of_kind(&documents, "PrometheusRule").values() {
        for rule in list(at(rule, "/spec/groups")).iter().flat_map(|group| list(&group["rules"])) {
            if let Some(url) = rule.pointer("/annotations/runbook_url").and_then(Value::as_str) {
                let page = url
                    .strip_prefix("https://wiki.example.com/sexton/docs/runbooks/")
                    .unwrap_or_else(|| panic!("{url}"));
                assert_eq!(page, format!("{}.md", rule["alert"].as_str().unwrap()));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, super::alerts().len());
    assert!(!RUNBOOKS.contains("wiki") && !of_kind(&documents, "ConfigMap").contains_key("runbooks"));
}

/// The operator's definitions of its kinds, in the API.
fn with_the_operators_kinds() -> Api {
    let api = Api::administrator();
    let folder = stack().get("PROMETHEUS_OPERATOR");
    // Its descriptions are too long for an annotation of what was applied last.
    api.ask(&["apply", "--server-side", "-f", folder]).done();
    for kind in ["servicemonitors", "prometheusrules"] {
        let named = format!("crd/{kind}.monitoring.coreos.com");
        api.ask(&["wait", "--for", "condition=Established", "--timeout", "30s", &named]).done();
    }
    api.ask(&["apply", "--server-side", "-f", "k8s/base/namespace.yaml"]).done();
    api
}

#[test]
fn an_api_with_the_operators_kinds_takes_all_of_it() {
    let api = with_the_operators_kinds();
    let overlay = Overlay::new("");
    let said = api.would_apply(overlay.path()).done();
    assert_eq!(said.warnings(), Vec::<&str>::new());
    let applied = said.out.lines().filter(|line| line.ends_with("serverside-applied (server dry run)")).count();
    assert_eq!(applied, render(overlay.path()).len(), "{said:#?}");

    // Without these the above would say nothing.
    let refused = |kind: &str, why: &str, spoil: &dyn Fn(&mut Value)| {
        let mut documents = render(overlay.path());
        let document = documents.iter_mut().find(|document| document["kind"] == kind).unwrap();
        spoil(document);
        api.tell(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &document.to_string()).refused(why);
    };
    refused("PrometheusRule", "labels.severity", &|of| {
        of["spec"]["groups"][0]["rules"][0]["labels"]["severity"] = 1.into()
    });
    refused("PrometheusRule", "for", &|of| of["spec"]["groups"][0]["rules"][0]["for"] = "five minutes".into());
    refused("ServiceMonitor", "honourLabels", &|of| of["spec"]["endpoints"][0]["honourLabels"] = true.into());
    refused("ServiceMonitor", "interval", &|of| of["spec"]["endpoints"][0]["interval"] = "often".into());
}
