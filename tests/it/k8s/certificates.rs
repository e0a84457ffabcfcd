//! Mutual TLS by cert-manager. The stack has no cert-manager: its resource is made here with the fields that the manifests
//! use, as its documentation describes them, so that the API checks the rest.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::api::Api;
use super::{at, of_kind, render, templates};

/// An overlay of somebody's own, beside a clone of the project that is called `sexton`.
pub(crate) struct Overlay {
    _folder: TempDir,
    pub(crate) path: PathBuf,
}

impl Overlay {
    pub(crate) fn new(kustomization: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), folder.path().join("sexton")).unwrap();
        let path = folder.path().join("overlay");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("kustomization.yaml"), kustomization).unwrap();
        Self { _folder: folder, path }
    }

    /// The same with a `sexton.yaml` of its own.
    pub(crate) fn with_config(kustomization: &str, config: &str) -> Self {
        let generator = "configMapGenerator:\n  - {name: sexton-config, namespace: sexton, behavior: replace, files: [sexton.yaml]}\n";
        let overlay = Self::new(&format!("{kustomization}{generator}"));
        std::fs::write(overlay.path.join("sexton.yaml"), config).unwrap();
        overlay
    }
}

/// The configuration that a component suggests.
pub(crate) fn suggested(component: &str) -> String {
    std::fs::read_to_string(format!("k8s/components/{component}/sexton.yaml")).unwrap()
}

fn with_certificates(overlay: &str) -> Overlay {
    let kustomization = format!("resources: [../sexton/k8s/{overlay}]\ncomponents: [../sexton/k8s/components/mtls]\n");
    Overlay::with_config(&kustomization, &suggested("mtls"))
}

/// cert-manager's `Certificate`, of which the names of its fields are known.
fn definition() -> Value {
    let text = json!({"type": "string"});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let spec = object(json!({
        "secretName": text, "commonName": text, "duration": text, "renewBefore": text,
        "usages": {"type": "array", "items": {"type": "string", "enum": ["client auth", "server auth"]}},
        "privateKey": object(json!({
            "algorithm": {"type": "string", "enum": ["RSA", "ECDSA", "Ed25519"]}, "size": {"type": "integer"},
            "encoding": {"type": "string", "enum": ["PKCS1", "PKCS8"]},
            "rotationPolicy": {"type": "string", "enum": ["Never", "Always"]},
        })),
        "issuerRef": {
            "type": "object", "required": ["name"], "properties": {"name": text, "kind": text, "group": text},
        },
    }));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "certificates.cert-manager.io"},
        "spec": {
            "group": "cert-manager.io", "scope": "Namespaced",
            "names": {"kind": "Certificate", "plural": "certificates", "singular": "certificate"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": object(json!({"spec": spec}))},
            }],
        },
    })
}

pub(crate) fn with_cert_manager() -> Api {
    let api = Api::administrator();
    api.tell(&["apply", "--server-side", "-f", "-"], &definition().to_string()).done();
    let named = "crd/certificates.cert-manager.io";
    api.ask(&["wait", "--for", "condition=Established", "--timeout", "30s", named]).done();
    api.ask(&["apply", "--server-side", "-f", "k8s/base/namespace.yaml"]).done();
    api
}

/// Every path of TLS in the configuration is a key of a Secret that a Certificate makes, mounted there.
fn check(documents: &[Value]) {
    let certificates = of_kind(documents, "Certificate");
    let secrets: Vec<&Value> = certificates.values().map(|c| at(c, "/spec/secretName")).collect();
    assert_eq!(secrets.len(), 2);
    let maps = of_kind(documents, "ConfigMap");
    let templates = templates(documents);
    assert!(!templates.is_empty());
    for (name, template) in templates {
        let pod = at(template, "/spec");
        let volumes = at(pod, "/volumes").as_array().unwrap();
        let volume = |named: &Value| volumes.iter().find(|v| v["name"] == *named).unwrap();
        let mounts = at(pod, "/containers/0/volumeMounts").as_array().unwrap();
        let mounted = |folder: &Path| {
            let mount = mounts.iter().find(|m| Path::new(m["mountPath"].as_str().unwrap()) == folder);
            let mount = mount.unwrap_or_else(|| panic!("{name}: nothing is mounted at {}", folder.display()));
            assert_eq!(mount["readOnly"], true);
            volume(&mount["name"])
        };
        let map = mounted(Path::new("/etc/sexton/config"));
        let config = at(maps[at(map, "/configMap/name").as_str().unwrap()], "/data/sexton.yaml").as_str().unwrap();
        let paths: Vec<&str> =
            config.lines().filter_map(|line| line.split_once(": /etc/sexton/tls/")).map(|p| p.1).collect();
        assert_eq!(paths.len(), 6, "{config}");
        for path in paths {
            let path = Path::new("/etc/sexton/tls").join(path);
            let secret = &mounted(path.parent().unwrap())["secret"];
            assert!(secrets.contains(&&secret["secretName"]), "{name}: {secret}");
            // Root's, and readable for the pod's group alone: libpq refuses a key with more.
            assert_eq!(secret["defaultMode"], 0o440);
            assert!(["ca.crt", "tls.crt", "tls.key"].contains(&path.file_name().unwrap().to_str().unwrap()));
        }
    }
}

#[test]
fn certificates_are_mounted_where_the_configuration_looks() {
    let api = with_cert_manager();
    for overlay in
        ["overlays/cronjobs", "overlays/daemon", "overlays/staging", "recipes/ledger-init", "recipes/tune-autovacuum"]
    {
        let overlay = with_certificates(overlay);
        let documents = render(&overlay.path);
        check(&documents);
        let said = api.would_apply(&overlay.path).done();
        assert!(said.warnings().is_empty(), "{said:?}");
        assert_eq!(said.out.lines().filter(|line| line.starts_with("certificate.cert-manager.io/")).count(), 2);
    }
}

/// Whatever components an overlay takes, its own configuration is what the pods read.
#[test]
fn certificates_and_the_page_go_together() {
    let page = suggested("http").split_once("\nhttp:\n").unwrap().1.to_owned();
    let config = format!("{}http:\n{page}", suggested("mtls").replace("postgres.temporal", "db.example"));
    for components in [["mtls", "http"], ["http", "mtls"]] {
        let [one, other] = components.map(|name| format!("../sexton/k8s/components/{name}"));
        let kustomization = format!("resources: [../sexton/k8s/overlays/daemon]\ncomponents: [{one}, {other}]\n");
        let overlay = Overlay::with_config(&kustomization, &config);
        let documents = render(&overlay.path);
        check(&documents);
        let maps = of_kind(&documents, "ConfigMap");
        let of_pods = maps.iter().find(|(name, _)| name.starts_with("sexton-config-")).unwrap().1;
        assert_eq!(at(of_pods, "/data/sexton.yaml"), config.as_str());
        for (name, template) in templates(&documents) {
            assert!(template.pointer("/spec/containers/0/readinessProbe/httpGet").is_some(), "{name}");
        }
        assert!(with_cert_manager().would_apply(&overlay.path).done().warnings().is_empty());
    }
}

#[test]
fn a_mistake_in_a_certificate_is_found() {
    let api = with_cert_manager();
    let documents = render(&with_certificates("overlays/daemon").path);
    for (pointer, value) in [("/spec/usages", json!(["clientAuth"])), ("/spec/secretname", json!("x"))] {
        let mut certificate = of_kind(&documents, "Certificate")["sexton-temporal"].clone();
        let key = pointer.rsplit('/').next().unwrap();
        certificate["spec"][key] = value;
        let said = api.tell(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &certificate.to_string());
        said.refused(key);
    }
}

/// The overlay that k8s/README.md shows, word by word.
#[test]
fn the_overlay_of_the_readme_brings_its_addresses_and_image() {
    let readme = std::fs::read_to_string("k8s/README.md").unwrap();
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // Indented, as a part of an item of a list.
    let lines = block.lines().map(|line| format!("{}\n", line.strip_prefix("   ").unwrap_or(line)));
    let overlay = Overlay::new(&lines.collect::<String>());
    let config = std::fs::read_to_string("k8s/base/sexton.yaml").unwrap().replace("postgres.temporal", "db.example");
    std::fs::write(overlay.path.join("sexton.yaml"), &config).unwrap();
    std::fs::write(overlay.path.join("retention.yaml"), "default: 14d\n").unwrap();
    let documents = render(&overlay.path);
    let maps = of_kind(&documents, "ConfigMap");
    let of = |prefix: &str| maps.iter().find(|(name, _)| name.starts_with(prefix)).unwrap().1;
    assert_eq!(at(of("sexton-config-"), "/data/sexton.yaml"), config.as_str());
    assert_eq!(at(of("sexton-policies-"), "/data/retention.yaml"), "default: 14d\n");
    let templates = templates(&documents);
    assert!(!templates.is_empty());
    for template in templates.values() {
        assert_eq!(at(template, "/spec/containers/0/image"), "registry.example/sexton:0.1.0");
    }
}
