//! The stack's Kubernetes API, asked with kubectl.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{kubectl, render};
use crate::support::{stack, suffix};

/// What kubectl said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn done(self) -> Self {
        assert!(self.ok, "{self:#?}");
        self
    }

    /// Refused, for this reason.
    #[track_caller]
    pub fn refused(self, why: &str) {
        assert!(!self.ok && self.err.contains(why), "`{why}` was expected: {self:#?}");
    }

    /// What the API warned of.
    pub fn warnings(&self) -> Vec<&str> {
        self.err.lines().filter(|line| line.starts_with("Warning:")).collect()
    }
}

/// Somebody who asks the API.
#[derive(Debug)]
pub struct Api {
    /// Its configuration, and what kubectl keeps of the API.
    folder: TempDir,
}

impl Api {
    pub fn administrator() -> Self {
        Self::with(&std::fs::read_to_string(stack().get("KUBECONFIG")).unwrap())
    }

    /// Who has this token and nothing else.
    pub fn bearer(token: &str) -> Self {
        let (url, ca) = (stack().get("KUBE_URL"), stack().get("KUBE_CA"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "stack",
            "contexts": [{"name": "stack", "context": {"cluster": "stack", "user": "bearer"}}],
            "clusters": [{"name": "stack", "cluster": {"server": url, "certificate-authority": ca}}],
            "users": [{"name": "bearer", "user": {"token": token}}],
        });
        Self::with(&config.to_string())
    }

    fn with(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("config"), config).unwrap();
        Self { folder }
    }

    /// Makes a command ask as this one.
    pub fn lend(&self, command: &mut Command) {
        command.env("KUBECONFIG", self.folder.path().join("config")).env("HOME", self.folder.path());
    }

    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.folder.path().join("config")
    }

    pub fn ask(&self, arguments: &[&str]) -> Said {
        self.tell(arguments, "")
    }

    /// The same with something on standard input.
    pub fn tell(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = kubectl();
        self.lend(&mut command);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may end without having read all.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Writes nothing: what the API would say of a folder.
    pub fn would_apply(&self, folder: impl AsRef<Path>) -> Said {
        self.ask(&["apply", "--server-side", "--dry-run=server", "-k", folder.as_ref().to_str().unwrap()])
    }
}

/// Two namespaces that no other test has: sexton's, as the base makes it, and Temporal's.
#[derive(Debug)]
pub struct Ground {
    pub sexton: String,
    pub temporal: String,
    pub api: Api,
}

impl Ground {
    /// With the accounts and roles of a folder.
    pub fn of(folder: &str) -> Self {
        let suffix = suffix();
        let (sexton, temporal) = (format!("sexton-{suffix}"), format!("temporal-{suffix}"));
        let ground = Self { sexton, temporal, api: Api::administrator() };
        ground.api.ask(&["create", "namespace", &ground.temporal]).done();
        let kinds = ["Namespace", "ServiceAccount", "Role", "RoleBinding"];
        let documents = render(folder).into_iter().filter(|d| kinds.contains(&d["kind"].as_str().unwrap()));
        ground.apply(documents.collect());
        ground
    }

    /// Makes these, in the namespaces of this test.
    pub fn apply(&self, mut documents: Vec<Value>) {
        for document in &mut documents {
            self.own(document);
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
        self.api.tell(&["apply", "--server-side", "-f", "-"], &list.to_string()).done();
    }

    /// Puts the namespaces of this test in the place of those of the manifests.
    pub fn own(&self, document: &mut Value) {
        let mut places = vec!["/metadata/namespace", "/subjects/0/namespace"];
        if document["kind"] == "Namespace" {
            places.push("/metadata/name");
        }
        for place in places {
            match document.pointer(place).and_then(Value::as_str) {
                Some("sexton") => document.pointer_mut(place).map(|at| *at = self.sexton.clone().into()),
                Some("temporal") => document.pointer_mut(place).map(|at| *at = self.temporal.clone().into()),
                _ => None,
            };
        }
    }

    /// An account of sexton's namespace, by a token of its own.
    pub fn account(&self, name: &str) -> Api {
        Api::bearer(self.api.ask(&["create", "token", name, "-n", &self.sexton]).done().out.trim())
    }
}
