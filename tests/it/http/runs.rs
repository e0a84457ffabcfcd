//! Runs over HTTP: started, waited for, seen, stopped, and what becomes of them when the daemon ends.

use std::time::{Duration, Instant};

use super::{APPROVE, Api, BlackHole, RUN, section, serve, site};
use crate::support::postgres::Scratch;
use crate::support::site::{eventually, postgres_sections};

fn id(run: &serde_json::Value) -> String {
    run["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_is_started_and_waited_for() {
    let api = Api::new("start");
    let answer = api.post(RUN, "/api/v1/jobs/visibility/runs", "").expect(202);
    let run = answer.json();
    assert_eq!(answer.header("location"), Some(format!("/api/v1/runs/{}", id(&run)).as_str()));
    assert_eq!((run["job"].as_str(), run["trigger"].as_str()), (Some("visibility"), Some("http")));
    assert_eq!(run["requested_by"], "ops");
    let ended = api.get(&format!("/api/v1/runs/{}?wait=30s", id(&run))).expect(200).json();
    assert_eq!(ended["outcome"], "unchanged");
    let in_ledger = format!("SELECT outcome, trigger, requested_by FROM runs WHERE id = '{}'", id(&run));
    assert_eq!(api.psql(&in_ledger), "unchanged|http|ops");
    let log = api.get(&format!("/api/v1/runs/{}/log", id(&run))).expect(200);
    assert_eq!(log.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(log.body.contains("started by=ops") && log.body.contains("ended outcome=unchanged"), "{}", log.body);
    assert_eq!(log.body.trim(), api.psql(&format!("SELECT log FROM runs WHERE id = '{}'", id(&run))));

    let now = api.get("/api/v1/jobs").expect(200).json();
    let job = now["jobs"].as_array().unwrap().iter().find(|job| job["job"] == "visibility").unwrap();
    assert_eq!(job["last"]["id"], run["id"]);
    assert_eq!(job["failures"], 0);

    let unknown = "/api/v1/runs/01890000-0000-7000-8000-000000000000";
    for path in [unknown.to_owned(), format!("{unknown}/log"), "/api/v1/runs/not-an-id".to_owned()] {
        api.get(&path).problem(404);
    }
    api.post(RUN, &format!("{unknown}/cancel"), "").problem(404);
    let told = api.post(RUN, "/api/v1/jobs/nonsense/runs", "").problem(404);
    let jobs = "the jobs are: retention, overdue, audit, visibility, reconcile, backup, drill, prune, migrate";
    assert_eq!((&told["detail"], &told["hint"]), (&"there is no job of that name".into(), &jobs.into()));
    api.post(RUN, "/api/v1/jobs/visibility/runs", "{\"shorten\": true}").problem(422);
    api.post(RUN, "/api/v1/jobs/retention/runs", "{\"shorten\": true}").problem(403);
    // Nothing is configured for it: the run says so.
    let refused = api.post(APPROVE, "/api/v1/jobs/retention/runs?wait=30s", "{\"shorten\": true}").expect(200).json();
    assert_eq!(refused["outcome"], "refused", "{refused}");
    api.is_sound();
}

#[test]
fn one_run_of_a_job_at_a_time_and_it_can_be_stopped() {
    let api = BlackHole::new().api("cancel");
    let run = api.post(RUN, "/api/v1/jobs/retention/runs?wait=1s", "").expect(202).json();
    let busy = api.post(APPROVE, "/api/v1/jobs/retention/runs", "").problem(409);
    assert!(busy["detail"].as_str().unwrap().contains(&id(&run)), "{busy}");
    // Another job is another matter.
    api.post(RUN, "/api/v1/jobs/backup/runs?wait=30s", "").expect(200);
    assert_eq!(api.get("/api/v1/runs?outcome=running").json()["runs"][0]["id"], run["id"]);

    let path = format!("/api/v1/runs/{}", id(&run));
    let answer = api.post(APPROVE, &format!("{path}/cancel"), "").expect(202);
    assert_eq!(answer.header("location"), Some(path.as_str()));
    // Who asks later does not become the one who has asked.
    let again = api.post(RUN, &format!("{path}/cancel"), "");
    assert!([202, 409].contains(&again.status), "{again:?}");
    let ended = api.get(&format!("{path}?wait=40s")).expect(200).json();
    assert_eq!(ended["outcome"], "cancelled");
    assert_eq!(ended["cancel_requested_by"], "ada");
    assert_eq!(ended["error"]["message"], "ada asked it to stop");
    let in_ledger = "SELECT outcome, cancel_requested_by, error->>'message' FROM runs WHERE job = 'retention'";
    assert_eq!(api.psql(in_ledger), "cancelled|ada|ada asked it to stop");
    api.post(RUN, &format!("{path}/cancel"), "").problem(409);
    api.is_sound();
}

#[test]
fn who_leaves_has_started_it_all_the_same() {
    let api = BlackHole::new().api("leaves");
    let path = "/api/v1/jobs/retention/runs?wait=5m";
    let key = "Idempotency-Key: left-early";
    let left = super::ask(&api.base, RUN, path, &["-X", "POST", "-H", key, "--max-time", "1"]);
    assert!(left.is_err(), "{left:?}");
    // The same request again is the same run, although the first answer never came.
    let again = super::ask(&api.base, RUN, &path.replace("5m", "0s"), &["-X", "POST", "-H", key]).unwrap();
    let run = again.expect(202).json();
    assert_eq!(api.psql("SELECT id, outcome FROM runs"), format!("{}|running", id(&run)));
    api.post(RUN, &format!("/api/v1/runs/{}/cancel", id(&run)), "").expect(202);
    api.wait_for(&id(&run), "cancelled");
    let noted = "SELECT count(*) FROM http_actions WHERE path LIKE '%/jobs/retention/runs'";
    assert!(eventually(Duration::from_secs(20), || api.psql(noted) == "2"), "{}", api.psql(noted));
    api.is_sound();
}

#[test]
fn what_an_http_run_does_stops_with_the_daemon() {
    let mut api = BlackHole::new().api("term");
    let run = api.post(RUN, "/api/v1/jobs/retention/runs", "").expect(202).json();
    let began = Instant::now();
    api.daemon.signal("TERM");
    assert_eq!(api.daemon.wait(), Some(0), "{}", api.daemon.log());
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    let in_ledger = format!("SELECT outcome, error->>'message' FROM runs WHERE id = '{}'", id(&run));
    assert_eq!(api.psql(&in_ledger), "cancelled|it was asked to stop");
}

/// The end of a run waits for a ledger that is away, longer than this daemon may.
#[test]
fn an_http_run_that_outlives_the_grace_period_is_told() {
    let (ledger, hole) = (Scratch::new("outlives"), BlackHole::new());
    let site = hole.site(&ledger).policy("schedule", "jobs: {visibility: {cron: '0 0 1 1 *'}}\nshutdown_grace: 2s\n");
    let mut api = Api::of(site, ledger);
    api.post(RUN, "/api/v1/jobs/retention/runs", "").expect(202);
    api.ledger.goes_away();
    api.daemon.wait_for("is not written yet");
    api.daemon.signal("TERM");
    assert_eq!(api.daemon.wait(), Some(1), "{}", api.daemon.log());
    let told = "stopped with runs that were asked for through HTTP unfinished";
    assert!(api.daemon.log().contains(told), "{}", api.daemon.log());
    api.ledger.comes_back();
    assert_eq!(api.psql("SELECT outcome FROM runs"), "running");
}

#[test]
fn a_killed_daemon_leaves_an_interrupted_run() {
    let mut api = BlackHole::new().api("kill");
    let run = api.post(RUN, "/api/v1/jobs/retention/runs", "").expect(202).json();
    api.daemon.signal("KILL");
    api.daemon.wait();
    assert_eq!(api.psql("SELECT outcome FROM runs"), "running");
    (api.daemon, api.base) = serve(&api.site, "again.log");
    api.wait_for(&id(&run), "interrupted");
    assert_eq!(api.get(&format!("/api/v1/runs/{}", id(&run))).json()["outcome"], "interrupted");
    api.is_sound();
}

#[test]
fn pages_have_every_run_once() {
    let api = Api::new("pages");
    // Ids of version 7: the first 48 bits are the time, so they sort as they were made.
    api.psql(
        "INSERT INTO runs (id, job, trigger, host, version, outcome, started_at, finished_at)
         SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
           CASE WHEN n % 3 = 0 THEN 'audit' ELSE 'backup' END, 'schedule', 'h', '0', CASE WHEN n % 5 = 0 THEN 'failed' ELSE 'changed' END,
           to_timestamp(1700000000 + n), to_timestamp(1700000000 + n) FROM generate_series(1, 1234) n",
    );
    for (filter, sql) in [
        ("", "true"),
        ("&job=audit", "job = 'audit'"),
        ("&outcome=failed", "outcome = 'failed'"),
        ("&job=backup&outcome=changed", "job = 'backup' AND outcome = 'changed'"),
    ] {
        for limit in [1, 7, 50, 51, 500] {
            if limit == 1 && filter.is_empty() {
                continue;
            }
            let (mut seen, mut before, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let page = api.get(&format!("/api/v1/runs?limit={limit}{filter}{before}")).expect(200).json();
                let runs = page["runs"].as_array().unwrap();
                assert!(runs.len() <= limit);
                seen.extend(runs.iter().map(id));
                pages += 1;
                match page["next"].as_str() {
                    // Enough of the short ones.
                    Some(next) if pages < 30 => before = format!("&before={next}"),
                    _ => break,
                }
                // What begins meanwhile is on no later page.
                if pages == 1 && limit == 500 {
                    api.post(RUN, "/api/v1/jobs/visibility/runs?wait=20s", "").expect(200);
                }
            }
            let sql = format!(
                "SELECT string_agg(id::text, ',' ORDER BY id DESC) FROM \
                 (SELECT id FROM runs WHERE {sql} AND job <> 'visibility' ORDER BY id DESC LIMIT {}) r",
                seen.len()
            );
            let mut ids = seen.clone();
            ids.retain(|id| id.starts_with("018b"));
            assert_eq!(
                ids.join(","),
                api.psql(&sql.replace(&format!("LIMIT {}", seen.len()), &format!("LIMIT {}", ids.len()))),
                "{filter} by {limit}"
            );
            if pages < 30 {
                let all = format!(
                    "SELECT count(*) FROM runs WHERE {} AND job <> 'visibility'",
                    sql.split("WHERE ").nth(1).unwrap().split(" AND job <>").next().unwrap()
                );
                assert_eq!(ids.len().to_string(), api.psql(&all), "{filter} by {limit}");
            }
        }
    }
    for wrong in
        ["limit=0", "limit=501", "limit=x", "limit=", "before=x", "job=x", "outcome=x", "nonsense=1", "limit=1&limit=2"]
    {
        api.get(&format!("/api/v1/runs?{wrong}")).problem(400);
    }
    api.is_sound();
}

/// A database that takes a while to be backed up.
fn large(ledger: &Scratch, main: &Scratch) -> Api {
    main.psql(
        "CREATE TABLE big (n int, text text);
         INSERT INTO big SELECT n, md5(n::text) || md5((n + 1)::text) || md5((n * 7)::text) FROM generate_series(1, 400000) n",
    );
    let bin = crate::support::stack().get("PG17_BIN");
    let sections =
        postgres_sections(ledger, &main.name).replacen("  databases:", &format!("  bin_dir: {bin}\n  databases:"), 1);
    let config = format!("{sections}store: {{directory: store}}\n{}", section(""));
    let site = site(&config).policy("visibility", "{}").policy("backup", "throttle: 4mb\n");
    let ledger = Scratch { server: ledger.server, name: ledger.name.clone() };
    Api::of(site, ledger)
}

#[test]
fn a_backup_tells_how_far_it_is_and_stops() {
    let main = Scratch::new("large");
    let ledger = std::mem::ManuallyDrop::new(Scratch::new("progress"));
    let mut api = large(&ledger, &main);
    let run = api.post(RUN, "/api/v1/jobs/backup/runs", "").expect(202).json();
    let path = format!("/api/v1/runs/{}", id(&run));
    let mut done = Vec::new();
    let seen = eventually(Duration::from_secs(60), || {
        let progress = api.get(&path).json()["progress"].clone();
        if progress["unit"] == "bytes" && progress["done"].as_u64() > done.last().copied() {
            assert!(progress["total"].as_u64() >= progress["done"].as_u64(), "{progress}");
            done.extend(progress["done"].as_u64());
        }
        done.len() >= 3
    });
    assert!(seen, "{done:?}\n{}\n{}", api.get(&path).body, api.daemon.log());
    let told = api.ask(super::READ, "/api/v1/events", &["-N", "--max-time", "3"]).expect(200);
    assert_eq!(told.header("content-type"), Some("text/event-stream"));
    assert!(told.body.contains("event: runs") && told.body.contains(&id(&run)), "{}", told.body);

    // A stop at the next safe point: the store holds no backup, and the next one is whole.
    api.daemon.signal("TERM");
    assert_eq!(api.daemon.wait(), Some(0), "{}", api.daemon.log());
    assert_eq!(api.psql("SELECT outcome FROM runs"), "cancelled");
    let backups = || std::fs::read_dir(api.site.path().join("store/backups")).map_or(0, Iterator::count);
    assert_eq!(backups(), 0);
}

#[test]
fn a_system_that_takes_connections_and_says_nothing_is_told_of() {
    let api = BlackHole::new().api("mute");
    let told = eventually(Duration::from_secs(90), || {
        let seen = api.get("/api/v1/connections").expect(200).json();
        let all = seen["value"].as_array().cloned().unwrap_or_default();
        let of = |name: &str| all.iter().find(|one| one["system"] == name).map(|one| one["verdict"].clone());
        of("temporal") == Some("failed".into()) && of("postgres") == Some("ok".into())
    });
    assert!(told, "{}", api.get("/api/v1/connections").body);
    let status = api.get("/api/v1/status").expect(200).json();
    assert_eq!(status["health"], "failed", "{status}");
    assert!(status["problems"].to_string().contains("temporal: no answer within"), "{status}");
    api.is_sound();
}
