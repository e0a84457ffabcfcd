//! Rows out of a backup without a server, byte for byte what psql's own COPY gives.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::postgres::{Scratch, Server};
use crate::support::site::{Site, binary, postgres_sections};
use crate::support::stack;

const TABLES: &str = r#"
CREATE TABLE types (i2 smallint, i4 int, i8 bigint, o oid, b boolean, t text, v varchar(20), c char(5), n name, j json,
  jb jsonb, by bytea, u uuid, f4 real, f8 double precision, num numeric, num2 numeric(20, 6), d date, ts timestamp,
  ts3 timestamp(3), tz timestamptz);
INSERT INTO types VALUES
  (-1, 2, 3, 4000000000, true, E'a,"b"\n\tc\\', '', 'ab', 'nm', '{"a": [1,  2]}', '{"b": 2, "a": "ä"}', '\x00ff', gen_random_uuid(), 1.5, 1e23,
   12345678901234567890.00012345, 3, '2026-02-28', '2026-01-02 03:04:05.678', '2026-01-02 03:04:05.67891', '2026-06-01 12:00:00+02'),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (0, 0, -9223372036854775808, 0, false, '\.', '\N', '', '', 'null', 'null', '', gen_random_uuid(), 'NaN', '-Infinity', 'NaN', 0,
   'infinity', '-infinity', 'infinity', 'infinity'),
  (1, 1, 1, 1, true, 'é', 'ü', 'x', 'y', '1', '1', '\x01', gen_random_uuid(), '-0', 5e-324, '-0.00000001', -0.5,
   '0044-03-15 BC', '0044-03-15 01:02:03 BC', '294276-12-31 23:59:59.999', '0001-01-01 00:00:00+00');
INSERT INTO types (f8, f4, num) SELECT (random() - 0.5) * 10.0 ^ (n % 600 - 300), ((random() - 0.5) * 10.0 ^ (n % 70 - 35))::real,
  (random() - 0.5)::numeric * 10.0 ^ (n % 60 - 30) FROM generate_series(1, 3000) n;
INSERT INTO types (f8, f4) SELECT n * 10.0 ^ e, (n * 10.0 ^ (e % 30))::real FROM generate_series(1, 9) n, generate_series(15, 40) e;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE as_text (id int, m mood[], r regclass, t text);
INSERT INTO as_text VALUES (1, '{sad,happy}', 'types', E'tab\there\\'), (2, NULL, NULL, ''), (3, '{}', 'types', NULL);
CREATE TABLE arrays (id int, a int[]); INSERT INTO arrays VALUES (1, '{1,2}');
CREATE SCHEMA "Odd ""one"; CREATE TABLE "Odd ""one"."Ta.ble" (a int); INSERT INTO "Odd ""one"."Ta.ble" VALUES (7);
CREATE TABLE large (id int, v text); INSERT INTO large SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 20000) n;
CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES;
"#;

/// The binary's standard output as bytes, its errors, its exit code.
fn cat(site: &Site, args: &[&str]) -> (Vec<u8>, String, i32) {
    let output = command(site, args).output().unwrap();
    (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code().unwrap())
}

fn command(site: &Site, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["-q", "backup", "cat"]).args(args).current_dir(site.path()).stdin(Stdio::null());
    command
}

fn psql(source: &Scratch, sql: &str) -> Vec<u8> {
    let settings =
        "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET client_encoding = 'UTF8'; SET search_path = ''";
    let output =
        source.server.tool("psql", &source.name).args(["-X", "-q", "-c", settings, "-c", sql]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn ground() -> (Scratch, Scratch, Site) {
    let (source, ledger) = (Scratch::new("cat"), Scratch::new("cat_ledger"));
    source.psql(TABLES);
    let config = format!("{}store: {{directory: store}}\n", postgres_sections(&ledger, &source.name));
    let site = Site::new(&config).policy("backup", "range_size: 64kb");
    site.run(&["ledger", "init"]).expect(0);
    site.run(&["once", "backup"]).expect(0);
    (source, ledger, site)
}

#[test]
fn every_form_is_what_the_server_itself_would_write() {
    let (source, _ledger, site) = ground();
    assert!(!stack().get("PG15_HOST").is_empty());
    let check = |args: &[&str], sql: &str| {
        let (out, err, code) = cat(&site, args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        let expected = psql(&source, sql);
        if out != expected {
            let (ours, theirs) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
            let odd = ours.lines().zip(theirs.lines()).find(|(a, b)| a != b);
            panic!("{args:?}: {odd:?}, {} and {} bytes", out.len(), expected.len());
        }
    };
    for table in ["types", "large", "no_columns"] {
        check(&[table], &format!("COPY public.{table} TO STDOUT (FORMAT csv)"));
        check(&[table, "--format", "text"], &format!("COPY public.{table} TO STDOUT"));
        check(&[table, "--format", "binary"], &format!("COPY public.{table} TO STDOUT (FORMAT binary)"));
    }
    check(&["as_text", "--format", "text"], "COPY public.as_text TO STDOUT");
    check(&["as_text"], "COPY public.as_text TO STDOUT (FORMAT csv)");
    check(&["as_text", "--columns", "t,id"], "COPY public.as_text (t, id) TO STDOUT (FORMAT csv)");
    check(&["arrays", "--format", "binary"], "COPY public.arrays TO STDOUT (FORMAT binary)");
    check(&["as_text", "--columns", "\"t\",id"], "COPY public.as_text (t, id) TO STDOUT (FORMAT csv)");
    check(&["types", "--columns", "tz,i4", "--header"], "COPY public.types (tz, i4) TO STDOUT (FORMAT csv, HEADER)");
    check(
        &["PUBLIC.types", "--columns", "u,jb", "--format", "binary"],
        "COPY public.types (u, jb) TO STDOUT (FORMAT binary)",
    );
    let odd = "COPY \"Odd \"\"one\".\"Ta.ble\" TO STDOUT (FORMAT csv)";
    check(&["\"Odd \"\"one\".\"Ta.ble\"", "--database", &source.name, "--backup", "latest"], odd);

    // A server takes the binary stream as its own.
    let copy = Scratch::on(Server::Pg17, "cat_back");
    copy.psql("CREATE TABLE large (id int, v text)");
    let file = site.path().join("large.bin");
    std::fs::write(&file, cat(&site, &["large", "--format", "binary"]).0).unwrap();
    let load = format!("\\copy large FROM '{}' (FORMAT binary)", file.display());
    assert!(copy.server.tool("psql", &copy.name).args(["-X", "-c", &load]).status().unwrap().success());
    let sum = "SELECT count(*), md5(string_agg(id || v, ',' ORDER BY id)) FROM large";
    assert_eq!(copy.psql(sum), source.psql(sum));
}

#[test]
fn what_cannot_be_written_is_said_before_a_byte_is() {
    let (_source, _ledger, site) = ground();
    let check = |args: &[&str], words: &[&str]| {
        let (out, err, code) = cat(&site, args);
        assert_eq!((code, out.len()), (64, 0), "{args:?} {err}");
        for word in words {
            assert!(err.contains(word), "no `{word}` in {err}");
        }
    };
    check(&["arrays"], &["column `a` of table public.arrays is of the type integer[]", "--format binary"]);
    check(&["as_text", "--format", "binary"], &["as text", "--format text"]);
    check(&["typs"], &["has no table `public.typs`", "did you mean public.types?"]);
    check(&["large", "--columns", "idd"], &["no column `idd`", "id, v"]);
    check(&["large", "--columns", "\"id"], &["write names with commas in between"]);
    check(&["large", "--header", "--format", "text"], &["`--header` goes with `--format csv` only"]);
    check(&["a.b.c"], &["is not the name of a table"]);
    check(&["types", "--database", "nope"], &["has no database `nope`"]);
}

#[test]
fn a_reader_that_leaves_ends_it_quietly_and_damage_does_not() {
    let (_source, _ledger, site) = ground();
    let mut child = command(&site, &["large"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 100];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut some).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));

    let chunks = site.path().join("store/chunks");
    let files = Command::new("find").arg(&chunks).args(["-type", "f"]).output().unwrap().stdout;
    for file in String::from_utf8(files).unwrap().lines() {
        std::fs::write(file, b"damaged").unwrap();
    }
    let (_, err, code) = cat(&site, &["large"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("is damaged"), "{err}");
}
