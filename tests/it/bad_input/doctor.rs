//! `sexton doctor` where much is wrong at once: all of it is listed.

use super::{CLOSED, Case, Table};
use crate::support::postgres::Scratch;
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
