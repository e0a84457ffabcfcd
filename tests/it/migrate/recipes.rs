//! Recipes that come with sexton, on real databases: what each does, what it cleans up, and what it refuses.

use std::collections::BTreeMap;

use sexton::clients::postgres::{Postgres, Settings};
use sexton::failure::{Explain, Kind};
use sexton::migrate::{MigrateError, Migration, Place, RecipeSet, StepOutcome, World, undo};

use super::moves::{as_before, quiet};
use super::rehearsals::{ALONE, schema_at, site, version};
use super::{Ground, from_text};
use crate::support::own_server::OwnServer;
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::stack;

fn add_index(index: &str) -> Migration {
    let given = [("table", "filled"), ("column", "n"), ("index", index)];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let parameters = BTreeMap::from([("add-index".to_owned(), BTreeMap::from(given))]);
    RecipeSet::load(None).unwrap().select(&["add-index".to_owned()], &parameters).unwrap().remove(0)
}

#[tokio::test]
async fn an_index_is_built_in_place_of_one_that_broke_off() {
    let ground = Ground::new().await;
    ground.main.psql(
        "CREATE TABLE filled (n int, m int); INSERT INTO filled SELECT i % 90, i FROM generate_series(1, 9000) i",
    );
    // A build that broke off leaves an index that is written to and never read.
    let server = ground.main.server;
    assert!(server.try_psql(&ground.main.name, "CREATE UNIQUE INDEX CONCURRENTLY by_n ON filled (n)").is_err());
    let valid = |index: &str| {
        ground.main.psql(&format!(
            "SELECT count(*), bool_and(indisvalid), bool_or(indisunique) FROM pg_index WHERE indexrelid = to_regclass('{index}')"
        ))
    };
    assert_eq!(valid("by_n"), "1|f|t");
    let migration = add_index("by_n");
    let report = ground.run(&migration).await.unwrap();
    assert_eq!(report.migrations[0].steps[0].outcome, StepOutcome::Done);
    assert_eq!(valid("by_n"), "1|t|f");
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(valid("by_n"), "0||");

    // One of that name on another column is somebody else's.
    ground.main.psql("CREATE INDEX by_m ON filled (m)");
    let error = ground.run(&add_index("by_m")).await.unwrap_err();
    assert!(matches!(error, MigrateError::Requirement { .. }) && error.kind() == Kind::Refused, "{error}");
    assert_eq!(valid("by_m"), "1|t|f");
}

#[test]
fn the_main_schema_is_upgraded_version_by_version_and_never_down() {
    let _alone = ALONE.lock();
    let (ledger, main, visibility) =
        (Scratch::new("ledger"), schema_at("temporal", "1.17"), schema_at("visibility", "1.9"));
    let site = site(&ledger, &main, &visibility);
    main.psql("INSERT INTO shards (shard_id, range_id, data, data_encoding) SELECT i, 1, '', 'Proto3' FROM generate_series(1, 4) i");
    let name = "upgrade-schema";
    site.run(&["once", "backup", "-q"]).expect(0);
    site.run(&["once", "drill", "-q"]).expect(0);
    let refused = site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(2);
    assert!(refused.err.contains("rehears"), "{refused:?}");
    site.run(&["migrate", "rehearse", name, "-q"]).expect(0);
    site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(0);
    let run = site.run(&["migrate", "run", name, "--json", "-q"]).expect(0).json();
    let found = &run["runs"][0]["report"]["migrations"][0]["steps"][0]["found"]["versions"];
    let versions: Vec<&str> = found.as_array().unwrap().iter().map(|one| one["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["1.18", "1.19"]);
    assert_eq!((version(&main).as_str(), version(&visibility).as_str()), ("1.19", "1.9"));
    let refused = site.run(&["migrate", "undo", name]).expect(1);
    assert!(refused.err.contains("cannot be undone"), "{refused:?}");

    // A backup from before the upgrade is not what it would be rehearsed on.
    let visibility_recipe = "upgrade-visibility-schema";
    let refused = site.run(&["migrate", "rehearse", visibility_recipe, "-q"]).expect(1);
    assert!(
        refused.err.contains("is of another schema than the source has now") && refused.err.contains("1.17"),
        "{refused:?}"
    );

    // The wrong database, and a version that is behind.
    let file = site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let swapped = config
        .replace(&format!("main: {}", main.name), "main: THE-OTHER")
        .replace(&format!("visibility: {}", visibility.name), &format!("visibility: {}", main.name))
        .replace("THE-OTHER", &visibility.name);
    std::fs::write(&file, swapped).unwrap();
    let refused = site.run(&["migrate", "plan", name]).expect(1);
    assert!(!refused.err.is_empty(), "{refused:?}");
    assert_eq!((version(&main).as_str(), version(&visibility).as_str()), ("1.19", "1.9"));
}

/// `postgres.role`: what Temporal's tool makes belongs to the role that sexton acts as, not to the one it logs in as.
#[tokio::test]
async fn the_tool_acts_as_the_role_that_sexton_acts_as() {
    let (role, main) = (Role::new(Server::Pg15), schema_at("temporal", "1.8"));
    main.psql(&format!(
        "GRANT temporal TO {}; ALTER DATABASE {} OWNER TO temporal; ALTER SCHEMA public OWNER TO temporal;
         DO $$ DECLARE t regclass; BEGIN
           FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
             EXECUTE format('ALTER TABLE %s OWNER TO temporal', t);
           END LOOP;
         END $$",
        role.name, main.name
    ));
    let settings = Settings {
        user: role.name.clone(),
        password: Some(role.password.clone().into()),
        role: Some("temporal".into()),
        ..Server::Pg15.settings()
    };
    let place = Place::new(Postgres::new(settings), &main.name, None);
    let tool = stack().get("TEMPORAL_SQL_TOOL").into();
    let ground = Ground { world: World { sql_tool: Some(tool), ..World::of(place) }, ..Ground::new().await };
    let tables = || main.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").parse::<u32>().unwrap();
    let before = tables();
    let migration = from_text(
        "name: up\ndescription: x\ndatabase: main\napproval: none\nstages:\n  - name: s\n    steps:\n      \
         - {name: up, do: {temporal_schema: {schema: main, to: '1.14'}}}\n",
    );
    ground.run(&migration).await.unwrap();
    assert!(tables() > before, "it made none");
    let owners = "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(main.psql(owners), "temporal");
}

/// No file of the target's server can grow beyond what the rows need, which is how a full disk looks to PostgreSQL.
#[test]
fn a_target_that_is_full_leads_back() {
    let ground = quiet("full");
    ground.source.psql(
        "INSERT INTO history_node (shard_id, tree_id, branch_id, node_id, txn_id, data, data_encoding)
         SELECT 1, decode(md5(n::text), 'hex'), decode(md5('b' || n), 'hex'), 1, -n, decode(repeat(md5(n::text), 8), 'hex'), 'Proto3'
         FROM generate_series(20001, 90000) n",
    );
    let (dump, access) = (ground.source.dump(), ground.access());
    let full = OwnServer::with_files_up_to(20 << 20);
    full.psql("postgres", "CREATE ROLE temporal");
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let (source, rest) = config.split_once("\ntarget:").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let target = format!("target: {{{}, role: temporal, databases: {{main: {}}}}}", full.section(), ground.target);
    std::fs::write(&file, format!("{source}\n{target}\n{rest}")).unwrap();
    for name in ["move-database", "move-database-live"] {
        ground.site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(0);
        let run = ground.site.run(&["migrate", "run", name, "--json", "-q"]).expect(6).json();
        let message = run["runs"][0]["error"]["message"].as_str().unwrap();
        assert!(message.contains("could not extend file") && message.contains("were undone"), "{message}");
        as_before(&ground, &dump, &access);
        let left = full.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '^(it_target|sexton_new)_'");
        assert_eq!(left, "0", "{name}");
    }
}
