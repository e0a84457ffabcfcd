//! Temporal's frontend: not there, other TLS than configured, no login.

use super::{CLOSED, Case, GOOD, TODO, Table};
use crate::support::site::Site;
use crate::support::stack;

/// `once retention --dry-run` needs Temporal alone.
fn temporal(name: &'static str, settings: &str) -> Case {
    let config = format!("{GOOD}temporal: {{{settings}}}\n");
    Case::new(name, Site::new(&config).policy("retention", "{}"), "once retention --dry-run")
        .hide(stack().get("TEMPORAL_ADDRESS"), "TEMPORAL")
        .hide(stack().get("TEMPORAL_SQL_ADDRESS"), "TEMPORAL_TLS")
}

#[test]
fn connections() {
    let plain = format!("address: '{}'", stack().get("TEMPORAL_ADDRESS"));
    let tls = format!("address: '{}'", stack().get("TEMPORAL_SQL_ADDRESS"));
    let files =
        format!("ca: '{}', server_name: {}", stack().get("TEMPORAL_SQL_CA"), stack().get("TEMPORAL_SQL_SERVER_NAME"));
    let own =
        format!("certificate: '{}', key: '{}'", stack().get("TEMPORAL_SQL_CERT"), stack().get("TEMPORAL_SQL_KEY"));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let search = stack().get("OPENSEARCH_URL").trim_start_matches("http://").to_owned();
    Table::default()
        .case(temporal("down", &format!("address: '{CLOSED}'")).says(1, TODO))
        .case(temporal("host unknown", "address: 'temporal.invalid:7233'").says(1, TODO))
        .case(
            temporal("no answer", &format!("address: '{silent_address}', timeout: 500ms"))
                .hide(silent_address, "SILENT")
                .says(1, TODO),
        )
        .case(temporal("another service", &format!("address: '{search}'")).hide(&search, "SEARCH").says(1, TODO))
        .case(temporal("plaintext to TLS", &tls).says(1, TODO))
        .case(temporal("TLS to plaintext", &format!("{plain}, tls: {{}}")).says(1, TODO))
        .case(temporal("untrusted authority", &format!("{tls}, tls: {{}}")).says(1, TODO))
        .case(
            temporal(
                "certificate for another name",
                &format!("{tls}, tls: {{ca: '{}', server_name: other.example}}", stack().get("TEMPORAL_SQL_CA")),
            )
            .says(1, TODO),
        )
        .case(temporal("no client certificate", &format!("{tls}, tls: {{{files}}}")).says(1, TODO))
        .case(
            temporal(
                "certificate file that is none",
                &format!("{tls}, tls: {{{files}, {}}}", own.replace(stack().get("TEMPORAL_SQL_CERT"), "sexton.yaml")),
            )
            .says(78, TODO),
        )
        .check();
}
