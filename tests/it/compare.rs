//! Databases against backups and against each other; psql makes the differences and knows them.

use std::time::Duration;

use serde_json::Value;

use crate::backup::AWKWARD;
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Said, Site, eventually, postgres_sections};
use crate::support::stack;

fn site(ledger: &Scratch, main: &str) -> Site {
    let get = |name| stack().get(name);
    let (host, port, user) = (get("PG17_HOST"), get("PG17_PORT"), get("PG17_USER"));
    let config = format!(
        "{}scratch: {{host: {host}, port: {port}, user: {user}, password: {{env: STACK_PG17_PASSWORD}}}}\nstore: {{directory: store}}\n",
        postgres_sections(ledger, main)
    );
    let site = Site::new(&config).policy("backup", "range_size: 64kb");
    site.run(&["ledger", "init"]).expect(0);
    site
}

fn compare(site: &Site, args: &[&str]) -> Said {
    site.run(&[&["backup", "compare", "--json"], args].concat())
}

fn table<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap()
}

/// `changed 5` for each example that is named.
fn examples(table: &Value, key: &str) -> Vec<String> {
    let all = table["narrowed"]["examples"].as_array().unwrap();
    let line = |e: &Value| format!("{} {}", e["difference"].as_str().unwrap(), e["key"][key].as_str().unwrap());
    let mut lines: Vec<String> = all.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn equal_content_is_equal_on_both_majors_and_in_the_backup() {
    let (source, ledger) = (Scratch::new("compared"), Scratch::new("compare_ledger"));
    source.psql(AWKWARD);
    let site = site(&ledger, &source.name);
    site.run(&["once", "backup"]).expect(0);
    let newer = Scratch::on(Server::Pg17, "compared");
    site.run(&["backup", "restore", "--scratch", "--into", &newer.name]).expect(0);
    for args in [
        vec!["--database", &source.name, "--against", &newer.name, "--scratch"],
        vec!["--database", &source.name, "--backup", "latest", "--against", &newer.name, "--scratch"],
        vec!["--database", &source.name],
    ] {
        let report = compare(&site, &args).expect(0).json();
        let tables = report["tables"].as_array().unwrap();
        assert!(tables.len() >= 15 && tables.iter().all(|table| table["verdict"] == "equal"), "{report:#}");
        let rows: u64 = source.psql("SELECT count(*) FROM history").parse().unwrap();
        let history = table(&report, "public.history");
        assert_eq!((&history["left_rows"], &history["right_rows"]), (&rows.into(), &rows.into()));
    }
}

#[test]
fn one_changed_one_missing_and_one_extra_row_are_named() {
    let (source, ledger) = (Scratch::new("compared"), Scratch::new("compare_ledger"));
    source.psql(
        "CREATE TABLE t (a int, b text, v text, PRIMARY KEY (b, a));
         INSERT INTO t SELECT n, 'k' || n, md5(n::text) FROM generate_series(1, 30000) n;
         CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE e (id int PRIMARY KEY, m mood[]); INSERT INTO e SELECT n, '{sad}' FROM generate_series(1, 500) n;
         CREATE TABLE keyless (v text); INSERT INTO keyless SELECT repeat('x', 500) || n FROM generate_series(1, 3000) n;
         CREATE TABLE same AS SELECT 1 AS a; CREATE TABLE gone (a int);",
    );
    let site = site(&ledger, &source.name);
    site.run(&["once", "backup"]).expect(0);
    let other = Scratch::on(Server::Pg17, "compared");
    site.run(&["backup", "restore", "--scratch", "--into", &other.name]).expect(0);
    let change =
        "UPDATE t SET v = 'other' WHERE a = 17; DELETE FROM t WHERE a = 18; INSERT INTO t VALUES (99999, 'new', '');
        UPDATE e SET m = '{happy}' WHERE id = 3; INSERT INTO keyless VALUES ('at the end');
        DELETE FROM keyless WHERE v LIKE '%x5'; DROP TABLE gone; CREATE TABLE came (a int)";
    other.psql(change);
    let name = source.name.as_str();
    let against = ["--database", name, "--against", &other.name, "--scratch"];
    let of_backup = ["--database", name, "--backup", "latest", "--against", &other.name, "--scratch"];
    for args in [&against[..], &of_backup[..]] {
        let said = compare(&site, args).expect(3);
        let report = said.json();
        let t = table(&report, "public.t");
        let narrowed = &t["narrowed"];
        assert_eq!((&narrowed["changed"], &narrowed["missing"]), (&1.into(), &1.into()), "{t:#}");
        assert_eq!((&narrowed["extra"], &narrowed["complete"]), (&1.into(), &true.into()), "{t:#}");
        assert_eq!(examples(t, "a"), ["changed 17", "extra 99999", "missing 18"]);
        assert_eq!(examples(t, "b"), ["changed k17", "extra new", "missing k18"]);
        assert_eq!(examples(table(&report, "public.e"), "id"), ["changed 3"]);
        let keyless = &table(&report, "public.keyless")["narrowed"];
        assert_eq!((&keyless["missing"], &keyless["extra"]), (&1.into(), &1.into()));
        // 500 bytes a row: its last page.
        let page: u64 =
            other.psql("SELECT (ctid::text::point)[0] FROM keyless WHERE v = 'at the end'").parse().unwrap();
        let (from, to) = (&keyless["pages"][0][0], &keyless["pages"][0][1]);
        assert!(from.as_u64().unwrap() <= page && to.as_u64().is_none_or(|to| page < to), "{page} {keyless:#}");
        assert_eq!(table(&report, "public.same")["verdict"], "equal");
        for missing in ["public.gone", "public.came"] {
            assert_eq!(table(&report, missing)["verdict"], "differs");
        }
        assert!(said.err.contains("public.t: 1 row changed, 1 missing, 1 more"), "{}", said.err);
    }
    // The original is still what was backed up, and no more rows are named than were asked for.
    compare(&site, &["--database", name]).expect(0);
    source.psql("UPDATE t SET v = 'x' WHERE a <= 2000");
    let report = compare(&site, &["--database", name, "--rows", "3"]).expect(3).json();
    let narrowed = &table(&report, "public.t")["narrowed"];
    assert_eq!((&narrowed["changed"], narrowed["examples"].as_array().unwrap().len()), (&2000.into(), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_no_pass() {
    let (source, other) = (Scratch::new("compared"), Scratch::new("compared"));
    for database in [&source, &other] {
        database.psql("CREATE TABLE open AS SELECT 1 AS a; CREATE TABLE barred AS SELECT 2 AS a");
    }
    let ledger = Scratch::new("compare_ledger");
    let site = site(&ledger, &source.name);
    let args = ["--database", source.name.as_str(), "--against", other.name.as_str()];
    compare(&site, &args).expect(0);

    let mut holding = Server::Pg15.client().connect(&other.name).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE barred IN ACCESS EXCLUSIVE MODE").execute(&mut holding).await.unwrap();
    let said = compare(&site, &args).expect(4);
    let report = said.json();
    assert_eq!(table(&report, "public.barred")["verdict"], "unknown");
    assert_eq!(table(&report, "public.open")["verdict"], "equal");
    assert!(said.err.contains("public.barred") && said.err.contains("lock timeout"), "{}", said.err);
    // A difference that was seen weighs more than what was not.
    source.psql("UPDATE open SET a = 5");
    compare(&site, &args).expect(3);
    source.psql("UPDATE open SET a = 1");
    sqlx::raw_sql("ROLLBACK").execute(&mut holding).await.unwrap();

    let role = Role::new(Server::Pg15);
    for database in [&source, &other] {
        database.psql(&format!("GRANT SELECT ON open TO {}", role.name));
    }
    let (host, port) = (stack().get("PG15_HOST"), stack().get("PG15_PORT"));
    let limited = Site::new(&format!(
        "postgres: {{host: {host}, port: {port}, user: {}, password: {{env: ROLE}}, databases: {{main: {}}}}}\nledger: {{database: none}}\n",
        role.name, source.name
    ))
    .env("ROLE", &role.password);
    let said = compare(&limited, &args).expect(4);
    assert!(said.err.contains("may not read it"), "{}", said.err);
    assert_eq!(table(&said.json(), "public.open")["verdict"], "equal");
    for database in [&source, &other] {
        database.psql(&format!("REVOKE SELECT ON open FROM {}", role.name));
    }

    let said = compare(&site, &["--database", &source.name, "--against", "no_such_database"]).expect(4);
    assert!(said.err.contains("has no database `no_such_database`"), "{}", said.err);
    let said = compare(&limited, &["--database", &source.name]).expect(78);
    assert!(said.err.contains("no `store:` is configured"), "{}", said.err);
}

#[test]
fn a_comparison_that_is_killed_goes_on_where_it_was() {
    let (source, ledger) = (Scratch::new("compared"), Scratch::new("compare_ledger"));
    // Seven rows a page, and the last page is full.
    source.psql(
        "CREATE TABLE a_small (id int PRIMARY KEY); INSERT INTO a_small SELECT generate_series(1, 100);
         CREATE TABLE large (id int PRIMARY KEY, v text);
         INSERT INTO large SELECT n, repeat(md5(n::text), 32) FROM generate_series(1, 249998) n",
    );
    let site = site(&ledger, &source.name);
    let other = Scratch::new("compared");
    let dump = Server::Pg15.tool("pg_dump", &source.name).arg("--no-owner").output().unwrap();
    other.psql(&String::from_utf8(dump.stdout).unwrap().replace("SET transaction_timeout = 0;", ""));
    let (file, name) = (site.path().join("how-far"), source.name.as_str());
    let args = ["--database", name, "--against", &other.name, "--checkpoint", "how-far"];
    let noted = || -> Value {
        let text = std::fs::read(&file).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    let killed = || {
        let mut running = site.start(&[&["backup", "compare"], &args[..]].concat(), "killed.log");
        let half = |side: usize| noted()["tables"]["public.large"]["parts"][side]["pages"].as_u64() > Some(0);
        let small = || noted()["tables"]["public.a_small"]["equal"] == 100;
        let begun = eventually(Duration::from_secs(60), || small() && half(0) && half(1));
        running.signal("KILL");
        running.wait();
        assert!(begun && file.exists(), "{}", running.log());
    };

    killed();
    let report = compare(&site, &args).expect(0).json();
    assert_eq!(report["resumed"], 2, "{report:#}");
    assert_eq!(table(&report, "public.large")["left_rows"], 249_998);
    assert!(!file.exists(), "with an answer it is over");
    assert_eq!(compare(&site, &args).expect(0).json()["resumed"], 0);

    // Another pair, and a damaged file.
    killed();
    let said = compare(&site, &["--database", &other.name, "--against", name, "--checkpoint", "how-far"]).expect(1);
    assert!(said.err.contains("the checkpoint how-far cannot be used: it is of database"), "{}", said.err);
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    let said = compare(&site, &args).expect(1);
    assert!(said.err.contains("it is damaged") && said.err.contains("remove this one"), "{}", said.err);
    std::fs::write(&file, &good).unwrap();

    // A row that moves from a part that is still to be read into one that was: the table is begun anew, and it is seen.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(
        eventually(Duration::from_secs(60), || source.psql(others) == "0"),
        "the snapshot of the killed one is gone"
    );
    source.psql(
        "DELETE FROM large WHERE id <= 20; VACUUM (INDEX_CLEANUP on, TRUNCATE false) large;
         UPDATE large SET v = repeat('other', 210) WHERE id = 200000",
    );
    let page = source.psql("SELECT (ctid::text::point)[0]::int FROM large WHERE id = 200000");
    assert!(page.parse::<u64>().unwrap() < 10, "{page}");
    let counted = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'large'";
    assert!(eventually(Duration::from_secs(60), || source.psql(counted) == "1"));
    let report = compare(&site, &args).expect(3).json();
    assert_eq!((&report["resumed"], &table(&report, "public.a_small")["verdict"]), (&1.into(), &"equal".into()));
    let narrowed = &table(&report, "public.large")["narrowed"];
    assert_eq!((&narrowed["changed"], &narrowed["extra"]), (&1.into(), &20.into()), "{narrowed:#}");
}
