//! Databases that nobody here designed, backed up, changed, backed up again, and restored into both majors. Judged by
//! `pg_dump` of both sides, and of pgbench's by the sums that its transactions keep.

use std::process::Stdio;

use sexton::backup::{BackupError, Manifest, Target, show, transfer};
use sexton::context::Context;
use sexton::failure::{Explain, Kind};

use crate::backup::{Setting, assert_same, directory};
use crate::support::postgres::{Scratch, Server};

async fn setting(source: Scratch, policy: &str) -> (tempfile::TempDir, Setting) {
    let (folder, store) = directory().await;
    (folder, Setting::with_policy(source, store, policy))
}

async fn made(setting: &Setting) -> Manifest {
    let report = setting.backup().await.unwrap();
    show(&*setting.store, report.id.as_str()).await.unwrap()
}

/// Makes a backup, which is whole.
async fn backup(setting: &Setting) -> Manifest {
    let manifest = made(setting).await;
    setting.assert_verifies(&manifest).await;
    manifest
}

/// The backup restores to what the source is; into the newer major, which writes some definitions in other words, to what
/// PostgreSQL's own dump of the source restores to.
async fn restores_equal(setting: &Setting, manifest: &Manifest) {
    assert_same(&setting.source, &setting.restored(manifest, Server::Pg15).await);
    let (newer, reference) = (setting.restored(manifest, Server::Pg17).await, Scratch::on(Server::Pg17, "reference"));
    let dump = setting.source.server.tool("pg_dump", &setting.source.name).arg("--no-owner").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    reference.psql(&String::from_utf8(dump.stdout).unwrap());
    assert_same(&reference, &newer);
    // Streamed from server to server it comes to the same.
    let streamed = Scratch::on(Server::Pg17, "streamed");
    let to = Target { postgres: Server::Pg17.client(), database: streamed.name.clone(), jobs: 2 };
    let source = &setting.source;
    let report = transfer(&source.server.client(), &source.name, &to, &Context::plain()).await.unwrap();
    report.verdict().unwrap();
    assert_same(&reference, &streamed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_built_in_type_comes_back() {
    let source = Scratch::new("types");
    source.psql(include_str!("databases/types.sql"));
    let (_folder, setting) = setting(source, r#"{"range_size": "64kb", "parallel": 2}"#).await;
    let tables: u32 = setting.source.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'types'").parse().unwrap();
    let filled = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'types'::regnamespace \
        AND (xpath('/row/n/text()', query_to_xml(format('SELECT count(v) AS n FROM types.%I', relname), false, true, '')))[1]::text = '0'";
    // No text is read as one.
    assert_eq!(setting.source.psql(filled), "gtsvector");
    assert!(tables > 60, "{tables}");
    let first = backup(&setting).await;
    let tracked = first.databases[0].tables.iter().filter(|table| table.tracking.is_some()).count();
    assert!(tracked > 40, "{tracked} tables of {tables} are read by what changed");
    setting.source.psql(include_str!("databases/type_changes.sql"));
    let second = backup(&setting).await;
    restores_equal(&setting, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_schema_can_hold_comes_back() {
    let source = Scratch::new("objects");
    source.psql(include_str!("databases/objects.sql"));
    // An index that could not be made stays behind, invalid; pg_dump leaves it out as well.
    source.server.try_psql(&source.name, "CREATE UNIQUE INDEX CONCURRENTLY invalid ON enums (c)").unwrap_err();
    let (_folder, setting) = setting(source, r#"{"range_size": "64kb", "parallel": 2}"#).await;
    backup(&setting).await;
    setting.source.psql(include_str!("databases/object_changes.sql"));
    let second = backup(&setting).await;
    restores_equal(&setting, &second).await;
}

/// The stack's PostgreSQL 17 was built without ICU.
#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_equal_and_not_the_same_come_back() {
    let source = Scratch::new("collated");
    source.psql(
        "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE words (w text COLLATE caseless PRIMARY KEY, n int); CREATE TABLE parts (w text COLLATE caseless) PARTITION BY HASH (w);
         CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO words SELECT 'Ü' || n, n FROM generate_series(1, 4000) n; INSERT INTO parts SELECT w FROM words",
    );
    let (_folder, setting) = setting(source, r#"{"range_size": "64kb", "parallel": 2}"#).await;
    backup(&setting).await;
    // Equal in the eyes of the table, another row in those of a backup.
    setting.source.psql("UPDATE words SET w = lower(w) WHERE n % 50 = 0; UPDATE parts SET w = lower(w) WHERE w LIKE '%77' COLLATE \"C\"");
    let manifest = backup(&setting).await;
    let target = Scratch::new("collated_back");
    setting.restore_to(&manifest, &target).await.unwrap().verdict().unwrap();
    assert_same(&setting.source, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_lie_by_the_hash_of_an_enum_are_refused() {
    let source = Scratch::new("enum_hash");
    source.psql(
        "CREATE TYPE colour AS ENUM ('red', 'green', 'blue', 'black', 'white'); CREATE TABLE parts (c colour, n int) PARTITION BY HASH (c);
         CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO parts SELECT (enum_range(NULL::colour))[n % 5 + 1], n FROM generate_series(1, 9000) n",
    );
    let (_folder, setting) = setting(source, r#"{"range_size": "64kb", "parallel": 2}"#).await;
    let refused = setting.backup().await.unwrap_err();
    assert!(
        matches!(&refused, BackupError::HashedByEnum { relations, .. } if relations == &["public.parts"]),
        "{refused:?}"
    );
    assert_eq!(refused.kind(), Kind::Refused);
}

/// pgbench's transactions add the same to an account, a teller, a branch and the history.
const SUMS: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = all(ARRAY[(SELECT sum(tbalance) FROM pgbench_tellers), \
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)]), \
    (SELECT count(*) FROM pgbench_history)";

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_goes_on_while_it_is_backed_up() {
    let source = Scratch::new("pgbench");
    let bench = |arguments: &[&str]| {
        let mut command = source.server.tool("pgbench", &source.name);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(bench(&["-i", "-s", "2", "-q", "--foreign-keys"]).status().unwrap().success());
    let mut load = bench(&["-T", "2", "-c", "3", "-j", "1", "-n"]);
    let (_folder, setting) = setting(source, r#"{"range_size": "256kb", "parallel": 2}"#).await;
    let mut during = vec![made(&setting).await];
    for _ in 0..2 {
        let mut running = load.spawn().unwrap();
        while running.try_wait().unwrap().is_none() {
            during.push(made(&setting).await);
        }
    }
    assert!(during.len() > 2, "{}", during.len());
    let after = backup(&setting).await;
    restores_equal(&setting, &after).await;
    let written = setting.source.psql(SUMS);
    assert!(written.starts_with("t|") && written != "t|0", "{written}");
    for manifest in [&during[1], &during[during.len() - 1]] {
        let target = Scratch::new("pgbench_back");
        setting.restore_to(manifest, &target).await.unwrap().verdict().unwrap();
        let sums = target.psql(SUMS);
        assert!(sums.starts_with("t|"), "{sums}");
    }
}
