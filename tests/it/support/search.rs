//! Scratch aliases on Elasticsearch 6.8 and OpenSearch, and curl as the judge.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sexton::clients::search::{Auth, Search, Settings};

use super::executions::{NAMESPACE, SHARD, document_of, run_of};
use super::stack;

/// One of the stack's search engines.
#[derive(Debug, Clone)]
pub struct Engine {
    pub url: String,
    pub user: Option<(String, String)>,
    pub ca: Option<PathBuf>,
    /// Elasticsearch 6: mappings have type names, dates no nanoseconds.
    old: bool,
}

impl Engine {
    pub fn opensearch() -> Self {
        Self { url: stack().get("OPENSEARCH_URL").to_owned(), user: None, ca: None, old: false }
    }

    pub fn elasticsearch6() -> Self {
        Self {
            url: stack().get("ES6_URL").to_owned(),
            user: Some((stack().get("ES6_USER").to_owned(), stack().get("ES6_PASSWORD").to_owned())),
            ca: Some(stack().get("ES6_CA").to_owned().into()),
            old: true,
        }
    }

    /// Settings of sexton's client for it.
    pub fn settings(&self) -> Settings {
        let auth = match &self.user {
            None => Auth::None,
            Some((user, password)) => Auth::Basic { user: user.clone(), password: password.clone().into() },
        };
        let timeout = Duration::from_secs(30);
        Settings { url: self.url.parse().unwrap(), auth, ca: self.ca.clone(), timeout }
    }

    pub async fn client(&self) -> Search {
        Search::connect(&self.settings()).await.unwrap()
    }

    /// What curl gets: status and body.
    pub fn http(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, text) = self.send(method, path, body.map(|body| body.to_string()).as_deref());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The same with the bodies as they are on the wire.
    pub fn send(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        // Curl takes its options from stdin, so that no password is in its arguments.
        let mut config = format!("request = {method}\nsilent\nmax-time = 60\nwrite-out = \"\\n%{{http_code}}\"\n");
        config += &format!("url = {}\n", quoted(&format!("{}{path}", self.url.trim_end_matches('/'))));
        if let Some((user, password)) = &self.user {
            config += &format!("user = {}\n", quoted(&format!("{user}:{password}")));
        }
        if let Some(ca) = &self.ca {
            config += &format!("cacert = {}\n", quoted(&ca.display().to_string()));
        }
        if let Some(body) = body {
            config += &format!("header = \"content-type: application/json\"\ndata-binary = {}\n", quoted(body));
        }
        let mut curl = Command::new("curl")
            .args(["-K", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        curl.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
        let output = curl.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// The body of an answer that must be 2xx.
    pub fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.http(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The mapping of one index, without a type name.
    pub fn mapping(&self, index: &str) -> Value {
        self.ok("GET", &self.typeless(&format!("/{index}/_mapping")), None)[index]["mappings"].clone()
    }

    /// Adds fields to the mapping of an index or of every index behind an alias.
    pub fn put_mapping(&self, index: &str, mapping: Value) {
        self.ok("PUT", &self.typeless(&format!("/{index}/_mapping")), Some(mapping));
    }

    /// A path for a call whose body holds a mapping.
    pub fn typeless(&self, path: &str) -> String {
        if self.old { format!("{path}?include_type_name=false") } else { path.to_owned() }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r"))
}

/// What Temporal writes of a run.
pub fn document_body(workflow: &str, version: u64, open: bool, extra: Value) -> Value {
    let mut doc = json!({
        "VisibilityTaskKey": format!("{SHARD}~{version}"), "NamespaceId": NAMESPACE, "WorkflowId": workflow,
        "RunId": run_of(workflow), "WorkflowType": "T", "TaskQueue": "q",
        "ExecutionStatus": if open { "Running" } else { "Completed" }, "StartTime": "2026-01-01T00:00:00Z",
    });
    if !open {
        doc["CloseTime"] = json!("2026-01-01T00:01:00Z");
    }
    for (key, value) in extra.as_object().into_iter().flatten() {
        doc[key] = value.clone();
    }
    doc
}

/// The path of a workflow's document.
fn document(index: &str, workflow: &str) -> String {
    let id = document_of(workflow).into_bytes().into_iter();
    let id: String = id
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("/{index}/_doc/{id}")
}

/// An alias name of its own, with a template like Temporal's; all of it goes away with the value.
#[derive(Debug)]
pub struct Scratch {
    pub engine: Engine,
    pub alias: String,
}

impl Scratch {
    pub fn new(engine: Engine) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let scratch = Self { engine, alias: format!("it_{}", &random[..12]) };
        let date = if scratch.engine.old { "date" } else { "date_nanos" };
        let keyword = json!({"type": "keyword"});
        let template = json!({
            "order": 0,
            "index_patterns": [format!("{}*", scratch.alias)],
            "settings": {"index": {
                "number_of_shards": 1, "auto_expand_replicas": "0-2",
                "sort.field": ["CloseTime", "StartTime", "RunId"], "sort.order": ["desc", "desc", "desc"],
                "sort.missing": ["_first", "_first", "_first"],
            }},
            "mappings": {"dynamic": "false", "properties": {
                "VisibilityTaskKey": keyword, "NamespaceId": keyword, "WorkflowId": keyword, "RunId": keyword,
                "WorkflowType": keyword, "ExecutionStatus": keyword, "TaskQueue": keyword,
                "StartTime": {"type": date}, "CloseTime": {"type": date},
            }},
        });
        scratch.engine.ok(
            "PUT",
            &scratch.engine.typeless(&format!("/_template/{}", scratch.template())),
            Some(template),
        );
        scratch
    }

    /// The name of the template like Temporal's.
    pub fn template(&self) -> String {
        format!("{}_temporal", self.alias)
    }

    /// The name of an index behind the alias.
    pub fn index(&self, number: u32) -> String {
        format!("{}-{number:06}", self.alias)
    }

    pub fn create(&self, index: &str, body: Value) {
        self.engine.ok("PUT", &format!("/{index}"), Some(body));
    }

    /// Creates the given index as the alias's write index, or as another member of it.
    pub fn member(&self, number: u32, write: bool) {
        self.create(&self.index(number), json!({"aliases": {&self.alias: {"is_write_index": write}}}));
    }

    /// Adds a search attribute through the alias, as Temporal does.
    pub fn add_search_attribute(&self, name: &str) {
        self.engine.put_mapping(&self.alias, json!({"properties": {name: {"type": "keyword"}}}));
    }

    /// Writes a document as Temporal does: full, with an external version, under `workflow~run`.
    pub fn document(&self, target: &str, workflow: &str, version: u64, open: bool, extra: Value) {
        self.write(target, workflow, version, &document_body(workflow, version, open, extra).to_string(), true);
    }

    /// Writes these bytes as the document of a workflow; searches see it at once, or whenever the engine likes.
    pub fn write(&self, target: &str, workflow: &str, version: u64, body: &str, refresh: bool) {
        let path = document(target, workflow);
        let query = format!("version={version}&version_type=external&refresh={refresh}");
        let (status, answer) = self.engine.send("PUT", &format!("{path}?{query}"), Some(body));
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }

    /// Removes a document as Temporal does, whether it is there or not.
    pub fn remove(&self, target: &str, workflow: &str, version: u64) {
        let path = document(target, workflow);
        let query = format!("version={version}&version_type=external&refresh=true");
        let (status, answer) = self.engine.http("DELETE", &format!("{path}?{query}"), None);
        assert!(matches!(status, 200 | 404), "{path}: {status} {answer}");
    }

    /// The bytes of a document.
    pub fn source(&self, index: &str, workflow: &str) -> Option<String> {
        let path = document(index, workflow);
        let path = if self.engine.old { format!("{path}/_source") } else { path.replacen("/_doc/", "/_source/", 1) };
        let (status, body) = self.engine.send("GET", &path, None);
        (status == 200).then_some(body)
    }

    /// Writes many documents as Temporal does: workflow, version and whether it is open.
    pub fn documents<W: AsRef<str>>(&self, index: &str, all: impl IntoIterator<Item = (W, u64, bool)>) {
        let mut bulks = vec![String::new()];
        for (workflow, version, open) in all {
            let workflow = workflow.as_ref();
            let mut head = json!({
                "_index": index, "_id": document_of(workflow), "version": version, "version_type": "external",
            });
            if self.engine.old {
                head["_type"] = json!("_doc");
            }
            // Curl reads no longer lines than 100 kB.
            if bulks.last().is_some_and(|lines| lines.len() > 40_000) {
                bulks.push(String::new());
            }
            let body = document_body(workflow, version, open, json!({}));
            bulks.last_mut().unwrap().push_str(&format!("{}\n{body}\n", json!({"index": head})));
        }
        for lines in bulks {
            let (status, answer) = self.engine.send("POST", "/_bulk?refresh=true", Some(&lines));
            assert!(status == 200 && answer.contains("\"errors\":false"), "{status} {answer:.500}");
        }
    }

    /// The version of a workflow's document in one index, whether searches see it yet or not.
    pub fn version(&self, index: &str, workflow: &str) -> Option<u64> {
        let (status, body) = self.engine.http("GET", &document(index, workflow), None);
        (status == 200).then(|| body["_version"].as_u64().unwrap())
    }

    /// Writes documents (target, id, version, source) in bulks; every one of them must be taken.
    pub fn bulk(&self, documents: impl IntoIterator<Item = (String, (String, u64, Value))>) {
        let kind = if self.engine.old { Some("_doc") } else { None };
        let lines = documents.into_iter().map(|(index, (id, version, source))| {
            let mut head = json!({"_index": index, "_id": id, "version": version, "version_type": "external"});
            if let Some(kind) = kind {
                head["_type"] = kind.into();
            }
            format!("{}\n{source}\n", json!({ "index": head }))
        });
        // Curl takes no line of its options that is much longer than this.
        for lines in lines.collect::<Vec<String>>().chunks(100) {
            let (status, answer) = self.engine.send("POST", "/_bulk", Some(&lines.concat()));
            let errors = serde_json::from_str::<Value>(&answer).unwrap()["errors"].clone();
            assert!(status == 200 && errors == false, "{status} {answer}");
        }
    }

    pub fn exists(&self, index: &str) -> bool {
        self.engine.http("GET", &format!("/{index}"), None).0 == 200
    }

    /// A new index may take a moment until its shard answers.
    pub fn count(&self, target: &str) -> u64 {
        let path = format!("/{target}/_count");
        let start = Instant::now();
        while self.engine.http("GET", &path, None).0 == 503 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.engine.ok("GET", &path, None)["count"].as_u64().unwrap()
    }

    /// The documents of one index that a search for a field's value finds.
    pub fn found(&self, target: &str, field: &str, value: &str) -> u64 {
        let query = json!({"query": {"term": {field: value}}});
        self.engine.ok("POST", &format!("/{target}/_count"), Some(query))["count"].as_u64().unwrap()
    }

    /// The alias's write index by the engine's own word.
    pub fn write_index(&self) -> String {
        let body = self.engine.ok("GET", &format!("/_alias/{}", self.alias), None);
        let members = body.as_object().unwrap().iter();
        let mut write =
            members.filter(|(_, m)| m["aliases"][&self.alias]["is_write_index"] == true).map(|(name, _)| name);
        write.next().unwrap().clone()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Templates first: ILM may still be rolling, and an index made meanwhile must not be managed again.
        let own = format!("sexton-{}", self.alias);
        for template in [&own, &self.template()] {
            self.engine.http("DELETE", &format!("/_template/{template}"), None);
        }
        self.engine.http("POST", &format!("/{}*/_ilm/remove", self.alias), None);
        let (_, body) = self.engine.http("GET", &format!("/_cat/indices/{}*?format=json&h=index", self.alias), None);
        for index in body.as_array().into_iter().flatten() {
            self.engine.http("DELETE", &format!("/{}", index["index"].as_str().unwrap_or("none")), None);
        }
        self.engine.http("DELETE", &format!("/_ilm/policy/{own}"), None);
    }
}

/// Asks until the answer is there, for two minutes at most: a busy machine takes its time.
pub async fn eventually<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut ask: F) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "not within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
