//! The real binary, killed at random instants: what it leaves behind is whole or not there, and the next run goes on.
//!
//! Two kills each by default, as many as `SEXTON_SOAK` says in `make soak`. The instants come from a seed that is
//! printed and can be given back as `SEXTON_SEED`. The judges are `pg_dump` of both sides, psql and the store's own files.

use std::time::{Duration, Instant};

use crate::support::postgres::Scratch;
use crate::support::s3::Bucket;
use crate::support::site::{Said, Site, eventually, postgres_sections};
use crate::support::stack;

/// Random numbers from a seed (Marsaglia's xorshift64).
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    pub fn new(what: &str) -> Self {
        let given = std::env::var("SEXTON_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 | 1);
        println!("{what}: SEXTON_SEED={seed}");
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Another one that goes its own way, for what happens beside.
    pub fn branch(&mut self) -> Self {
        Self(self.next().max(1))
    }

    /// Less than `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Up to a little more than the whole.
    pub fn part_of(&mut self, whole: Duration) -> Duration {
        let thousandths = u32::try_from(self.next() % 1_100).unwrap();
        whole * thousandths / 1_000
    }
}

/// How often something is tried: as often as `SEXTON_SOAK` says.
pub fn rounds(by_default: u64) -> u64 {
    std::env::var("SEXTON_SOAK").map_or(by_default, |text| text.parse().expect("SEXTON_SOAK is a number of rounds"))
}

/// How often each verb is killed.
pub fn kills() -> u32 {
    u32::try_from(rounds(2)).unwrap()
}

/// A database with rows, a ledger, and a configured store.
pub struct Ground {
    pub source: Scratch,
    ledger: Scratch,
    pub site: Site,
}

impl Ground {
    pub fn new(store: &str) -> Self {
        let (source, ledger) = (Scratch::new("killed"), Scratch::new("ledger"));
        source.psql(
            "CREATE TABLE big (id bigint PRIMARY KEY, v int NOT NULL, t text NOT NULL);
             INSERT INTO big SELECT i, 0, md5(i::text) || md5((-i)::text) FROM generate_series(1, 12000) i;
             CREATE TABLE small (id serial PRIMARY KEY, t text); INSERT INTO small (t) VALUES ('a'), ('b');
             CREATE INDEX ON big (t); CREATE TABLE none (a int);",
        );
        let site = Site::new(&format!("{}store: {store}\n", postgres_sections(&ledger, &source.name)))
            .policy("backup", "range_size: 64kb\n");
        site.run(&["ledger", "init"]).expect(0);
        Self { source, ledger, site }
    }

    /// Runs to the end; how long that takes.
    pub fn timed(&self, args: &[&str]) -> Duration {
        let clock = Instant::now();
        self.site.run(args).expect(0);
        clock.elapsed()
    }

    pub fn kill_at(&self, args: &[&str], at: Duration) {
        let mut running = self.site.start(args, "killed.log");
        std::thread::sleep(at);
        running.signal("KILL");
        running.wait();
    }

    /// Changes some rows in every range, so that there is something to store.
    pub fn churn(&self) {
        self.source.psql("UPDATE big SET v = v + 1 WHERE id % 200 = 0");
    }

    /// The identifiers of the listed backups, none of which may be broken.
    pub fn whole_backups(&self) -> Vec<String> {
        let listed = self.site.run(&["backup", "list", "--json"]).expect(0).json();
        let listed = listed["backups"].as_array().unwrap().clone();
        let id = |backup: &serde_json::Value| {
            assert_eq!(backup["state"], "readable", "{backup}");
            backup["id"].as_str().unwrap().to_owned()
        };
        let ids: Vec<String> = listed.iter().map(id).collect();
        if let Some(newest) = ids.first() {
            self.site.run(&["backup", "verify", newest]).expect(0);
        }
        ids
    }

    fn restore(&self, target: &Scratch) -> Said {
        self.site.run(&["backup", "restore", "--into", &target.name])
    }

    pub fn restores_equal(&self) {
        let target = Scratch::new("restored");
        self.restore(&target).expect(0);
        assert_eq!(target.dump(), self.source.dump());
    }

    /// After a run that came to its end, every earlier one has an outcome.
    fn nothing_is_left_running(&self, started_at_most: u32) {
        assert_eq!(self.ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'running'"), "0");
        let odd = "SELECT count(*) FROM runs WHERE outcome NOT IN ('changed', 'unchanged', 'interrupted')";
        assert_eq!(self.ledger.psql(odd), "0");
        let runs: u32 = self.ledger.psql("SELECT count(*) FROM runs").parse().unwrap();
        assert!(runs <= started_at_most, "{runs} runs of at most {started_at_most}");
    }
}

fn backups_are_whole_or_not_there(what: &str, store: &str) -> Ground {
    let ground = Ground::new(store);
    let whole = ground.timed(&["once", "backup", "-q"]);
    let mut seed = Seed::new(what);
    let mut before = ground.whole_backups().len();
    for _ in 0..kills() {
        ground.churn();
        ground.kill_at(&["once", "backup", "-q"], seed.part_of(whole));
        let now = ground.whole_backups().len();
        assert!(now == before || now == before + 1, "{before} backups became {now}");
        before = now;
    }
    ground.site.run(&["once", "backup", "-q"]).expect(0);
    assert_eq!(ground.whole_backups().len(), before + 1);
    ground.restores_equal();
    ground.nothing_is_left_running(kills() + 2);
    ground
}

#[test]
fn a_killed_backup_to_a_directory_is_whole_or_not_there() {
    backups_are_whole_or_not_there("backups to a directory", "{directory: store}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backup_to_s3_is_whole_or_not_there() {
    let bucket = Bucket::new().await;
    let store = format!(
        "{{s3: {{bucket: {}, prefix: kills, region: {}, endpoint: '{}', path_style: true, credentials: \
         {{access_key: {{env: STACK_S3_ACCESS_KEY}}, secret_key: {{env: STACK_S3_SECRET_KEY}}}}}}}}",
        bucket.name,
        stack().get("S3_REGION"),
        stack().get("S3_ENDPOINT")
    );
    let done = tokio::task::spawn_blocking(move || drop(backups_are_whole_or_not_there("backups to S3", &store))).await;
    assert_eq!(bucket.unfinished().await, 0, "an upload in parts that nobody will complete");
    bucket.remove().await;
    done.unwrap();
}

#[test]
fn a_killed_restore_is_never_taken_for_a_whole_one() {
    let ground = Ground::new("{directory: store}");
    ground.site.run(&["once", "backup", "-q"]).expect(0);
    let whole = {
        let target = Scratch::new("restored");
        ground.timed(&["backup", "restore", "-q", "--into", &target.name])
    };
    let expected = ground.source.dump();
    let mut seed = Seed::new("restores");
    for _ in 0..kills() {
        let target = Scratch::new("restored");
        ground.kill_at(&["backup", "restore", "-q", "--into", &target.name], seed.part_of(whole));
        let again = ground.restore(&target);
        if again.code == 0 {
            assert_eq!(target.dump(), expected, "a restore that found the database empty");
            continue;
        }
        assert!(again.err.contains("is not empty"), "{again:?}");
        let fresh = Scratch::new("restored");
        ground.restore(&fresh).expect(0);
        assert_eq!(fresh.dump(), expected);
    }
}

#[test]
fn a_killed_migration_is_taken_up_again() {
    let (main, ledger) = (Scratch::new("killed"), Scratch::new("ledger"));
    let tables = ["history_node", "history_tree", "executions", "current_executions", "transfer_tasks", "timer_tasks"];
    for table in tables {
        main.psql(&format!("CREATE TABLE {table} (a int)"));
    }
    let site = Site::new(&postgres_sections(&ledger, &main.name));
    site.run(&["ledger", "init"]).expect(0);
    let run = ["migrate", "run", "tune-autovacuum"];
    let options = || {
        main.psql("SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND reloptions IS NOT NULL ORDER BY 1")
    };
    let reset = || {
        for table in tables {
            let set = format!(
                "SELECT string_agg(split_part(o, '=', 1), ', ') FROM pg_class, unnest(reloptions) o WHERE relname = '{table}'"
            );
            let names = main.psql(&set);
            if !names.is_empty() {
                main.psql(&format!("ALTER TABLE {table} RESET ({names})"));
            }
        }
        ledger.psql("DELETE FROM migration_steps; DELETE FROM migrations");
        assert_eq!(options(), "");
    };
    let clock = Instant::now();
    site.run(&run).expect(0);
    let (whole, wanted) = (clock.elapsed(), options());
    assert!(!wanted.is_empty());
    let mut seed = Seed::new("migrations");
    for _ in 0..kills() {
        reset();
        let mut running = site.start(&run, "killed.log");
        std::thread::sleep(seed.part_of(whole));
        running.signal("KILL");
        running.wait();
        site.run(&run).expect(0);
        assert_eq!(options(), wanted);
        assert_eq!(ledger.psql("SELECT state FROM migrations"), "applied");
        assert_eq!(ledger.psql("SELECT count(*) FROM migration_steps WHERE state NOT IN ('done', 'present')"), "0");
        assert_eq!(ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'running'"), "0");
    }
}

/// Not a kill, but as long: a lock that somebody keeps ends the backup, it does not hang.
#[test]
fn a_locked_table_does_not_hang_a_backup() {
    let ground = Ground::new("{directory: store}");
    let mut psql = ground.source.server.tool("psql", &ground.source.name);
    psql.args(["-Xqc", "BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(120)"]);
    let mut holder = psql.stdout(std::process::Stdio::null()).spawn().unwrap();
    let held =
        "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'small'::regclass";
    assert!(eventually(Duration::from_secs(20), || ground.source.psql(held) == "1"));
    let mut backup = ground.site.start(&["once", "backup", "-q"], "backup.log");
    let code = backup.wait();
    // The end of the session, which the end of psql alone is not while it sleeps.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'small'::regclass";
    assert_eq!(ground.source.psql(end), "1");
    holder.wait().unwrap();
    assert!(eventually(Duration::from_secs(20), || ground.source.psql(held) == "0"));
    assert_eq!(code, Some(1), "{}", backup.log());
    assert!(backup.log().contains("lock timeout"), "{}", backup.log());
    ground.site.run(&["once", "backup", "-q"]).expect(0);
}
