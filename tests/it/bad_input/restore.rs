//! Backups that are not there, and targets that are not fit.

use super::{Case, Table};
use crate::support::postgres::Scratch;
use crate::support::site::{Site, postgres_sections};

#[test]
fn restores() {
    let (data, ledger, full) = (Scratch::new("data"), Scratch::new("ledger"), Scratch::new("full"));
    data.psql("CREATE TABLE t AS SELECT generate_series(1, 10) AS x");
    full.psql("CREATE TABLE precious (x int)");
    let store = tempfile::tempdir().unwrap();
    let config =
        format!("{}store: {{directory: '{}'}}\n", postgres_sections(&ledger, &data.name), store.path().display());
    let site = || Site::new(&config).policy("backup", "{}");
    site().run(&["ledger", "init"]).expect(0);
    let none = Case::new("no backup yet", site(), "backup show").says(
        1,
        "\
error: there is no backup in STORE yet
  hint: take one with `sexton once backup`",
    );
    let none = none.hide(store.path().display().to_string(), "STORE");
    Table::default().case(none).check();
    site().run(&["once", "backup"]).expect(0);
    let id = site().run(&["backup", "list", "--json"]).json()["backups"][0]["id"].as_str().unwrap().to_owned();
    let case = |name, args: &str| {
        Case::new(name, site(), args)
            .hide(&id, "BACKUP")
            .hide(&data.name, "DATA")
            .hide(&full.name, "TARGET")
            .hide(store.path().display().to_string(), "STORE")
    };
    let into = format!("backup restore --into {}", full.name);
    let damaged = case("chunk missing", &format!("backup verify {id}"));
    Table::default()
        .case(case("identifier that is none", "backup show yesterday").says(
            64,
            "\
error: `yesterday` is not the identifier of a backup
  hint: `sexton backup list` shows the identifiers",
        ))
        .case(case("backup unknown", "backup show 20200101T000000Z-00000000").says(
            64,
            "\
error: STORE has no backup `20200101T000000Z-00000000`
  hint: `sexton backup list` shows the identifiers",
        ))
        .case(case("restore into a database with tables", &into).says(
            1,
            "\
error: database `TARGET` at PG15 is not empty: it has relation public.precious
  hint: create a new database and restore into that: sexton overwrites nothing",
        ))
        .case(case("restore of a database that is not in it", &format!("{into} --database orders")).says(
            64,
            "\
error: backup `BACKUP` has no database `orders`; it has DATA
  hint: name one of them with --database",
        ))
        .case(case("restore into a database that is not there", "backup restore --into it_no_database").says(
            1,
            "\
error: there is no database `it_no_database` at PG15 to restore into
  hint: create it first, owned by the role that restores: `CREATE DATABASE \"it_no_database\" OWNER … TEMPLATE template0`",
        ))
        .case(case("restore on a scratch server that is not configured", &format!("{into} --scratch")).says(
            78,
            "\
error: no `scratch:` server is configured
  hint: add one, or leave --scratch out",
        ))
        .check();
    assert_eq!(full.psql("SELECT count(*) FROM precious"), "0", "nothing was touched");
    let chunk = chunks(store.path()).into_iter().next().unwrap();
    std::fs::remove_file(chunk).unwrap();
    Table::default()
        .case(
            damaged
                .says(
                    3,
                    "\
error: what the store holds of backup `BACKUP` is not what the backup says: chunk CHUNK of DATA public.t: it is missing
  hint: do not rely on this backup; remove from the store what is named as damaged, since the next backup would use it again, then take a new one and look at the disk below the store",
                )
                .prints("1 bad"),
        )
        .check();
}

/// The files of the store below `chunks`.
fn chunks(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(chunks(&path));
        } else if path.components().any(|part| part.as_os_str() == "chunks") {
            found.push(path);
        }
    }
    found
}
