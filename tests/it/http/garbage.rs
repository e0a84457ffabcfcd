//! What a server must bear: bodies, heads and paths that are too long, too slow or nonsense. The bytes are written by hand
//! where no client would send them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{APPROVE, Api, READ, RUN, curl, tells_no_secret};

/// What comes back for these bytes until the other end closes, or the time is over.
fn raw(api: &Api, bytes: &[u8], limit: Duration) -> (String, bool) {
    let mut stream = connect(api);
    let _ = stream.write_all(bytes);
    rest(&mut stream, limit)
}

fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(api.base.strip_prefix("http://").unwrap()).unwrap()
}

/// What is still to come, and whether the other end has closed.
fn rest(stream: &mut TcpStream, limit: Duration) -> (String, bool) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (end, mut all, mut closed) = (Instant::now() + limit, Vec::new(), false);
    let mut buffer = [0; 16 * 1024];
    while !closed && Instant::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) => closed = true,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => closed = true,
        }
    }
    let text = String::from_utf8_lossy(&all).into_owned();
    tells_no_secret(&text);
    (text, closed)
}

fn status(text: &str) -> &str {
    text.split(' ').nth(1).unwrap_or_default()
}

const JSON: &str = "Content-Type: application/json";
const START: &str = "/api/v1/jobs/visibility/runs";

#[test]
fn bodies() {
    let api = Api::new("bodies");
    let post = |path: &str, args: &[&str]| {
        let mut all = vec!["-X", "POST"];
        all.extend(args);
        api.ask(APPROVE, path, &all)
    };
    let large = api.site.path().join("large");
    std::fs::write(&large, format!("{{\"shorten\": \"{}\"}}", "x".repeat(3_000_000))).unwrap();
    let large = format!("@{}", large.display());
    post(START, &["-H", JSON, "--data-binary", &large]).problem(413);
    post(START, &["-H", JSON, "-H", "Expect:", "--data-binary", &large]).problem(413);
    post(START, &["-H", JSON, "-H", "Transfer-Encoding: chunked", "--data-binary", &large]).problem(413);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let keys = format!("{{{}}}", (0..4000).map(|n| format!("\"k{n}\": 1")).collect::<Vec<_>>().join(", "));
    for body in [
        "{",
        "[]",
        "[true]",
        "1",
        "\"x\"",
        "{\"shorten\": 1}",
        "{\"shorten\": null}",
        "{\"nonsense\": true}",
        "\u{feff}{}",
        "{}{}",
        "{\"shorten\": false, \"shorten\": false}",
        "\0",
        deep.as_str(),
        keys.as_str(),
        "{\"shorten\": 1e999}",
    ] {
        post(START, &["-H", JSON, "--data-binary", &format!("@{}", file(&api, body.as_bytes()))]).problem(422);
    }
    post(START, &["-H", JSON, "--data-binary", &format!("@{}", file(&api, b"{\"shorten\": \xff\xfe}"))]).problem(422);
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx"]
    {
        post(START, &["-H", &format!("Content-Type: {kind}"), "-d", "{}"]).problem(415);
    }
    post(START, &["-H", "Content-Type:", "-d", "{}"]).problem(415);
    post(START, &["-H", JSON, "-H", "Content-Type: text/plain", "-d", "{}"]).problem(400);
    for encoding in ["gzip", "br", "deflate, gzip", "nonsense"] {
        let encoded = format!("Content-Encoding: {encoding}");
        let told = post(START, &["-H", JSON, "-H", &encoded, "-d", "{}"]).problem(415);
        assert!(told["detail"].as_str().unwrap().contains("compressed"), "{told}");
    }
    let long = format!("{{\"{}\": 1}}", "k".repeat(30_000));
    let told = post(START, &["-H", JSON, "-d", &long]).problem(422);
    assert!(told["detail"].as_str().unwrap().len() < 400, "{told}");
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    post(&format!("{START}?wait=20s"), &["-H", "Content-Type: APPLICATION/JSON; charset=utf-8", "-d", "{}"])
        .expect(200);
    post(&format!("{START}?wait=20s"), &[]).expect(200);
    // Where no body is looked at.
    let ended = api.psql("SELECT id FROM runs LIMIT 1");
    let answer = post(&format!("/api/v1/runs/{ended}/cancel"), &["-H", JSON, "-d", "{"]);
    answer.problem(409);
    api.is_sound();
}

fn file(api: &Api, bytes: &[u8]) -> String {
    let path = api.site.path().join("body");
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn queries_paths_and_methods() {
    let api = Api::new("paths");
    for query in
        ["nonsense=1", "limit=%FF", "limit=-1", "limit=99999999999999999999", "before=%00", "%", "limit=1;drop"]
    {
        api.get(&format!("/api/v1/runs?{query}")).problem(400);
    }
    // What was sent is not sent back whole.
    let told = api.get(&format!("/api/v1/runs?limit={}", "9".repeat(25_000))).problem(400);
    assert!(told["detail"].as_str().unwrap().len() < 400, "{told}");
    for wait in ["x", "-1s", "6m", "99999999999999999999s", "", "1s%00", "1h"] {
        api.post(RUN, &format!("{START}?wait={wait}"), "").problem(400);
    }
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    for path in [
        "/api/v1/../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/v1/runs/%2e%2e%2f%2e%2e",
        "/api/v1/runs/..%5c..%5c",
        "/api/v1/migrations/%ff",
        "//api//v1//runs",
        "/api/v1/runs/",
        "/API/v1/runs",
        "/api/v2/runs",
        "/sexton.yaml",
    ] {
        let answer = api.get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!answer.body.contains("root:") && !answer.body.contains("postgres:"), "{path}: {answer:?}");
    }
    // The longest that is taken, and longer ones.
    for (length, expect) in [(4_000, 404), (60_000, 414)] {
        let answer = api.get(&format!("/{}", "a".repeat(length)));
        assert!(answer.status == expect || (expect == 414 && answer.status == 431), "{length}: {}", answer.head);
    }
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "NONSENSE"] {
        let answer = api.ask(READ, "/api/v1/runs", &["-X", method]);
        assert!([400, 405].contains(&answer.status), "{method}: {answer:?}");
    }
    let head = api.ask(READ, "/api/v1/runs", &["--head"]).expect(200);
    assert_eq!(head.body, "");
    let old = api.ask(READ, "/api/v1/runs", &["--http1.0"]).expect(200);
    assert!(old.head.starts_with("HTTP/1.0 200"), "{}", old.head);
    api.is_sound();
}

#[test]
fn heads() {
    let api = Api::new("heads");
    let many: String = (0..400).map(|n| format!("X-H{n}: {n}\r\n")).collect();
    let (long, auth) = ("x".repeat(200_000), format!("Authorization: Bearer {READ}\r\n"));
    let soon = Duration::from_secs(8);
    for (bytes, allowed) in [
        (format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n"), "431"),
        (format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), "414 431"),
        ("\0\0\0\0\0\0\0\0\r\n\r\n".to_owned(), "400"),
        ("GET\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nX\0Y: 1\r\n\r\n".to_owned(), "400"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(), "400"),
        (
            format!("POST {START} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
            "400",
        ),
        (format!("POST {START} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: x\r\n\r\n"), "400"),
        (format!("POST {START} HTTP/1.1\r\nHost: x\r\n{auth}Transfer-Encoding: nonsense\r\n\r\n"), "400"),
    ] {
        let (text, closed) = raw(&api, bytes.as_bytes(), soon);
        // Either it says what it minds, or it hangs up.
        assert!(closed && (text.is_empty() || allowed.contains(status(&text))), "{bytes:.60}: {closed} {text}");
    }
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    // A header that is not text is no token.
    let (text, _) = raw(
        &api,
        b"GET /api/v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        soon,
    );
    assert_eq!(status(&text), "401", "{text}");
    for value in ["Basic eDp5", "Bearer", "Bearer ", "bearer\t", "Digest x", ""] {
        let answer =
            api.ask("", "/api/v1/runs", &["-H", &format!("Authorization: {value}"), "--interface", "127.0.0.77"]);
        assert_eq!(answer.status, 401, "{value}: {answer:?}");
    }
    // Which of two counts would be a guess, also when they are alike.
    let two = ["-H", &format!("Authorization: Bearer {READ}"), "-H", "Authorization: Bearer another-token-than-this"];
    api.ask("", "/api/v1/runs", &two).problem(400);
    api.ask("", "/api/v1/runs", &[two[0], two[1], two[0], two[1]]).problem(400);
    let keys = ["-X", "POST", "-H", "Idempotency-Key: one", "-H", "Idempotency-Key: two"];
    api.ask(RUN, START, &keys).problem(400);
    let run = format!("Authorization: Bearer {RUN}");
    api.ask(APPROVE, START, &["-X", "POST", "-H", &run]).problem(400);
    assert_eq!(
        api.psql("SELECT string_agg(who, ',') FROM http_actions"),
        "ops",
        "the one request that said who it was"
    );
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    // In whatever case the scheme is written.
    api.ask("", "/api/v1/runs", &["-H", &format!("authorization: BEARER {READ}")]).expect(200);
    api.is_sound();
}

#[test]
fn slow_ones_are_not_waited_for() {
    let api = Api::new("slow");
    let began = Instant::now();
    let mut nothing = connect(&api);
    let mut begun = connect(&api);
    begun.write_all(b"P").unwrap();
    let mut head = connect(&api);
    head.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    let mut body = connect(&api);
    let auth = format!("Authorization: Bearer {RUN}\r\n{JSON}\r\n");
    body.write_all(format!("POST {START} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 100\r\n\r\n{{").as_bytes())
        .unwrap();
    let mut idle = connect(&api);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // A byte each second keeps nothing open.
    for _ in 0..13 {
        std::thread::sleep(Duration::from_secs(1));
        let _ = (head.write_all(b"x"), body.write_all(b" "));
    }
    let left = Duration::from_secs(12);
    let (text, closed) = rest(&mut body, left);
    assert_eq!((status(&text), closed), ("408", true), "{text}");
    for (name, stream) in [("nothing", &mut nothing), ("the first byte", &mut begun), ("a head", &mut head)] {
        let (text, closed) = rest(stream, left);
        assert!(closed, "{name}: {text}");
        assert!(text.is_empty() || status(&text) == "408", "{name}: {text}");
    }
    let (text, closed) = rest(&mut idle, left);
    assert_eq!((status(&text), closed), ("200", true), "{text}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    // A connection that is used stays.
    let url = api.url("/healthz");
    curl(&[url.as_str()]).unwrap().expect(200);
    api.is_sound();
}

/// One of HTTP/2 that takes part in everything and asks for nothing; how long it is kept.
fn idle_of_http2(api: &Api) -> Duration {
    let began = Instant::now();
    let mut stream = connect(api);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The preface, and settings of nothing.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let mut body = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        if stream.read_exact(&mut body).is_err() {
            break;
        }
        // Settings (4) and pings (6) that are no acknowledgement are acknowledged.
        if [4, 6].contains(&head[3]) && head[4] & 1 == 0 {
            let body = if head[3] == 6 { body } else { vec![] };
            let length = u8::try_from(body.len()).unwrap();
            let _ = stream.write_all(&[&[0, 0, length, head[3], 1, 0, 0, 0, 0][..], &body].concat());
        }
    }
    began.elapsed()
}

#[test]
fn an_idle_connection_of_http2_is_closed_as_well() {
    let api = Api::new("idle2");
    let kept = idle_of_http2(&api);
    assert!(kept > Duration::from_secs(9) && kept < Duration::from_secs(40), "{kept:?}");
    api.is_sound();
}

#[test]
fn noise() {
    let api = Api::new("noise");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift: the same noise each time.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let good = format!(
        "POST {START}?wait=1s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {READ}\r\n{JSON}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    for round in 0..300 {
        let mut bytes =
            if round % 3 == 0 { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { good.clone().into_bytes() };
        for _ in 0..=(next() % 8) {
            let place = usize::try_from(next()).unwrap_or(usize::MAX) % bytes.len();
            match next() % 3 {
                0 => bytes[place] = next().to_le_bytes()[0],
                1 => bytes.insert(place, next().to_le_bytes()[0]),
                _ => bytes.truncate(place.max(1)),
            }
        }
        let mut stream = connect(&api);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        rest(&mut stream, Duration::from_millis(300));
    }
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "0");
    api.is_sound();
}
