//! What the ledger keeps of the past: due times that were served, and runs.

use jiff::Timestamp;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_due_time_is_served_once() {
    let scratch = Scratch::new("served");
    let (ledger, _) = Ledger::init(Arc::new(Server::Pg15.client()), &scratch.name).await.unwrap();
    let served = async |at: &str| ledger.mark_served(JobName::Backup, at.parse().unwrap()).await.unwrap();
    assert!(served("2026-01-01T02:00:00Z").await);
    assert!(!served("2026-01-01T02:00:00Z").await);
    assert!(served("2026-01-02T02:00:00Z").await);
    // A clock that was wrong for a while holds nothing up, and what was served stays so.
    assert!(served("2026-01-01T14:00:00Z").await);
    let last: Timestamp = "2026-01-02T02:00:00Z".parse().unwrap();
    assert_eq!(ledger.served_at(JobName::Backup).await.unwrap(), Some(last));
}

/// Runs of a job, numbered from the oldest: the first hundred are half a year old, as many are of last week, the rest is
/// half a year old again, which a clock that was set back may do.
fn past(job: &str) -> String {
    format!(
        "INSERT INTO runs (id, job, trigger, outcome, host, version, started_at, finished_at)
         SELECT ('00000000-0000-7000-' || left(md5('{job}'), 4) || '-' || lpad(i::text, 12, '0'))::uuid, '{job}',
           'schedule', CASE i WHEN 1 THEN 'changed' WHEN 2 THEN 'refused' WHEN 3 THEN 'refused' WHEN 4 THEN 'running'
             ELSE 'unchanged' END, 'h', 'v', age, CASE i WHEN 4 THEN NULL ELSE age END
         FROM generate_series(1, 300) i,
           LATERAL (SELECT now() - CASE WHEN i BETWEEN 101 AND 200 THEN interval '7 days' ELSE interval '180 days' END AS age) a;"
    )
}

#[test]
fn old_runs_go_and_what_is_known_of_a_job_stays() {
    let ledger = Scratch::new("old_runs");
    let site = quiet_site(&ledger).policy("schedule", "jobs: {}\nkeep_runs: 90d\n");
    ledger.psql(&past("visibility"));
    ledger.psql(&past("retention"));
    let told = |number: u32, state: &str| {
        ledger.psql(&format!(
            "INSERT INTO webhook_deliveries (id, webhook, run, payload, state, ended_at) SELECT gen_random_uuid(), 'w', id,
             '{{}}', '{state}', CASE '{state}' WHEN 'pending' THEN NULL ELSE now() END FROM runs
             WHERE job = 'visibility' AND right(id::text, 12)::int = {number}"
        ));
    };
    told(10, "pending");
    told(11, "delivered");
    let counts =
        "SELECT string_agg(outcome || ' ' || runs, ', ' ORDER BY outcome) FROM (SELECT outcome, sum(runs) AS runs FROM
        (SELECT outcome, 1 AS runs FROM runs WHERE job = 'visibility' UNION ALL
         SELECT outcome, runs FROM runs_removed WHERE job = 'visibility') a GROUP BY outcome) b";
    assert_eq!(ledger.psql(counts), "changed 1, refused 2, running 1, unchanged 296");

    site.run(&["once", "visibility"]).expect(0);

    // What never ended was found dead by this run, and ended just now. Of the first hundred stay the newest of each
    // outcome and the one whose end is still told; what is young stays, and the newest hundred, of which this run is one.
    let left = "SELECT string_agg(right(id::text, 12)::int::text, ' ' ORDER BY id) FROM runs
        WHERE job = 'visibility' AND host = 'h' AND right(id::text, 12)::int <= 100";
    assert_eq!(ledger.psql(left), "1 3 4 10");
    let others =
        "SELECT count(*) FROM runs WHERE job = 'visibility' AND (host <> 'h' OR right(id::text, 12)::int > 100)";
    assert_eq!(ledger.psql(others), "200");
    assert_eq!(ledger.psql("SELECT string_agg(state, ' ') FROM webhook_deliveries"), "pending");
    assert_eq!(ledger.psql("SELECT count(*) FROM runs WHERE job = 'retention'"), "300");
    // Nothing that counts runs goes back.
    assert_eq!(ledger.psql(counts), "changed 1, interrupted 1, refused 2, unchanged 297");
}
