//! The roles that docs/roles/postgres-role.sql makes: sexton does its work as exactly them, and what each must not the
//! server refuses, asked with psql.

use crate::drill::copy_of_temporal;
use crate::migrate::quiet;
use crate::support::cluster::{give_to_temporal, schema};
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::Site;
use crate::support::suffix;

/// Runs the script for one purpose.
fn script(server: Server, database: &str, role: &str, purpose: &str, more: &[&str]) -> Result<(), String> {
    let mut psql = server.tool("psql", database);
    psql.args(["-X", "-q", "-v", &format!("purpose={purpose}"), "-v", &format!("role={role}")]);
    psql.args(more).args(["-f", "docs/roles/postgres-role.sql"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = psql.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A role with these purposes in a database. It goes away with the value, and what it owns with it.
struct Made {
    role: Role,
    server: Server,
    database: String,
    ledger: String,
}

impl Made {
    fn new(server: Server, database: &str, purposes: &[&str]) -> Self {
        let role = Role::new(server);
        let ledger = format!("it_ledger_{}", suffix());
        let made = Self { role, server, database: database.to_owned(), ledger };
        for purpose in purposes {
            let where_to = if ["ledger", "scratch", "target"].contains(purpose) { "postgres" } else { database };
            let named = format!("ledger={}", made.ledger);
            // Twice: it may be repeated.
            for _ in 0..2 {
                script(server, where_to, &made.role.name, purpose, &["-v", &named]).unwrap();
            }
        }
        made
    }

    /// What psql says to this role.
    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.server.tool("psql", database);
        psql.env("PGUSER", &self.role.name).env("PGPASSWORD", &self.role.password);
        let output = psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Every one of these is refused for lack of a privilege.
    #[track_caller]
    fn must_not(&self, statements: &[&str]) {
        for sql in statements {
            let refused = self.try_psql(&self.database, sql).expect_err(sql);
            let words =
                ["permission denied", "must be owner", "must be superuser", "must be a superuser", "to terminate"];
            assert!(words.iter().any(|word| refused.contains(word)), "{sql}: {refused}");
        }
    }

    fn section(&self, name: &str) -> String {
        let settings = self.server.settings();
        let databases =
            if name == "postgres" { format!(", databases: {{main: {}}}", self.database) } else { String::new() };
        let (host, port, user) = (&settings.host, settings.port, &self.role.name);
        let variable = format!("IT_{}", name.to_uppercase());
        format!("{name}: {{host: {host}, port: {port}, user: {user}, password: {{env: {variable}}}{databases}}}\n")
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.server.try_psql(&self.database, &format!("DROP OWNED BY {}", self.role.name));
        let _ = self.server.try_psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.ledger));
        let _ = self.server.try_psql("postgres", &format!("DROP OWNED BY {}", self.role.name));
    }
}

fn site(config: String, roles: &[(&str, &Made)]) -> Site {
    let mut site = Site::new(&config).policy("retention", "orphans: {action: delete}\n").policy("backup", "{}\n");
    for (name, made) in roles {
        site = site.env(&format!("IT_{}", name.to_uppercase()), &made.role.password);
    }
    site
}

/// Temporal's schema, owned by its role, with a row.
fn owned(what: &str) -> Scratch {
    let source = Scratch::copy_of(Server::Pg15, what, schema());
    give_to_temporal(&source);
    source
}

/// What no role of sexton's may, whatever it is for.
const NOBODY: [&str; 7] = [
    "CREATE ROLE it_never",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY (SELECT 1) TO '/dev/null'",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "SELECT rolpassword FROM pg_authid",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SELECT pg_create_physical_replication_slot('it_never')",
];

#[test]
fn one_that_reads_looks_and_changes_nothing() {
    let source = owned("reads");
    let made = Made::new(Server::Pg15, &source.name, &["read", "ledger"]);
    let site =
        site(format!("{}ledger: {{database: {}}}\n", made.section("postgres"), made.ledger), &[("postgres", &made)]);
    site.run(&["ledger", "init"]).expect(0);
    site.run(&["once", "audit", "-q"]).expect(0);
    assert!(site.run(&["status"]).expect(0).out.contains("audit"));
    // A table of a later version of Temporal.
    source.psql("SET ROLE temporal; CREATE TABLE later (id int); CREATE SEQUENCE later_ids");
    assert_eq!(made.try_psql(&source.name, "SELECT count(*) FROM later").unwrap(), "0");
    made.must_not(&NOBODY);
    made.must_not(&[
        "INSERT INTO later VALUES (1)",
        "UPDATE executions SET next_event_id = 0",
        "DELETE FROM history_node",
        "DELETE FROM history_tree",
        "TRUNCATE executions",
        "DROP TABLE executions",
        "ALTER TABLE executions SET (fillfactor = 50)",
        "CREATE TABLE mine (id int)",
        "SELECT last_value FROM later_ids",
        "SET ROLE temporal",
        "CREATE DATABASE it_never",
    ]);
    // A migration is the owner's to run: the table shows where it failed, and the hint by what it would not.
    let refused = site.run(&["migrate", "run", "tune-autovacuum", "-q"]).expect(1);
    let failed =
        |line: &str| line.split_whitespace().collect::<Vec<_>>().ends_with(&["append-tables[history_node]", "failed"]);
    assert!(refused.out.lines().any(failed) && !refused.out.contains(" > "), "{refused:?}");
    assert!(refused.err.contains("must be owner of table") && refused.err.contains("purpose=migrate"), "{refused:?}");
    // Doctor says that this one may not remove orphans, which the policy wants.
    let doctor = site.run(&["doctor"]).expect(1);
    assert!(
        doctor.out.contains("DELETE ON history_node") || doctor.err.contains("DELETE ON history_node"),
        "{doctor:?}"
    );

    // The ledger is closed to everybody else.
    let other = Made::new(Server::Pg15, &source.name, &["read"]);
    let refused = other.try_psql(&made.ledger, "SELECT 1").unwrap_err();
    assert!(refused.contains("permission denied for database"), "{refused}");
}

#[test]
fn one_that_backs_up_does_so_and_another_proves_it() {
    let source = copy_of_temporal();
    give_to_temporal(&source);
    source.psql("SET ROLE temporal; CREATE SEQUENCE ids");
    let made = Made::new(Server::Pg15, &source.name, &["backup", "ledger"]);
    let proves = Made::new(Server::Pg17, "postgres", &["scratch"]);
    let config = format!(
        "{}{}store: {{directory: store}}\nledger: {{database: {}}}\n",
        made.section("postgres"),
        proves.section("scratch"),
        made.ledger
    );
    let site = site(config, &[("postgres", &made), ("scratch", &proves)]);
    site.run(&["ledger", "init"]).expect(0);
    site.run(&["once", "backup", "-q"]).expect(0);
    site.run(&["once", "drill", "-q"]).expect(0);
    site.run(&["backup", "compare", "--database", &source.name, "-q"]).expect(0);
    made.must_not(&NOBODY);
    made.must_not(&[
        "UPDATE executions SET next_event_id = 0",
        "DELETE FROM history_node",
        "SELECT nextval('ids')",
        "CREATE TABLE mine (id int)",
        "SET ROLE temporal",
        "CREATE DATABASE it_never",
    ]);
    // The one of the scratch server makes databases and reads nobody else's.
    let theirs = Scratch::on(Server::Pg17, "theirs");
    theirs.psql("CREATE TABLE secret (id int)");
    proves.must_not(&NOBODY);
    let refused = proves.try_psql(&theirs.name, "SELECT * FROM secret").unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    let refused = proves.try_psql("postgres", &format!("DROP DATABASE {}", theirs.name)).unwrap_err();
    assert!(refused.contains("must be owner"), "{refused}");
}

#[test]
fn one_that_removes_orphans_may_remove_these_and_nothing_else() {
    let source = owned("removes");
    let made = Made::new(Server::Pg15, &source.name, &["read", "orphans", "ledger"]);
    let site =
        site(format!("{}ledger: {{database: {}}}\n", made.section("postgres"), made.ledger), &[("postgres", &made)]);
    site.run(&["ledger", "init"]).expect(0);
    let doctor = site.run(&["doctor", "--json"]).json();
    let findings = doctor["findings"].as_array().unwrap();
    let orphans = findings.iter().find(|finding| finding["subject"] == "removal of orphans").unwrap();
    assert_eq!(orphans["verdict"], "ok", "{orphans}");
    made.must_not(&NOBODY);
    made.must_not(&[
        "DELETE FROM executions",
        "UPDATE history_node SET data = ''",
        "INSERT INTO history_tree SELECT * FROM history_tree",
        "TRUNCATE history_node",
        "DELETE FROM namespaces",
        "SET ROLE temporal",
    ]);
}

#[test]
fn one_that_migrates_does_what_temporals_role_may() {
    let source = owned("migrates");
    let made = Made::new(Server::Pg15, &source.name, &["migrate", "ledger"]);
    let site =
        site(format!("{}ledger: {{database: {}}}\n", made.section("postgres"), made.ledger), &[("postgres", &made)]);
    site.run(&["ledger", "init"]).expect(0);
    site.run(&["migrate", "run", "tune-autovacuum", "-q"]).expect(0);
    let options = "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = 'history_node'::regclass";
    assert!(source.psql(options).contains("autovacuum_vacuum_scale_factor"));
    site.run(&["migrate", "undo", "tune-autovacuum", "-q"]).expect(0);
    made.must_not(&NOBODY);
    let theirs = Scratch::new("theirs");
    theirs.psql("CREATE TABLE secret (id int)");
    let refused = made.try_psql(&theirs.name, "SELECT * FROM secret").unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
}

/// The whole move with the roles `migrate` on the source and `target` on the target.
#[test]
fn those_of_a_move_move_a_database() {
    let ground = quiet("role_moves");
    for (server, database, role, purpose) in [
        (Server::Pg15, ground.source.name.as_str(), ground.roles()[0], "migrate"),
        (Server::Pg17, "postgres", ground.roles()[1], "target"),
    ] {
        // What a move's ground gives beside: the script alone must be enough.
        server
            .psql("postgres", &format!("REVOKE temporal, pg_read_all_data FROM {role}; ALTER ROLE {role} NOCREATEDB"));
        script(server, database, role, purpose, &[]).unwrap();
        for refused in NOBODY {
            server.try_psql(database, &format!("SET ROLE {role}; {refused}")).expect_err(refused);
        }
    }
    // Another plan would be approved anew; the roles' rights are no part of one.
    ground.run().expect(0);
    assert!(ground.has_target() && !ground.lets_temporal_in());
}

#[test]
fn a_purpose_that_is_none_makes_nothing() {
    let name = format!("it_role_{}", suffix());
    for purpose in ["everything", ""] {
        let refused = script(Server::Pg15, "postgres", &name, purpose, &[]).unwrap_err();
        assert!(refused.contains("give -v purpose="), "{refused}");
    }
    assert_eq!(Server::Pg15.psql("postgres", &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")), "0");
}
