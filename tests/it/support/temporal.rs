//! Temporal through its own command line, which is the judge of what sexton did there.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sexton::clients::TlsFiles;
use sexton::clients::temporal::{Settings, Temporal};
use sexton::policy::retention::ScanPolicy;
use sexton::retention::Source;

use super::executions::ended;
use super::postgres::{Server as Postgres, postgres15};
use super::{stack, suffix};

/// One of the stack's Temporal servers.
#[derive(Debug, Clone)]
pub struct Server {
    pub address: String,
    pub tls: Option<TlsFiles>,
    pub server_name: Option<String>,
    database: String,
}

/// The server without TLS; its visibility is in the search engine.
pub fn plain() -> Server {
    let get = |name| stack().get(name).to_owned();
    Server { address: get("TEMPORAL_ADDRESS"), tls: None, server_name: None, database: get("TEMPORAL_DATABASE") }
}

/// The server with mutual TLS; its visibility is in PostgreSQL.
pub fn mutual() -> Server {
    let get = |name| stack().get(name).to_owned();
    let path = |name| Some(PathBuf::from(stack().get(name)));
    Server {
        address: get("TEMPORAL_SQL_ADDRESS"),
        tls: Some(TlsFiles {
            ca: path("TEMPORAL_SQL_CA"),
            certificate: path("TEMPORAL_SQL_CERT"),
            key: path("TEMPORAL_SQL_KEY"),
        }),
        server_name: Some(get("TEMPORAL_SQL_SERVER_NAME")),
        database: get("TEMPORAL_SQL_DATABASE"),
    }
}

impl Server {
    /// What sexton's client needs to reach it.
    pub fn settings(&self) -> Settings {
        Settings {
            address: self.address.clone(),
            tls: self.tls.clone(),
            server_name: self.server_name.clone(),
            api_key: None,
            timeout: Duration::from_secs(20),
        }
    }

    /// sexton's client.
    pub async fn connect(&self) -> Temporal {
        Temporal::connect(&self.settings()).await.unwrap()
    }

    /// sexton's way to read its tables.
    pub fn source(&self) -> Source {
        Source::new(&postgres15(), None, &self.database, ScanPolicy::default())
    }

    /// The name of its main database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Runs the command line; panics with what it said when it fails.
    pub fn cli(&self, args: &[&str]) -> String {
        let output = self.try_cli(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "temporal {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, read as JSON.
    pub fn cli_json(&self, args: &[&str]) -> Value {
        let text = self.cli(&[args, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// The same kind of server at another address.
    pub fn at(&self, address: String) -> Self {
        Self { address, ..self.clone() }
    }

    /// Whether the command line succeeds.
    pub fn runs(&self, args: &[&str]) -> bool {
        self.try_cli(args).status.success()
    }

    fn try_cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(stack().get("TEMPORAL_CLI"));
        command.args(args).args(["--address", &self.address, "--command-timeout", "30s"]);
        // A profile of the person who runs the tests must not redirect them.
        command.env("TEMPORAL_CONFIG_FILE", "/dev/null");
        if let Some(tls) = &self.tls {
            for (flag, path) in
                [("--tls-ca-path", &tls.ca), ("--tls-cert-path", &tls.certificate), ("--tls-key-path", &tls.key)]
            {
                command.arg(flag).arg(path.as_ref().unwrap());
            }
            command.args(["--tls-server-name", self.server_name.as_ref().unwrap()]);
        }
        command.output().unwrap()
    }

    /// Registers a namespace `<prefix>-<name>`; dropped, it is deleted.
    pub fn namespace(&self, prefix: &str, name: &str, retention: &str) -> Namespace {
        self.namespace_with(prefix, name, &["--retention", retention])
    }

    /// The same with further flags of `temporal operator namespace create`.
    pub fn namespace_with(&self, prefix: &str, name: &str, flags: &[&str]) -> Namespace {
        let namespace = self.expect(format!("{prefix}-{name}"));
        self.cli(&[&["operator", "namespace", "create", "--namespace", &namespace.name], flags].concat());
        namespace
    }

    /// A namespace that the test expects to be registered by somebody else; dropped, it is deleted.
    pub fn expect(&self, name: String) -> Namespace {
        Namespace { server: self.clone(), name }
    }

    /// `temporal operator namespace describe`.
    pub fn describe(&self, namespace: &str) -> Value {
        self.cli_json(&["operator", "namespace", "describe", "--namespace", namespace])
    }

    /// The names in `temporal operator namespace list`.
    pub fn names(&self) -> Vec<String> {
        let list = self.cli_json(&["operator", "namespace", "list"]);
        let name = |entry: &Value| entry["namespaceInfo"]["name"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(name).collect()
    }

    /// How often the namespace was written, from Temporal's database: each update gives it the next number, also one
    /// that changes nothing.
    pub fn version(&self, namespace: &str) -> i64 {
        let get = |name| stack().get(name);
        let query = format!("SELECT notification_version FROM namespaces WHERE name = '{namespace}'");
        let output = Command::new(format!("{}/psql", get("PG15_BIN")))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", &query])
            .args(["--host", get("PG15_HOST"), "--port", get("PG15_PORT")])
            .args(["--username", get("PG15_USER"), "--dbname", &self.database])
            .env("PGPASSWORD", get("PG15_PASSWORD"))
            .output()
            .unwrap();
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// Starts a workflow that no worker takes, so that it stays open. Returns its run id.
    pub fn start_workflow(&self, namespace: &str, id: &str) -> String {
        let args = [
            "workflow",
            "start",
            "--namespace",
            namespace,
            "--workflow-id",
            id,
            "--type",
            "Test",
            "--task-queue",
            "none",
        ];
        // The server's services learn of a new namespace within seconds of its registration.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.try_cli(&[&args[..], &["--output", "json"]].concat());
            if output.status.success() {
                let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
                return answer["runId"].as_str().unwrap().to_owned();
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < deadline, "starting workflow {id}: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Terminates a workflow: the quickest way to a closed run.
    pub fn terminate_workflow(&self, namespace: &str, id: &str) {
        self.cli(&["workflow", "terminate", "--namespace", namespace, "--workflow-id", id, "--reason", "test"]);
    }

    /// Gives a closed workflow another end, so long ago, in Temporal's tables.
    pub fn backdate_workflow(&self, namespace: &str, id: &str, ago: Duration) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let end = hex::encode(ended(i64::try_from((now - ago).as_secs()).unwrap()));
        let of_namespace = format!("(SELECT id FROM namespaces WHERE name = '{namespace}')");
        let changed = Postgres::Pg15.psql(
            &self.database,
            &format!(
                "WITH changed AS (UPDATE executions SET data = data || '\\x{end}' \
                 WHERE namespace_id = {of_namespace} AND workflow_id = '{id}' RETURNING 1) SELECT count(*) FROM changed"
            ),
        );
        assert_eq!(changed, "1", "{namespace} {id}");
    }

    /// Bytes of a workflow's history as `temporal workflow describe` tells them.
    pub fn history_bytes(&self, namespace: &str, id: &str) -> u64 {
        let seen = self.cli_json(&["workflow", "describe", "--namespace", namespace, "--workflow-id", id]);
        seen["workflowExecutionInfo"]["historySizeBytes"].as_str().unwrap().parse().unwrap()
    }
}

/// A namespace of one test.
#[derive(Debug)]
pub struct Namespace {
    server: Server,
    pub name: String,
}

impl Namespace {
    /// Its retention as Temporal's command line shows it, in seconds.
    pub fn retention(&self) -> String {
        self.server.describe(&self.name)["config"]["workflowExecutionRetentionTtl"].as_str().unwrap().to_owned()
    }

    /// See [`Server::version`].
    pub fn version(&self) -> i64 {
        self.server.version(&self.name)
    }

    /// Sets its retention behind sexton's back.
    pub fn set_retention(&self, retention: &str) {
        let args = ["operator", "namespace", "update", "--namespace", &self.name, "--retention", retention];
        self.server.cli(&args);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: the test may have deleted it, or failed before it was registered.
        let _ = self.server.try_cli(&["operator", "namespace", "delete", "--namespace", &self.name, "--yes"]);
    }
}

/// A server of one test's own, with its data in memory; dropped, it ends.
#[derive(Debug)]
pub struct Dev {
    pub server: Server,
    process: Child,
}

/// Starts the command line's development server with the given dynamic configuration (`key=value`).
pub async fn dev(dynamic: &[&str]) -> Dev {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(stack().get("TEMPORAL_CLI"));
    command.args(["server", "start-dev", "--headless", "--log-level", "never", "--ip", "127.0.0.1"]);
    command.args(["--port", &free.port().to_string()]);
    for value in dynamic {
        command.args(["--dynamic-config-value", value]);
    }
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { address: free.to_string(), tls: None, server_name: None, database: String::new() };
    let dev = Dev { server, process };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Temporal::connect(&dev.server.settings()).await {
            Ok(_) => return dev,
            Err(error) => assert!(Instant::now() < deadline, "the development server does not come up: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Dev {
    /// Ends the server at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A prefix for the names of one test's namespaces.
pub fn prefix() -> String {
    format!("it-{}", suffix())
}
