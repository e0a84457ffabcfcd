//! `Idempotency-Key`: the same request again does nothing again. The judge is the ledger.

use std::time::Duration;

use super::{APPROVE, Answer, Api, BlackHole, RUN, ask, serve};
use crate::support::site::eventually;

const START: &str = "/api/v1/jobs/visibility/runs";

fn post(base: &str, token: &str, path: &str, key: &str, body: &str) -> Answer {
    let key = format!("Idempotency-Key: {key}");
    ask(base, token, path, &["-X", "POST", "-H", "Content-Type: application/json", "-H", &key, "-d", body]).unwrap()
}

#[test]
fn the_same_request_again_gets_the_same_answer() {
    let api = Api::new("idem");
    let first = post(&api.base, RUN, START, "one", "{}").expect(202);
    let again = post(&api.base, RUN, START, "one", "{}").expect(202);
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("location"), again.header("location"));
    let run = first.json();
    api.wait_for(run["id"].as_str().unwrap(), "unchanged");
    // Waited for, it is the same run.
    let waited = post(&api.base, RUN, &format!("{START}?wait=20s"), "one", "{}").expect(200).json();
    assert_eq!((&waited["id"], waited["outcome"].as_str()), (&run["id"], Some("unchanged")));
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "1");

    // Another body or path under the same key is a mistake; another key, or another one's key, is another request.
    post(&api.base, RUN, START, "one", "{\"shorten\": false}").problem(422);
    post(&api.base, RUN, "/api/v1/jobs/audit/runs", "one", "{}").problem(422);
    post(&api.base, APPROVE, &format!("{START}?wait=20s"), "one", "{}").expect(200);
    post(&api.base, RUN, &format!("{START}?wait=20s"), "two", "{}").expect(200);
    assert_eq!(api.psql("SELECT string_agg(requested_by, ',' ORDER BY id) FROM runs"), "ops,ada,ops");

    // A key of a day ago is forgotten.
    api.psql("UPDATE http_idempotency SET created_at = now() - interval '25 hours' WHERE who = 'ops' AND key = 'one'");
    let anew = post(&api.base, RUN, &format!("{START}?wait=20s"), "one", "{}").expect(200).json();
    assert_ne!(anew["id"], run["id"]);

    for key in [String::new(), "x".repeat(201)] {
        // curl leaves a header without a value out, unless it ends with a semicolon.
        let key = if key.is_empty() { "Idempotency-Key;".to_owned() } else { format!("Idempotency-Key: {key}") };
        api.ask(RUN, START, &["-X", "POST", "-H", &key]).problem(400);
    }
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "4");
    api.is_sound();
}

#[test]
fn a_request_in_progress_is_not_begun_again() {
    let api = Api::new("idemnow");
    let run = post(&api.base, RUN, &format!("{START}?wait=20s"), "gone", "{}").expect(200).json();
    // As a process leaves it that died before it had an answer.
    api.psql("UPDATE http_idempotency SET status = NULL, body = NULL, location = NULL");
    post(&api.base, RUN, START, "gone", "{}").problem(409);
    post(&api.base, RUN, START, "gone", "{\"shorten\": false}").problem(422);
    api.psql("UPDATE http_idempotency SET created_at = now() - interval '2 minutes'");
    let again = post(&api.base, RUN, &format!("{START}?wait=20s"), "gone", "{}").expect(200).json();
    assert_eq!((&again["id"], api.psql("SELECT count(*) FROM runs").as_str()), (&run["id"], "1"));
    // And one that died before it began anything: now it begins, under the id that was chosen then.
    api.psql("DELETE FROM runs; UPDATE http_idempotency SET status = NULL, created_at = now() - interval '2 minutes'");
    let begun = post(&api.base, RUN, &format!("{START}?wait=20s"), "gone", "{}").expect(200).json();
    assert_eq!((&begun["id"], api.psql("SELECT count(*) FROM runs").as_str()), (&run["id"], "1"));
    api.is_sound();
}

#[test]
fn an_approval_that_was_given_is_not_given_again() {
    let api = Api::new("idemapp");
    let path = "/api/v1/migrations/tune-autovacuum";
    let plan = api.get(path).expect(200).json()["digest"].as_str().unwrap().to_owned();
    let approve =
        || post(&api.base, APPROVE, &format!("{path}/approvals"), "agreed", &format!("{{\"plan\": \"{plan}\"}}"));
    let first = approve().expect(201).json();
    // Its process died before the answer was kept, and meanwhile somebody has taken it back.
    api.psql("UPDATE migration_approvals SET revoked_at = now()");
    api.psql("UPDATE http_idempotency SET status = NULL, body = NULL, created_at = now() - interval '2 minutes'");
    let again = approve().expect(201).json();
    assert_eq!((&again["id"], again["state"].as_str()), (&first["id"], Some("revoked")), "{again}");
    assert_eq!(api.psql("SELECT count(*) FROM migration_approvals"), "1");
    api.is_sound();
}

#[test]
fn many_at_once_are_one_run() {
    let api = BlackHole::new().api("idemmany");
    let (_second, other) = serve(&api.site, "second.log");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let base = if number.is_multiple_of(2) { &api.base } else { &other };
            scope.spawn(move || post(base, RUN, "/api/v1/jobs/retention/runs", "all-the-same", "{}"))
        };
        let asked: Vec<_> = (0..16).map(one).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| [202, 409].contains(&answer.status)), "{answers:?}");
    let mut bodies: Vec<&str> =
        answers.iter().filter(|answer| answer.status == 202).map(|answer| answer.body.as_str()).collect();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "1");
    let run = answers.iter().find(|answer| answer.status == 202).unwrap().json();
    let path = format!("/api/v1/runs/{}/cancel", run["id"].as_str().unwrap());
    let first = post(&other, RUN, &path, "stop", "").expect(202);
    assert_eq!(post(&api.base, RUN, &path, "stop", "").expect(202).body, first.body);
    api.wait_for(run["id"].as_str().unwrap(), "cancelled");
    // Also after the end of what it has stopped.
    post(&api.base, RUN, &path, "stop", "").expect(202);
    post(&api.base, RUN, &path, "stop-again", "").problem(409);
    api.is_sound();
}

#[test]
fn what_was_refused_may_be_asked_again() {
    let api = BlackHole::new().api("idemno");
    let run = post(&api.base, RUN, "/api/v1/jobs/retention/runs", "first", "").expect(202).json();
    post(&api.base, RUN, "/api/v1/jobs/retention/runs", "second", "").problem(409);
    api.post(RUN, &format!("/api/v1/runs/{}/cancel", run["id"].as_str().unwrap()), "").expect(202);
    api.wait_for(run["id"].as_str().unwrap(), "cancelled");
    let begun = eventually(Duration::from_secs(20), || {
        post(&api.base, RUN, "/api/v1/jobs/retention/runs", "second", "").status == 202
    });
    assert!(begun, "{}", api.daemon.log());
    api.is_sound();
}
