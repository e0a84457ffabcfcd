//! A backup is of one instant and restores equal, or it is none.

use super::*;

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
