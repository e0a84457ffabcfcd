//! A daemon with a past: every job has run on a real cluster, an index was rolled, a backup proved, a migration rehearsed and
//! another one applied. Whoever can name something has given it a name that would be markup.

use std::time::Duration;

use serde_json::{Value, json};

use super::approvals::RECIPE;
use super::{Api, section, site};
use crate::support::cluster::{Cluster, Index};
use crate::support::postgres::Scratch;
use crate::support::search::eventually;
use crate::support::site::{Said, postgres_sections};
use crate::support::stack;

/// What no page may make an element of.
pub(super) const MARKUP: &str = "<b data-pwned=1>x</b><img src=x onerror=pwned()>";
/// An index may be called so, and it is markup once something takes it apart twice.
pub(super) const INDEX_MARKUP: &str = "'onload='pwned()'&lt;b-data-pwned=1&gt;";

pub(super) struct Lived {
    pub api: Api,
    /// Its runs of `audit` and of `overdue`, whose reports tell of workflows.
    pub telling: [String; 2],
    cluster: Cluster,
}

/// The sections of its configuration behind PostgreSQL's.
fn more(cluster: &Cluster) -> String {
    let get = |name| stack().get(name);
    format!(
        "temporal: {{address: {}}}\nsearch: {{url: {}}}\nstore: {{directory: store}}\nmigrations: {{recipes: recipes}}\n\
         scratch: {{host: {}, port: {}, user: {}, password: {{env: STACK_PG15_PASSWORD}}}}\n\
         webhooks: [{{name: ops, url: 'http://127.0.0.1:1/hook', secret: {{env: IT_READ}}}}]\n{}",
        cluster.server.address,
        cluster.engine.url,
        get("PG15_HOST"),
        get("PG15_PORT"),
        get("PG15_USER"),
        section("")
    )
}

/// Every job daily, twelve hours from now.
fn far_schedule() -> String {
    let hour = (jiff::Timestamp::now() + Duration::from_secs(12 * 3_600)).strftime("%-H").to_string();
    let jobs = ["retention", "overdue", "audit", "visibility", "reconcile", "backup", "drill", "prune"];
    jobs.map(|job| format!("  {job}: {{cron: '0 {hour} * * *', catch_up: false}}\n")).concat()
}

impl Lived {
    pub(super) async fn new(what: &str) -> Self {
        let cluster = Cluster::start(what, Index::Alias).await;
        let ledger = Scratch::new(what);
        let config = format!("{}{}", postgres_sections(&ledger, &cluster.database.name), more(&cluster));
        let retention = format!("applies_to: [{}]\noverdue: {{action: report, slack: 1d}}\n", cluster.namespace);
        let visibility = format!("index: {}\nrollover: {{max_age: 30d, max_docs: 4}}\n", cluster.index);
        let site = site(&config)
            .policy("retention", &retention)
            .policy("visibility", &visibility)
            .policy("backup", "keep: {last: 3}\n")
            .policy("schedule", &format!("jobs:\n{}", far_schedule()));
        std::fs::create_dir(site.path().join("recipes")).unwrap();
        let said = format!("description: '{MARKUP}'");
        let step = format!("- name: table\n        {said}");
        let recipe = RECIPE.replace("description: One table", &said).replace("- name: table", &step);
        let site = site.file("recipes/one-table.yaml", &recipe);
        let run = |args: &[&str]| site.run(args).expect(0);
        run(&["ledger", "init"]);

        let past = Past { cluster: &cluster };
        past.workflows().await;
        run(&["once", "retention"]);
        run(&["once", "visibility"]);
        past.more_workflows();
        past.stranger();
        for job in ["reconcile", "backup", "drill", "prune"] {
            run(&["once", job]);
        }
        past.ghost();
        let telling = ["audit", "overdue"].map(|job| run_of(&run(&["once", job, "--json"])));
        for args in [
            &["approve", "one-table", "--by", MARKUP] as &[&str],
            &["run", "one-table"],
            &["rehearse", "tune-autovacuum"],
        ] {
            run(&[&["migrate"], args, &["--quiet"]].concat());
        }
        Self { api: Api::of(site, ledger), telling, cluster }
    }

    /// The alias that Temporal writes to.
    pub(super) fn alias(&self) -> &str {
        &self.cluster.index
    }

    /// Waits until the daemon has looked at everything once.
    pub(super) fn is_known(&self) {
        let known = || {
            let views = ["connections", "retention", "visibility", "backups"];
            views.iter().all(|view| self.api.get(&format!("/api/v1/{view}")).expect(200).json()["seen_at"].is_string())
        };
        assert!(crate::support::site::eventually(Duration::from_secs(60), known), "{}", self.api.daemon.log());
    }
}

fn run_of(said: &Said) -> String {
    said.json()["runs"][0]["id"].as_str().unwrap_or_else(|| panic!("no run: {said:?}")).to_owned()
}

/// What happened to the cluster before.
struct Past<'a> {
    cluster: &'a Cluster,
}

impl Past<'_> {
    fn cli(&self, arguments: &[&str]) -> String {
        self.cluster
            .server
            .cli(&[&["workflow", arguments[0], "--namespace", &self.cluster.namespace], &arguments[1..]].concat())
    }

    fn start(&self, id: &str, kind: &str) -> String {
        let said =
            self.cli(&["start", "--workflow-id", id, "--type", kind, "--task-queue", "nobody", "--output", "json"]);
        serde_json::from_str::<Value>(&said).unwrap()["runId"].as_str().unwrap().to_owned()
    }

    async fn listed(&self, count: usize) {
        eventually("all is listed", async || {
            self.cluster.refresh();
            let said = self.cli(&["list", "--limit", "100", "--output", "json"]);
            (serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().len() == count).then_some(())
        })
        .await;
    }

    /// Five: open ones, closed ones, and one of each that is called markup.
    async fn workflows(&self) {
        for id in ["order-1", "order-2", MARKUP] {
            self.start(id, MARKUP);
        }
        for id in ["order-3", &format!("gone {MARKUP}")] {
            self.start(id, "Checkout");
            self.cli(&["terminate", "--workflow-id", id, "--reason", "test"]);
        }
        self.listed(5).await;
    }

    fn more_workflows(&self) {
        for id in ["order-4", "order-5"] {
            self.start(id, "Checkout");
        }
    }

    /// Somebody's own index behind the alias.
    fn stranger(&self) {
        let (engine, alias) = (&self.cluster.engine, &self.cluster.index);
        let name = encoded(&format!("{alias}-{INDEX_MARKUP}"));
        engine.ok("PUT", &format!("/{name}"), Some(json!({"aliases": {alias: {}}})));
    }

    /// A closed run that is gone and listed all the same, long after its retention.
    fn ghost(&self) {
        let ended = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 50);
        let script = json!({"source": "ctx._source.CloseTime = params.ended", "params": {"ended": ended.to_string()}});
        let body = json!({"query": {"prefix": {"WorkflowId": "gone "}}, "script": script});
        let index = &self.cluster.index;
        let done = self.cluster.engine.ok("POST", &format!("/{index}/_update_by_query?refresh=true"), Some(body));
        assert_eq!(done["updated"], 1, "{done}");
        let run = "workflow_id LIKE 'gone %'";
        self.cluster
            .database
            .psql(&format!("DELETE FROM executions WHERE {run}; DELETE FROM current_executions WHERE {run}"));
    }
}

/// As a part of a path.
fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
