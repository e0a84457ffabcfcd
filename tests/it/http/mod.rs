//! The API of a real daemon, asked by curl; the ledger is read with psql. No answer may hold a secret, which is looked at
//! in every one.

mod access;
mod approvals;
mod browser;
mod crowd;
mod described;
mod garbage;
mod idempotency;
mod lived;
mod replicas;
mod runs;
mod scraped;
mod sessions;
mod tls;

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::postgres::Scratch;
use crate::support::site::{Running, Site, eventually, postgres_sections};

pub(super) const READ: &str = "read-token-4be1d9c07a55";
pub(super) const RUN: &str = "run-token-98d3c1f06b2e";
pub(super) const APPROVE: &str = "approve-token-c7750ae19f34";

/// What every configuration here has under `http:`.
const TOKENS: &str = "  tokens:
    - {name: viewer, role: read, token: {env: IT_READ}}
    - {name: ops, role: run, token: {env: IT_RUN}}
    - {name: ada, role: approve, token: {env: IT_APPROVE}}
";

/// What was answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}{}", self.head, self.body);
        self
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// A problem is told in the one form that there is for it.
    #[track_caller]
    pub(super) fn problem(self, status: u16) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.head);
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

/// Everything that must be in no answer and no log.
fn secrets() -> impl Iterator<Item = (String, String)> {
    let secret = |name: &String| name.starts_with("STACK_") && (name.contains("PASSWORD") || name.contains("SECRET"));
    let stack = std::env::vars().filter(move |(name, value)| secret(name) && value.len() > 7);
    let ours = [("IT_READ", READ), ("IT_RUN", RUN), ("IT_APPROVE", APPROVE)];
    stack.chain(ours.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

#[track_caller]
fn tells_no_secret(text: &str) {
    for (name, secret) in secrets() {
        assert!(!text.contains(&secret), "it shows the secret {name}");
    }
}

/// curl with these arguments; `None` when it got no whole answer.
pub(super) fn curl(args: &[&str]) -> Result<Answer, String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--noproxy", "*", "--max-time", "60"]).args(args);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    tells_no_secret(&text);
    // The end of a stream that has none is its time, and it was answered.
    let timed_out = output.status.code() == Some(28) && !text.is_empty();
    if !output.status.success() && !timed_out {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut rest = text.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {text:?}"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no status: {head}"))?;
        if status >= 200 {
            return Ok(Answer { status, head: format!("{head}\n"), body: body.to_owned() });
        }
        rest = body;
    }
}

/// A daemon that serves, in a folder and with a ledger of its own.
pub(super) struct Api {
    pub daemon: Running,
    pub base: String,
    pub site: Site,
    pub ledger: Scratch,
    /// What its runs hang at.
    _hole: Option<BlackHole>,
}

impl Api {
    /// One whose only job has nothing to do.
    pub(super) fn new(what: &str) -> Self {
        Self::with(what, "")
    }

    /// The same with more under `http:`, indented by two.
    pub(super) fn with(what: &str, http: &str) -> Self {
        let ledger = Scratch::new(what);
        let site = site(&format!("{}{}", postgres_sections(&ledger, "temporal"), section(http)));
        Self::of(site.policy("visibility", "{}"), ledger)
    }

    /// One in this site.
    pub(super) fn of(site: Site, ledger: Scratch) -> Self {
        site.run(&["ledger", "init"]).expect(0);
        let (daemon, base) = serve(&site, "daemon.log");
        Self { daemon, base, site, ledger, _hole: None }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks with this token; none when it is empty.
    #[track_caller]
    pub(super) fn ask(&self, token: &str, path: &str, args: &[&str]) -> Answer {
        ask(&self.base, token, path, args).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Answer {
        self.ask(READ, path, &[])
    }

    /// Sends JSON.
    #[track_caller]
    pub(super) fn post(&self, token: &str, path: &str, body: &str) -> Answer {
        self.ask(token, path, &["-X", "POST", "-H", "Content-Type: application/json", "-d", body])
    }

    pub(super) fn psql(&self, sql: &str) -> String {
        self.ledger.psql(sql)
    }

    /// What every test ends with: nothing panicked, nothing secret in the log.
    #[track_caller]
    pub(super) fn is_sound(&self) {
        let log = self.daemon.log();
        assert!(!log.contains("panicked"), "{log}");
        tells_no_secret(&log);
        self.get("/api/v1/runs").expect(200);
    }

    /// Waits for a run to be in the ledger as this.
    #[track_caller]
    pub(super) fn wait_for(&self, id: &str, outcome: &str) {
        let asked = format!("SELECT outcome FROM runs WHERE id = '{id}'");
        let came = eventually(Duration::from_secs(60), || self.psql(&asked) == outcome);
        assert!(came, "the run is {}:\n{}", self.psql(&asked), self.daemon.log());
    }
}

/// The section `http:` with the tokens, and more.
pub(super) fn section(more: &str) -> String {
    format!("http:\n  listen: 127.0.0.1:0\n{TOKENS}{more}")
}

/// A site with the tokens, in which nothing is due.
pub(super) fn site(config: &str) -> Site {
    let schedule = "jobs: {visibility: {cron: '0 0 1 1 *'}}\nshutdown_grace: 20s\n";
    let site = Site::new(config).policy("schedule", schedule);
    site.env("IT_READ", READ).env("IT_RUN", RUN).env("IT_APPROVE", APPROVE)
}

/// Starts the daemon; where it serves.
pub(super) fn serve(site: &Site, log: &str) -> (Running, String) {
    let daemon = site.start(&["run"], log);
    daemon.wait_for("serving the status page");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("serving the status page")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let (address, tls) = (line["address"].as_str().unwrap(), line["tls"].as_bool().unwrap());
    let base = format!("{}://{address}", if tls { "https" } else { "http" });
    (daemon, base)
}

pub(super) fn ask(base: &str, token: &str, path: &str, args: &[&str]) -> Result<Answer, String> {
    let (url, bearer) = (format!("{base}{path}"), format!("Authorization: Bearer {token}"));
    let mut all = vec!["--path-as-is", url.as_str()];
    if !token.is_empty() {
        all.extend(["-H", &bearer]);
    }
    all.extend(args);
    curl(&all)
}

/// A server that takes connections and never answers, so that a run of `retention` hangs in the middle.
pub(super) struct BlackHole(TcpListener);

impl BlackHole {
    pub(super) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// An API whose job `retention` hangs.
    pub(super) fn api(self, what: &str) -> Api {
        let ledger = Scratch::new(what);
        let api = Api::of(self.site(&ledger), ledger);
        Api { _hole: Some(self), ..api }
    }

    pub(super) fn site(&self, ledger: &Scratch) -> Site {
        let temporal = format!("temporal: {{address: '{}', timeout: 60s}}\n", self.0.local_addr().unwrap());
        let config = format!("{temporal}{}{}", postgres_sections(ledger, "temporal"), section(""));
        site(&config).policy("visibility", "{}").policy("retention", "{}")
    }
}
