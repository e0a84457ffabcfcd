//! What the ledger keeps of the past: due times that were served, and runs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_served_goes_back_only_from_a_clock_that_was_far_ahead() {
    let scratch = Scratch::new("served");
    let (ledger, _) = Ledger::init(Arc::new(Server::Pg15.client()), &scratch.name).await.unwrap();
    for (at, then) in [
        ("2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z"),
        ("2026-01-02T02:00:00Z", "2026-01-02T02:00:00Z"),
        ("2026-01-01T14:00:00Z", "2026-01-02T02:00:00Z"),
        ("2100-01-01T02:00:00Z", "2100-01-01T02:00:00Z"),
        ("2026-01-03T02:00:00Z", "2026-01-03T02:00:00Z"),
    ] {
        ledger.mark_served(JobName::Backup, at.parse().unwrap()).await.unwrap();
        let served = scratch
            .psql("SELECT to_char(served_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM schedules");
        assert_eq!(served, then, "after {at}");
    }
}

/// Runs of a job, numbered from the oldest: the first hundred are half a year old, as many are of last week, the rest is
/// half a year old again, which a clock that was set back may do.
fn past(job: &str) -> String {
    format!(
        "INSERT INTO runs (id, job, trigger, outcome, host, version, started_at, finished_at)
         SELECT ('00000000-0000-7000-' || left(md5('{job}'), 4) || '-' || lpad(i::text, 12, '0'))::uuid, '{job}',
           'schedule', CASE i WHEN 1 THEN 'refused' WHEN 2 THEN 'changed' WHEN 3 THEN 'refused' WHEN 4 THEN 'running'
             ELSE 'unchanged' END, 'h', 'v', age, CASE i WHEN 4 THEN NULL ELSE age END
         FROM generate_series(1, 300) i,
           LATERAL (SELECT now() + i * interval '1 second'
             - CASE WHEN i BETWEEN 101 AND 200 THEN interval '7 days' ELSE interval '180 days' END AS age) a;"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_and_what_is_known_of_a_job_stays() {
    let ledger = Scratch::new("old_runs");
    let site = quiet_site(&ledger).policy("schedule", "jobs: {}\nkeep_runs: 90d\n");
    ledger.psql(&past("visibility"));
    ledger.psql(&past("retention"));
    for (number, state) in [(10, "pending"), (11, "delivered"), (12, "dead")] {
        ledger.psql(&format!(
            "INSERT INTO webhook_deliveries (id, webhook, run, payload, state, ended_at) SELECT gen_random_uuid(), 'w', id,
             '{{}}', '{state}', CASE '{state}' WHEN 'pending' THEN NULL ELSE now() END FROM runs
             WHERE job = 'visibility' AND right(id::text, 12)::int = {number}"
        ));
    }
    let store = Ledger::open(Arc::new(Server::Pg15.client()), &ledger.name).await.unwrap();
    let known = async || {
        let all = store.stats().await.unwrap();
        let mut stats = all.into_iter().find(|stats| stats.job == JobName::Visibility).unwrap();
        stats.counts.sort_unstable();
        let counts: Vec<String> = stats.counts.iter().map(|(outcome, runs)| format!("{outcome} {runs}")).collect();
        (counts.join(", "), stats.known_since)
    };
    let (counts, since) = known().await;
    assert_eq!(counts, "changed 1, refused 2, running 1, unchanged 296");

    // Who has no schedules says nothing of how long runs are kept.
    quiet_site(&ledger).run(&["once", "visibility"]).expect(0);
    assert_eq!(ledger.psql("SELECT count(*) FROM runs WHERE job = 'visibility'"), "301");
    site.run(&["once", "visibility"]).expect(0);

    // What never ended was found dead by the first of these runs, and ended just then. Of the first hundred stay the
    // newest of each outcome and those whose end somebody was not told; what is young stays, and the newest hundred, of
    // which two are these runs.
    let left = "SELECT string_agg(right(id::text, 12)::int::text, ' ' ORDER BY id) FROM runs
        WHERE job = 'visibility' AND host = 'h' AND right(id::text, 12)::int <= 100";
    assert_eq!(ledger.psql(left), "2 3 4 10 12");
    let others =
        "SELECT count(*) FROM runs WHERE job = 'visibility' AND (host <> 'h' OR right(id::text, 12)::int > 100)";
    assert_eq!(ledger.psql(others), "200");
    assert_eq!(ledger.psql("SELECT string_agg(state, ' ' ORDER BY state) FROM webhook_deliveries"), "dead pending");
    assert_eq!(ledger.psql("SELECT count(*) FROM runs WHERE job = 'retention'"), "300");
    // Nothing that counts runs goes back, and the job is known for as long.
    assert_eq!(known().await, ("changed 1, interrupted 1, refused 2, unchanged 298".to_owned(), since));
}

#[test]
fn what_a_wrong_clock_has_served_is_put_right_at_the_start() {
    for wrong in ["2100-01-01", "infinity", "-infinity"] {
        let ledger = Scratch::new("wrong_clock");
        let site = quiet_site(&ledger).policy("schedule", "jobs: {visibility: {cron: '0 0 1 1 *'}}\n");
        ledger.psql(&format!("INSERT INTO schedules VALUES ('visibility', '{wrong}')"));
        let mut daemon = site.start(&["run"], "log");
        let right = "SELECT abs(extract(epoch FROM served_at - now())) < 60 FROM schedules WHERE isfinite(served_at)";
        assert!(eventually(Duration::from_secs(30), || ledger.psql(right) == "t"), "{wrong}: {}", daemon.log());
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    }
}

/// A run that waited for another one of its job, and then was not begun because the daemon was asked to stop.
#[test]
fn what_was_not_begun_was_not_served() {
    let (ledger, hole) = (Scratch::new("not_begun"), BlackHole::new());
    let site = hole.site(&ledger).policy("schedule", "jobs: {retention: {cron: '* * * * * *'}}\nshutdown_grace: 15s\n");
    let mut once = site.start(&["once", "retention"], "once.log");
    once.wait_for("started");
    let mut daemon = site.start(&["run"], "daemon.log");
    daemon.wait_for("its last run is still busy; left out");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    // What is noted is when the job was first seen, which is no whole second; every due time is one.
    assert_eq!(ledger.psql("SELECT served_at <> date_trunc('second', served_at) FROM schedules"), "t");
    assert_eq!(ledger.psql("SELECT count(*) FROM runs"), "1");
    once.signal("KILL");
    once.wait();
    let mut daemon = site.start(&["run"], "again.log");
    daemon.wait_for("a schedule was missed; catching up");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
}
