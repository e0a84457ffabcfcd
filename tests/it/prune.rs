//! Prunes of real backups, judged by the store's own files, `restore` and `pg_dump`.

mod beside;
mod check;
mod kills;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sexton::backup::prune::{self, PruneReport};
use sexton::backup::store::{Key, Settings, Store, open};
use sexton::backup::{BackupError, BackupId, Chunks, Target, apply, plan, restore, show, verify};
use sexton::context::Context;
use sexton::policy::backup::BackupPolicy;
use sexton::policy::keep::Keep;
use sexton::units::Span;

use crate::support::postgres::{Scratch, Server};

const NONE: Keep = Keep { last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

fn last(last: u32) -> Keep {
    Keep { last, ..NONE }
}

/// What a drill leaves.
const PROOF: &str =
    r#"{"at": "2026-11-24T00:43:06Z", "by": "0.1.0", "databases": [], "milliseconds": 1, "server_version": 170000}"#;

/// A database and a store for its backups.
struct Setting {
    source: Scratch,
    store: Arc<dyn Store>,
}

impl Setting {
    fn new(store: Arc<dyn Store>) -> Self {
        let source = Scratch::new("pruned");
        // Unlogged tables are copied whole each time, so that what changes is a chunk.
        source.psql(
            "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 0, t text NOT NULL);
             INSERT INTO t SELECT n, 0, md5(n::text) || md5((-n)::text) FROM generate_series(1, 6000) n;
             CREATE UNLOGGED TABLE still AS SELECT n, md5(n::text) AS t FROM generate_series(1, 3000) n;",
        );
        Self { source, store }
    }

    /// Other rows in one of the tables.
    fn churn(&self) {
        self.source.psql("UPDATE t SET v = v + 1 WHERE id % 300 = 0");
    }

    async fn backup(&self) -> Result<BackupId, BackupError> {
        self.backup_to(&self.store).await
    }

    async fn backup_to(&self, store: &Arc<dyn Store>) -> Result<BackupId, BackupError> {
        // Identifiers are ordered by the second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let policy: BackupPolicy = serde_json::from_str(r#"{"range_size": "64kb"}"#).unwrap();
        let (postgres, ctx) = (Server::Pg15.client(), Context::plain());
        let planned = plan(&postgres, std::slice::from_ref(&self.source.name), &**store, &policy, &ctx).await?;
        Ok(apply(&planned, &postgres, store, None, &ctx).await?.id)
    }

    async fn backups(&self, count: usize) -> Vec<BackupId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            self.churn();
            ids.push(self.backup().await.unwrap());
        }
        ids
    }

    async fn prune(&self, keep: Keep, grace: Span) -> PruneReport {
        prune_at(&*self.store, keep, grace, jiff::Timestamp::now()).await.unwrap()
    }

    async fn assert_verifies(&self, id: &BackupId) {
        let manifest = show(&*self.store, id.as_str()).await.unwrap();
        verify(&*self.store, &manifest, &std::sync::Arc::default(), &Context::plain())
            .await
            .unwrap()
            .verdict()
            .unwrap();
    }

    /// What `pg_dump` says of the restored backup.
    async fn restored(&self, id: &BackupId) -> Vec<String> {
        let manifest = show(&*self.store, id.as_str()).await.unwrap();
        let target = Scratch::new("pruned_back");
        let to = Target { postgres: target.server.client(), database: target.name.clone(), jobs: 2 };
        let from = Chunks { store: Arc::clone(&self.store), identities: Arc::default() };
        let report = restore(&from, &manifest, &self.source.name, &to, &Context::plain()).await.unwrap();
        report.verdict().unwrap();
        target.dump()
    }

    /// Every object of the store as a listing shows it.
    async fn keys(&self) -> BTreeSet<String> {
        let listed = self.store.list("").await.unwrap();
        listed.into_iter().map(|entry| entry.key.to_string()).collect()
    }

    /// The chunks that are there, and those that the manifests name, read as plain JSON.
    async fn chunks(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut there, mut named) = (BTreeSet::new(), BTreeSet::new());
        for key in self.keys().await {
            if let Some(name) = key.strip_prefix("chunks/").and_then(|rest| rest.get(3..)).filter(|n| n.len() == 64) {
                there.insert(name.to_owned());
            } else if key.ends_with("/manifest.json") {
                let bytes = self.store.get(&Key::new(key).unwrap(), 1 << 30).await.unwrap();
                named.extend(named_by(&bytes));
            }
        }
        (there, named)
    }
}

async fn prune_at(
    store: &dyn Store,
    keep: Keep,
    grace: Span,
    now: jiff::Timestamp,
) -> Result<PruneReport, BackupError> {
    let ctx = Context { now, ..Context::plain() };
    let planned = prune::plan(store, &keep, grace, &ctx).await?;
    if planned.plan().is_empty() {
        prune::mark(store, &ctx).await?;
        return Ok(PruneReport::default());
    }
    let (report, outcome) = prune::apply(&planned, store, &ctx).await;
    outcome.map(|()| report)
}

/// The chunks that a manifest names.
fn named_by(manifest: &[u8]) -> BTreeSet<String> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let databases = manifest["databases"].as_array().unwrap().iter();
    let tables = databases.flat_map(|database| database["tables"].as_array().unwrap());
    let objects = tables.flat_map(|table| {
        let places = table["tracking"]["places"].as_array().into_iter().flatten();
        let gone = table["tracking"].get("gone").into_iter();
        table["chunks"].as_array().unwrap().iter().chain(places).chain(gone)
    });
    objects.map(|object| object["id"].as_str().unwrap().to_owned()).collect()
}

async fn directory() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Settings::Directory { path: folder.path().to_owned() }).await.unwrap();
    (folder, store)
}

/// Every file under a folder and what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    if folder.exists() {
        walk(folder, folder, &mut found);
    }
    found
}

/// Makes a directory store as it will be after that time: files and marks are older.
fn age(folder: &Path, by: Duration) {
    for name in files(folder).keys() {
        let path = folder.join(name);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let modified: SystemTime = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - by).unwrap();
    }
    let path = folder.join("prune/marks.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let mut marks: Value = serde_json::from_str(&text).unwrap();
    for mark in marks["marks"].as_array_mut().unwrap() {
        for clock in ["host", "store"] {
            let at: jiff::Timestamp = mark["since"][clock].as_str().unwrap().parse().unwrap();
            mark["since"][clock] = (at - by).to_string().into();
        }
    }
    std::fs::write(&path, marks.to_string()).unwrap();
}
