//! Sessions, the proxy in front, and whoever guesses tokens. Cookies are made here by the rule that the daemon keeps them
//! by, with the key that it has put into the ledger.

use aws_lc_rs::hmac;

use super::{APPROVE, Answer, Api, READ, RUN, ask, serve};

/// A seal as the daemon makes it: each part with its length in front.
fn seal(api: &Api, parts: &[&str]) -> String {
    let key = api.psql("SELECT secret FROM keys WHERE name = 'http-sessions'");
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex::encode(context.sign().as_ref())
}

/// The cookie of somebody who has signed in with this token, and what their forms carry.
fn session(api: &Api, name: &str, token: &str, until: i64) -> (String, String) {
    let (until, secret) = (until.to_string(), blake3::hash(token.as_bytes()).to_hex());
    let tag = seal(api, &["session", name, &until, "a-nonce", &secret]);
    let csrf = seal(api, &["csrf", "session", name, "a-nonce"]);
    (format!("Cookie: sexton={name}:{until}:a-nonce:{tag}"), format!("X-CSRF-Token: {csrf}"))
}

const FAR: i64 = 4_000_000_000;
const START: &str = "/api/v1/jobs/visibility/runs?wait=20s";

fn post(api: &Api, headers: &[&str]) -> Answer {
    let mut args = vec!["-X", "POST"];
    args.extend(headers.iter().flat_map(|header| ["-H", header]));
    api.ask("", START, &args)
}

#[test]
fn a_cookie_alone_changes_nothing() {
    let api = Api::new("csrf");
    let (cookie, csrf) = session(&api, "ops", RUN, FAR);
    api.ask("", "/api/v1/status", &["-H", &cookie]).expect(200);
    let told = post(&api, &[&cookie]).problem(403);
    assert!(told["detail"].as_str().unwrap().contains("`X-CSRF-Token` is missing, or of another session"), "{told}");
    assert!(told["hint"].as_str().unwrap().starts_with("send `X-CSRF-Token`, or `Authorization: Bearer"), "{told}");
    let (_, other) = session(&api, "ada", APPROVE, FAR);
    post(&api, &[&cookie, &other]).problem(403);
    post(&api, &[&cookie, "X-CSRF-Token: "]).problem(403);
    for site in ["cross-site", "same-site", "nonsense"] {
        let told = post(&api, &[&cookie, &csrf, &format!("Sec-Fetch-Site: {site}")]).problem(403);
        assert!(told["detail"].as_str().unwrap().contains("another site"), "{told}");
    }
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    post(&api, &[&cookie, &csrf, "Sec-Fetch-Site: same-origin"]).expect(200);
    // A program sends its token on purpose.
    api.ask(RUN, START, &["-X", "POST", "-H", "Sec-Fetch-Site: cross-site"]).expect(200);
    assert_eq!(api.psql("SELECT string_agg(requested_by, ',') FROM runs"), "ops,ops");
    // A session does not raise what its token may.
    let (cookie, csrf) = session(&api, "viewer", READ, FAR);
    post(&api, &[&cookie, &csrf]).problem(403);
    api.is_sound();
}

#[test]
fn a_session_ends_with_its_time_and_with_its_token() {
    let mut api = Api::new("ended");
    let (cookie, _) = session(&api, "ops", RUN, FAR);
    api.ask("", "/api/v1/status", &["-H", &cookie]).expect(200);
    for wrong in [
        session(&api, "ops", RUN, 1_000_000_000).0,
        session(&api, "ops", READ, FAR).0,
        session(&api, "nobody", RUN, FAR).0,
        cookie.replace("ops:4", "ops:5"),
        cookie.replace("sexton=ops", "sexton=ada"),
        format!("{cookie}0"),
        "Cookie: sexton=".to_owned(),
        "Cookie: sexton=::::::".to_owned(),
    ] {
        api.ask("", "/api/v1/status", &["-H", &wrong]).problem(401);
    }
    // Beside another cookie of the same name, the good one is found.
    let two = cookie.replace("Cookie: ", "Cookie: sexton=old; a=b; ");
    api.ask("", "/api/v1/status", &["-H", &two]).expect(200);

    api.daemon.signal("TERM");
    assert_eq!(api.daemon.wait(), Some(0), "{}", api.daemon.log());
    let path = api.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    let without: Vec<&str> = config.lines().filter(|line| !line.contains("name: ops")).collect();
    std::fs::write(&path, without.join("\n")).unwrap();
    (api.daemon, api.base) = serve(&api.site, "without.log");
    api.ask("", "/api/v1/status", &["-H", &cookie]).problem(401);
    let (viewer, _) = session(&api, "viewer", READ, FAR);
    api.ask("", "/api/v1/status", &["-H", &viewer]).expect(200);
    api.is_sound();
}

const PROXY: &str = "  proxy: {trusted: [127.0.2.0/24], roles: {grace@example.com: run}, others: read}\n";

#[test]
fn a_name_counts_only_when_the_proxy_tells_it() {
    let api = Api::with("proxy", PROXY);
    let from = |from: &str, more: &[&str]| {
        let mut args = vec!["--interface", from];
        args.extend(more);
        api.ask("", "/api/v1/status", &args)
    };
    let (grace, joan) = ("X-Forwarded-User: grace@example.com", "X-Forwarded-User: joan@example.com");
    from("127.0.0.1", &["-H", grace]).problem(401);
    from("127.0.3.1", &["-H", grace]).problem(401);
    from("127.0.2.7", &["-H", grace]).expect(200);
    from("127.0.2.7", &["-H", joan]).expect(200);
    from("127.0.2.7", &[]).problem(401);
    // Two names are none: one of them was not the proxy's.
    from("127.0.2.7", &["-H", grace, "-H", joan]).problem(401);
    // oauth2-proxy's own login beside it.
    from("127.0.2.7", &["-H", grace, "-H", "Authorization: Basic Z3JhY2U6"]).expect(200);
    from("127.0.0.1", &["-H", grace, "-H", "Authorization: Basic Z3JhY2U6"]).problem(401);
    // A token counts more than the name.
    from("127.0.2.7", &["-H", grace, "-H", "Authorization: Bearer wrong-token-0000000"]).problem(401);

    let start = |name: &str, csrf: &str| {
        let csrf = format!("X-CSRF-Token: {csrf}");
        api.ask("", START, &["-X", "POST", "--interface", "127.0.2.7", "-H", name, "-H", &csrf])
    };
    start(grace, "").problem(403);
    start(joan, &seal(&api, &["csrf", "proxy", "joan@example.com", ""])).problem(403);
    start(grace, &seal(&api, &["csrf", "proxy", "grace@example.com", ""])).expect(200);
    assert_eq!(api.psql("SELECT requested_by FROM runs"), "grace@example.com");
    api.is_sound();
}

#[test]
fn behind_the_proxy_nobody_else_is_let_in_where_only_some_are() {
    let api = Api::with("named", "  proxy: {trusted: [127.0.2.0/24], roles: {grace@example.com: run}}\n");
    let args = ["--interface", "127.0.2.1", "-H", "X-Forwarded-User: joan@example.com"];
    let told = api.ask("", "/api/v1/status", &args).problem(403);
    assert!(told["hint"].as_str().unwrap().contains("http.proxy.roles"), "{told}");
    api.is_sound();
}

#[test]
fn who_guesses_has_to_wait() {
    let api = Api::with("throttle", PROXY);
    let wrong = |number: usize| format!("a-wrong-token-of-many-{number}");
    let from = |from: &str, token: &str, more: &[&str]| {
        let mut args = vec!["--interface", from];
        args.extend(more);
        api.ask(token, "/api/v1/runs", &args)
    };
    for number in 0..20 {
        from("127.0.0.9", &wrong(number), &[]).problem(401);
    }
    for token in [wrong(20).as_str(), READ] {
        let answer = from("127.0.0.9", token, &[]);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait), "{wait}");
        answer.problem(429);
    }
    from("127.0.0.10", READ, &[]).expect(200);
    // Nobody can lock another address out, or get past by writing the header.
    from("127.0.0.9", READ, &["-H", "X-Forwarded-For: 10.1.1.1"]).problem(429);

    // Behind the proxy it is the visitor who waits, by the last address that is not the proxy's.
    let visitor =
        |address: &str, token: &str| from("127.0.2.1", token, &["-H", &format!("X-Forwarded-For: {address}")]);
    for number in 0..20 {
        visitor("203.0.113.9, 198.51.100.7, 127.0.2.8", &wrong(number)).problem(401);
    }
    visitor("198.51.100.7", READ).problem(429);
    visitor("10.9.9.9, 198.51.100.7", READ).problem(429);
    visitor("203.0.113.9", READ).expect(200);
    visitor("nonsense", READ).expect(200);
    // All of an IPv6 network is one visitor.
    for number in 0..20 {
        visitor(&format!("2001:db8:1:1::{number:x}"), &wrong(number)).problem(401);
    }
    visitor("2001:db8:1:1:ffff::1", READ).problem(429);
    visitor("2001:db8:1:2::1", READ).expect(200);
    api.is_sound();
}

#[test]
fn behind_an_ingress_it_is_the_visitor_who_waits() {
    let api = Api::with("ingress", "  trusted_proxies: [127.0.4.0/24]\n");
    let from = |from: &str, forwarded: &str, token: &str, more: &[&str]| {
        let header = format!("X-Forwarded-For: {forwarded}");
        let args = [&["--interface", from, "-H", &header], more].concat();
        api.ask(token, "/api/v1/runs", &args)
    };
    let ingress = |forwarded: &str, token: &str| from("127.0.4.1", forwarded, token, &[]);
    for number in 0..20 {
        ingress("198.51.100.7", &format!("a-wrong-token-of-many-{number}")).problem(401);
    }
    ingress("198.51.100.7", READ).problem(429);
    ingress("203.0.113.9", READ).expect(200);
    // What the visitor wrote comes before what the ingress has added.
    ingress("203.0.113.9, 198.51.100.7", READ).problem(429);
    ingress("nonsense, 198.51.100.7:4711", READ).problem(429);
    // What is no address is not believed, nor anything in front of it.
    for garbage in ["nonsense", "198.51.100.7, nonsense", "198.51.100.7,", "198.51.100.7, unknown, 127.0.4.2"] {
        ingress(garbage, READ).expect(200);
    }
    // From anywhere else the header means nothing: neither is this address the other's, nor does it get away by it.
    from("127.0.0.9", "198.51.100.7", READ, &[]).expect(200);
    for number in 0..20 {
        let forwarded = format!("10.1.1.{number}");
        from("127.0.0.9", &forwarded, &format!("a-wrong-token-of-many-{number}"), &[]).problem(401);
    }
    from("127.0.0.9", "203.0.113.9", READ, &[]).problem(429);
    // An ingress tells addresses, not names.
    from("127.0.4.1", "203.0.113.9", "", &["-H", "X-Forwarded-User: ada"]).problem(401);

    for (address, forwarded) in [("127.0.4.1", "203.0.113.9"), ("127.0.4.1", "2001:db8::1"), ("127.0.0.10", "10.1.1.1")]
    {
        let header = format!("X-Forwarded-For: {forwarded}");
        api.ask(RUN, START, &["-X", "POST", "--interface", address, "-H", &header]).expect(200);
    }
    let noted = api.psql("SELECT string_agg(address, ' ' ORDER BY id) FROM http_actions");
    assert_eq!(noted, "203.0.113.9 2001:db8::1 127.0.0.10");
    api.is_sound();
}

/// Whoever sits before a browser reads pages, also when something is wrong; no JSON.
#[test]
fn people_are_told_on_a_page() {
    let api = Api::new("people");
    let (cookie, _) = session(&api, "ops", RUN, FAR);
    let (ended, _) = session(&api, "ops", RUN, 1_000_000_000);
    let page = |path: &str, status: u16, args: &[&str]| {
        let answer = api.ask("", path, args).expect(status);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}: {}", answer.head);
        assert!(answer.body.contains("<html"), "{path}: {}", answer.body);
        answer.body
    };
    let id = "01a20b05-81e4-713f-a6fc-f27b6ae7ae35";
    let forms = [
        "/jobs/visibility/runs".to_owned(),
        format!("/runs/{id}/cancel"),
        "/migrations/tune-autovacuum/approvals".to_owned(),
        "/migrations/tune-autovacuum/revoke".to_owned(),
        "/migrations/tune-autovacuum/runs".to_owned(),
        format!("/webhooks/{id}/retry"),
        format!("/webhooks/{id}/dismiss"),
        "/sign-out".to_owned(),
        "/sign-in".to_owned(),
    ];
    let large = format!("csrf={}", "x".repeat(70_000));
    for path in &forms {
        // Fields that are missing, a body that is no form, and one that is too large.
        let told = page(path, 422, &["-H", &cookie, "-d", "a=b"]);
        assert!(told.contains("the form does not fit"), "{path}: {told}");
        page(path, 415, &["-H", &cookie, "-H", "Content-Type: text/plain", "-d", "a=b"]);
        page(path, 413, &["-H", &cookie, "-d", &large]);
    }
    page("/sign-in?next=/&next=/runs", 400, &[]);
    page("/runs?before=nonsense", 400, &["-H", &cookie]);
    page("/docs", 200, &["-H", &cookie]);
    for (path, to) in [("/docs", "/sign-in?next=%2Fdocs"), ("/runs?job=backup", "/sign-in?next=%2Fruns%3Fjob%3Dbackup")]
    {
        let answer = api.ask("", path, &["-H", &ended]).expect(303);
        assert_eq!(answer.header("location"), Some(to));
    }
    api.is_sound();
}

#[test]
fn a_cookie_is_that_of_every_replica() {
    let api = Api::new("cookies");
    let (_second, base) = serve(&api.site, "second.log");
    let (cookie, csrf) = session(&api, "ops", RUN, FAR);
    ask(&base, "", "/api/v1/status", &["-H", &cookie]).unwrap().expect(200);
    ask(&base, "", START, &["-X", "POST", "-H", &cookie, "-H", &csrf]).unwrap().expect(200);
    api.is_sound();
}
