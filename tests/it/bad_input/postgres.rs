//! PostgreSQL: not there, not letting in, not trusted, not allowed. `ledger init` is the shortest way to it.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{Case, GOOD, SECRET, Table, with};
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::{stack, suffix};

/// A configuration for the stack's PostgreSQL 15 with a part of it changed.
fn changed(name: &'static str, from: &str, to: &str) -> Case {
    let config = format!(
        "postgres:\n  host: 127.0.0.1\n  port: {}\n  user: postgres\n  password: {{env: STACK_PG15_PASSWORD}}\n  \
         databases: {{main: postgres}}\nledger: {{database: it_no_ledger}}\n",
        stack().get("PG15_PORT")
    );
    Case::new(name, Site::new(&with(&config, from, to)), "once visibility")
}

const PASSWORD: &str = "password: {env: STACK_PG15_PASSWORD}";

#[test]
fn connections() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port().to_string();
    let hole =
        with(&with(GOOD, "port: 1", &format!("port: {silent_port}")), "user:", "connect_timeout: 300ms\n  user:");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_port = plain.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        // What a server without TLS answers to the request for it (protocol, "SSL Session Encryption").
        let (mut client, _) = plain.accept().unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
        client.write_all(b"N").unwrap();
    });
    let no_tls = with(&with(GOOD, "port: 1", &format!("port: {plain_port}")), "user:", "tls: {mode: require}\n  user:");
    Table::default()
        .case(Case::new("closed port", Site::new(GOOD), "ledger init").says(1, "\
error: the ledger: PostgreSQL at 127.0.0.1:1 cannot be reached: Connection refused
  hint: check that the server runs, that 127.0.0.1:1 is its address and that no network policy is in the way"))
        .case(Case::new("host unknown", Site::new(&with(GOOD, "127.0.0.1", "db.invalid")), "ledger init").says(1, "\
error: the ledger: PostgreSQL at db.invalid:1 cannot be reached: failed to lookup address information: Name or service not known
  hint: check that the server runs, that db.invalid:1 is its address and that no network policy is in the way"))
        .case(Case::new("no answer", Site::new(&hole), "ledger init").hide(silent_port, "PORT").says(1, "\
error: the ledger: PostgreSQL at 127.0.0.1:PORT cannot be reached: no connection within 300ms
  hint: check that the server runs, that 127.0.0.1:PORT is its address and that no network policy is in the way"))
        .case(Case::new("TLS where there is none", Site::new(&no_tls), "ledger init").hide(plain_port, "PORT").says(1, "\
error: the ledger: TLS with PostgreSQL at 127.0.0.1:PORT failed: server does not support TLS
  hint: turn `ssl` on at the server, or set the connection's TLS mode to `prefer` or `disable`"))
        .case(changed("CA that did not sign", PASSWORD, &format!("{PASSWORD}\n  tls: {{mode: verify-full}}")).says(1, "\
error: the ledger: TLS with PostgreSQL at PG15 failed: it was not signed by an authority that is trusted here
  hint: give the authority that signed the server's certificate as the connection's CA file, and connect by a name that stands in the certificate"))
        .check();
    server.join().unwrap();
}

#[test]
fn logins() {
    let role = Role::with_password(Server::Pg15, SECRET);
    let as_role = format!("user: {}\n  password: {{env: IT_SECRET}}", role.name);
    let no_password = format!("  {PASSWORD}\n");
    Table::default()
        .case(changed("password wrong", PASSWORD, "password: {env: IT_SECRET}").says(1, "\
error: the ledger: PostgreSQL at PG15 refused the password of role `postgres`
  hint: check the secret that holds the password of role `postgres`, and that the role exists: the server says the same to both"))
        .case(changed("password not given", &no_password, "").says(1, "\
error: the ledger: PostgreSQL at PG15 wants a password for role `postgres`, and none is configured
  hint: set the connection's `password: {env: NAME}` or `{file: PATH}`"))
        .case(changed("role missing", "user: postgres", "user: nobody-here").says(1, "\
error: the ledger: PostgreSQL at PG15 refused the password of role `nobody-here`
  hint: check the secret that holds the password of role `nobody-here`, and that the role exists: the server says the same to both"))
        .case(changed("role of a certificate, without one", "user: postgres", "user: certuser").says(1, "\
error: the ledger: PostgreSQL at PG15 does not let role `certuser` in: connection requires a valid client certificate
  hint: create role `certuser` with LOGIN, add a line for it to pg_hba.conf, or give the connection the certificate that the server wants"))
        .case({
            let case = changed("password of a forbidden character", PASSWORD, "password: {env: ODD}");
            Case { site: case.site.env("ODD", "tab\there"), ..case }.says(1, "\
error: the ledger: the password of role `postgres` for PostgreSQL at PG15 holds a character that cannot be sent
  hint: take out control characters such as tabs and line ends, or give the role another password")
        })
        .case({
            let case = changed("role may not create the ledger", &format!("user: postgres\n  {PASSWORD}"), &as_role);
            Case { args: "ledger init".into(), ..case }.hide(&role.name, "ROLE").says(1, "\
error: the ledger: role `ROLE` may not create the database `it_no_ledger` at PG15
  hint: let a superuser run `CREATE DATABASE \"it_no_ledger\" OWNER \"ROLE\"; REVOKE CONNECT ON DATABASE \"it_no_ledger\" FROM PUBLIC`, or `ALTER ROLE \"ROLE\" CREATEDB`")
        })
        .check();
}

#[test]
fn a_password_of_any_characters_works() {
    let password = "pä'ss \"wörd\" \\ $1 {x}: #%&✓";
    let role = Role::with_password(Server::Pg15, password);
    let ledger = Scratch::new("odd_password");
    ledger.psql(&format!("ALTER DATABASE {} OWNER TO {}", ledger.name, role.name));
    let config = with(&postgres_sections(&ledger, "postgres"), "user: postgres", &format!("user: {}", role.name));
    let by_env = Site::new(&with(&config, "{env: STACK_PG15_PASSWORD}", "{env: ODD}")).env("ODD", password);
    by_env.run(&["ledger", "init"]).expect(0);
    let by_file =
        Site::new(&with(&config, "{env: STACK_PG15_PASSWORD}", "{file: odd}")).file("odd", &format!("{password}\n"));
    by_file.run(&["ledger", "init"]).expect(0);
}

#[test]
fn what_a_backup_needs() {
    let role = Role::with_password(Server::Pg15, SECRET);
    let (data, ledger) = (Scratch::new("unreadable"), Scratch::new("ledger"));
    data.psql("CREATE TABLE executions (x int); CREATE TABLE history_node (x int); CREATE SEQUENCE numbers");
    ledger.psql(&format!("ALTER DATABASE {} OWNER TO {}", ledger.name, role.name));
    let config = postgres_sections(&ledger, &data.name);
    let store = "store: {directory: backups}\n";
    let as_role = with(&config, "user: postgres", &format!("user: {}", role.name));
    let as_role = format!("{}{store}", with(&as_role, "{env: STACK_PG15_PASSWORD}", "{env: IT_SECRET}"));
    let read_only = Site::new(&as_role).policy("backup", "{}");
    let no_tools = Site::new(&format!("{}{store}", with(&config, "user: postgres", "bin_dir: .\n  user: postgres")));
    let no_tools = no_tools.policy("backup", "{}");
    let sexton = |site: Site| site.env("IT_SECRET", SECRET);
    let (read_only, no_tools) = (sexton(read_only), sexton(no_tools));
    read_only.run(&["ledger", "init"]).expect(0);
    let hide = |case: Case| case.hide(&role.name, "ROLE").hide(&data.name, "DATA").hide(&ledger.name, "LEDGER");
    let gone = format!("it_gone_{}", suffix());
    let no_database = with(&as_role, &data.name, &gone);
    Table::default()
        .case(hide(Case::new("tables that cannot be read", read_only, "once backup --dry-run")).says(
            1,
            "\
error: role `ROLE` may not read public.executions, public.history_node, public.numbers in database `DATA`
  hint: run `GRANT pg_read_all_data TO \"ROLE\"`, or log in as the owner of the tables",
        ))
        .case(hide(Case::new("pg_dump missing", no_tools, "once backup --dry-run")).says(
            1,
            "\
error: `pg_dump` of PostgreSQL 15 or newer was not found; looked at .
  hint: install the client package postgresql-client-15, or set the connection's `bin_dir`",
        ))
        .case(
            hide(Case::new("database missing", Site::new(&no_database).policy("backup", "{}"), "once backup"))
                .hide(gone, "GONE")
                .prints("backup: failed")
                .says(
                    1,
                    "\
error: PostgreSQL at PG15 has no database `GONE`
  hint: check the name of the database in the configuration",
                ),
        )
        .check();
}
