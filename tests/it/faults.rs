//! Faults, drawn by a seed: a store that lies, a network that breaks, a server that crashes, a process that is killed.
//! Whatever happens, what counts as a backup is whole and restores to what the database was, by `pg_dump` of both.
//!
//! A few of each by default, as many as `SEXTON_SOAK` says in `make soak`; a seed is printed and can be given back as
//! `SEXTON_SEED`.

mod beside;
mod crash;
mod kills;
mod network;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use sexton::backup::store::Store;
use sexton::backup::{BackupError, BackupId, BackupReport, Manifest, manifest, show, verify};
use sexton::context::Context;

use crate::backup::{Setting, assert_equal_dumps, directory};
use crate::kills::rounds;
use crate::support::postgres::{Scratch, Server};

/// A table that is read by what changed, and others that are not.
const ROWS: &str = "
    CREATE TABLE big (id bigserial PRIMARY KEY, v int NOT NULL, t text NOT NULL);
    INSERT INTO big (v, t) SELECT 0, md5(random()::text) || md5(random()::text) FROM generate_series(1, 6000) i;
    CREATE TABLE words (id serial PRIMARY KEY, r regtype); INSERT INTO words (r) VALUES ('int4'), ('text[]');
    CREATE TABLE none (a int); CREATE INDEX ON big (t);";

/// Rows go, rows come to where they lay, rows change.
const CHURN: &str =
    "DELETE FROM big WHERE id % 20 = (SELECT last_value FROM words_id_seq) % 20; INSERT INTO words (r) VALUES ('date');
    INSERT INTO big (v, t) SELECT 1, md5(random()::text) || md5(random()::text) FROM generate_series(1, 300);
    UPDATE big SET v = v + 1 WHERE id % 200 = (SELECT last_value FROM words_id_seq) % 200; VACUUM big;";

const POLICY: &str = r#"{"range_size": "64kb", "parallel": 3}"#;

/// What the database was at each backup that there is.
#[derive(Default)]
struct Kept(BTreeMap<BackupId, Vec<String>>);

impl Kept {
    /// After an attempt at a backup of a database that nobody wrote to meanwhile: at most one is there that was not, it
    /// is there when it was said to be, and it verifies and restores equal.
    async fn judge(&mut self, setting: &Setting, outcome: Result<&BackupReport, &BackupError>) -> Option<Manifest> {
        let there = manifest::ids(&*setting.store).await.unwrap();
        assert!(self.0.keys().all(|id| there.contains(id)), "a backup is gone");
        let new: Vec<BackupId> = there.into_iter().filter(|id| !self.0.contains_key(id)).collect();
        match outcome {
            Ok(report) => assert_eq!(new, std::slice::from_ref(&report.id)),
            Err(error) => assert!(new.len() <= 1, "{new:?} {error:?}"),
        }
        let id = new.into_iter().next()?;
        let manifest = show(&*setting.store, id.as_str()).await.unwrap();
        setting.assert_verifies(&manifest).await;
        let dump = setting.source.dump();
        assert_equal_dumps(&dump, &restored(setting, &manifest).await.dump());
        self.0.insert(id, dump);
        Some(manifest)
    }

    /// One of them, drawn by this number, restores to what the database was then; all of them verify.
    async fn still_there(&self, setting: &Setting, draw: u64) {
        for id in self.0.keys() {
            setting.assert_verifies(&show(&*setting.store, id.as_str()).await.unwrap()).await;
        }
        let place = usize::try_from(draw).unwrap() % self.0.len();
        let (id, dump) = self.0.iter().nth(place).unwrap();
        let manifest = show(&*setting.store, id.as_str()).await.unwrap();
        assert_equal_dumps(dump, &restored(setting, &manifest).await.dump());
    }
}

/// Keeps so many of the newest, and leaves nothing that nobody needs, however young.
async fn prune(store: &dyn Store, last: u32) -> Result<(), BackupError> {
    let (keep, ctx) = (serde_json::from_value(serde_json::json!({ "last": last })).unwrap(), Context::plain());
    let plan = sexton::backup::prune::plan(store, &keep, sexton::units::Span::seconds(0), &ctx).await.unwrap();
    sexton::backup::prune::apply(&plan, store, &ctx).await.1
}

async fn restored(setting: &Setting, manifest: &Manifest) -> Scratch {
    setting.restored(manifest, Server::Pg15).await
}

/// A database and a folder for its backups, of which there is none yet.
async fn begun(what: &str) -> (tempfile::TempDir, Setting) {
    let (folder, store) = directory().await;
    let source = Scratch::new(what);
    source.psql(ROWS);
    (folder, Setting::with_policy(source, store, POLICY))
}

/// The same with a first backup.
async fn backed_up(what: &str) -> (tempfile::TempDir, Setting, Kept) {
    let (folder, setting) = begun(what).await;
    let mut kept = Kept::default();
    kept.judge(&setting, setting.backup().await.as_ref()).await.unwrap();
    (folder, setting, kept)
}
