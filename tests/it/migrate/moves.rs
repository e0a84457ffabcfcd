//! `move-database` of a real cluster from PostgreSQL 15 to 17 under load, and every way in which it can fail. The judges
//! are Temporal's command line, pg_dump and what the servers let in.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::ground::Move;
use crate::support::cluster::{Cluster, schema};
use crate::support::load::{Load, LoadOptions};
use crate::support::postgres::{Scratch, Server};
use crate::support::{stack, temporal};

/// The steps of the report that stand between Temporal stopped and Temporal serving.
fn downtime(run: &Value) -> u64 {
    let steps = run["runs"][0]["report"]["migrations"][0]["steps"].as_array().unwrap();
    for step in steps {
        println!(
            "  {:>8} ms  {} {} {}",
            step["milliseconds"],
            step["stage"].as_str().unwrap(),
            step["step"].as_str().unwrap(),
            step["found"]
        );
    }
    steps.iter().filter(|step| step["stage"] != "warm-up").map(|step| step["milliseconds"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_moved_to_a_newer_server_under_load() {
    let cluster = Cluster::start_as_temporal("moved").await;
    let Cluster { database, server, namespace, .. } = &cluster;
    let ground = Move::new(Scratch { server: database.server, name: database.name.clone() }, &server.address);
    let (script, name, args) = cluster.script();
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let start = |pg: &str, name_of_database: &str| {
        format!("{} start {name} --pg {pg} --database {name_of_database} {}", script.display(), quoted.join(" "))
    };
    ground.command("stop", &format!("{} kill {name}", script.display()));
    ground.command(
        "start",
        &format!(
            "if [ \"$(cat place)\" = there ]; then said=$({} 2>&1) || grep -q 'runs already' <<<\"$said\"\n\
             else said=$({} 2>&1) || grep -q 'runs already' <<<\"$said\"; fi",
            start("17", &ground.target),
            start("15", &database.name)
        ),
    );

    let mut load = Load::start(&cluster, LoadOptions { per_second: 30, ..LoadOptions::default() });
    load.until("thirty starts", |tally| tally.started >= 30).await;
    // Of these it is known what becomes of them: nobody but this test touches them.
    let open: Vec<(String, String)> = (0..5)
        .map(|n| {
            let id = format!("mine-{n}");
            let args = ["workflow", "start", "--namespace", namespace, "--type", "Checkout", "--task-queue", "load"];
            let run =
                server.cli_json(&[&args[..], &["--workflow-id", &id]].concat())["runId"].as_str().unwrap().to_owned();
            (id, run)
        })
        .collect();
    let closed = server.start_workflow(namespace, "closed");
    server.terminate_workflow(namespace, "closed");
    let show = |id: &str| server.cli_json(&["workflow", "show", "--namespace", namespace, "--workflow-id", id]);
    let before = show("closed");

    let due = ground.site.run(&["migrate", "plan", "move-database"]).expect(2);
    assert!(due.out.contains("start-temporal") && due.out.contains("approval: needed"), "{due:?}");
    ground.run().expect(2);
    assert_eq!((ground.log(), ground.has_target()), (vec![], false), "nothing is done without an approval");
    ground.approve();
    let run = ground.run().expect(0).json();
    let milliseconds = downtime(&run);
    println!("downtime {milliseconds} ms");

    // Temporal is on the target, and the source is closed to it.
    let on_target = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{}' AND usename = 'temporal'",
        ground.target
    );
    assert_eq!(Server::Pg17.psql("postgres", &on_target), "t");
    assert!(!ground.lets_temporal_in());
    let left =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'temporal'", database.name);
    assert_eq!(Server::Pg15.psql("postgres", &left), "0");
    assert_eq!(ground.log(), ["stop", "switch there", "start"]);

    assert_eq!(show("closed"), before, "the history of run {closed} is the same");
    for (id, _) in &open {
        let args = [
            "workflow",
            "signal",
            "--namespace",
            namespace,
            "--name",
            "finish",
            "--input",
            "\"done\"",
            "--workflow-id",
        ];
        server.cli(&[&args[..], &[id.as_str()]].concat());
    }
    for (id, run) in &open {
        let args = ["workflow", "result", "--namespace", namespace, "--workflow-id", id];
        assert!(server.runs(&args), "{id} does not complete");
        let events = show(id)["events"].clone();
        let count = |kind: &str| events.as_array().unwrap().iter().filter(|event| event["eventType"] == kind).count();
        let once = ["EVENT_TYPE_WORKFLOW_EXECUTION_STARTED", "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"].map(count);
        assert_eq!(once, [1, 1], "{id} ran once");
        let describe = server.cli_json(&["workflow", "describe", "--namespace", namespace, "--workflow-id", id]);
        assert_eq!(describe["workflowExecutionInfo"]["execution"]["runId"], run.as_str(), "the same run");
    }
    let later = load.tally().started;
    load.until("twenty starts on the target", |tally| tally.started >= later + 20).await;
    load.pause().await;
    let tally = load.tally();
    println!("{tally}");
    assert!(tally.errors.is_empty(), "{:?}", tally.errors);

    // What was there when the source was closed is on the target, or was changed there since: no run is lost.
    let runs = "SELECT string_agg(encode(run_id, 'hex'), ' ' ORDER BY run_id) FROM executions";
    let (here, there) = (database.psql(runs), Server::Pg17.psql(&ground.target, runs));
    let there: std::collections::BTreeSet<&str> = there.split(' ').collect();
    let lost: Vec<&str> = here.split(' ').filter(|run| !there.contains(run)).collect();
    let deleted = usize::try_from(tally.deleted).unwrap();
    assert!(
        lost.len() <= deleted,
        "{} of {} runs are missing, and only {deleted} were deleted",
        lost.len(),
        here.len() / 33
    );
    ground.run().expect(0);
    let again = ground.site.run(&["migrate", "plan", "move-database"]).expect(0);
    assert!(again.out.contains("nothing to do"), "{again:?}");
}

/// A move of Temporal's schema with some rows; the commands only log, and the health that is asked for is the stack's
/// own server's.
pub(crate) fn quiet(what: &str) -> Move {
    let source = Scratch::copy_of(Server::Pg15, what, schema());
    source.psql(&format!(
        "ALTER DATABASE {} OWNER TO temporal; ALTER SCHEMA public OWNER TO temporal;
         DO $$ DECLARE t regclass; BEGIN
           FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
             EXECUTE format('ALTER TABLE %s OWNER TO temporal', t);
           END LOOP;
         END $$;
         INSERT INTO history_node (shard_id, tree_id, branch_id, node_id, txn_id, data, data_encoding)
           SELECT n % 4 + 1, decode(md5(n::text), 'hex'), decode(md5('b' || n), 'hex'), 1, -n, decode(repeat(md5(n::text), 8), 'hex'), 'Proto3'
           FROM generate_series(1, 20000) n;
         INSERT INTO executions (shard_id, namespace_id, workflow_id, run_id, next_event_id, last_write_version, data, data_encoding, state, state_encoding)
           SELECT n % 4 + 1, decode(md5('ns'), 'hex'), 'w' || n, decode(md5(n::text), 'hex'), 2, 0, 'x', 'Proto3', 'x', 'Proto3'
           FROM generate_series(1, 500) n",
        source.name
    ));
    let ground = Move::new(source, &temporal::plain().address);
    ground.command("stop", "");
    ground.command("start", "");
    ground.approve();
    ground
}

/// What a failed move leaves: the source as before, open as before, Temporal started on it, nothing on the target.
#[track_caller]
pub(crate) fn as_before(ground: &Move, dump: &[String], access: &str) {
    assert_eq!(ground.source.dump(), dump);
    assert_eq!(ground.access(), access);
    assert!(ground.lets_temporal_in());
    assert!(!ground.has_target());
    assert_eq!(ground.place(), "here");
    let log = ground.log();
    let last = log.iter().rfind(|line| *line == "start" || *line == "stop");
    assert!(last.is_none_or(|line| line == "start"), "Temporal is started: {log:?}");
}

#[test]
fn a_quiet_database_is_moved_whole() {
    let ground = quiet("quiet");
    let run = ground.run().expect(0).json();
    println!("downtime {} ms", downtime(&run));
    let there = Server::Pg17;
    let dump = |server: Server, database: &str| {
        let lines = crate::support::postgres::dumped(server.tool("pg_dump", database));
        // The one row that is meant to differ: the version under the database's own name.
        lines.into_iter().filter(|line| !line.contains("\"schema_version\"")).collect::<Vec<_>>()
    };
    assert_eq!(dump(there, &ground.target), dump(Server::Pg15, &ground.source.name));
    let owners = "SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(there.psql(&ground.target, owners), "temporal");
    assert_eq!(there.psql(&ground.target, "SELECT db_name FROM schema_version"), ground.target);
    // It can be taken back as long as nobody has written there, also while a superuser's session is in the database, as
    // an autovacuum worker's is: nobody else may end those.
    let mut superuser = there.tool("psql", &ground.target);
    let mut superuser = superuser.args(["-Xqc", "SELECT pg_sleep(6)"]).stderr(Stdio::null()).spawn().unwrap();
    ground.site.run(&["migrate", "undo", "move-database"]).expect(0);
    assert!(ground.lets_temporal_in() && !ground.has_target());
    superuser.wait().unwrap();
    assert_eq!(ground.log(), ["stop", "switch there", "start", "stop", "switch here", "start"]);
}

#[test]
fn the_rows_may_stream_with_no_store_between() {
    let ground = quiet("streamed");
    let name = "move-database-live";
    ground.site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(0);
    let run = ground.site.run(&["migrate", "run", name, "--json", "-q"]).expect(0).json();
    println!("downtime {} ms", downtime(&run));
    let there = crate::support::postgres::dumped(Server::Pg17.tool("pg_dump", &ground.target));
    let here = ground.source.dump();
    let but_version =
        |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains("\"schema_version\"")).collect::<Vec<_>>();
    assert_eq!(but_version(there), but_version(here));
    assert!(!ground.site.path().join("store").exists(), "nothing is kept");
    ground.site.run(&["migrate", "undo", name]).expect(0);
    assert!(ground.lets_temporal_in() && !ground.has_target());
}

/// Where visibility is in PostgreSQL, its database has a version under its own name, too.
#[test]
fn both_databases_have_their_version_under_their_own_names() {
    let ground = quiet("both");
    let visibility = Scratch::new("visibility");
    visibility.psql(&format!(
        "CREATE TABLE schema_version (version_partition int NOT NULL, db_name varchar(255) NOT NULL, creation_time timestamp, \
           curr_version varchar(64), min_compatible_version varchar(64), PRIMARY KEY (version_partition, db_name));
         INSERT INTO schema_version VALUES (0, '{0}', now(), '1.14', '0.1');
         CREATE TABLE executions_visibility (run_id text PRIMARY KEY);
         ALTER DATABASE {0} OWNER TO temporal; ALTER TABLE schema_version OWNER TO temporal;
         ALTER TABLE executions_visibility OWNER TO temporal; ALTER SCHEMA public OWNER TO temporal",
        visibility.name
    ));
    let there = format!("{}_visibility", ground.target);
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let with = |config: &str, main: &str, visibility: &str| {
        config.replace(&format!("{{main: {main}}}"), &format!("{{main: {main}, visibility: {visibility}}}"))
    };
    let config = with(&with(&config, &ground.source.name, &visibility.name), &ground.target, &there);
    // Nobody to ask for its health: told before Temporal is stopped.
    let deaf = config.lines().filter(|line| !line.starts_with("temporal:")).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, deaf).unwrap();
    let refused = ground.site.run(&["migrate", "plan", "move-database-live"]).expect(78);
    assert!(refused.err.contains("asks Temporal for its health, and none is configured"), "{refused:?}");
    std::fs::write(&file, config).unwrap();
    let name = "move-database-live";
    ground.site.run(&["migrate", "approve", name, "--by", "Ada"]).expect(0);
    let run = ground.site.run(&["migrate", "run", name, "-q"]).expect(0);
    assert!(
        run.out.lines().any(|line| line.contains("own-name-of-visibility") && line.contains("done")),
        "{}",
        run.out
    );
    for database in [&ground.target, &there] {
        assert_eq!(&Server::Pg17.psql(database, "SELECT db_name FROM schema_version"), database);
    }
    let doctor = ground.site.run(&["doctor"]);
    assert!(doctor.out.lines().any(|line| line.contains("target") && line.contains("version")), "{}", doctor.out);
    ground.site.run(&["migrate", "undo", name]).expect(0);
}

#[test]
fn each_step_that_fails_leads_back() {
    let ground = quiet("fails");
    let (dump, access) = (ground.source.dump(), ground.access());
    let fails = |ground: &Move, code: i32, words: &str| {
        println!("expecting {words}");
        let run = ground.run().expect(code).json();
        let message = run["runs"][0]["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
        as_before(ground, &dump, &access);
        ground.approve();
    };
    // Temporal does not stop: nothing has been done.
    ground.command("stop", "echo pods remain >&2; exit 1");
    ground.command("start", "");
    fails(&ground, 6, "`./stop` ended with 1: pods remain");
    ground.command("stop", "");

    // Somebody who cannot be kept out is in the source.
    let mut psql = Server::Pg15.tool("psql", &ground.source.name);
    let mut superuser = psql.args(["-Xqc", "SELECT pg_sleep(300)"]).spawn().unwrap();
    let there = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE '%pg_sleep%'",
        ground.source.name
    );
    while Server::Pg15.psql("postgres", &there) == "0" {
        std::thread::sleep(Duration::from_millis(50));
    }
    fails(&ground, 6, "still connected");
    let end = there.replace("count(*)", "count(pg_terminate_backend(pid))");
    Server::Pg15.psql("postgres", &end);
    superuser.wait().unwrap();

    // The target has a database of that name: somebody else's, and it stays.
    Server::Pg17.psql("postgres", &format!("CREATE DATABASE {}", ground.target));
    let planned = ground.site.run(&["migrate", "plan", "move-database"]).expect(1);
    assert!(planned.err.contains("has a database"), "{planned:?}");
    Server::Pg17.psql("postgres", &format!("DROP DATABASE {}", ground.target));

    // The switch fails, and then the start there.
    ground.command("switch", "if [ $1 = there ]; then echo no such secret >&2; exit 3; fi; echo $1 >place");
    fails(&ground, 6, "`./switch` ended with 3: no such secret");
    ground.command("switch", "echo $1 >place");
    ground.command("start", "if [ $(cat place) = there ]; then exit 4; fi");
    fails(&ground, 6, "`./start` ended with 4");
    ground.command("start", "");

    // Temporal never serves there.
    ground.recipe(|text| text.replace("within: 10m", "within: 1s"));
    let dead = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&dead).unwrap();
    std::fs::write(&dead, config.replace(&temporal::plain().address, "127.0.0.1:1")).unwrap();
    ground.approve();
    fails(&ground, 6, "did not serve within 1s");
    let states = ground
        .ledger
        .psql("SELECT DISTINCT state FROM migration_steps WHERE state NOT IN ('undone', 'failed', 'present')");
    assert_eq!(states, "", "every step that was done is undone");
}

#[test]
fn a_target_that_lets_nobody_in_stops_nothing() {
    let ground = quiet("locked_out");
    let (dump, access) = (ground.source.dump(), ground.access());
    for verb in ["plan", "run"] {
        let refused = ground.site.run_with(&["migrate", verb, "move-database"], &[("THERE", "wrong")]).expect(1);
        assert!(refused.err.contains("refused the password of role"), "{refused:?}");
    }
    assert_eq!(ground.log(), Vec::<String>::new());
    as_before(&ground, &dump, &access);
}

#[test]
fn what_the_target_has_taken_is_not_given_up() {
    let ground = quiet("written");
    ground.recipe(|text| text.replace("within: 10m", "within: 1s"));
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(&temporal::plain().address, "127.0.0.1:1")).unwrap();
    // A server that began to serve on the target, and then did not answer any more.
    ground.command("start", &ground.writing());
    ground.approve();
    let run = ground.run().expect(1).json();
    let message = run["runs"][0]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("the way back ends at step `way-back`") && message.contains("executions: source 500 rows"),
        "{message}"
    );
    assert_eq!(ground.place(), "there", "it is not switched back");
    assert!(ground.has_target() && !ground.lets_temporal_in());
    let refused = ground.site.run(&["migrate", "undo", "move-database"]).expect(1);
    assert!(refused.err.contains("the way back ends"), "{refused:?}");
    assert_eq!(ground.log(), ["stop", "switch there", "start"], "it is not stopped to learn that");

    std::fs::write(&file, config).unwrap();
    ground.run().expect(0);
    assert_eq!(Server::Pg17.psql(&ground.target, "SELECT next_event_id FROM executions WHERE workflow_id = 'w7'"), "3");
    assert_eq!(ground.log().last().unwrap(), "start");
}

/// The way back would be looked at on a server that nobody has written to.
#[test]
fn a_move_is_undone_only_where_it_was_made() {
    let ground = quiet("elsewhere");
    ground.run().expect(0);
    let log = ground.log();
    Server::Pg17.psql(&ground.target, "UPDATE executions SET next_event_id = 9 WHERE workflow_id = 'w7'");
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let (source, target) = config.split_once("\ntarget:").unwrap();
    let port = |server: &str| format!("port: {}", stack().get(&format!("{server}_PORT")));
    let other_server = format!("{source}\ntarget:{}", target.replacen(&port("PG17"), &port("PG15"), 1));
    let other_database = config.replace(&ground.target, "another");
    let none = config.lines().filter(|line| !line.starts_with("target:")).collect::<Vec<_>>().join("\n");
    let other_source = format!("{}\ntarget:{target}", source.replacen(&port("PG15"), &port("PG17"), 1));
    for (changed, expect) in [
        (other_server, "was begun elsewhere: the target was"),
        (other_database, "was begun elsewhere: the target was"),
        (none, "target"),
        // The ledger is on the source's server, and the role is not on the other one.
        (other_source, "refused the password"),
    ] {
        assert_ne!(changed, config);
        std::fs::write(&file, changed).unwrap();
        let refused = ground.site.run(&["migrate", "undo", "move-database"]);
        assert!(refused.code != 0 && refused.err.contains(expect), "{refused:?}");
        assert_eq!(ground.log(), log, "Temporal is not stopped to learn that");
    }
    std::fs::write(&file, config).unwrap();
    let refused = ground.site.run(&["migrate", "undo", "move-database"]).expect(1);
    assert!(refused.err.contains("the way back ends"), "{refused:?}");
    assert!(ground.has_target());
}

#[test]
fn nothing_secret_is_told() {
    let ground = quiet("secrets");
    ground.command("switch", "tr '\\0' ' ' </proc/$PPID/cmdline >>told; echo $* >>told; echo $1 >place");
    // A careless command tells everything it knows.
    let says = "echo url postgres://u:$SEXTON_SOURCE_PASSWORD@h; echo $SEXTON_TARGET_PASSWORD >&2; exit 1";
    ground.command("stop", says);
    let careless = ground.run().expect(6);
    assert!(careless.out.contains("url postgres://u:***@h"), "{careless:?}");
    ground.command("stop", "");
    ground.approve();
    let run = ground.run().expect(0);
    let secret = ground.site.run(&["migrate", "plan", "move-database", "--json"]);
    let told = std::fs::read_to_string(ground.site.path().join("told")).unwrap();
    let journal =
        ground.ledger.psql("SELECT m::text || s::text || r::text FROM migrations m, migration_steps s, runs r");
    for password in ground.passwords() {
        for text in [&run.out, &run.err, &careless.out, &careless.err, &secret.out, &told, &journal] {
            assert!(!text.contains(&password), "{text}");
        }
    }
    assert_eq!(json!(ground.log()), json!(["stop", "start", "stop", "switch there", "start"]));
}
