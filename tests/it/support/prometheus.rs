//! A real Prometheus of a test's own, asked over its API.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::stack;

/// What curl got, when it got something.
pub fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl").args(["-fsS", "-m", "10"]).args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Asks until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "{what} did not come in a minute");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// It ends with the test.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes each second what one entry of `scrape_configs` names, and evaluates files of rules.
    pub fn start(scraped: Value, rules: &[PathBuf]) -> Self {
        let folder = TempDir::new().unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [scraped],
        });
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(stack().get("PROMETHEUS"))
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }

    /// What its API has under a path, with `name=value` for a query.
    pub fn get(&self, path: &str, query: &[&str]) -> Option<Value> {
        let url = format!("{}/api/v1/{path}", self.url);
        let mut arguments = vec!["--get", &url];
        for part in query {
            arguments.extend(["--data-urlencode", part]);
        }
        let answer: Value = serde_json::from_str(&curl(&arguments)?).ok()?;
        Some(answer["data"].clone())
    }

    /// What the expression gives now, when it gives something.
    pub fn ask(&self, expression: &str) -> Option<Vec<Value>> {
        let found = self.get("query", &[&format!("query={expression}")])?;
        found["result"].as_array().filter(|series| !series.is_empty()).cloned()
    }
}
