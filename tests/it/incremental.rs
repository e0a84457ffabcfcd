//! The second backup of a large table: what it reads and stores, and that it is as true as the first. Judged by `pg_dump`
//! of the source, at the time of each backup, and of what was restored from it.

use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sexton::backup::chunk::{ChunkRef, Keys, compress, open};
use sexton::backup::{BackupReport, Manifest, show, verify};
use sexton::context::Context;

use crate::backup::{Setting, assert_equal_dumps, assert_same, directory};
use crate::kills::{Seed, rounds};
use crate::support::postgres::{Scratch, Server};
use crate::support::site::eventually;

/// A table like `history_node`, of about 12 MB, and small ones.
const HISTORY: &str = "
    CREATE TABLE history (shard int, tree uuid, node bigint, data bytea, PRIMARY KEY (shard, tree, node));
    CREATE TABLE small (id int PRIMARY KEY, t text); INSERT INTO small SELECT n, 'x' FROM generate_series(1, 10) n;
    CREATE SEQUENCE day;
    CREATE FUNCTION node(n bigint) RETURNS bytea LANGUAGE sql AS $$
      SELECT string_agg(sha256((n * 100 + i)::text::bytea), '') FROM generate_series(1, 15) i $$;
    INSERT INTO history SELECT n % 4, gen_random_uuid(), n, node(n) FROM generate_series(1, 20000) n;
    VACUUM (FREEZE, ANALYZE) history;";

/// About 3 % of the rows go, from all over the table, as many come, and vacuum hands out the space.
const DAY: &str = "DELETE FROM history WHERE abs(hashtext(tree::text || nextval('day'))) % 100 < 3;
    INSERT INTO history SELECT n % 4, gen_random_uuid(), nextval('day') + 1000000, node(nextval('day')) FROM generate_series(1, 600) n;
    VACUUM history;";

async fn setting() -> (tempfile::TempDir, Setting) {
    let (folder, store) = directory().await;
    let source = Scratch::new("incremental");
    source.psql(HISTORY);
    (folder, Setting::with_policy(source, store, r#"{"range_size": "256kb", "parallel": 2}"#))
}

async fn restored(setting: &Setting, manifest: &Manifest) -> Scratch {
    setting.restored(manifest, Server::Pg17).await
}

/// The newest backup restores to what the source is.
async fn is_true(setting: &Setting) -> Manifest {
    let manifest = show(&*setting.store, "latest").await.unwrap();
    assert_same(&setting.source, &restored(setting, &manifest).await);
    manifest
}

fn share(part: u64, whole: u64) -> u64 {
    part * 100 / whole
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_changes_cost_about_a_days_rows() {
    let (_folder, setting) = setting().await;
    let first = setting.backup().await.unwrap();
    assert_eq!(first.read_bytes, first.raw_bytes);
    let before = (show(&*setting.store, "latest").await.unwrap(), setting.source.dump());
    for _ in 0..3 {
        setting.source.psql(DAY);
        let next = setting.backup().await.unwrap();
        assert!(share(next.read_bytes, first.raw_bytes) <= 7, "{next:?}");
        assert!(share(next.stored_bytes, first.stored_bytes) <= 7, "{next:?}");
        is_true(&setting).await;
    }
    let same = setting.backup().await.unwrap();
    assert_eq!((same.new_chunks, same.stored_bytes), (0, 0), "{same:?}");
    // Of rows written while a transaction of anybody's on the server was open it is not known that they are older.
    assert!(share(same.read_bytes, first.raw_bytes) <= 7, "no more than a day's rows are read: {same:?}");
    assert_equal_dumps(&before.1, &restored(&setting, &before.0).await.dump());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_written_and_reads_otherwise_is_seen() {
    let (_folder, mut setting) = setting().await;
    setting.source.psql(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE feelings AS SELECT n, 'sad'::mood AS mood, node(n) AS data FROM generate_series(1, 3000) n;
         CREATE TABLE columns AS SELECT n AS a, n AS b, node(n) AS data FROM generate_series(1, 3000) n;
         CREATE TABLE rewritten AS SELECT n, node(n) AS data FROM generate_series(1, 3000) n;
         CREATE UNLOGGED TABLE unlogged AS SELECT n, node(n) AS data FROM generate_series(1, 3000) n",
    );
    setting.backup().await.unwrap();
    for change in [
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "ALTER TABLE columns DROP b; ALTER TABLE columns ADD b int DEFAULT 7",
        "ALTER TABLE columns RENAME a TO c; ALTER TABLE columns RENAME b TO a; ALTER TABLE columns RENAME c TO b",
        "DELETE FROM rewritten WHERE n % 3 = 0; VACUUM FULL rewritten",
        "CREATE INDEX by_n ON rewritten (n); CLUSTER rewritten USING by_n",
        "TRUNCATE rewritten; INSERT INTO rewritten SELECT n, node(n) FROM generate_series(1, 2000) n",
        "BEGIN; TRUNCATE rewritten; INSERT INTO rewritten SELECT n, node(-n) FROM generate_series(1, 2500) n; COMMIT",
        "DELETE FROM unlogged WHERE n > 1000",
        "DROP TABLE rewritten; CREATE TABLE rewritten AS SELECT n, node(n + 5) AS data FROM generate_series(1, 3000) n",
        "DELETE FROM history; VACUUM history",
        "INSERT INTO history SELECT n % 4, gen_random_uuid(), n, node(n) FROM generate_series(1, 9000) n",
    ] {
        setting.source.psql(change);
        setting.backup().await.unwrap();
        is_true(&setting).await;
    }
    setting.policy = serde_json::from_str(r#"{"range_size": "256kb", "reread": "0s"}"#).unwrap();
    let all = setting.backup().await.unwrap();
    assert_eq!((all.read_bytes, all.new_chunks), (all.raw_bytes, 0), "every row is read, none is stored: {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_what_the_next_backup_builds_on_costs_more_and_no_row() {
    let (folder, setting) = setting().await;
    let first = setting.backup().await.unwrap();
    setting.source.psql(DAY);
    let manifest = show(&*setting.store, "latest").await.unwrap();
    let table = |manifest: &Manifest| {
        let tables = &manifest.databases[0].tables;
        tables.iter().find(|table| table.name.name == "history").unwrap().clone()
    };
    let object = |list: &sexton::backup::chunk::ChunkRef| folder.path().join(list.key().unwrap().as_str());
    let places = table(&manifest).tracking.unwrap().places;
    assert!(places.len() > 8, "a stripe each: {}", places.len());
    std::fs::remove_file(object(&places[0])).unwrap();
    let mut damaged = std::fs::read(object(&places[1])).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(object(&places[1]), damaged).unwrap();
    std::fs::remove_file(object(&table(&manifest).chunks[20].chunk)).unwrap();
    let second = setting.backup().await.unwrap();
    assert!(second.read_bytes < first.raw_bytes / 2, "{second:?}");
    let manifest = is_true(&setting).await;

    let gone = table(&manifest).tracking.unwrap().gone.unwrap();
    std::fs::write(object(&gone), b"no list").unwrap();
    setting.source.psql(DAY);
    let third = setting.backup().await.unwrap();
    assert_eq!(third.read_bytes, third.raw_bytes, "{third:?}");
    is_true(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_gone_rows_that_is_wrong_is_found_by_verify() {
    let (folder, setting) = setting().await;
    setting.backup().await.unwrap();
    setting.source.psql(DAY);
    setting.backup().await.unwrap();
    let good = show(&*setting.store, "latest").await.unwrap();
    let verified = async |manifest: &Manifest| {
        verify(&*setting.store, manifest, &Arc::default(), &Context::plain()).await.unwrap()
    };
    verified(&good).await.verdict().unwrap();
    let path = |list: &ChunkRef| folder.path().join(list.key().unwrap().as_str());
    let place = good.databases[0].tables.iter().position(|table| table.name.name == "history").unwrap();
    let table = &good.databases[0].tables[place];
    let list = table.tracking.as_ref().unwrap().gone.unwrap();
    let bytes = open(&std::fs::read(path(&list)).unwrap(), &list, &Keys::list()).unwrap();

    // As many rows, but for one chunk other ones: a whole object, under the name that it should have.
    let (slice, gone) = table.chunks.iter().find_map(|slice| Some((slice.chunk, slice.gone?))).unwrap();
    let (from, rows) = (usize::try_from(gone.at).unwrap(), usize::try_from(slice.rows).unwrap());
    let has = |bytes: &[u8], row: usize| bytes[from + row / 8] & (1 << (row % 8)) != 0;
    let (set, clear) = ((0..rows).find(|row| has(&bytes, *row)), (0..rows).find(|row| !has(&bytes, *row)));
    let mut wrong = bytes.clone();
    for row in [set.unwrap(), clear.unwrap()] {
        wrong[from + row / 8] ^= 1 << (row % 8);
    }
    let object = compress(&wrong, 1).unwrap();
    let forged = ChunkRef { id: Keys::list().id(&wrong), stored: object.len() as u64, ..list };
    std::fs::create_dir_all(path(&forged).parent().unwrap()).unwrap();
    std::fs::write(path(&forged), object).unwrap();
    let mut other = good.clone();
    other.databases[0].tables[place].tracking.as_mut().unwrap().gone = Some(forged);
    let report = verified(&other).await;
    assert_eq!(report.bad.len(), 1, "{report:?}");
    assert_eq!(report.bad[0].chunk, slice.id.to_string());
    let said = format!("marks {} of its rows that are not the {} of the manifest", gone.rows, gone.rows);
    assert!(report.bad[0].problem.contains(&said), "{report:?}");

    // A damaged one is found itself, and the chunks are looked at as far as they can be.
    let mut damaged = std::fs::read(path(&list)).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(path(&list), damaged).unwrap();
    let report = verified(&good).await;
    assert_eq!((report.bad.len(), report.bad[0].chunk.clone()), (1, list.id.to_string()), "{report:?}");
}

/// A transaction that has its id and has not ended.
struct Open(Child);

impl Open {
    fn begin(source: &Scratch) -> Self {
        let mut command = source.server.tool("psql", &source.name);
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut open = Self(command.spawn().unwrap());
        open.say("SET application_name = 'open'; BEGIN; SELECT txid_current();");
        let begun = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'open' \
            AND datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL";
        assert!(eventually(Duration::from_secs(20), || source.psql(begun) == "1"));
        open
    }

    fn say(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql}").unwrap();
    }

    /// Does this, and ends.
    fn end(mut self, sql: &str) {
        self.say(sql);
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// Random changes by transactions of every kind; after each round a backup restores to what the source was. More rounds
/// with `SEXTON_SOAK`.
#[tokio::test(flavor = "multi_thread")]
async fn after_any_change_a_backup_is_true() {
    let (_folder, mut setting) = setting().await;
    let mut random = Seed::new("incremental");
    let rounds = rounds(2) * 4;
    let mut open: Option<Open> = None;
    let mut kept: Vec<(Manifest, Vec<String>)> = Vec::new();
    let mut last: Option<BackupReport> = None;
    for round in 0..rounds {
        for _ in 0..=random.below(3) {
            let (at, size) = (random.below(25_000), random.below(900));
            let some = format!("node BETWEEN {at} AND {}", at + size);
            let source = &setting.source;
            let what = random.below(11);
            if what > 7
                && let Some(open) = open.take()
            {
                // Older than many rows by its id, and written after them. The rest would wait for it.
                open.end("INSERT INTO history SELECT 9, gen_random_uuid(), n, node(n) FROM generate_series(1, 300) n; COMMIT;");
            }
            match what {
                0 => source.psql(&format!("UPDATE history SET data = node(node + {round}) WHERE {some}")),
                1 => source.psql(&format!("DELETE FROM history WHERE {some}")),
                2 => source.psql(DAY),
                3 => source.psql("VACUUM (FREEZE) history"),
                4 => source.psql(&format!(
                    "BEGIN; SAVEPOINT a; DELETE FROM history WHERE {some}; ROLLBACK TO a; SAVEPOINT b; \
                     UPDATE history SET shard = shard + 10 WHERE {some}; RELEASE b; COMMIT"
                )),
                5 => source.psql(&format!("BEGIN; DELETE FROM history WHERE {some}; ROLLBACK")),
                6 => source.psql(&format!(
                    "BEGIN; SELECT count(*) FROM (SELECT FROM history WHERE {some} FOR UPDATE) l; COMMIT"
                )),
                7 => source.psql("CREATE TABLE IF NOT EXISTS late AS SELECT * FROM history LIMIT 5000"),
                8 => source.psql("VACUUM FULL history"),
                9 => source.psql(&format!("ALTER TABLE history ADD IF NOT EXISTS extra{round} int DEFAULT {round}")),
                _ => {
                    open = Some(Open::begin(source));
                    String::new()
                }
            };
        }
        let reread = ["0s", "7d"][usize::try_from(random.below(6)).unwrap().min(1)];
        setting.policy = serde_json::from_value(serde_json::json!({"range_size": "256kb", "reread": reread})).unwrap();
        last = Some(setting.backup().await.unwrap());
        let manifest = show(&*setting.store, "latest").await.unwrap();
        let dump = setting.source.dump();
        assert_equal_dumps(&dump, &restored(&setting, &manifest).await.dump());
        kept.push((manifest, dump));
    }
    if let Some(open) = open {
        open.end("ROLLBACK;");
    }
    assert!(last.is_some_and(|last| last.reused_chunks > 0));
    for _ in 0..2 {
        let (manifest, dump) = &kept[usize::try_from(random.below(kept.len() as u64)).unwrap()];
        assert_equal_dumps(dump, &restored(&setting, manifest).await.dump());
    }
}
