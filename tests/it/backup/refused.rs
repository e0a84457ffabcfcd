//! What is refused, and what a role may not.

use super::*;

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
