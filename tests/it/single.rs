//! One table out of a backup, and what a restore would do.

use crate::backup::AWKWARD;
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::stack;

fn ground() -> (Scratch, Scratch, Site) {
    let (source, ledger) = (Scratch::new("single"), Scratch::new("single_ledger"));
    source.psql(AWKWARD);
    source.psql(
        "CREATE SCHEMA other; CREATE TABLE other.owner (id serial PRIMARY KEY, n int DEFAULT 7 CHECK (n > 0), t text);
         INSERT INTO other.owner (t) SELECT 't' || n FROM generate_series(1, 50) n;
         CREATE UNIQUE INDEX \"odd one\" ON other.owner (lower(t)) WHERE n = 7; COMMENT ON COLUMN other.owner.t IS 'it''s';
         CREATE TABLE other.owner_2 (a int REFERENCES other.owner); CREATE INDEX ON other.owner_2 (a);
         CREATE VIEW other.seen AS SELECT t FROM other.owner",
    );
    let get = |name| stack().get(name);
    let (host, port, user) = (get("PG17_HOST"), get("PG17_PORT"), get("PG17_USER"));
    let config = format!(
        "{}scratch: {{host: {host}, port: {port}, user: {user}, password: {{env: STACK_PG17_PASSWORD}}}}\nstore: {{directory: store}}\n",
        postgres_sections(&ledger, &source.name)
    );
    let site = Site::new(&config).policy("backup", "range_size: 64kb");
    site.run(&["ledger", "init"]).expect(0);
    site.run(&["once", "backup"]).expect(0);
    (source, ledger, site)
}

/// What `pg_dump` says about one table, without what depends on the server's version.
fn dump_of(database: &Scratch, table: &str) -> Vec<String> {
    let mut command = database.server.tool("pg_dump", &database.name);
    let output = command.args(["--inserts", "--no-owner", "--no-privileges", "-t", table]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let noise =
        |line: &str| line.starts_with("--") || line.starts_with('\\') || line.is_empty() || line.starts_with("SET ");
    let mut lines: Vec<String> = text.lines().filter(|line| !noise(line)).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_table_comes_back_as_pg_dump_sees_it_and_alone() {
    let (source, _ledger, site) = ground();
    for server in [Server::Pg15, Server::Pg17] {
        let target = Scratch::on(server, "single");
        let restore = |table: &str| {
            let scratch: &[&str] = if server == Server::Pg17 { &["--scratch"] } else { &[] };
            site.run(&[&["backup", "restore", "--table", table, "--into", &target.name], scratch].concat())
        };
        let said = restore("other.owner").expect(0);
        assert!(!said.out.contains("left out"), "{}", said.out);
        let relations = "SELECT string_agg(relname, ',' ORDER BY relname COLLATE \"C\") FROM pg_class c JOIN pg_namespace n \
            ON n.oid = relnamespace WHERE nspname IN ('other', 'public')";
        assert_eq!(target.psql(relations), "odd one,owner,owner_id_seq,owner_pkey");
        assert_eq!(dump_of(&target, "other.owner"), dump_of(&source, "other.owner"));
        assert_eq!(target.psql("INSERT INTO other.owner (t) VALUES ('new') RETURNING id"), "51");

        // Another schema of the same database is still empty; this one no longer.
        restore("history").expect(0);
        assert_eq!(dump_of(&target, "public.history"), dump_of(&source, "public.history"));
        let refused = restore("referring").expect(1);
        assert!(refused.err.contains("is not empty") && refused.err.contains("public.history"), "{}", refused.err);
    }
    let restore = |table: &str| {
        let target = Scratch::new("single");
        target.psql("CREATE EXTENSION btree_gin");
        let said = site.run(&["backup", "restore", "--table", table, "--into", &target.name, "--json"]);
        (target, said)
    };
    let (target, said) = restore("referring");
    let report = said.expect(0).json();
    assert_eq!(report["left_out"][0], "fk constraint referring referring_shard_id_fkey", "{report}");
    assert_eq!(target.psql("SELECT count(*) FROM referring"), "100");
    let (target, said) = restore(r#""Odd ""schema"."täble \ 'x'""#);
    said.expect(0);
    let odd = r#"SELECT count(*) FROM "Odd ""schema"."täble \ 'x'""#;
    assert_eq!(target.psql(odd), source.psql(odd));
    for (table, left_out) in
        [("empty", ""), ("generated", ""), ("parts_1", "table attach parts_1"), ("parent", "trigger parent no_touch")]
    {
        let (target, said) = restore(table);
        let report = said.expect(0).json();
        assert_eq!(report["left_out"][0].as_str().unwrap_or(""), left_out, "{report}");
        assert_eq!(
            target.psql(&format!("SELECT count(*) FROM ONLY {table}")),
            source.psql(&format!("SELECT count(*) FROM ONLY {table}"))
        );
    }
    // A type of the database is not the table's own.
    let (target, said) = restore("user_types");
    let said = said.expect(1);
    assert!(said.err.contains("mood"), "{}", said.err);
    assert_eq!(target.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "0");
}

#[test]
fn a_dry_run_says_what_would_be_restored_and_does_nothing() {
    let (source, ledger, site) = ground();
    let target = Scratch::on(Server::Pg17, "single");
    let args = ["backup", "restore", "--scratch", "--dry-run", "--into", &target.name];
    let said = site.run(&args).expect(2);
    assert!(said.out.contains("how long it takes is unknown"), "{}", said.out);
    let preview = site.run(&[&args[..], &["--json"]].concat()).expect(2).json();
    let rows: u64 = source.psql("SELECT count(*) FROM history").parse().unwrap();
    let history =
        preview["tables"].as_array().unwrap().iter().find(|table| table["table"] == "public.history").unwrap();
    assert_eq!((&history["rows"], &preview["estimated_milliseconds"]), (&rows.into(), &serde_json::Value::Null));
    assert_eq!(target.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "0");

    site.run(&["once", "drill"]).expect(0);
    let preview = site.run(&[&args[..], &["--json", "--table", "history"]].concat()).expect(2).json();
    assert!(preview["estimated_milliseconds"].is_u64(), "{preview}");
    assert_eq!(preview["tables"].as_array().unwrap().len(), 1);
    assert_eq!(preview["left_out"][0], serde_json::Value::Null, "{preview}");
    target.psql("CREATE TABLE mine AS SELECT 1 AS a");
    site.run(&args).expect(1);
    drop(ledger);

    // A role that may not make anything there is told before the restore is.
    let (role, closed) = (Role::new(Server::Pg17), Scratch::on(Server::Pg17, "closed"));
    let file = site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let rest = config.lines().filter(|line| !line.starts_with("scratch:")).collect::<Vec<_>>().join("\n");
    let (host, port) = (stack().get("PG17_HOST"), stack().get("PG17_PORT"));
    let scratch = format!("scratch: {{host: {host}, port: {port}, user: {}, password: {{env: ROLE}}}}", role.name);
    std::fs::write(&file, format!("{rest}\n{scratch}\n")).unwrap();
    let args = ["backup", "restore", "--scratch", "--dry-run", "--into", &closed.name];
    let said = site.run_with(&args, &[("ROLE", role.password.as_str())]).expect(1);
    assert!(said.err.contains("CREATE on schema public is needed"), "{said:?}");
    closed.psql(&format!(
        "GRANT CREATE ON SCHEMA public TO {0}; GRANT CREATE ON DATABASE {1} TO {0}",
        role.name, closed.name
    ));
    site.run_with(&args, &[("ROLE", role.password.as_str())]).expect(2);
    closed.psql(&format!("DROP OWNED BY {}", role.name));
}
