//! Drills of real backups, Temporal's own among them. The judges are psql and the files of the store.

mod server;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::own_server::OwnServer;
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Said, Site, eventually, postgres_sections};
use crate::support::{stack, suffix, temporal};

/// A site whose backups go to a folder and are proven on PostgreSQL 17.
struct Ground {
    ledger: Scratch,
    site: Site,
}

fn scratch_section() -> String {
    let get = |name| stack().get(name);
    let (host, port, user) = (get("PG17_HOST"), get("PG17_PORT"), get("PG17_USER"));
    format!("scratch: {{host: {host}, port: {port}, user: {user}, password: {{env: STACK_PG17_PASSWORD}}}}\n")
}

impl Ground {
    fn new(databases: &str, policy: &str) -> Self {
        Self::with(databases, policy, &scratch_section())
    }

    fn with(databases: &str, policy: &str, scratch: &str) -> Self {
        Self::with_env(databases, policy, scratch, ("UNUSED", ""))
    }

    fn with_env(databases: &str, policy: &str, scratch: &str, (name, value): (&str, &str)) -> Self {
        let ledger = Scratch::new("drill");
        let config = format!("{}{scratch}store: {{directory: store}}\n", postgres_sections(&ledger, databases));
        let site = Site::new(&config).policy("backup", policy).env(name, value);
        site.run(&["ledger", "init"]).expect(0);
        Self { ledger, site }
    }

    /// Takes a backup; its identifier.
    fn backup(&self) -> String {
        let run = self.site.run(&["once", "backup", "--json"]).expect(0).json();
        run["runs"][0]["report"]["id"].as_str().unwrap().to_owned()
    }

    fn drill(&self) -> Said {
        self.site.run(&["once", "drill", "--json"])
    }

    fn marker(&self, id: &str) -> PathBuf {
        self.site.path().join(format!("store/backups/{id}/proven.json"))
    }

    /// The drill finds this in the backup, marks nothing, and the ledger has it as failed.
    #[track_caller]
    fn fails_with(&self, id: &str, words: &[&str]) -> Value {
        let said = self.drill().expect(3);
        for word in words {
            assert!(said.err.contains(word), "no `{word}` in:\n{}", said.err);
        }
        let run = said.json()["runs"][0].clone();
        assert_eq!((&run["outcome"], &run["error"]["kind"]), (&"failed".into(), &"verification_failed".into()));
        assert!(!self.marker(id).exists());
        assert_eq!(self.ledger.psql("SELECT outcome FROM runs WHERE job = 'drill' ORDER BY id DESC LIMIT 1"), "failed");
        run
    }
}

/// The databases on the scratch server that are named after a backup.
fn databases_of(id: &str) -> String {
    let stem = id.to_lowercase().replace('-', "_");
    Server::Pg17.psql("postgres", &format!("SELECT datname FROM pg_database WHERE datname LIKE 'sexton_drill_{stem}%'"))
}

/// A copy of Temporal's own database that nobody writes to.
pub(crate) fn copy_of_temporal() -> Scratch {
    let copy = Scratch::new("drilled");
    let dump = Server::Pg15.tool("pg_dump", stack().get("TEMPORAL_DATABASE")).arg("--no-owner").output().unwrap();
    assert!(dump.status.success());
    copy.psql(&String::from_utf8(dump.stdout).unwrap().replace("SET transaction_timeout = 0;", ""));
    copy
}

#[test]
fn a_drill_proves_the_databases_of_running_clusters() {
    let get = |name| stack().get(name).to_owned();
    let (main, visibility) = (get("TEMPORAL_SQL_DATABASE"), get("TEMPORAL_SQL_VISIBILITY_DATABASE"));
    for databases in [get("TEMPORAL_DATABASE"), format!("{main}, visibility: {visibility}")] {
        let ground = Ground::new(&databases, "{}");
        let due = ground.site.run(&["plan", "drill"]).expect(0);
        assert!(due.out.contains("no backup to prove yet"), "{due:?}");
        let id = ground.backup();
        let due = ground.site.run(&["plan", "drill"]).expect(2);
        assert!(due.out.contains(&id) && due.out.contains("no backup has been proven yet"), "{due:?}");
        ground.site.run(&["once", "drill", "--dry-run"]).expect(2);
        assert!(!ground.marker(&id).exists(), "a dry run writes nothing");

        let run = ground.drill().expect(0).json()["runs"][0].clone();
        assert_eq!(run["outcome"], "changed");
        let count = databases.split(',').count();
        let drilled = run["report"]["databases"].as_array().unwrap();
        assert_eq!(drilled.len(), count);
        let checks: Vec<&Value> = drilled.iter().flat_map(|d| d["checks"].as_array().unwrap()).collect();
        let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
        let expected = ["schema_versions", "shards", "histories", "current_executions"];
        assert_eq!(&names[..4], expected);
        assert_eq!(&names[4..], &["schema_versions", "visibility"][..2 * (count - 1)]);
        assert!(checks.iter().all(|c| c["outcome"] == "holds" && c["looked_at"].as_u64() > Some(0)), "{checks:?}");

        let marker: Value = serde_json::from_slice(&std::fs::read(ground.marker(&id)).unwrap()).unwrap();
        let version: u64 = Server::Pg17.psql("postgres", "SHOW server_version_num").parse().unwrap();
        assert_eq!(marker["server_version"], version);
        assert_eq!(marker["databases"].as_array().unwrap().len(), count);
        assert_eq!((&marker["by"], marker["at"].is_string()), (&env!("CARGO_PKG_VERSION").into(), true));
        assert_eq!(databases_of(&id), "", "the drill's databases are gone");

        let listed = ground.site.run(&["backup", "list", "--json"]).expect(0).json();
        assert_eq!(listed["backups"][0]["proven"], marker["at"]);
        let due = ground.site.run(&["plan", "drill"]).expect(0);
        assert!(due.out.contains("a drill is due after 8d"), "{due:?}");
        // A newer backup is another one, and the older one is still young enough.
        let newer = ground.backup();
        ground.site.run(&["plan", "drill"]).expect(0);
        assert!(!ground.marker(&newer).exists());
    }
}

#[test]
fn what_temporal_could_not_work_with_is_found() {
    let temporal = temporal::plain();
    let namespace = temporal.namespace(&temporal::prefix(), "drilled", "72h");
    let run = temporal.start_workflow(&namespace.name, "is-closed").replace('-', "");
    temporal.terminate_workflow(&namespace.name, "is-closed");
    let source = copy_of_temporal();
    let ground = Ground::new(&source.name, "drill: {keep_failed: true}");
    source.psql(&format!("CREATE TABLE kept_aside AS SELECT * FROM history_node WHERE tree_id = '\\x{run}'"));
    assert_ne!(source.psql("SELECT count(*) FROM kept_aside"), "0");

    source.psql(&format!("DELETE FROM history_node WHERE tree_id = '\\x{run}'"));
    let id = ground.backup();
    let uuid = uuid::Uuid::parse_str(&run).unwrap().to_string();
    let failed = ground.fails_with(&id, &["histories: 1 of ", "have no history", &uuid]);
    assert_eq!(failed["report"]["databases"][0]["kept"], true);
    let kept = failed["report"]["databases"][0]["target"].as_str().unwrap();
    assert_eq!(databases_of(&id), kept, "kept for a look, as the policy says");
    source.psql("INSERT INTO history_node SELECT * FROM kept_aside");

    let ground_2 = Ground::new(&source.name, "{}");
    let check = |breaking: &str, mending: &str, words: &[&str]| {
        source.psql(breaking);
        let id = ground_2.backup();
        ground_2.fails_with(&id, words);
        assert_eq!(databases_of(&id), "");
        source.psql(mending);
    };
    source.psql("CREATE TABLE shards_aside AS SELECT * FROM shards WHERE shard_id = 2");
    check(
        "DELETE FROM shards WHERE shard_id = 2",
        "INSERT INTO shards SELECT * FROM shards_aside",
        &["shards: of 4 shards 3 have a row; missing: 2"],
    );
    check(
        "UPDATE history_tree SET shard_id = 5 WHERE ctid = (SELECT max(ctid) FROM history_tree)",
        "SELECT 1",
        &["shards: history_tree has rows of shard 5, and there are 4 shards"],
    );
    source.psql("DELETE FROM history_tree WHERE shard_id = 5");
    check(
        &format!("DELETE FROM executions WHERE run_id = '\\x{run}'"),
        "SELECT 1",
        &["current_executions: 1 rows of current_executions are of runs that do not exist"],
    );
    // The kept one is nobody's but the person's who asked for it.
    assert_eq!(databases_of(&id), kept);
    Server::Pg17.psql("postgres", &format!("DROP DATABASE {kept}"));
}

fn small(rows: u32) -> Scratch {
    let source = Scratch::new("drill_small");
    source.psql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, {rows}) n"
    ));
    source
}

#[test]
fn damage_in_the_store_is_found() {
    let source = small(20_000);
    let ground = Ground::new(&source.name, "range_size: 64kb\n");
    let id = ground.backup();
    ground.drill().expect(0);
    assert!(ground.marker(&id).exists());
    let store = ground.site.path().join("store");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(store.join(format!("backups/{id}/manifest.json"))).unwrap()).unwrap();
    let chunk = manifest["databases"][0]["tables"][0]["chunks"][1]["id"].as_str().unwrap();
    let path = store.join(format!("chunks/{}/{chunk}", &chunk[..2]));
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    // The mark goes with it, as a prune goes by that.
    let run = ground.fails_with(&id, &[chunk, "is damaged"]);
    assert!(run["report"]["notes"].to_string().contains("had proven this backup"), "{run}");
    assert!(run["summary"].as_str().is_none_or(|summary| !summary.contains("restored")), "{run}");
    std::fs::remove_file(&path).unwrap();
    ground.fails_with(&id, &[chunk]);
    assert_eq!(databases_of(&id), "");
    std::fs::write(&path, good).unwrap();
    ground.drill().expect(0);
    assert!(ground.marker(&id).exists());

    let place = store.join(format!("backups/{id}/manifest.json"));
    std::fs::remove_file(ground.marker(&id)).unwrap();
    std::fs::write(&place, std::fs::read_to_string(&place).unwrap().replacen("20000", "20001", 1)).unwrap();
    ground.fails_with(&id, &["the manifest of backup", &id]);
}

#[test]
fn what_cannot_be_told_is_no_pass() {
    let source = small(10);
    let none = Ground::with(&source.name, "{}", "");
    let id = none.backup();
    let said = none.site.run(&["once", "drill"]).expect(78);
    assert!(said.err.contains("needs the section `scratch:`"), "{said:?}");
    assert!(!none.site.run(&["plan"]).out.contains("drill"), "without a scratch server nobody is told of it");

    let gone = Ground::with(&source.name, "{}", "scratch: {host: 127.0.0.1, port: 1, user: x}\n");
    let id_2 = gone.backup();
    let said = gone.site.run(&["once", "drill"]).expect(4);
    assert!(said.err.contains("could not be verified") && said.err.contains("127.0.0.1:1"), "{said:?}");
    assert!(!gone.marker(&id_2).exists() && !none.marker(&id).exists());

    // A server that goes away in the middle says nothing against the backup either.
    let (source_2, own) = (small(150_000), OwnServer::primary());
    let dying = Ground::with(&source_2.name, "{}", &format!("scratch: {{{}}}\n", own.section()));
    let id_3 = dying.backup();
    let mut running = dying.site.start(&["once", "drill"], "dying.log");
    let there = || own.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'sexton_drill_%'") == "1";
    assert!(eventually(Duration::from_secs(20), there));
    own.stop();
    assert_eq!(running.wait(), Some(4), "{}", running.log());
    assert!(!dying.marker(&id_3).exists());

    let may_not = Role::new(Server::Pg17);
    let (host, port) = (stack().get("PG17_HOST"), stack().get("PG17_PORT"));
    let scratch = format!("scratch: {{host: {host}, port: {port}, user: {}, password: {{env: ROLE}}}}\n", may_not.name);
    let limited = Ground::with_env(&source.name, "{}", &scratch, ("ROLE", &may_not.password));
    limited.backup();
    let said = limited.site.run(&["once", "drill"]).expect(4);
    assert!(said.err.contains("may not create the database `sexton_drill_"), "{said:?}");
    let said = limited.site.run(&["doctor"]);
    assert!(said.out.contains("may not create databases") && said.out.contains("CREATEDB"), "{said:?}");

    let tight = Ground::new(&source.name, "drill: {room: 100b}");
    tight.site.run(&["once", "drill"]).expect(1);
    tight.backup();
    let said = tight.site.run(&["once", "drill"]).expect(1);
    assert!(said.err.contains("the scratch server has room for 100b"), "{said:?}");
}

#[test]
fn a_killed_drill_is_swept_up_and_nobody_elses_database_is() {
    // It waits for its Temporal server, and has no session that is busy: a stopped client whose session is logging in or
    // copying keeps a whole PostgreSQL server from dropping any database (ProcSignalBarrier).
    let (first, id) = server::with_command("touch started; sleep 45.5", &server::free_address(), ", timeout: 10m");
    let small_source = small(10);
    let second = Ground::new(&small_source.name, "{}");
    second.backup();

    // Named alike, but not the drill's: one without its comment, one with it under another name.
    let (alike, other) = (format!("sexton_drill_{}", suffix()), format!("sexton_drills_{}", suffix()));
    for name in [&alike, &other] {
        Server::Pg17.psql("postgres", &format!("CREATE DATABASE {name}"));
        Server::Pg17.psql(name, "CREATE TABLE mine AS SELECT 1 AS a");
    }
    Server::Pg17.psql("postgres", &format!("COMMENT ON DATABASE {other} IS 'a sexton drill at work: not really'"));
    // What a drill leaves that is killed before its database has a comment.
    let draft = format!("sexton_new_drill_{}", suffix());
    let not_a_draft = format!("sexton_new_drill_{}", suffix());
    for name in [&draft, &not_a_draft] {
        Server::Pg17.psql("postgres", &format!("CREATE DATABASE {name}"));
    }
    Server::Pg17.psql("postgres", &format!("COMMENT ON DATABASE {not_a_draft} IS 'mine'"));

    let mut running = first.site.start(&["once", "drill"], "killed.log");
    let started = first.site.path().join("started");
    assert!(eventually(Duration::from_secs(60), || started.exists()), "{}", running.log());
    let there = databases_of(&id);
    // While its process lives, however slow, no other drill takes the database away.
    let said = second.drill().expect(0);
    assert!(!said.out.contains(&format!("\"{there}\"")), "{}", said.out);
    assert_eq!(databases_of(&id), there);

    running.signal("KILL");
    running.wait();
    assert_eq!(databases_of(&id), there, "a killed drill leaves its database");
    let gone = || {
        let report = second.drill().expect(0).json()["runs"][0]["report"].clone();
        assert!(!report["dropped"].as_array().unwrap().iter().any(|d| *d == *alike || *d == *other), "{report}");
        databases_of(&id).is_empty()
    };
    assert!(eventually(Duration::from_secs(20), gone));
    let drafts = format!("SELECT count(*) FROM pg_database WHERE datname = '{draft}'");
    assert_eq!(Server::Pg17.psql("postgres", &drafts), "0");
    Server::Pg17.psql("postgres", &format!("DROP DATABASE {not_a_draft}"));
    for name in [&alike, &other] {
        assert_eq!(Server::Pg17.psql(name, "SELECT a FROM mine"), "1");
        Server::Pg17.psql("postgres", &format!("DROP DATABASE {name}"));
    }
    // The next drill of the first site goes on as if nothing had been.
    std::fs::write(first.site.path().join("policies/backup.yaml"), "{}").unwrap();
    first.drill().expect(0);
    assert!(first.marker(&id).exists());
}
