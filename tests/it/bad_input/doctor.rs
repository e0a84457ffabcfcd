//! `sexton doctor` where much is wrong at once: all of it is listed.

use super::{CLOSED, Case, Table};
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::stack;
use crate::support::temporal::plain;

#[test]
fn everything_that_is_wrong_is_listed() {
    let config = format!(
        "postgres:\n  host: 127.0.0.1\n  port: {}\n  user: postgres\n  password: {{env: IT_SECRET}}\n  \
         databases: {{main: temporal, visibility: temporal_visibility}}\nledger: {{database: sexton}}\n\
         temporal: {{address: '{CLOSED}'}}\nsearch: {{url: 'http://{CLOSED}'}}\n\
         store:\n  s3:\n    bucket: it-no-such-bucket\n    endpoint: {}\n    path_style: true\n    \
         credentials: {{access_key: {{env: STACK_S3_ACCESS_KEY}}, secret_key: {{env: STACK_S3_SECRET_KEY}}}}\n",
        stack().get("PG15_PORT"),
        stack().get("S3_ENDPOINT"),
    );
    let site = || Site::new(&config).policy("retention", "{}");
    let refused = "PG15 refused the password of role `postgres`";
    Table::default()
        .case(
            Case::new("much at once", site(), "doctor")
                .says(1, "")
                .prints("database temporal: PostgreSQL at PG15 refused the password of role `postgres`")
                .prints("database temporal_visibility: PostgreSQL at PG15 refused the password of role `postgres`")
                .prints("ledger    database sexton: PostgreSQL at PG15 refused")
                .prints("temporal  connection: Temporal at 127.0.0.1:1: connection refused")
                .prints("search    connection: search engine at http://127.0.0.1:1 cannot be reached")
                .prints("store     access: the bucket of s3://it-no-such-bucket does not exist")
                .prints("warn  config    policy visibility: policies/visibility.yaml does not exist")
                .prints("6 failed, "),
        )
        .case(
            Case::new("much at once, as JSON", site(), "doctor --json")
                .says(1, "")
                .prints(refused)
                .prints("\"failed\": 6"),
        )
        .check();
}

/// What only a run would tell, weeks later: a drill that has nowhere to restore, or nothing that opens the backups; and
/// a policy for namespaces that nobody has.
#[test]
fn what_would_fail_later_is_said_now() {
    let ledger = Scratch::new("doctor");
    let server = plain();
    let (sections, address) = (postgres_sections(&ledger, server.database()), &server.address);
    let config = format!("{sections}store: {{directory: store}}\ntemporal: {{address: '{address}'}}\n");
    let weekly = "jobs: {drill: {cron: '0 6 * * 0'}}\n";
    let site = Site::new(&config)
        .policy("schedule", weekly)
        .policy("backup", "{}")
        .policy("retention", "applies_to: ['it-fersh-*']\nnamespaces: {it-nobody: {}}\n");
    site.run(&["ledger", "init"]).expect(0);
    let said = site.run(&["doctor"]).expect(0);
    for text in [
        "warn  config    schedule drill: it fails each time: there is no server to restore on",
        "add `scratch:` to sexton.yaml",
        "`it-fersh-*` matches no namespace",
        "there is no namespace `it-nobody`",
        "store does not exist; the first backup makes it",
    ] {
        assert!(said.out.contains(text), "{text}: {said:?}");
    }
    assert!(!site.path().join("store").exists(), "who only looks makes nothing");
    assert!(site.run(&["plan", "retention"]).out.contains("`it-fersh-*` matches no namespace"));

    let key = site.run(&["backup", "keygen", "--output", "key.txt"]).expect(0).out;
    let sealed = format!("encryption: {{recipients: [{}]}}\n", key.trim());
    let scratch = sections.lines().take_while(|line| !line.contains("databases:")).collect::<Vec<_>>().join("\n");
    let scratch = scratch.replace("postgres:", "scratch:");
    let config = format!("{config}{scratch}\n");
    let unable = Site::new(&config).policy("schedule", weekly).policy("backup", &sealed);
    assert!(unable.run(&["doctor"]).out.contains("under `store.identities` in sexton.yaml"));
    let path = site.path().join("key.txt");
    let named = format!("store: {{directory: store, identities: [{{file: {}}}]}}", path.display());
    let able = Site::new(&config.replace("store: {directory: store}", &named));
    let able = able.policy("schedule", weekly).policy("backup", &sealed);
    assert!(!able.run(&["doctor"]).out.contains("schedule drill"));
}

/// What a daemon would not start with, and webhooks could not be told with, beside everything else.
#[test]
fn what_serves_and_tells_is_examined_too() {
    let ledger = Scratch::new("doctor");
    let server = plain();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let config = |http: &str| {
        let sections = postgres_sections(&ledger, server.database());
        format!(
            "{sections}http:\n  listen: '{listen}'\n  tokens: [{{name: ops, role: run, token: {{env: IT_TOKEN}}}}]\n{http}"
        )
    };
    let first = Site::new(&config(""));
    first.run(&["ledger", "init"]).expect(0);
    let unset = first.run(&["doctor"]).expect(1);
    assert!(unset.out.contains("FAIL  http      settings: sexton.yaml:"), "{unset:?}");
    assert!(unset.out.contains("the environment variable IT_TOKEN is not set"), "{unset:?}");
    assert!(unset.out.contains("ok    ledger    database"), "the rest is examined: {unset:?}");
    let hooks = Site::new(&config("webhooks: [{name: a, url: {env: IT_NOT_SET}}]\n"))
        .env("IT_TOKEN", "long-enough-for-a-token");
    let unset = hooks.run(&["doctor"]).expect(1);
    assert!(unset.out.contains("FAIL  webhooks  settings: sexton.yaml:"), "{unset:?}");
    assert!(unset.out.contains(&format!("warn  http      address: something else listens at {listen}")), "{unset:?}");
    let mut dripping = taken.try_clone().unwrap();
    let drips = std::thread::spawn(move || drip(&mut dripping));
    let began = std::time::Instant::now();
    let slow = hooks.run(&["doctor"]).expect(1);
    assert!(slow.out.contains("warn  http      address: something else listens"), "{slow:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
    drips.join().unwrap();
    drop(taken);
    let free = hooks.run(&["doctor"]).expect(1);
    assert!(free.out.contains(&format!("ok    http      address: {listen} is free")), "{free:?}");
    let device = Site::new(&config("  tls: {certificate: /dev/zero, key: /dev/zero}\n"));
    let device = device.env("IT_TOKEN", "long-enough-for-a-token").run(&["doctor"]).expect(1);
    assert!(device.out.contains("/dev/zero is not a file"), "{device:?}");
    let broken = Site::new(&config("  tls: {certificate: chain.pem, key: chain.pem}\n"))
        .env("IT_TOKEN", "long-enough-for-a-token")
        .file("chain.pem", "no certificate\n");
    let broken = broken.run(&["doctor"]).expect(1);
    assert!(broken.out.contains("FAIL  http      certificate: ") && broken.out.contains("chain.pem"), "{broken:?}");
}

/// Whoever asks gets a byte now and then, and never an end.
fn drip(listener: &mut std::net::TcpListener) {
    use std::io::Write;
    let (mut stream, _) = listener.accept().unwrap();
    for _ in 0..60 {
        if stream.write_all(b"x").is_err() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// It could be read, and the first run would fail.
#[test]
fn a_ledger_that_may_not_be_written_is_not_ready() {
    let ledger = Scratch::new("doctor");
    let server = plain();
    let sections = postgres_sections(&ledger, server.database());
    Site::new(&sections).run(&["ledger", "init"]).expect(0);
    let role = Role::new(Server::Pg15);
    let owner = |statement: &str| ledger.psql(statement);
    owner(&format!(
        "GRANT CONNECT ON DATABASE {} TO {1}; GRANT USAGE ON SCHEMA public TO {1}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {1}",
        ledger.name, role.name
    ));
    let user = stack().get("PG15_USER");
    let config = sections
        .replace(&format!("user: {user}"), &format!("user: {}", role.name))
        .replace("STACK_PG15_PASSWORD", "IT_ROLE");
    let site = Site::new(&config).env("IT_ROLE", &role.password);
    let said = site.run(&["doctor"]).expect(1);
    let line = said.out.lines().find(|line| line.contains("FAIL  ledger")).unwrap_or_else(|| panic!("{said:?}"));
    let tables = owner(
        "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'",
    );
    for table in tables.split(' ') {
        assert!(line.contains(&format!("DELETE, INSERT, UPDATE ON {table}")), "{table}: {line}");
    }
    let hint = said.out.lines().find_map(|line| line.split_once("run `GRANT")).unwrap_or_else(|| panic!("{said:?}")).1;
    let granted = hint.split('`').next().unwrap();
    owner(&format!("GRANT{granted}"));
    let ready = |site: &Site| {
        let said = site.run(&["doctor"]).out;
        said.lines().find(|line| line.contains("ledger    database")).unwrap_or_default().to_owned()
    };
    assert!(ready(&site).ends_with(": ready") || ready(&site).contains("ready, and every role"), "{}", ready(&site));
    owner("ALTER TABLE bookmarks RENAME TO elsewhere");
    assert!(ready(&site).contains("are not there: bookmarks"), "{}", ready(&site));
    owner("ALTER TABLE elsewhere RENAME TO bookmarks");
    owner(&format!("ALTER ROLE {} SET default_transaction_read_only = on", role.name));
    assert!(ready(&site).ends_with("it can be read, and not written to"), "{}", ready(&site));
}
