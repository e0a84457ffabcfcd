//! Temporal's frontend: not there, other TLS than configured, no login.

use super::{CLOSED, Case, GOOD, Table};
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
        .case(temporal("down", &format!("address: '{CLOSED}'")).says(1, "\
error: Temporal at 127.0.0.1:1: connection refused
  hint: check that the frontend runs and that the port is its gRPC port (7233 unless configured)"))
        .case(temporal("host unknown", "address: 'temporal.invalid:7233'").says(1, "\
error: Temporal at temporal.invalid:7233: the host name does not resolve: failed to lookup address information: Name or service not known
  hint: check the host of the temporal address, and the DNS where sexton runs"))
        .case(temporal("no answer", &format!("address: '{silent_address}', timeout: 500ms")).hide(silent_address, "SILENT").says(1, "\
error: Temporal at SILENT: no answer to GetSystemInfo within 500ms
  hint: check the frontend's load and its database, or raise the connection's `timeout`"))
        .case(temporal("another service", &format!("address: '{search}'")).hide(&search, "SEARCH").says(1, "\
error: Temporal at SEARCH: GetSystemInfo failed (Internal): protocol error: received message with invalid compression flag: 123 (valid flags are 0 and 1) while receiving response with status: 400 Bad Request
  hint: check that the address is that of Temporal's gRPC port, and look at the frontend's log"))
        .case(temporal("plaintext to TLS", &tls).says(1, "\
error: Temporal at TEMPORAL_TLS: the server speaks TLS, but TLS is off for this connection
  hint: turn on `tls` for the temporal connection"))
        .case(temporal("TLS to plaintext", &format!("{plain}, tls: {{}}")).says(1, "\
error: Temporal at TEMPORAL: TLS is on for this connection, but the server answers without TLS
  hint: remove `tls` from the temporal connection, or use the port that speaks TLS"))
        .case(temporal("untrusted authority", &format!("{tls}, tls: {{}}")).says(1, "\
error: Temporal at TEMPORAL_TLS: the server's certificate is not trusted: it was not signed by an authority that is trusted here
  hint: set `tls.ca` to the authority that signed the frontend's certificate"))
        .case(temporal("certificate for another name", &format!("{tls}, tls: {{ca: '{}', server_name: other.example}}", stack().get("TEMPORAL_SQL_CA"))).says(1, "\
error: Temporal at TEMPORAL_TLS: the server's certificate is for another name: it is for localhost, 127.0.0.1, not for other.example
  hint: set `server_name` to a name in the frontend's certificate"))
        .case(temporal("no client certificate", &format!("{tls}, tls: {{{files}}}")).says(1, "\
error: Temporal at TEMPORAL_TLS: the server wants a client certificate: it closed the connection right after the TLS handshake
  hint: set `tls.certificate` and `tls.key`; this frontend wants mutual TLS"))
        .case(temporal("certificate file that is none", &format!("{tls}, tls: {{{files}, {}}}", own.replace(stack().get("TEMPORAL_SQL_CERT"), "sexton.yaml"))).says(78, "\
error: TLS for Temporal at TEMPORAL_TLS: `sexton.yaml` holds no certificate in PEM
  hint: correct the file or the path under `tls` of the temporal connection"))
        .check();
}
