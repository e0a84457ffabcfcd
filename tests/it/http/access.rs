//! Who may what: every route by every kind of visitor.

use super::{APPROVE, Api, READ, RUN};

/// Nobody, a wrong token, and the three roles.
const VISITORS: [&str; 5] = ["", "wrong-token-that-nobody-has", READ, RUN, APPROVE];

/// A route of the description (or beside it), what is asked for in its place, and what each visitor gets.
struct Route(&'static str, &'static str, &'static str, [u16; 5]);

const LOOK: [u16; 5] = [401, 401, 200, 200, 200];
const ANYBODY: [u16; 5] = [200; 5];

/// `RUN_ID` is a run that has ended.
const ROUTES: &[Route] = &[
    Route("get", "/api/v1/status", "/api/v1/status", LOOK),
    Route("get", "/api/v1/connections", "/api/v1/connections", LOOK),
    Route("get", "/api/v1/retention", "/api/v1/retention", LOOK),
    Route("get", "/api/v1/visibility", "/api/v1/visibility", LOOK),
    Route("get", "/api/v1/backups", "/api/v1/backups", LOOK),
    Route("get", "/api/v1/jobs", "/api/v1/jobs", LOOK),
    Route("post", "/api/v1/jobs/{job}/runs", "/api/v1/jobs/visibility/runs?wait=20s", [401, 401, 403, 200, 200]),
    Route("get", "/api/v1/runs", "/api/v1/runs", LOOK),
    Route("get", "/api/v1/runs/{id}", "/api/v1/runs/RUN_ID", LOOK),
    Route("get", "/api/v1/runs/{id}/log", "/api/v1/runs/RUN_ID/log", LOOK),
    Route("post", "/api/v1/runs/{id}/cancel", "/api/v1/runs/RUN_ID/cancel", [401, 401, 403, 409, 409]),
    Route("get", "/api/v1/events", "/api/v1/events", LOOK),
    Route("get", "/api/v1/migrations", "/api/v1/migrations", LOOK),
    // The one that comes with sexton asks for tables that the ledger's server has not under this name.
    Route("get", "/api/v1/migrations/{name}", "/api/v1/migrations/none-of-this-name", [401, 401, 404, 404, 404]),
    Route(
        "post",
        "/api/v1/migrations/{name}/approvals",
        "/api/v1/migrations/tune-autovacuum/approvals",
        [401, 401, 403, 403, 422],
    ),
    Route(
        "delete",
        "/api/v1/migrations/{name}/approvals",
        "/api/v1/migrations/tune-autovacuum/approvals",
        [401, 401, 403, 403, 200],
    ),
    Route(
        "post",
        "/api/v1/migrations/{name}/runs",
        "/api/v1/migrations/none-of-this-name/runs",
        [401, 401, 403, 404, 404],
    ),
    Route(
        "post",
        "/api/v1/migrations/{name}/undo",
        "/api/v1/migrations/none-of-this-name/undo",
        [401, 401, 403, 403, 404],
    ),
    Route("get", "/api/v1/actions", "/api/v1/actions", LOOK),
    Route("get", "/api/v1/webhooks/deliveries", "/api/v1/webhooks/deliveries", LOOK),
    Route(
        "post",
        "/api/v1/webhooks/deliveries/{id}/retry",
        "/api/v1/webhooks/deliveries/00000000-0000-7000-8000-000000000000/retry",
        [401, 401, 403, 404, 404],
    ),
    Route(
        "post",
        "/api/v1/webhooks/deliveries/{id}/dismiss",
        "/api/v1/webhooks/deliveries/00000000-0000-7000-8000-000000000000/dismiss",
        [401, 401, 403, 404, 404],
    ),
];

/// A page leads whoever is not signed in to where that is done.
const PAGE: [u16; 5] = [303, 303, 200, 200, 200];
/// What a page sends comes as a form, and this does not.
const FORM: [u16; 5] = [303, 303, 415, 415, 415];

/// What the description leaves out.
const BESIDE: &[Route] = &[
    Route("get", "/", "/", PAGE),
    Route("get", "/docs", "/docs", PAGE),
    Route("get", "/runs", "/runs", PAGE),
    Route("get", "/retention", "/retention", PAGE),
    Route("get", "/visibility", "/visibility", PAGE),
    Route("get", "/backups", "/backups", PAGE),
    Route("get", "/migrations", "/migrations", PAGE),
    Route("get", "/webhooks", "/webhooks", PAGE),
    Route("get", "/actions", "/actions", PAGE),
    Route("get", "/runs/{id}", "/runs/RUN_ID", PAGE),
    Route("get", "/sign-in", "/sign-in", ANYBODY),
    Route("get", "/assets/style.css", "/assets/style.css", ANYBODY),
    Route("get", "/assets/live.js", "/assets/live.js", ANYBODY),
    Route("get", "/assets/icon.svg", "/assets/icon.svg", ANYBODY),
    Route("post", "/jobs/{job}/runs", "/jobs/visibility/runs", FORM),
    Route("post", "/runs/{id}/cancel", "/runs/RUN_ID/cancel", FORM),
    Route("post", "/migrations/{name}/approvals", "/migrations/tune-autovacuum/approvals", FORM),
    Route("post", "/migrations/{name}/revoke", "/migrations/tune-autovacuum/revoke", FORM),
    Route("post", "/migrations/{name}/runs", "/migrations/tune-autovacuum/runs", FORM),
    Route("post", "/migrations/{name}/undo", "/migrations/tune-autovacuum/undo", FORM),
    Route("post", "/webhooks/{id}/retry", "/webhooks/RUN_ID/retry", FORM),
    Route("post", "/webhooks/{id}/dismiss", "/webhooks/RUN_ID/dismiss", FORM),
    Route("post", "/sign-out", "/sign-out", FORM),
    Route("get", "/openapi.json", "/openapi.json", ANYBODY),
    Route("get", "/metrics", "/metrics", ANYBODY),
    Route("get", "/healthz", "/healthz", ANYBODY),
    Route("get", "/readyz", "/readyz", ANYBODY),
];

#[test]
fn every_route_by_every_visitor() {
    let api = Api::new("access");
    let run = api.post(RUN, "/api/v1/jobs/visibility/runs?wait=20s", "").expect(200).json();
    let id = run["id"].as_str().unwrap();
    let mut wrong = Vec::new();
    for (number, Route(method, route, path, expect)) in ROUTES.iter().chain(BESIDE).enumerate() {
        let path = path.replace("RUN_ID", id);
        for (visitor, status) in VISITORS.iter().zip(expect) {
            // From another address each time: who comes with too many wrong tokens has to wait.
            let from = format!("127.0.1.{}", number + 1);
            let method = method.to_uppercase();
            let mut args = vec!["-X", method.as_str(), "--interface", from.as_str()];
            if *route == "/api/v1/events" {
                args.extend(["--max-time", "2"]);
            }
            let answer = api.ask(visitor, &path, &args);
            if answer.status != *status {
                wrong.push(format!("{method} {path} for `{visitor}`: {}, not {status}", answer.status));
            }
            if answer.status == 401 && answer.header("www-authenticate") != Some("Bearer realm=\"sexton\"") {
                wrong.push(format!("{method} {path} does not say how to sign in"));
            }
            for header in ["content-security-policy", "x-content-type-options", "x-frame-options", "cache-control"] {
                if answer.header(header).is_none() {
                    wrong.push(format!("{method} {path} has no header {header}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    api.is_sound();
}

#[test]
fn every_route_is_in_the_table() {
    let api = Api::new("routes");
    let description = api.ask("", "/openapi.json", &[]).expect(200).json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"), "{}", description["openapi"]);
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.push((method.clone(), path.clone()));
        }
    }
    let mut known: Vec<_> = ROUTES.iter().map(|route| (route.0.to_owned(), route.1.to_owned())).collect();
    described.sort();
    known.sort();
    assert_eq!(described, known);
}

#[test]
fn the_metrics_are_closed_where_that_is_wanted() {
    let api = Api::with("closed", "  public_metrics: false\n");
    // The page's own look is at the same place; without a token only these two answer.
    api.ask("", "/healthz", &[]).expect(200);
    api.ask("", "/readyz", &[]).expect(200);
    api.ask(READ, "/metrics", &[]).expect(200);
    api.is_sound();
}

#[test]
fn the_metrics_are_for_whoever_comes_straight_to_them() {
    let api = Api::with("straight", "  trusted_proxies: [127.0.4.0/24]\n");
    api.ask("", "/metrics", &[]).expect(200);
    // Whether the proxy is one to be trusted or not.
    for from in ["127.0.4.1", "127.0.0.9"] {
        for header in
            ["X-Forwarded-For: 203.0.113.9", "X-Real-IP: ", "X-Forwarded-Host: a.example", "Forwarded: for=_a"]
        {
            // curl sends a header without a value when it ends with a semicolon.
            let header = header.strip_suffix(": ").map_or(header.to_owned(), |name| format!("{name};"));
            let ask = |token: &str| api.ask(token, "/metrics", &["--interface", from, "-H", &header]);
            let told = ask("").problem(401);
            assert!(told["detail"].as_str().unwrap().contains("nobody is signed in"), "{told}");
            assert!(ask(READ).expect(200).body.contains("sexton_leader"));
        }
    }
    // The kubelet's probes, and those of a load balancer.
    api.ask("", "/healthz", &["-H", "X-Forwarded-For: 203.0.113.9"]).expect(200);
    api.is_sound();
}

#[test]
fn what_somebody_did_is_written() {
    let api = Api::new("actions");
    api.post(RUN, "/api/v1/jobs/visibility/runs?wait=20s", "").expect(200);
    api.post(READ, "/api/v1/jobs/visibility/runs", "").problem(403);
    api.post("wrong-token-that-nobody-has", "/api/v1/jobs/visibility/runs", "").problem(401);
    api.ask(RUN, "/api/v1/status", &["-X", "PUT"]).problem(405);
    api.get("/api/v1/status").expect(200);
    let noted = api.psql("SELECT who, role, address, method, path, status FROM http_actions ORDER BY id");
    let path = "/api/v1/jobs/visibility/runs";
    let expect = format!(
        "ops|run|127.0.0.1|POST|{path}|200\nviewer|read|127.0.0.1|POST|{path}|403\nops|run|127.0.0.1|PUT|/api/v1/status|405"
    );
    assert_eq!(noted, expect);
    let told = api.get("/api/v1/actions?limit=2").expect(200).json();
    assert_eq!(told["actions"][0]["who"], "ops");
    assert_eq!(told["actions"][1]["status"], 403);
    let next = told["next"].as_str().unwrap();
    let told = api.get(&format!("/api/v1/actions?limit=2&before={next}")).expect(200).json();
    assert_eq!((told["actions"].as_array().unwrap().len(), &told["next"]), (1, &serde_json::Value::Null));
    api.is_sound();
}
