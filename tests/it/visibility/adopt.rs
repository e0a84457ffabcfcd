//! Adopting a live index on OpenSearch (by a clone) and Elasticsearch 6.8 (by a copy), judged by curl.

mod block;
mod foreign;
mod guard;
mod kills;
mod late;
mod load;
mod refusals;
mod worlds;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::postgres;
use crate::support::search::{Engine, Scratch};
use crate::support::site::{Said, Site, postgres_sections};
use crate::support::stack;

/// A live index as Temporal's tool makes it, and a sexton that is to adopt it.
struct Ground {
    scratch: Scratch,
    site: Site,
    _ledger: postgres::Scratch,
}

/// What curl sees of one document: version and source.
type Documents = BTreeMap<String, (u64, Value)>;

impl Ground {
    /// With so many documents, every third of them open.
    fn new(engine: Engine, documents: u64) -> Self {
        Self::of_shards(engine, documents, 1)
    }

    fn of_shards(engine: Engine, documents: u64, shards: u32) -> Self {
        let scratch = Scratch::new(engine);
        let ledger = postgres::Scratch::new("ledger");
        let site = site(&scratch, &ledger, &scratch.engine.url);
        let ground = Self { scratch, site, _ledger: ledger };
        ground.scratch.create(&ground.name(), json!({"settings": {"index.number_of_shards": shards}}));
        ground.scratch.add_search_attribute("OrderId");
        ground.write(&ground.name(), 0..documents);
        ground
    }

    fn name(&self) -> String {
        self.scratch.alias.clone()
    }

    /// Writes documents in one bulk, each with a version that Temporal could have given it.
    fn write(&self, target: &str, numbers: std::ops::Range<u64>) {
        self.scratch.bulk(numbers.map(|number| (target.to_owned(), document(number))));
        self.scratch.engine.ok("POST", &format!("/{target}/_refresh"), None);
    }

    fn adopt(&self, args: &[&str]) -> Said {
        self.site.run(&[&["adopt"], args].concat())
    }

    /// Everything that a search through the name finds, and in which index.
    fn documents(&self, target: &str) -> Documents {
        let query = json!({"size": 10_000, "version": true, "query": {"match_all": {}}});
        let found = self.scratch.engine.ok("POST", &format!("/{target}/_search"), Some(query));
        let hits = found["hits"]["hits"].as_array().unwrap();
        let documents: Documents = hits
            .iter()
            .map(|hit| {
                let id = hit["_id"].as_str().unwrap().to_owned();
                (id, (hit["_version"].as_u64().unwrap(), hit["_source"].clone()))
            })
            .collect();
        assert_eq!(documents.len(), hits.len(), "a document is found twice");
        documents
    }

    /// The name is an index and takes writes.
    #[track_caller]
    fn is_as_before(&self, documents: &Documents) {
        let name = self.name();
        assert_eq!(self.scratch.engine.http("GET", &format!("/_alias/{name}"), None).0, 404, "it is no alias");
        assert!(!self.is_blocked());
        self.nothing_is_left();
        assert_eq!(&self.documents(&name), documents);
    }

    /// The name is an alias of the first index, which holds these documents, and the second, which is written to and
    /// holds none; both take writes, and no mark is left.
    #[track_caller]
    fn is_adopted(&self, documents: &Documents) {
        let (name, first, second) = (self.name(), self.scratch.index(1), self.scratch.index(2));
        let members = self.scratch.engine.ok("GET", &format!("/_alias/{name}"), None);
        let expected = json!({
            &first: {"aliases": {&name: {"is_write_index": false}}},
            &second: {"aliases": {&name: {"is_write_index": true}}},
        });
        assert_eq!(members, expected);
        assert!(!self.is_blocked());
        self.nothing_is_left();
        assert_eq!(&self.documents(&first), documents);
        assert_eq!(self.documents(&second), Documents::new());
        let health = self.scratch.engine.ok("GET", &format!("/_cluster/health/{name}"), None);
        assert_eq!(health["status"], "green");
    }

    /// No mark, no key, and no block in force.
    #[track_caller]
    fn nothing_is_left(&self) {
        let engine = &self.scratch.engine;
        assert_eq!(self.marks(), Vec::<String>::new());
        let keys = engine.ok("GET", &format!("/{}-sexton-key-*", self.name()), None);
        assert_eq!(keys, json!({}));
        let state = engine.ok("GET", "/_cluster/state/blocks", None);
        let blocks = state["blocks"]["indices"].as_object();
        let ours = blocks.into_iter().flatten().find(|(index, _)| index.starts_with(&self.name()));
        assert_eq!(ours, None);
    }

    /// Whether any index of the family is blocked.
    fn is_blocked(&self) -> bool {
        let settings = self.scratch.engine.ok("GET", &format!("/{}*/_settings?flat_settings=true", self.name()), None);
        settings.as_object().unwrap().values().any(|index| index["settings"]["index.blocks.write"] == "true")
    }

    /// The aliases that sexton marks indices with.
    fn marks(&self) -> Vec<String> {
        let aliases = self.scratch.engine.ok("GET", &format!("/{}*/_alias", self.name()), None);
        let of_index = |index: &Value| index["aliases"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let all = aliases.as_object().unwrap().values().flat_map(of_index);
        all.filter(|alias| alias.contains("-sexton-")).collect()
    }
}

/// A sexton whose engine is at this address.
fn site(scratch: &Scratch, ledger: &postgres::Scratch, url: &str) -> Site {
    let mut search = format!("url: '{url}'");
    if let Some((user, _)) = &scratch.engine.user {
        let ca = scratch.engine.ca.as_ref().unwrap().display();
        search += &format!(", ca: '{ca}', basic: {{user: {user}, password: {{env: STACK_ES6_PASSWORD}}}}");
    }
    let config = format!("{}search: {{{search}}}\n", postgres_sections(ledger, stack().get("TEMPORAL_DATABASE")));
    let site = Site::new(&config).policy("visibility", &format!("index: {}\n", scratch.alias));
    site.run(&["ledger", "init"]).expect(0);
    site
}

/// Document `number`: its id, its version and its source.
fn document(number: u64) -> (String, u64, Value) {
    let mut source = json!({
        "VisibilityTaskKey": format!("1~{}", 1_000 + number * 3), "NamespaceId": "n", "WorkflowId": format!("w{number}"),
        "RunId": format!("r{number}"), "WorkflowType": "T", "TaskQueue": "q", "OrderId": format!("o{}", number % 7),
        "ExecutionStatus": "Running", "StartTime": "2026-01-01T00:00:00.123456789Z",
    });
    if !number.is_multiple_of(3) {
        source["ExecutionStatus"] = json!("Completed");
        source["CloseTime"] = json!("2026-01-01T00:01:00.5Z");
    }
    (format!("w{number}~r{number}"), 1_000 + number * 3, source)
}

/// What is beside the live index and has nothing to do with it, as curl sees it.
fn bystanders(ground: &Ground) -> Value {
    let (engine, name) = (&ground.scratch.engine, ground.name());
    let see = |path: String| engine.ok("GET", &path, None);
    let indices = [format!("{name}-old"), format!("{name}_other"), format!("{name}_other-000001")];
    let indices = indices.join(",");
    json!([
        see(format!("/{indices}?flat_settings=true")),
        see(format!("/{indices}/_search?version=true&sort=WorkflowId"))["hits"]["hits"],
        see(format!("/_template/{name}_temporal")),
    ])
}

async fn keeps_every_document(engine: Engine, args: &[&str], way: &str) {
    let ground = Ground::new(engine, 300);
    let (scratch, name) = (&ground.scratch, ground.name());
    // An index whose name goes on with a word, one that only begins alike, and that one's own series.
    let other = format!("{name}_other");
    for (index, body) in [
        (format!("{name}-old"), json!({})),
        (other.clone(), json!({"aliases": {format!("{name}_theirs"): {}}})),
        (format!("{other}-000001"), json!({"settings": {"index.blocks.read_only_allow_delete": false}})),
    ] {
        scratch.create(&index, body);
        ground.write(&index, 0..3);
    }
    let (before, beside) = (ground.documents(&name), bystanders(&ground));
    let mapping = scratch.engine.mapping(&name);
    let settings = scratch.engine.ok("GET", &format!("/{name}/_settings?flat_settings=true"), None);

    let planned = ground.adopt(&[args, &["--dry-run", "--json"]].concat()).expect(2).json();
    assert_eq!(planned["changes"], 5, "{planned}");
    ground.is_as_before(&before);
    assert!(!scratch.exists(&scratch.index(2)), "a dry run writes nothing");

    let adopted = ground.adopt(&[args, &["--json"]].concat()).expect(0).json();
    let report = &adopted["runs"][0]["report"];
    println!("{way} on {}: {} documents, paused for {} ms", scratch.engine.url, report["docs"], report["pause_ms"]);
    assert_eq!((&report["docs"], &report["way"]), (&json!(300), &json!(way)), "{report}");
    assert!(report["pause_ms"].as_u64().unwrap() > 0, "{report}");
    ground.is_adopted(&before);
    assert_eq!(bystanders(&ground), beside);

    // The successors are like the live index, and what is written now goes to the second.
    for number in [1, 2] {
        let index = scratch.index(number);
        assert_eq!(scratch.engine.mapping(&index), mapping, "{index}");
        let theirs = scratch.engine.ok("GET", &format!("/{index}/_settings?flat_settings=true"), None);
        for key in ["number_of_shards", "auto_expand_replicas", "sort.field", "sort.order", "sort.missing"] {
            let key = format!("index.{key}");
            let [old, new] = [&settings[&name], &theirs[&index]].map(|index| &index["settings"][&key]);
            assert_eq!(old, new, "{index}: {key}");
        }
    }
    ground.write(&name, 300..301);
    assert_eq!(scratch.count(&scratch.index(2)), 1);
    assert_eq!(scratch.found(&scratch.index(2), "OrderId", "o6"), 1, "the search attribute is indexed");
    assert_eq!(scratch.found(&name, "OrderId", "o6"), 43);

    let again = ground.adopt(&["--json"]).expect(0).json();
    assert_eq!(again["runs"][0]["outcome"], "unchanged");
    // The visibility job takes over from here, and rolls the alias when it is due.
    ground.site.run(&["once", "visibility"]).expect(0);
}

/// A shard that is passed over would be in no count.
#[test]
fn an_index_of_several_shards_is_adopted() {
    for method in ["clone", "copy"] {
        let ground = Ground::of_shards(Engine::opensearch(), 300, 3);
        let before = ground.documents(&ground.name());
        ground.adopt(&["--method", method]).expect(0);
        ground.is_adopted(&before);
    }
}

/// The adoption stands; the run has failed, since lists may be wrong until a reconcile.
#[test]
fn an_adoption_without_its_reconcile_is_a_failed_run() {
    let ground = Ground::new(Engine::opensearch(), 30);
    let before = ground.documents(&ground.name());
    let config = std::fs::read_to_string(ground.site.path().join("sexton.yaml")).unwrap();
    // A database without Temporal's tables.
    let config = config.replace(&format!("main: {}", stack().get("TEMPORAL_DATABASE")), "main: postgres");
    std::fs::write(ground.site.path().join("sexton.yaml"), config).unwrap();
    let said = ground.adopt(&["--json"]).expect(1);
    let run = &said.json()["runs"][0];
    assert_eq!((&run["outcome"], &run["report"]["docs"]), (&json!("failed"), &json!(30)), "{run}");
    assert!(run.to_string().contains("the index is adopted, but its documents were not reconciled"), "{run}");
    ground.is_adopted(&before);
}

#[tokio::test]
async fn a_clone_keeps_every_document_on_opensearch() {
    keeps_every_document(Engine::opensearch(), &[], "clone").await;
}

#[tokio::test]
async fn a_copy_keeps_every_document_on_opensearch() {
    keeps_every_document(Engine::opensearch(), &["--method", "copy"], "copy").await;
}

#[tokio::test]
async fn a_copy_keeps_every_document_on_elasticsearch() {
    keeps_every_document(Engine::elasticsearch6(), &[], "copy").await;
}
