//! Backups of real databases, restored and held against `pg_dump` of both sides.

mod damage;
mod refused;
mod whole;

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

fn small() -> Scratch {
    let source = Scratch::new("small");
    source.psql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    source
}
