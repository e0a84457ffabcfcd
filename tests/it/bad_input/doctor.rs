//! `sexton doctor` where much is wrong at once: all of it is listed.

use super::{CLOSED, Case, Table};
use crate::support::site::Site;
use crate::support::stack;

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
