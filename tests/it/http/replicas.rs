//! Two daemons on one ledger.

use super::{BlackHole, READ, RUN, ask, serve};

#[test]
fn both_serve_and_one_leads() {
    let mut api = BlackHole::new().api("two");
    api.daemon.wait_for("this daemon leads");
    let (mut second, other) = serve(&api.site, "second.log");
    second.wait_for("standing by");
    for base in [&api.base, &other] {
        let status = ask(base, READ, "/api/v1/status", &[]).unwrap().expect(200).json();
        assert_eq!(status["daemon_leads"], true);
        ask(base, "", "/readyz", &[]).unwrap().expect(200);
    }
    // A run that the standby makes is seen, and stopped, by way of the leader.
    let run = ask(&other, RUN, "/api/v1/jobs/retention/runs", &["-X", "POST"]).unwrap().expect(202).json();
    let id = run["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/api/v1/runs/{id}")).expect(200).json()["outcome"], "running");
    let busy = api.post(RUN, "/api/v1/jobs/retention/runs", "").problem(409);
    assert!(busy["detail"].as_str().unwrap().contains(id), "{busy}");
    api.post(RUN, &format!("/api/v1/runs/{id}/cancel"), "").expect(202);
    api.wait_for(id, "cancelled");

    // The leader goes; the standby serves on, and leads.
    api.daemon.signal("TERM");
    assert_eq!(api.daemon.wait(), Some(0), "{}", api.daemon.log());
    second.wait_for("this daemon leads");
    // It has no store, which is found out at once.
    let run = ask(&other, RUN, "/api/v1/jobs/backup/runs?wait=20s", &["-X", "POST"]).unwrap().expect(200).json();
    assert_eq!((run["outcome"].as_str(), run["requested_by"].as_str()), (Some("refused"), Some("ops")));
    second.signal("TERM");
    assert_eq!(second.wait(), Some(0), "{}", second.log());
}

#[test]
fn a_run_of_a_standby_that_was_killed_is_called_interrupted_by_the_leader() {
    let api = BlackHole::new().api("orphaned");
    api.daemon.wait_for("this daemon leads");
    let (mut second, other) = serve(&api.site, "second.log");
    second.wait_for("standing by");
    let run = ask(&other, RUN, "/api/v1/jobs/retention/runs", &["-X", "POST"]).unwrap().expect(202).json();
    second.signal("KILL");
    second.wait();
    api.wait_for(run["id"].as_str().unwrap(), "interrupted");
    api.is_sound();
}

#[test]
fn it_is_not_ready_without_its_ledger() {
    let api = super::Api::new("unready");
    api.ask("", "/readyz", &[]).expect(200);
    api.ledger.goes_away();
    let came = crate::support::site::eventually(std::time::Duration::from_secs(40), || {
        api.ask("", "/readyz", &["--max-time", "40"]).status == 503
    });
    assert!(came, "{}", api.daemon.log());
    let told = api.ask("", "/readyz", &["--max-time", "40"]).problem(503);
    assert!(!told.to_string().contains(&api.ledger.name), "{told}");
    api.ask("", "/healthz", &[]).expect(200);
    api.ask(READ, "/api/v1/status", &["--max-time", "40"]).problem(503);
    api.ask(READ, "/api/v1/migrations", &["--max-time", "40"]).problem(503);
    api.ask(READ, "/api/v1/migrations/tune-autovacuum", &["--max-time", "40"]).problem(503);
    api.ask(RUN, "/api/v1/jobs/visibility/runs", &["-X", "POST", "--max-time", "40"]).problem(503);
    api.ledger.comes_back();
    let came = crate::support::site::eventually(std::time::Duration::from_secs(40), || {
        api.ask("", "/readyz", &[]).status == 200
    });
    assert!(came, "{}", api.daemon.log());
    api.is_sound();
}

#[test]
fn the_doctor_knows_a_daemon_that_serves() {
    let api = super::Api::new("doctor");
    let listen = api.base.strip_prefix("http://").unwrap();
    let file = api.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap().replace("listen: 127.0.0.1:0", &format!("listen: '{listen}'"));
    std::fs::write(&file, config).unwrap();
    let said = api.site.run(&["doctor"]);
    assert!(said.out.contains(&format!("ok    http      address: a daemon serves at {listen}")), "{said:?}");
    api.is_sound();
}
