//! The real binary as a daemon and as `once`: leader and standby, missed schedules, signals, kills. The judge is the
//! ledger's tables, read with psql.

mod kept;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sexton::context::Context;
use sexton::daemon::ledger::{Ledger, Trigger};
use sexton::daemon::runner::{Request, Runner};
use sexton::failure::Failure;
use sexton::job::{Job, JobName, Planned};
use tokio_util::sync::CancellationToken;

use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Site, eventually, postgres_sections};

/// Every second, a job that has nothing to do: visibility without a search engine.
const EVERY_SECOND: &str = "jobs: {visibility: {cron: '* * * * * *'}}\nshutdown_grace: 10s\n";

/// A site whose visibility job is trivially done.
fn quiet_site(ledger: &Scratch) -> Site {
    let site = Site::new(&postgres_sections(ledger, "temporal")).policy("visibility", "{}");
    site.run(&["ledger", "init"]).expect(0);
    site
}

/// A server that takes connections and never answers, so that a run hangs in the middle.
struct BlackHole(TcpListener);

impl BlackHole {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// A site whose retention job hangs.
    fn site(&self, ledger: &Scratch) -> Site {
        let address = self.0.local_addr().unwrap();
        let config =
            format!("temporal: {{address: '{address}', timeout: 60s}}\n{}", postgres_sections(ledger, "temporal"));
        let site = Site::new(&config).policy("retention", "{}");
        site.run(&["ledger", "init"]).expect(0);
        site
    }
}

fn outcomes(ledger: &Scratch, job: &str) -> String {
    ledger.psql(&format!("SELECT string_agg(outcome, ',' ORDER BY started_at) FROM runs WHERE job = '{job}'"))
}

#[test]
fn two_daemons_take_turns() {
    let ledger = Scratch::new("leader");
    let site = quiet_site(&ledger).policy("schedule", EVERY_SECOND);
    let mut first = site.start(&["run"], "first.log");
    first.wait_for("this daemon leads");
    let mut second = site.start(&["run"], "second.log");
    second.wait_for("standing by");
    first.wait_for("\"outcome\":\"unchanged\"");
    assert_eq!(site.run(&["status", "--json"]).expect(0).json()["daemon"]["leads"], true);
    assert!(!second.log().contains("this daemon leads"), "{}", second.log());

    first.signal("KILL");
    first.wait();
    second.wait_for("this daemon leads");
    second.wait_for("\"outcome\":\"unchanged\"");

    second.signal("TERM");
    assert_eq!(second.wait(), Some(0), "{}", second.log());
    assert!(second.log().contains("sexton has stopped"));
    assert_eq!(site.run(&["status", "--json"]).expect(0).json()["daemon"]["leads"], false);
    let overlapping = ledger.psql(
        "SELECT count(*) FROM runs a JOIN runs b ON a.id < b.id AND a.job = b.job \
         AND a.started_at < b.finished_at AND b.started_at < a.finished_at",
    );
    assert_eq!(overlapping, "0", "two runs of one job overlapped");
}

#[test]
fn a_missed_schedule_is_caught_up_once() {
    let ledger = Scratch::new("missed");
    // Due once a year, so that nothing but the catch-up can run it.
    let site = quiet_site(&ledger).policy("schedule", "jobs: {visibility: {cron: '0 0 1 1 *'}}\n");
    ledger.psql("INSERT INTO schedules VALUES ('visibility', now() - interval '4 years')");
    let mut daemon = site.start(&["run"], "one.log");
    daemon.wait_for("\"outcome\":\"unchanged\"");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));

    let mut daemon = site.start(&["run"], "two.log");
    daemon.wait_for("this daemon leads");
    // The scheduler has started once the first check for missed schedules is over.
    std::thread::sleep(Duration::from_secs(1));
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(ledger.psql("SELECT string_agg(trigger, ',') FROM runs"), "catch-up");
}

#[test]
fn a_schedule_seen_for_the_first_time_has_missed_nothing() {
    let ledger = Scratch::new("first");
    let site = quiet_site(&ledger).policy("schedule", "jobs: {visibility: {cron: '0 0 1 1 *'}}\n");
    let mut daemon = site.start(&["run"], "log");
    assert!(eventually(Duration::from_secs(30), || ledger.psql("SELECT count(*) FROM schedules") == "1"));
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(ledger.psql("SELECT count(*) FROM runs"), "0");
}

#[test]
fn sigterm_cancels_the_run_and_says_so() {
    let ledger = Scratch::new("sigterm");
    let hole = BlackHole::new();
    let site = hole.site(&ledger);
    let mut once = site.start(&["once", "retention"], "log");
    once.wait_for("started");
    once.signal("TERM");
    assert_eq!(once.wait(), Some(1), "{}", once.log());
    assert_eq!(outcomes(&ledger, "retention"), "cancelled");
}

#[test]
fn a_daemon_stops_within_its_grace() {
    let ledger = Scratch::new("grace");
    let hole = BlackHole::new();
    let site = hole.site(&ledger).policy("schedule", "jobs: {retention: {cron: '* * * * * *'}}\nshutdown_grace: 15s\n");
    let mut daemon = site.start(&["run"], "log");
    daemon.wait_for("\"started\"");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert_eq!(outcomes(&ledger, "retention"), "cancelled");
}

#[test]
fn a_killed_run_is_found_and_called_interrupted() {
    let ledger = Scratch::new("kill");
    let hole = BlackHole::new();
    let site = hole.site(&ledger);
    let mut once = site.start(&["once", "retention"], "log");
    once.wait_for("started");
    once.signal("KILL");
    once.wait();
    assert_eq!(outcomes(&ledger, "retention"), "running");

    // A daemon finds it at its start, whatever it schedules itself.
    let site = site.policy("visibility", "{}").policy("schedule", EVERY_SECOND);
    let mut daemon = site.start(&["run"], "daemon.log");
    daemon.wait_for("its process must have died");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(outcomes(&ledger, "retention"), "interrupted");
}

#[test]
fn a_second_run_of_the_same_job_is_refused() {
    let ledger = Scratch::new("busy");
    let hole = BlackHole::new();
    let site = hole.site(&ledger);
    let once = site.start(&["once", "retention"], "log");
    once.wait_for("started");
    let said = site.run(&["once", "retention"]).expect(1);
    assert!(said.err.contains("another run of `retention` is in progress"), "{}", said.err);
    assert!(said.err.contains("test-host"), "{}", said.err);
    assert_eq!(ledger.psql("SELECT count(*) FROM runs"), "1");
}

#[test]
fn a_run_whose_lock_is_lost_stops() {
    let ledger = Scratch::new("lost");
    let hole = BlackHole::new();
    let site = hole.site(&ledger);
    let mut once = site.start(&["once", "retention"], "log");
    once.wait_for("started");
    ledger.psql(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         WHERE l.locktype = 'advisory' AND d.datname = current_database()",
    );
    assert_eq!(once.wait(), Some(1));
    assert!(once.log().contains("the lock in the ledger is lost"), "{}", once.log());
    assert_eq!(outcomes(&ledger, "retention"), "cancelled");
    let why = ledger.psql("SELECT error->>'message' FROM runs");
    assert!(why.contains("its lock in the ledger was lost"), "{why}");
}

#[test]
fn the_deadline_ends_a_run() {
    let ledger = Scratch::new("deadline");
    let hole = BlackHole::new();
    let site = hole.site(&ledger).policy("schedule", "jobs: {retention: {cron: '0 0 1 1 *', deadline: 1s}}\n");
    let said = site.run(&["once", "retention"]).expect(1);
    assert!(said.err.contains("the deadline of 1s passed"), "{}", said.err);
    assert_eq!(outcomes(&ledger, "retention"), "cancelled");
}

#[test]
fn a_failing_job_does_not_end_the_daemon() {
    let ledger = Scratch::new("failing");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("temporal: {{address: '{closed}'}}\n{}", postgres_sections(&ledger, "temporal"));
    let schedule = "jobs: {retention: {cron: '* * * * * *'}, visibility: {cron: '* * * * * *'}}\n";
    let site = Site::new(&config).policy("retention", "{}").policy("visibility", "{}").policy("schedule", schedule);
    site.run(&["ledger", "init"]).expect(0);
    let mut daemon = site.start(&["run"], "log");
    let both = "SELECT count(*) FILTER (WHERE job = 'retention' AND outcome = 'failed') > 1 \
                AND count(*) FILTER (WHERE job = 'visibility' AND outcome = 'unchanged') > 1 FROM runs";
    assert!(eventually(Duration::from_secs(60), || ledger.psql(both) == "t"), "{}", daemon.log());
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_dry_run_needs_and_writes_no_ledger() {
    let ledger = Scratch::new("dry");
    let site = Site::new(&postgres_sections(&ledger, "temporal")).policy("visibility", "{}");
    let said = site.run(&["once", "visibility", "--dry-run", "--json"]).expect(0);
    assert_eq!(said.json()["dry_run"], true);
    assert_eq!(said.json(), site.run(&["plan", "visibility", "--json"]).expect(0).json(), "two ways to ask the same");
    assert_eq!(ledger.psql("SELECT count(*) FROM pg_class WHERE relname = 'runs'"), "0");
}

#[test]
fn init_may_be_repeated_and_status_reads_it() {
    let ledger = Scratch::new("init");
    let site = quiet_site(&ledger);
    let again = site.run(&["ledger", "init"]).expect(0);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    site.run(&["once", "visibility"]).expect(0);
    let status = site.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["runs"][0]["outcome"], "unchanged");
    assert_eq!(status["runs"][0]["trigger"], "cli");
    assert_eq!(status["runs"][0]["id"].as_str(), Some(ledger.psql("SELECT id FROM runs").as_str()));
    let table = site.run(&["status"]).expect(0);
    assert!(table.out.contains("never ran"), "{}", table.out);
}

/// The judge is what the server says of the role PUBLIC.
#[test]
fn init_closes_the_ledger_where_it_may() {
    let is_open =
        |of: &Scratch| of.psql("SELECT has_database_privilege('public', current_database(), 'CONNECT')") == "t";
    let doctor = |site: &Site| {
        let findings = site.run(&["doctor", "--json"]).json()["findings"].as_array().unwrap().clone();
        let ledger = findings.into_iter().find(|finding| finding["system"] == "ledger").unwrap();
        (ledger["verdict"].as_str().unwrap().to_owned(), ledger["hint"].as_str().unwrap_or_default().to_owned())
    };
    let ledger = Scratch::new("closed");
    let site = Site::new(&postgres_sections(&ledger, "temporal"));
    assert!(is_open(&ledger));
    let done = site.run(&["ledger", "init", "--json"]).expect(0).json();
    assert_eq!((&done["closed"], &done["open_to_public"]), (&true.into(), &false.into()));
    assert!(!is_open(&ledger) && doctor(&site).0 == "ok");
    ledger.psql(&format!("GRANT CONNECT ON DATABASE {} TO PUBLIC", ledger.name));
    let (verdict, hint) = doctor(&site);
    assert!(verdict == "warning" && hint.contains("REVOKE CONNECT ON DATABASE"), "{hint}");
    let again = site.run(&["ledger", "init"]).expect(0);
    assert!(again.out.contains("closed to PUBLIC") && !is_open(&ledger), "{again:?}");

    // Temporal comes into its own database by that right, and somebody else's is not this role's to close.
    let temporals = Scratch::new("shared");
    temporals.psql("CREATE TABLE schema_version (n int)");
    let said = Site::new(&postgres_sections(&temporals, "temporal")).run(&["ledger", "init"]).expect(0);
    assert!(said.out.contains("is open to PUBLIC") && is_open(&temporals), "{said:?}");
    let (theirs, role) = (Scratch::new("theirs"), Role::new(Server::Pg15));
    theirs.psql(&format!("GRANT ALL ON SCHEMA public TO {}", role.name));
    let sections = postgres_sections(&theirs, "temporal");
    let user = format!("user: {}\n", Server::Pg15.settings().user);
    let sections = sections.replace(&user, &format!("user: {}\n", role.name)).replace("STACK_PG15_PASSWORD", "IT_ROLE");
    let said = Site::new(&sections).env("IT_ROLE", &role.password).run(&["ledger", "init"]).expect(0);
    assert!(said.out.contains("not this role's to close") && is_open(&theirs), "{said:?}");
    theirs.psql(&format!("DROP OWNED BY {}", role.name));
}

#[test]
fn an_audit_plans_no_change() {
    let ledger = Scratch::new("audit_plan");
    let site = Site::new(&postgres_sections(&ledger, "temporal")).policy("retention", "{}");
    let said = site.run(&["once", "audit", "--dry-run"]).expect(0);
    assert!(said.out.contains("nothing to do") && said.out.contains("would be read"), "{said:?}");
    assert_eq!(site.run(&["once", "audit", "--dry-run", "--json"]).expect(0).json()["changes"], 0);
}

#[test]
fn a_ledger_that_is_away_when_a_run_ends_is_waited_for() {
    let (ledger, hole) = (Scratch::new("away"), BlackHole::new());
    let site = hole.site(&ledger);
    let mut run = site.start(&["once", "retention"], "once.log");
    assert!(eventually(Duration::from_secs(20), || outcomes(&ledger, "retention") == "running"));
    ledger.goes_away();
    run.wait_for("the lock in the ledger is lost");
    run.wait_for("is not written yet");
    ledger.comes_back();
    assert_eq!(run.wait(), Some(1), "{}", run.log());
    assert_eq!(outcomes(&ledger, "retention"), "cancelled");
}

/// A job that panics while it plans.
struct Panics;

#[async_trait::async_trait]
impl Job for Panics {
    fn name(&self) -> JobName {
        JobName::Visibility
    }

    async fn plan(&self, _: &Context) -> Result<Box<dyn Planned>, Failure> {
        panic!("as it should");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_panics_gives_its_lock_back() {
    let scratch = Scratch::new("panic");
    let (ledger, _) = Ledger::init(Arc::new(Server::Pg15.client()), &scratch.name).await.unwrap();
    let runner = Runner::new(ledger.clone());
    let request = Request {
        trigger: Trigger::Cli,
        by: None,
        deadline: Duration::from_secs(60),
        patience: Duration::ZERO,
        cancel: CancellationToken::new(),
        progress: sexton::progress::silent(),
    };
    let run = tokio::spawn(async move { runner.run(&Panics, &request).await.map(drop) });
    assert!(run.await.unwrap_err().is_panic());
    let again = ledger.lock("job visibility", Duration::from_secs(20), &CancellationToken::new()).await.unwrap();
    assert!(again.is_some(), "nobody runs the job, and still its lock is held");
}
