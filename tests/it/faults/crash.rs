//! A PostgreSQL that crashes and forgets what was not yet on its disk, or goes away in the middle of a copy.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sexton::backup::store::Store;
use sexton::backup::{Chunks, Target, apply, plan, restore};
use sexton::clients::postgres::Postgres;

use super::*;
use crate::backup::directory;
use crate::kills::Seed;
use crate::support::own_server::OwnServer;
use crate::support::postgres::dumped;
use crate::support::site::eventually;

const DATABASE: &str = "crashed";

struct Ground {
    server: OwnServer,
    store: Arc<dyn Store>,
    kept: Vec<(BackupId, Vec<String>)>,
    _folder: tempfile::TempDir,
}

impl Ground {
    async fn new() -> Self {
        let (folder, store) = directory().await;
        let server = OwnServer::primary();
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'"));
        server.psql("postgres", "ALTER SYSTEM SET synchronous_commit = off");
        server.psql(DATABASE, ROWS);
        Self { server, store, kept: Vec::new(), _folder: folder }
    }

    fn dump(&self) -> Vec<String> {
        dumped(self.server.tool("pg_dump", DATABASE))
    }

    async fn backup(&self) -> Result<BackupReport, BackupError> {
        let (postgres, ctx) = (Postgres::new(self.server.settings()), Context::plain());
        let policy = serde_json::from_str(POLICY).unwrap();
        let plan = plan(&postgres, &[DATABASE.to_owned()], &*self.store, &policy, &ctx).await?;
        apply(&plan, &postgres, &self.store, None, &ctx).await
    }

    async fn assert_restores(&self, id: &BackupId, dump: &[String]) {
        let manifest = show(&*self.store, id.as_str()).await.unwrap();
        let report = verify(&*self.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
        report.verdict().unwrap();
        let target = Scratch::new("crashed_restored");
        let to = Target { postgres: target.server.client(), database: target.name.clone(), jobs: 2 };
        let from = Chunks { store: Arc::clone(&self.store), identities: Arc::default() };
        let report = restore(&from, &manifest, DATABASE, &to, &Context::plain()).await.unwrap();
        report.verdict().unwrap();
        assert_equal_dumps(dump, &target.dump());
    }

    /// A backup that is of what the server has; true when the next one could go by transactions.
    async fn backs_up(&mut self) -> bool {
        let id = self.backup().await.unwrap().id;
        let dump = self.dump();
        self.assert_restores(&id, &dump).await;
        let manifest = show(&*self.store, id.as_str()).await.unwrap();
        self.kept.push((id, dump));
        manifest.databases[0].origin.is_some()
    }

    /// Writes in many small transactions, each of which may be forgotten. The same again writes other rows.
    fn write(&self, transactions: u64) {
        let each = "DO $$ BEGIN FOR n IN 1..TIMES LOOP INSERT INTO big (v, t) SELECT n, md5(random()::text) || md5(random()::text) \
            FROM generate_series(1, 20); UPDATE big SET t = md5(random()::text) WHERE id % 500 = n; COMMIT; END LOOP; END $$";
        self.server.psql(DATABASE, &each.replace("TIMES", &transactions.to_string()));
    }

    /// The server falls over as a whole, and is started.
    fn crash(&self) {
        self.server.stop();
        self.server.start();
        self.answers();
    }

    /// One of its processes is killed. The rest ends with it and is started by the process that stays, as after a crash.
    fn kill_one(&self) {
        let asleep = || {
            let mut psql = self.server.tool("psql", DATABASE);
            psql.args(["-Xqc", "SELECT pg_sleep(60)"]).stdout(Stdio::null()).stderr(Stdio::null());
            psql.spawn().unwrap()
        };
        let mut sleeping = [asleep(), asleep()];
        let find = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()";
        let mut pids = String::new();
        let found = eventually(Duration::from_secs(10), || {
            pids = self.server.psql("postgres", find);
            pids.lines().count() == 2
        });
        assert!(found);
        assert!(Command::new("kill").args(["-9", pids.lines().next().unwrap()]).status().unwrap().success());
        // The one that was not killed ends when the server has noticed; before that it answers as if nothing had been.
        for psql in &mut sleeping {
            assert!(!psql.wait().unwrap().success());
        }
        self.answers();
    }

    fn answers(&self) {
        let asked = || {
            let mut psql = self.server.tool("psql", DATABASE);
            let psql = psql.args(["-Xqc", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null());
            psql.status().unwrap().success()
        };
        assert!(eventually(Duration::from_secs(20), asked));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_crash_forgets_do_not_confuse_the_next_backup() {
    let mut ground = Ground::new().await;
    let mut random = Seed::new("crashes");
    let (mut by_transaction, mut forgotten) = (0, 0);
    ground.backs_up().await;
    for round in 0..rounds(3) {
        // A log that is written late makes what is forgotten more, and backups that do not wait for it.
        let late = round % 3 == 2;
        let delay = if late { "10s" } else { "1s" };
        ground.server.psql("postgres", &format!("ALTER SYSTEM SET wal_writer_delay = '{delay}'"));
        ground.server.psql("postgres", "SELECT pg_reload_conf()");
        let transactions = 5 + random.below(30);
        ground.write(transactions);
        by_transaction += u64::from(ground.backs_up().await);
        // As many again, which the crash forgets or not; then as many that get the same ids and places.
        ground.write(transactions);
        let before = ground.server.psql(DATABASE, "SELECT count(*) FROM big");
        if random.below(3) == 0 {
            ground.crash()
        } else {
            ground.kill_one()
        }
        forgotten += u64::from(ground.server.psql(DATABASE, "SELECT count(*) FROM big") != before);
        if random.below(2) == 0 {
            ground.write(transactions);
        }
        by_transaction += u64::from(ground.backs_up().await);
    }
    println!("{forgotten} crashes forgot rows; {by_transaction} backups were on disk when they ended");
    assert!(forgotten > 0 && by_transaction > 0);
    for (id, dump) in &ground.kept {
        ground.assert_restores(id, dump).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_the_middle_leaves_no_false_backup() {
    let mut ground = Ground::new().await;
    let mut random = Seed::new("a server that goes away");
    let clock = Instant::now();
    ground.backup().await.unwrap();
    let whole = clock.elapsed();
    for _ in 0..rounds(2) {
        ground.write(20);
        let at = random.part_of(whole);
        let before = manifest::ids(&*ground.store).await.unwrap().len();
        let crashing = async {
            tokio::time::sleep(at).await;
            tokio::task::block_in_place(|| ground.crash());
        };
        let (outcome, ()) = tokio::join!(ground.backup(), crashing);
        let after = manifest::ids(&*ground.store).await.unwrap();
        match &outcome {
            Ok(report) => assert!(after.contains(&report.id)),
            Err(error) => {
                assert_eq!(after.len(), before, "{error:?}");
                assert!(matches!(error, BackupError::Postgres(_) | BackupError::PgDump { .. }), "{error:?}");
            }
        }
        println!("{at:?}: {:?}", outcome.map(|report| report.id).map_err(|error| error.to_string()));
        for id in after {
            let manifest = show(&*ground.store, id.as_str()).await.unwrap();
            let report = verify(&*ground.store, &manifest, &Arc::default(), &Context::plain()).await.unwrap();
            report.verdict().unwrap();
        }
        ground.backs_up().await;
    }
}
