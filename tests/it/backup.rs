//! Backups of real databases, restored and held against `pg_dump` of both sides.

use std::sync::Arc;

use sexton::backup::compare::{Verdict, verdict, with_manifest};
use sexton::backup::store::{Settings, Store, StoreError, open};
use sexton::backup::{
    BackupError, BackupReport, Chunks, Listed, Manifest, RestoreReport, Target, apply, list, plan, restore, show,
    verify,
};
use sexton::clients::postgres::{Postgres, PostgresError};
use sexton::context::Context;
use sexton::failure::{Explain, Kind};
use sexton::policy::backup::BackupPolicy;
use sexton::progress::{Progress, Unit};

use crate::support::postgres::{Role, Scratch, Server};
use crate::support::s3::Bucket;
use crate::support::stack;

/// Everything that is awkward about a database, in small.
pub const AWKWARD: &str = r#"
CREATE EXTENSION btree_gin;
CREATE SCHEMA "Odd ""schema";
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE SEQUENCE never_used START 42;
CREATE SEQUENCE used;
SELECT nextval('used') FROM generate_series(1, 17);
CREATE TABLE history (shard int, id uuid DEFAULT gen_random_uuid(), data bytea, PRIMARY KEY (shard, id));
INSERT INTO history SELECT n % 4, gen_random_uuid(), decode(repeat(md5(n::text), 30), 'hex') FROM generate_series(1, 20000) n;
DELETE FROM history WHERE shard = 2 AND id::text < '8';
CREATE TABLE empty (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text NOT NULL);
CREATE TABLE blobs (id bigserial PRIMARY KEY, data bytea);
INSERT INTO blobs (data) VALUES (NULL), (''), ('\x00'), (decode(repeat('00ff', 524288), 'hex'));
ALTER TABLE blobs ALTER data SET STORAGE EXTERNAL;
INSERT INTO blobs (data) SELECT string_agg(sha256(n::text::bytea), '') FROM generate_series(1, 40000) n;
CREATE TABLE "Odd ""schema"."täble \ 'x'" ("a ""b" text, "ü\n" text, "select" int);
INSERT INTO "Odd ""schema"."täble \ 'x'" VALUES (E'line\nbreak\ttab\\.', '\.', 1), ('\N', '', NULL), ('日本語 🎉', NULL, -1);
CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED, doc jsonb, tag text GENERATED ALWAYS AS (doc->>'tag') STORED);
INSERT INTO generated (a, doc) SELECT n, jsonb_build_object('tag', 't' || n) FROM generate_series(1, 500) n;
CREATE INDEX ON generated USING gin (tag);
CREATE TABLE only_generated (b int GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO only_generated DEFAULT VALUES; INSERT INTO only_generated DEFAULT VALUES;
CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE dropped (a int, gone text, c int); INSERT INTO dropped VALUES (1, 'x', 2); ALTER TABLE dropped DROP gone;
ALTER TABLE dropped ADD late text DEFAULT 'late';
CREATE TABLE user_types (m mood, ms mood[], p pair, ps pair[], d positive, r regclass, n numeric, f float8, i interval,
  ts timestamptz, b bit varying, v tsvector, x xml, h inet, money money, a int[][], rng int4range, o oid);
INSERT INTO user_types VALUES ('happy', '{sad,happy}', '(1,"a b")', ARRAY[ROW(1, 'x')::pair], 3, 'history', 'NaN', 'infinity',
  '1 mon -2 days 03:04:05.6', '2026-01-01 00:00:00.123456+05', '10101', 'a:1 b:2', '<a>ü</a>', '::1/64', '12.34', '{{1,2},{3,4}}', '[1,5)', 7);
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT n, 'v' || n FROM generate_series(1, 300) n;
CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS a;
CREATE TABLE referring (shard int, id uuid, FOREIGN KEY (shard, id) REFERENCES history);
INSERT INTO referring SELECT shard, id FROM history LIMIT 100;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM parts;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a restore fires no trigger'; END $$;
CREATE TRIGGER no_touch BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION touch();
COMMENT ON TABLE parent IS 'a comment';
"#;

/// A database, and where and how it is backed up.
pub struct Setting {
    pub source: Scratch,
    pub store: Arc<dyn Store>,
    pub policy: BackupPolicy,
}

impl Setting {
    pub fn new(source: Scratch, store: Arc<dyn Store>) -> Self {
        // Small ranges make many chunks of little data.
        let policy = serde_json::from_str(r#"{"range_size": "64kb", "parallel": 3}"#).unwrap();
        Self { source, store, policy }
    }

    /// With another policy.
    pub fn with_policy(source: Scratch, store: Arc<dyn Store>, policy: &str) -> Self {
        Self { policy: serde_json::from_str(policy).unwrap(), ..Self::new(source, store) }
    }

    /// What the store holds of a backup is what its manifest says.
    pub async fn assert_verifies(&self, manifest: &Manifest) {
        verify(&*self.store, manifest, &Arc::default(), &Context::plain()).await.unwrap().verdict().unwrap();
    }

    /// A database that the backup was restored to.
    pub async fn restored(&self, manifest: &Manifest, server: Server) -> Scratch {
        let target = Scratch::on(server, "restored_back");
        self.restore_to(manifest, &target).await.unwrap().verdict().unwrap();
        target
    }

    pub async fn backup(&self) -> Result<BackupReport, BackupError> {
        self.backup_as(&self.source.server.client(), &Context::plain()).await
    }

    pub async fn backup_as(&self, postgres: &Postgres, ctx: &Context) -> Result<BackupReport, BackupError> {
        let plan = plan(postgres, std::slice::from_ref(&self.source.name), &*self.store, &self.policy, ctx).await?;
        assert_eq!(plan.plan().changes.len(), 1);
        apply(&plan, postgres, &self.store, None, ctx).await
    }

    pub async fn restore_to(&self, manifest: &Manifest, target: &Scratch) -> Result<RestoreReport, BackupError> {
        self.restore_as(manifest, target.server.client(), target).await
    }

    pub async fn restore_as(
        &self,
        manifest: &Manifest,
        postgres: Postgres,
        target: &Scratch,
    ) -> Result<RestoreReport, BackupError> {
        let to = Target { postgres, database: target.name.clone(), jobs: 3 };
        let from = Chunks { store: Arc::clone(&self.store), identities: Arc::default() };
        restore(&from, manifest, &self.source.name, &to, &Context::plain()).await
    }
}

pub async fn directory() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Settings::Directory { path: folder.path().to_owned() }).await.unwrap();
    (folder, store)
}

pub fn assert_same(source: &Scratch, target: &Scratch) {
    assert_equal_dumps(&source.dump(), &target.dump());
}

pub fn assert_equal_dumps(left: &[String], right: &[String]) {
    let missing: Vec<_> = left.iter().filter(|line| right.binary_search(line).is_err()).take(5).collect();
    let added: Vec<_> = right.iter().filter(|line| left.binary_search(line).is_err()).take(5).collect();
    assert!(missing.is_empty() && added.is_empty(), "missing: {missing:.300?}\nadded: {added:.300?}");
    assert_eq!(left.len(), right.len());
    assert!(left.iter().any(|line| line.starts_with("INSERT INTO")), "there was something to compare");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_awkward_database_restores_equal_into_both_majors_and_again_costs_nothing() {
    let bucket = Bucket::new().await;
    let (_folder, directory) = directory().await;
    for store in [open(&bucket.settings("pg")).await.unwrap(), directory] {
        let source = Scratch::new("awkward");
        source.psql(AWKWARD);
        let setting = Setting::new(source, store);
        let first = setting.backup().await.unwrap();
        assert!(first.new_chunks > 50, "{first:?}");

        let again = setting.backup().await.unwrap();
        assert_eq!((again.new_chunks, again.stored_bytes), (0, 0), "nothing changed, nothing is stored");
        assert_eq!((again.rows, again.raw_bytes), (first.rows, first.raw_bytes));

        let manifest = show(&*setting.store, "latest").await.unwrap();
        assert_eq!(manifest.id, again.id);
        let listed = list(&*setting.store).await.unwrap();
        assert!(
            matches!(&listed[..], [Listed::Readable(a), Listed::Readable(b)] if a.id == again.id && b.id == first.id)
        );
        verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap().verdict().unwrap();

        for server in [Server::Pg15, Server::Pg17] {
            let target = Scratch::on(server, "restored");
            let report = setting.restore_to(&manifest, &target).await.unwrap();
            report.verdict().unwrap();
            assert_same(&setting.source, &target);
            assert_eq!(target.psql("SELECT count FROM counted"), "300");
            assert_eq!(target.psql("SELECT nextval('used'), nextval('never_used')"), "18|42");
        }
    }
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn temporal_s_own_database_restores_equal() {
    let source = Scratch::new("temporal");
    // A copy, since the original goes on living while both are compared.
    let dump = Server::Pg15.tool("pg_dump", stack().get("TEMPORAL_DATABASE")).arg("--no-owner").output().unwrap();
    assert!(dump.status.success());
    // pg_dump 17 sets what 15 does not know.
    source.psql(&String::from_utf8(dump.stdout).unwrap().replace("SET transaction_timeout = 0;", ""));
    let (_folder, store) = directory().await;
    let setting = Setting::new(source, store);
    let report = setting.backup().await.unwrap();
    assert!(report.rows > 0 && report.tables >= 38, "{report:?}");
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let version = setting.source.psql("SELECT db_name || ' ' || curr_version FROM schema_version");
    let known = &manifest.databases[0].schema_versions[0];
    assert_eq!(format!("{} {}", known.name, known.version), version);
    for server in [Server::Pg15, Server::Pg17] {
        let target = Scratch::on(server, "temporal_back");
        setting.restore_to(&manifest, &target).await.unwrap().verdict().unwrap();
        assert_same(&setting.source, &target);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_writes_is_of_one_instant() {
    let source = Scratch::new("pairs");
    source.psql(
        "CREATE TABLE a (id bigint PRIMARY KEY, pad text); CREATE TABLE b (id bigint PRIMARY KEY, pad text);
         INSERT INTO a SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n; INSERT INTO b SELECT * FROM a;",
    );
    let (_folder, store) = directory().await;
    let setting = Setting::new(source, store);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (name, stop) = (setting.source.name.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut connection = Server::Pg15.client().connect(&name).await.unwrap();
            let mut written = 20_000;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                written += 1;
                let sql = format!(
                    "BEGIN; INSERT INTO a VALUES ({written}, ''); UPDATE a SET pad = pad || 'y' WHERE id = {0}; \
                     INSERT INTO b VALUES ({written}, ''); UPDATE b SET pad = pad || 'y' WHERE id = {0}; COMMIT",
                    written % 20_000
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            }
            written
        })
    };
    let mut counts = Vec::new();
    for _ in 0..3 {
        let report = setting.backup().await.unwrap();
        let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
        let target = Scratch::new("pairs_back");
        setting.restore_to(&manifest, &target).await.unwrap().verdict().unwrap();
        let odd = "SELECT count(*) FROM a FULL JOIN b USING (id) WHERE a.pad IS DISTINCT FROM b.pad";
        assert_eq!(target.psql(odd), "0", "each pair was written in one transaction");
        counts.push(target.psql("SELECT count(*) FROM a").parse::<u64>().unwrap());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]) && counts[2] <= written, "{counts:?} {written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_truncated_after_the_snapshot_is_not_backed_up_as_empty() {
    let source = Scratch::new("truncated");
    source.psql("CREATE TABLE z (id int); INSERT INTO z VALUES (1)");
    let (_folder, store) = directory().await;
    let setting = Setting::new(source, store);
    let (postgres, ctx) = (Server::Pg15.client(), Context::plain());
    let planned =
        plan(&postgres, std::slice::from_ref(&setting.source.name), &*setting.store, &setting.policy, &ctx).await;
    let planned = planned.unwrap();
    // Looking at the catalog waits for this lock, with the snapshot taken already.
    let mut holding = postgres.connect(&setting.source.name).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE")
        .execute(&mut holding)
        .await
        .unwrap();
    let running = apply(&planned, &postgres, &setting.store, None, &ctx);
    let truncating = async {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
            WHERE NOT l.granted AND d.datname = current_database()";
        for _ in 0..200 {
            if setting.source.psql(waiting) == "1" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(setting.source.psql(waiting), "1");
        setting.source.psql("TRUNCATE z");
        sqlx::raw_sql("COMMIT").execute(&mut holding).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(running, truncating);
    let error = outcome.unwrap_err();
    assert!(matches!(&error, BackupError::SchemaChanged { relation, .. } if relation == "public.z"), "{error:?}");
    assert_eq!(list(&*setting.store).await.unwrap(), vec![]);
}

/// At the first bytes copied, ends the session that holds the snapshot.
#[derive(Debug)]
struct EndTheLeader(String, std::sync::Once);

impl Progress for EndTheLeader {
    fn stage(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {
        let end = format!(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
             WHERE d.datname = '{}' AND l.locktype = 'relation' AND l.mode = 'AccessShareLock' \
             AND l.relation >= 16384 GROUP BY l.pid ORDER BY count(*) DESC LIMIT 1",
            self.0
        );
        self.1.call_once(|| assert_eq!(Server::Pg15.psql("postgres", &end), "t"));
    }
    fn note(&self, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_locks_were_lost_is_none() {
    let source = small();
    source.psql(
        "CREATE TABLE u AS SELECT * FROM t; CREATE TABLE v AS SELECT * FROM t; CREATE TABLE w AS SELECT * FROM t",
    );
    let (_folder, store) = directory().await;
    let setting = Setting::new(source, store);
    let end = EndTheLeader(setting.source.name.clone(), std::sync::Once::new());
    let ctx = Context { progress: Arc::new(end), ..Context::plain() };
    let error = setting.backup_as(&Server::Pg15.client(), &ctx).await.unwrap_err();
    assert!(matches!(error, BackupError::Postgres(_)), "{error:?}");
    assert_eq!(list(&*setting.store).await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_that_was_removed_is_stored_anew() {
    let (folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    let first = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, first.id.as_str()).await.unwrap();
    let path = folder.path().join(manifest.databases[0].tables[0].chunks[0].chunk.key().unwrap().as_str());
    std::fs::remove_file(&path).unwrap();
    let second = setting.backup().await.unwrap();
    assert_eq!(second.new_chunks, 1);
    let report = verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
    report.verdict().expect("the older backup shares the chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_chunk_in_another_table_s_place_is_found() {
    let (_folder, store) = directory().await;
    let source = small();
    source.psql("CREATE TABLE u AS SELECT id AS other, v FROM t");
    let setting = Setting::new(source, store);
    let report = setting.backup().await.unwrap();
    let mut manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let tables = &mut manifest.databases[0].tables;
    tables[1].chunks = tables[0].chunks.clone();
    let report = verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
    assert_eq!(report.bad.len(), manifest.databases[0].tables[1].chunks.len(), "{report:?}");
}

fn small() -> Scratch {
    let source = Scratch::new("small");
    source.psql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_chunks_and_manifests_are_found_and_named() {
    let (folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let chunk = manifest.databases[0].tables[0].chunks[1];
    let path = folder.path().join(chunk.chunk.key().unwrap().as_str());
    let good = std::fs::read(&path).unwrap();

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [Some(flipped), Some(good[..middle].to_vec()), Some(vec![]), None] {
        match damaged {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let found = verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
        let error = found.verdict().unwrap_err();
        assert_eq!(error.kind(), Kind::VerificationFailed);
        assert!(error.to_string().contains(&chunk.chunk.id.to_string()), "{error}");
        let target = Scratch::new("damaged");
        let refused = setting.restore_to(&manifest, &target).await.unwrap_err();
        assert!(refused.to_string().contains(&chunk.chunk.id.to_string()), "{refused}");
    }
    // The next backup sees that the chunk is gone and stores it again.
    assert_eq!(setting.backup().await.unwrap().new_chunks, 1);
    verify(&*setting.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap().verdict().unwrap();

    let place = folder.path().join(format!("backups/{}/manifest.json", report.id));
    let text = std::fs::read_to_string(&place).unwrap().replacen("5000", "5001", 1);
    std::fs::write(&place, text).unwrap();
    let listed = list(&*setting.store).await.unwrap();
    assert!(matches!(&listed[1], Listed::Unreadable { id, .. } if *id == report.id), "{listed:?}");
    assert!(matches!(show(&*setting.store, report.id.as_str()).await, Err(BackupError::Manifest { .. })));
    // Without its manifest it is none.
    std::fs::remove_file(&place).unwrap();
    assert_eq!(list(&*setting.store).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_no_verdict() {
    let bucket = Bucket::new().await;
    let setting = Setting::new(small(), open(&bucket.settings("")).await.unwrap());
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let mut lost = bucket.settings("");
    if let Settings::S3 { credentials, .. } = &mut lost {
        *credentials = Some(("nobody".to_owned(), "wrong".to_owned().into()));
    }
    let found = verify(&*open(&lost).await.unwrap(), &manifest, &Arc::default(), &Context::plain()).await.unwrap();
    assert_eq!(found.verdict().unwrap_err().kind(), Kind::CouldNotVerify);
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filled_target_is_refused_and_left_alone() {
    let (_folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    for filling in ["CREATE TABLE mine AS SELECT 1 AS a", "CREATE SCHEMA mine", "CREATE TYPE mine AS ENUM ('a')"] {
        let target = Scratch::new("filled");
        target.psql(filling);
        let before = target.dump();
        let refused = setting.restore_to(&manifest, &target).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Refused);
        assert!(
            refused.to_string().contains("mine") && refused.hint().unwrap().contains("a new database"),
            "{refused}"
        );
        assert_eq!(target.dump(), before);
    }
    // What a restore leaves is not empty either.
    let target = Scratch::new("twice");
    setting.restore_to(&manifest, &target).await.unwrap().verdict().unwrap();
    let refused = setting.restore_to(&manifest, &target).await.unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_refused() {
    let (_folder, store) = directory().await;
    let source = Scratch::on(Server::Pg17, "newer");
    source.psql("CREATE TABLE t AS SELECT 1 AS a");
    let setting = Setting::new(source, store);
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let target = Scratch::new("older");
    let refused = setting.restore_to(&manifest, &target).await.unwrap_err();
    assert!(matches!(refused, BackupError::TargetOlder { source_major: 17, target_major: 15 }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_may_not_read_is_named_before_anything_is_written() {
    let (folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    setting.source.psql("CREATE SEQUENCE hidden_ids");
    let role = Role::new(Server::Pg15);
    let mut settings = Server::Pg15.settings();
    settings.user.clone_from(&role.name);
    settings.password = Some(role.password.clone().into());
    let reader = Postgres::new(settings);
    let refused = setting.backup_as(&reader, &Context::plain()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    for name in ["public.t", "public.hidden_ids", &role.name] {
        assert!(refused.to_string().contains(name), "{refused}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    // What the hint says is enough.
    assert!(refused.hint().unwrap().contains("pg_read_all_data"));
    setting.source.psql(&format!("GRANT pg_read_all_data TO {}", role.name));
    assert_eq!(setting.backup_as(&reader, &Context::plain()).await.unwrap().rows, 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_privileges_restores_into_a_database_of_its_own() {
    let (_folder, store) = directory().await;
    let source = Scratch::new("owned");
    source.psql(AWKWARD);
    let setting = Setting::new(source, store);
    let report = setting.backup().await.unwrap();
    let manifest = show(&*setting.store, report.id.as_str()).await.unwrap();
    let role = Role::new(Server::Pg17);
    let target = Scratch::on(Server::Pg17, "owned_back");
    target.psql(&format!("ALTER DATABASE {} OWNER TO {}", target.name, role.name));
    let mut settings = Server::Pg17.settings();
    settings.user.clone_from(&role.name);
    settings.password = Some(role.password.clone().into());
    let to = Target { postgres: Postgres::new(settings), database: target.name.clone(), jobs: 2 };
    let from = Chunks { store: Arc::clone(&setting.store), identities: Arc::default() };
    let restored = restore(&from, &manifest, &setting.source.name, &to, &Context::plain()).await.unwrap();
    restored.verdict().unwrap();
    assert_same(&setting.source, &target);

    // A row that changes afterwards is seen; a table that cannot be read is no pass.
    let expected = &manifest.databases[0];
    target.psql(
        "UPDATE history SET shard = 9 WHERE id = (SELECT id FROM history EXCEPT SELECT id FROM referring LIMIT 1)",
    );
    let ctx = Context::plain();
    let verdicts = with_manifest(&to.postgres, &target.name, expected, 2, &ctx).await.unwrap();
    let error = verdict("it", &verdicts).unwrap_err();
    assert_eq!(error.kind(), Kind::VerificationFailed);
    assert!(error.to_string().contains("public.history: as many rows"), "{error}");
    target.psql("DROP TABLE parent CASCADE");
    let verdicts = with_manifest(&to.postgres, &target.name, expected, 2, &ctx).await.unwrap();
    let unknown = verdicts.iter().filter(|table| table.verdict == Verdict::Unknown);
    assert_eq!(unknown.count(), 2, "parent and child are gone: {verdicts:?}");
    drop(target);
    drop(role);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_and_a_missing_bucket_are_refused() {
    let (_folder, store) = directory().await;
    let setting = Setting::new(small(), store);
    setting.source.psql("SELECT lo_from_bytea(0, 'x')");
    assert!(matches!(setting.backup().await, Err(BackupError::LargeObjects { count: 1, .. })));

    let bucket = Bucket::new().await;
    let settings = bucket.settings("");
    bucket.remove().await;
    let setting = Setting::new(small(), open(&settings).await.unwrap());
    assert!(matches!(setting.backup().await, Err(BackupError::Store(StoreError::NoBucket { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_is_none() {
    let (_folder, store) = directory().await;
    let source = small();
    source.psql("INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(10000, 100000) n");
    let setting = Setting::new(source, store);
    let ctx = Context::plain();
    let postgres = Server::Pg15.client();
    let running = setting.backup_as(&postgres, &ctx);
    let cancelling = async {
        while setting.store.list("chunks/").await.unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        ctx.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(running, cancelling);
    assert_eq!(outcome.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(list(&*setting.store).await.unwrap(), vec![]);
    // Nothing of it goes on in the server.
    let left =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state <> 'idle'", setting.source.name);
    for _ in 0..200 {
        if Server::Pg15.psql("postgres", &left) == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(Server::Pg15.psql("postgres", &left), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_leaves_no_manifest() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(mount.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let store = open(&Settings::Directory { path: mount.path().to_owned() }).await.unwrap();
    let source = small();
    source.psql("INSERT INTO t SELECT n, (SELECT string_agg(md5((n * i)::text), '') FROM generate_series(1, 30) i) FROM generate_series(10000, 12000) n");
    let setting = Setting::new(source, store);
    let outcome = setting.backup().await;
    let listed = list(&*setting.store).await;
    let partial = std::process::Command::new("find").arg(mount.path()).args(["-name", ".partial*"]).output();
    let unmounted = std::process::Command::new("umount").arg(mount.path()).status();
    assert!(matches!(outcome, Err(BackupError::Store(StoreError::Full { .. }))), "{outcome:?}");
    assert_eq!(listed.unwrap(), vec![]);
    assert!(partial.unwrap().stdout.is_empty(), "no partial file is left");
    assert!(unmounted.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_connection_is_told_apart() {
    let with = |change: &dyn Fn(&mut sexton::clients::postgres::Settings)| {
        let mut settings = Server::Pg15.settings();
        change(&mut settings);
        Postgres::new(settings)
    };
    let connect = async |postgres: Postgres, database: &str| postgres.connect(database).await.unwrap_err();
    let error = connect(with(&|s| s.password = Some("wrong".to_owned().into())), "postgres").await;
    assert!(matches!(error, PostgresError::WrongPassword { .. }), "{error:?}");
    let error = connect(with(&|_| ()), "no_such_database").await;
    assert!(matches!(error, PostgresError::NoDatabase { .. }), "{error:?}");
    let error = connect(with(&|s| s.port = 1), "postgres").await;
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{error:?}");
    let error = connect(with(&|s| s.tls_mode = sexton::clients::postgres::TlsMode::VerifyFull), "postgres").await;
    assert!(matches!(error, PostgresError::Tls { .. }), "{error:?}");

    let verified = with(&|s| {
        s.tls_mode = sexton::clients::postgres::TlsMode::VerifyFull;
        s.tls.ca = Some(stack().get("CA").into());
        s.user = stack().get("PG15_CERT_USER").to_owned();
        s.password = None;
        s.tls.certificate = Some(stack().get("CLIENT_CERT").into());
        s.tls.key = Some(stack().get("CLIENT_KEY").into());
    });
    let mut connection = verified.connect("postgres").await.unwrap();
    let encrypted: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(encrypted);

    let brief = with(&|s| s.statement_timeout = std::time::Duration::from_millis(50));
    let mut connection = brief.connect("postgres").await.unwrap();
    let slow = sqlx::raw_sql("SELECT pg_sleep(30)").execute(&mut connection).await.unwrap_err();
    let error = brief.error("postgres", "sleeping", slow);
    assert!(matches!(error, PostgresError::Timeout { .. }), "{error:?}");

    assert!(matches!(brief.pg_dump(99).await, Err(PostgresError::ToolTooOld { major: 99, .. })));
    let nowhere = with(&|s| s.bin_dir = Some("/nonexistent".into()));
    assert!(matches!(nowhere.pg_dump(15).await, Err(PostgresError::ToolMissing { .. })));
}
