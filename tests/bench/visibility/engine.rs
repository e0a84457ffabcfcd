//! OpenSearch by curl, and an alias with its indices that go away with the value.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{go_on, say, stack, suffix};

/// How often a call is made that the engine was too busy for, and the pause between.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// An alias name that Temporal's template applies to, with everything named after it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) url: String,
    pub(crate) alias: String,
}

impl Engine {
    pub(crate) fn new() -> Result<Self> {
        let url = stack("OPENSEARCH_URL")?.trim_end_matches('/').to_owned();
        let engine = Self { url, alias: format!("temporal_visibility_v1_bench_{}", suffix()) };
        let template = engine.call("GET", "/_template/temporal_visibility_v1_template", None)?;
        ensure!(template != json!({}), "Temporal's index template is not there: run tests/stack/up");
        Ok(engine)
    }

    /// Name of an index behind the alias.
    pub(crate) fn index(&self, number: usize) -> String {
        format!("{}-{number:06}", self.alias)
    }

    /// The JSON body of a 2xx answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        go_on()?;
        self.send(method, path, body.map(Value::to_string).as_deref().map(str::as_bytes))
    }

    /// Sends lines for `_bulk`; every one must succeed, if need be once the engine has memory again.
    pub(crate) fn bulk(&self, index: &str, lines: &[u8]) -> Result<()> {
        let path = format!("/{index}/_bulk?filter_path=errors,items.*.error");
        let mut attempts = 0;
        loop {
            go_on()?;
            match self.send("POST", &path, Some(lines)) {
                Ok(answer) if answer["errors"] == false => return Ok(()),
                Ok(answer) => bail!("documents were refused: {answer:.300}"),
                Err(error) if attempts == ATTEMPTS || !error.to_string().contains("HTTP 429") => return Err(error),
                Err(_) => std::thread::sleep(PAUSE),
            }
            attempts += 1;
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Value> {
        let mut curl = Command::new("curl")
            .args(["-sS", "-m", "300", "-X", method, "-w", "\n%{http_code}", &format!("{}{path}", self.url)])
            .args(
                body.is_some()
                    .then_some(["-H", "content-type: application/json", "--data-binary", "@-"])
                    .iter()
                    .flatten(),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting curl")?;
        if let (Some(mut stdin), Some(body)) = (curl.stdin.take(), body) {
            stdin.write_all(body).with_context(|| format!("{method} {path}"))?;
        }
        let output = curl.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: HTTP {status} {body:.500}");
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Creates an index as Temporal's template says, with the custom search attributes of the documents. It may be
    /// created as of an earlier day.
    pub(crate) fn create(&self, index: &str, created: Option<jiff::Timestamp>, aliases: &Value) -> Result<()> {
        let mut body = json!({
            "aliases": aliases,
            "mappings": {"properties": {
                "CustomerId": {"type": "keyword"}, "Region": {"type": "keyword"}, "OrderTotal": {"type": "double"},
                "Items": {"type": "long"}, "DeliverBy": {"type": "date_nanos"},
            }},
        });
        if let Some(created) = created {
            body["settings"] = json!({"index.creation_date": created.as_millisecond().to_string()});
        }
        self.call("PUT", &format!("/{index}"), Some(&body)).map(drop)
    }

    /// Searches see everything from here on, and nothing is left to be written to disk.
    pub(crate) fn settle(&self, index: &str) -> Result<()> {
        self.call("POST", &format!("/{index}/_refresh"), None)?;
        self.call("POST", &format!("/{index}/_flush"), None).map(drop)
    }

    /// A copy that shares the original's files, so that it takes no time to make; the original must be blocked.
    pub(crate) fn clone(&self, from: &str, to: &str) -> Result<()> {
        let body = json!({"settings": {"index.blocks.write": null}});
        self.call("PUT", &format!("/{from}/_clone/{to}?wait_for_active_shards=1"), Some(&body))?;
        self.call("GET", &format!("/_cluster/health/{to}?wait_for_status=green&timeout=60s"), None).map(drop)
    }

    pub(crate) fn count(&self, index: &str) -> Result<u64> {
        self.settle(index)?;
        self.call("GET", &format!("/{index}/_count"), None)?["count"].as_u64().context("no count")
    }

    /// Removes the indices that are named after the alias.
    pub(crate) fn remove(&self, index: &str) -> Result<()> {
        self.send("DELETE", &format!("/{index}"), None).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // By name, one by one: an engine may refuse to delete by a pattern.
        let path = format!("/_cat/indices/{}*?format=json&h=index", self.alias);
        for _ in 0..ATTEMPTS {
            let found = self.send("GET", &path, None).unwrap_or(Value::Null);
            for index in found.as_array().into_iter().flatten().filter_map(|entry| entry["index"].as_str()) {
                let _ = self.remove(index);
            }
            if found == json!([]) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        say(format_args!("indices named {}* are left", self.alias));
    }
}
