//! A Temporal cluster of one test's own: a main database on PostgreSQL 15, a visibility name on the stack's OpenSearch
//! and a server between them. Whatever a test does to its index or its server, no other test notices.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use temporalio_protos::temporal::api::enums::v1::IndexedValueType;
use temporalio_protos::temporal::api::operatorservice::v1::AddSearchAttributesRequest;
use temporalio_protos::temporal::api::operatorservice::v1::operator_service_client::OperatorServiceClient;
use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use temporalio_protos::temporal::api::workflowservice::v1::{
    DescribeNamespaceRequest, RegisterNamespaceRequest, StartWorkflowExecutionRequest,
};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::postgres::{Scratch, Server as Postgres};
use super::search::{Engine, eventually};
use super::temporal::{self, Server};
use super::{stack, suffix};

/// The custom search attributes of every cluster: one of each type that Temporal has.
pub const ATTRIBUTES: [(&str, IndexedValueType); 7] = [
    ("CustomerTier", IndexedValueType::Keyword),
    ("Amount", IndexedValueType::Int),
    ("Shipped", IndexedValueType::Bool),
    ("Notes", IndexedValueType::Text),
    ("Due", IndexedValueType::Datetime),
    ("Ratio", IndexedValueType::Double),
    ("Tags", IndexedValueType::KeywordList),
];

/// What the visibility name stands for at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// An alias with the write index `<name>-000001`.
    Alias,
    /// A plain index, as Temporal's own tool makes it.
    Concrete,
}

/// The cluster. Dropped, its server ends and its indices, templates and database go away, in this order.
#[derive(Debug)]
pub struct Cluster {
    process: Process,
    _visibility: Visibility,
    /// Temporal's main database.
    pub database: Scratch,
    /// The name that Temporal writes to and searches: an alias or an index.
    pub index: String,
    /// The one namespace, which keeps closed runs for three days.
    pub namespace: String,
    /// Its id, a UUID.
    pub namespace_id: String,
    /// Temporal's frontend and command line.
    pub server: Server,
    /// The search engine that `index` is in.
    pub engine: Engine,
}

/// Makes the role `temporal` the owner of a database and of its tables.
pub fn give_to_temporal(database: &Scratch) {
    database.psql(&format!(
        "ALTER DATABASE {} OWNER TO temporal; ALTER SCHEMA public OWNER TO temporal;
         DO $$ DECLARE t regclass; BEGIN
           FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
             EXECUTE format('ALTER TABLE %s OWNER TO temporal', t);
           END LOOP;
         END $$",
        database.name
    ));
}

impl Cluster {
    /// Starts a cluster; `what` becomes part of its names and is of lower-case letters, digits and `_`.
    pub async fn start(what: &str, index: Index) -> Self {
        Self::start_with(what, index, &[]).await
    }

    /// The same with lines of dynamic configuration, `key: [{value: 1}]`.
    pub async fn start_with(what: &str, index: Index, dynamic: &[&str]) -> Self {
        let database = Scratch::copy_of(Postgres::Pg15, what, schema());
        Self::start_on(what, index, dynamic, database).await
    }

    /// The same with a server that logs in as the role `temporal`, which owns the database.
    pub async fn start_as_temporal(what: &str) -> Self {
        let database = Scratch::copy_of(Postgres::Pg15, what, schema());
        give_to_temporal(&database);
        Self::start_on(what, Index::Alias, &["--temporal-role"], database).await
    }

    async fn start_on(what: &str, index: Index, dynamic: &[&str], database: Scratch) -> Self {
        let visibility = Visibility::create(what, index);
        let process = Process::new(&database.name, &visibility.name, dynamic);
        let server = temporal::plain().at(process.start());
        let namespace = format!("it-{what}");
        let channel = channel(&server.address).await;
        let namespace_id = register(channel.clone(), &namespace).await;
        add_search_attributes(channel, &namespace).await;
        let (index, engine) = (visibility.name.clone(), visibility.engine.clone());
        Self { process, _visibility: visibility, database, index, namespace, namespace_id, server, engine }
    }

    /// A connection to the frontend; it comes back by itself after a restart.
    pub async fn channel(&self) -> Channel {
        channel(&self.server.address).await
    }

    /// What the stack's script takes to start and to end its server: the script, its name for the server, and the
    /// arguments behind `--pg` and `--database`.
    pub fn script(&self) -> (PathBuf, String, Vec<String>) {
        (script(), self.process.name.clone(), self.process.args[4..].to_vec())
    }

    /// Ends the server at once, as a crash does.
    pub fn kill_server(&self) {
        succeed(Command::new(script()).args(["kill", &self.process.name]));
    }

    /// Starts a killed server again, at the same address, with what is in its database.
    pub fn restart(&self) {
        assert_eq!(self.process.start(), self.server.address, "the server came back elsewhere");
    }

    /// How many tasks Temporal has given up writing to the search engine: the messages of the dead letter queue of
    /// the task category 4, visibility (`service/history/tasks/category.go`). What is there is missing in the index.
    pub fn dlq(&self) -> u64 {
        let count = "SELECT count(*) FROM queue_messages WHERE queue_type = 2 AND queue_name LIKE '4\\_%'";
        self.database.psql(count).parse().unwrap()
    }

    /// The tasks that are not done yet: transfer, visibility. The server deletes their rows some time after it has
    /// done them, so zero is certain and anything else may be late.
    pub fn pending(&self) -> (u64, u64) {
        let count = "SELECT (SELECT count(*) FROM transfer_tasks), (SELECT count(*) FROM visibility_tasks)";
        let answer = self.database.psql(count);
        let (transfer, visibility) = answer.split_once('|').unwrap();
        (transfer.parse().unwrap(), visibility.parse().unwrap())
    }

    /// Makes everything that was indexed visible to searches, which otherwise takes the engine a second.
    pub fn refresh(&self) {
        self.engine.ok("POST", &format!("/{}/_refresh", self.index), None);
    }
}

/// The visibility name; dropped, its indices and templates go away.
#[derive(Debug)]
struct Visibility {
    engine: Engine,
    name: String,
}

impl Visibility {
    /// The name fits the pattern of Temporal's template, `temporal_visibility_v1*`, which the stack has put.
    fn create(what: &str, index: Index) -> Self {
        let name = format!("temporal_visibility_v1_it_{what}_{}", suffix());
        let visibility = Self { engine: Engine::opensearch(), name };
        let (engine, name) = (&visibility.engine, &visibility.name);
        match index {
            Index::Alias => {
                let body = json!({"aliases": {name: {"is_write_index": true}}});
                engine.ok("PUT", &format!("/{name}-000001"), Some(body));
            }
            Index::Concrete => {
                let mut tool = Command::new(stack().get("TEMPORAL_ES_TOOL"));
                succeed(tool.args(["--endpoint", &engine.url, "create-index", "--index", name]));
            }
        }
        visibility
    }
}

impl Drop for Visibility {
    fn drop(&mut self) {
        // Templates first, so that nothing that is made meanwhile takes after them.
        for template in [format!("sexton-{}", self.name), format!("{}*", self.name)] {
            self.engine.http("DELETE", &format!("/_template/{template}"), None);
        }
        let list = format!("/_cat/indices/{}*?format=json&h=index&expand_wildcards=all", self.name);
        let (_, indices) = self.engine.http("GET", &list, None);
        for index in indices.as_array().into_iter().flatten() {
            self.engine.http("DELETE", &format!("/{}", index["index"].as_str().unwrap_or("none")), None);
        }
    }
}

/// The server's process, which the stack's own script starts.
#[derive(Debug)]
struct Process {
    name: String,
    args: Vec<String>,
}

impl Process {
    fn new(database: &str, index: &str, dynamic: &[&str]) -> Self {
        let mut args: Vec<String> = vec!["--pg".into(), "15".into()];
        args.extend(["--database".into(), database.into(), "--search-index".into(), index.into()]);
        // Attributes are added while the server runs; it would go on with what it has cached for a minute.
        let fresh = "system.forceSearchAttributesCacheRefreshOnRead: [{value: true}]";
        for line in dynamic.iter().chain([&fresh]) {
            match line.strip_prefix("--") {
                Some(_) => args.push((*line).into()),
                None => args.extend(["--dynamic".into(), (*line).into()]),
            }
        }
        Self { name: format!("it{}", suffix()), args }
    }

    /// Returns the frontend's address once it serves.
    fn start(&self) -> String {
        succeed(Command::new(script()).args(["start", &self.name]).args(&self.args))
    }

    fn stop(&self) {
        let _ = Command::new(script()).args(["stop", &self.name]).output();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stack/temporal-server")
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The database with Temporal's schema that each cluster gets a copy of. Made once, complete before it has its name;
/// it stays until the stack goes down.
pub fn schema() -> &'static str {
    const NAME: &str = "it_temporal_schema";
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let exists = || {
            let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{NAME}'");
            Postgres::Pg15.psql("postgres", &query) == "1"
        };
        if exists() {
            return;
        }
        let new = Scratch::on(Postgres::Pg15, "schema");
        let settings = Postgres::Pg15.settings();
        for verb in
            [&["setup-schema", "--version", "0.0"], &["update-schema", "--schema-name", "postgresql/v12/temporal"]]
        {
            let mut tool = Command::new(stack().get("TEMPORAL_SQL_TOOL"));
            tool.env("SQL_PASSWORD", stack().get("PG15_PASSWORD"));
            tool.args(["--plugin", "postgres12", "--endpoint", &settings.host, "--port", &settings.port.to_string()]);
            succeed(tool.args(["--user", &settings.user, "--database", &new.name]).args(verb));
        }
        let renamed = Postgres::Pg15.try_psql("postgres", &format!("ALTER DATABASE {} RENAME TO {NAME}", new.name));
        // Another run of the tests may have been quicker.
        assert!(renamed.is_ok() || exists(), "{renamed:?}");
    });
    NAME
}

async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Registers the namespace, waits until the services know it, and returns its id.
async fn register(channel: Channel, namespace: &str) -> String {
    let client = &mut WorkflowServiceClient::new(channel);
    let retention = Duration::from_secs(3 * 86_400).try_into().unwrap();
    let request = RegisterNamespaceRequest {
        namespace: namespace.into(),
        workflow_execution_retention_period: Some(retention),
        ..Default::default()
    };
    client.register_namespace(request).await.unwrap();
    eventually("the namespace is known", async || {
        let probe = StartWorkflowExecutionRequest { namespace: namespace.into(), ..Default::default() };
        // An incomplete request is refused for its own sake once the namespace is known.
        let known = client.start_workflow_execution(probe).await.is_err_and(|refusal| refusal.code() != Code::NotFound);
        known.then_some(())
    })
    .await;
    let request = DescribeNamespaceRequest { namespace: namespace.into(), ..Default::default() };
    client.describe_namespace(request).await.unwrap().into_inner().namespace_info.unwrap().id
}

async fn add_search_attributes(channel: Channel, namespace: &str) {
    let request = AddSearchAttributesRequest {
        search_attributes: ATTRIBUTES.iter().map(|(name, kind)| ((*name).to_owned(), *kind as i32)).collect(),
        namespace: namespace.into(),
    };
    OperatorServiceClient::new(channel).add_search_attributes(request).await.unwrap();
}
