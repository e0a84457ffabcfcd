//! Drills that start a real Temporal server on what they restored, and commands that are none.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Ground, databases_of, small};
use crate::support::site::eventually;
use crate::support::{stack, suffix, temporal};

/// A configuration that the server fills in from its environment; it knows no names of databases and no password.
const TEMPLATE: &str = r#"# enable-template
log: {stdout: true, level: warn}
persistence:
  numHistoryShards: 4
  defaultStore: main
  visibilityStore: visibility
  datastores:
    main:
      sql: &store
        pluginName: postgres12
        databaseName: {{ env "SEXTON_DRILL_DATABASE" | quote }}
        connectAddr: "{{ env "SEXTON_DRILL_HOST" }}:{{ env "SEXTON_DRILL_PORT" }}"
        connectProtocol: tcp
        user: {{ env "SEXTON_DRILL_USER" | quote }}
        password: {{ env "SEXTON_DRILL_PASSWORD" | quote }}
        maxConns: 20
        maxIdleConns: 10
    visibility:
      sql:
        <<: *store
        databaseName: {{ env "SEXTON_DRILL_VISIBILITY_DATABASE" | quote }}
global:
  membership: {maxJoinDuration: 30s, broadcastAddress: 127.0.0.1}
services:
  frontend: {rpc: {bindOnLocalHost: true, grpcPort: PORT0, membershipPort: PORT1}}
  history: {rpc: {bindOnLocalHost: true, grpcPort: PORT2, membershipPort: PORT3}}
  matching: {rpc: {bindOnLocalHost: true, grpcPort: PORT4, membershipPort: PORT5}}
  worker: {rpc: {bindOnLocalHost: true, grpcPort: PORT6, membershipPort: PORT7}}
clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation:
    active: {enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "127.0.0.1:PORT0"}
dcRedirectionPolicy: {policy: noop}
"#;

/// Free ports that Temporal can note: its table of members has them as smallint.
fn free_ports(count: usize) -> Vec<TcpListener> {
    let near = uuid::Uuid::new_v4().as_u128() % 4_000;
    let all = (10_000 + u16::try_from(near).unwrap()..15_000).chain(10_000..15_000);
    all.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect()
}

/// The template with free ports, and the frontend's address.
fn configuration() -> (String, String) {
    let listeners = free_ports(8);
    let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port().to_string());
    let (mut text, mut address) = (TEMPLATE.to_owned(), String::new());
    for (place, port) in ports.enumerate() {
        text = text.replace(&format!("PORT{place}"), &port);
        if place == 0 {
            address = format!("127.0.0.1:{port}");
        }
    }
    (text, address)
}

pub(super) fn free_address() -> String {
    free_ports(1)[0].local_addr().unwrap().to_string()
}

/// A site with a backup of the cluster whose visibility is in PostgreSQL. The script `server.sh` of its folder does what
/// `before` says and becomes the server.
fn ground(before: &str, more: &str) -> (Ground, String) {
    let (config, address) = configuration();
    let databases = format!(
        "{}, visibility: {}",
        stack().get("TEMPORAL_SQL_DATABASE"),
        stack().get("TEMPORAL_SQL_VISIBILITY_DATABASE")
    );
    let server = stack().get("TEMPORAL_SERVER");
    let policy = format!(
        "drill: {{server: {{start: [sh, server.sh], address: '{address}', timeout: 90s, workflows: 4{more}}}}}"
    );
    let script = format!("{before}\nexec {server} --config-file drill.yaml --allow-no-auth start\n");
    let mut ground = Ground::new(&databases, &policy);
    ground.site =
        ground.site.file("drill.yaml", &config).file("server.sh", &script).env("PASSED", "on").env("NOT", "on");
    (ground, address)
}

fn answers(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

#[test]
fn a_server_on_the_restored_databases_reads_their_workflows() {
    let original = temporal::mutual();
    let namespace = original.namespace(&temporal::prefix(), "drilled", "72h");
    for id in ["one", "two", "three", "closed"] {
        original.start_workflow(&namespace.name, id);
    }
    original.terminate_workflow(&namespace.name, "closed");
    let (ground, address) = ground("env > seen; tr '\\0' ' ' < /proc/$$/cmdline >> seen", ", pass_env: [PASSED]");
    let id = ground.backup();
    let said = ground.site.run(&["once", "drill", "--dry-run"]);
    assert!(said.out.contains("4 workflows read through a Temporal server at"), "{said:?}");

    let run = ground.drill().expect(0).json()["runs"][0].clone();
    let served = &run["report"]["server"];
    assert_eq!((&served["workflows"], &served["version"]), (&4.into(), &"1.31.0".into()), "{run:#}");
    // Others of the cluster may be read instead of these; two events each has every run.
    assert!(served["events"].as_u64() >= Some(8), "{served}");
    let check = run["report"]["databases"][0]["checks"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&check["check"], &check["outcome"]), (&"server".into(), &"holds".into()));
    let marker: Value = serde_json::from_slice(&std::fs::read(ground.marker(&id)).unwrap()).unwrap();
    assert_eq!(marker["workflows"], 4);
    assert!(!answers(&address), "the server has ended");
    assert_eq!(databases_of(&id), "");

    // The command sees the restored databases, what is passed on, and nothing else of sexton's environment.
    let seen = std::fs::read_to_string(ground.site.path().join("seen")).unwrap();
    let (password, user) = (stack().get("PG17_PASSWORD"), stack().get("PG17_USER"));
    assert!(seen.contains(&format!("SEXTON_DRILL_PASSWORD={password}\n")) && seen.contains("PASSED=on"), "{seen}");
    assert!(
        seen.contains(&format!("SEXTON_DRILL_USER={user}\n")) && seen.contains("_VISIBILITY_DATABASE=sexton_drill_")
    );
    assert!(!seen.contains("STACK_") && !seen.contains("NOT=on"), "{seen}");
    assert!(!seen.lines().last().unwrap().contains(password), "{seen}");
}

#[test]
fn a_server_that_shows_other_histories_is_no_pass() {
    let original = temporal::mutual();
    let namespace = original.namespace(&temporal::prefix(), "drilled", "72h");
    original.start_workflow(&namespace.name, "one");
    let lose = "PGPASSWORD=$SEXTON_DRILL_PASSWORD psql -qX -h $SEXTON_DRILL_HOST -p $SEXTON_DRILL_PORT -U $SEXTON_DRILL_USER \
        -d $SEXTON_DRILL_DATABASE -c 'DELETE FROM executions; DELETE FROM current_executions'";
    let (ground, address) = ground(lose, "");
    let id = ground.backup();
    ground.fails_with(&id, &["server: workflow `", "is in the database, and the server does not know it"]);
    assert!(!answers(&address));
    assert_eq!(databases_of(&id), "");
}

/// A ground with a backup of Temporal's tables, and this shell command in place of a server.
pub(super) fn with_command(command: &str, address: &str, more: &str) -> (Ground, String) {
    let command = command.replace('\'', "''");
    let ground = Ground::new(
        stack().get("TEMPORAL_SQL_DATABASE"),
        &format!("drill: {{server: {{start: [sh, -c, '{command}'], address: '{address}'{more}}}}}"),
    );
    let id = ground.backup();
    (ground, id)
}

fn runs(sleep: &str) -> bool {
    Command::new("pgrep").args(["-f", &format!("sleep {sleep}")]).output().unwrap().status.success()
}

#[test]
fn a_server_that_never_serves_is_told_with_its_last_words_and_no_secret() {
    let marked = format!("6{}.5", suffix().bytes().map(|byte| (byte % 10).to_string()).collect::<String>());
    let never = format!("echo \"login as $SEXTON_DRILL_PASSWORD fails\" >&2; sleep {marked} & sleep {marked}");
    let (ground, id) = with_command(&never, &free_address(), ", timeout: 2s, grace: 1s");
    let run = ground.fails_with(&id, &["the server did not serve within 2s", "login as *** fails"]);
    assert!(!run.to_string().contains(stack().get("PG17_PASSWORD")));
    assert!(!runs(&marked), "nothing of its process group is left");
    assert_eq!(databases_of(&id), "");

    let (ground, id) = with_command("echo no configuration; exit 7", &free_address(), "");
    ground.fails_with(&id, &["the server ended before it served (exit status: 7)", "no configuration"]);

    // These say nothing of the backup.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ground, id) = with_command("exit 0", &taken.local_addr().unwrap().to_string(), "");
    let said = ground.drill().expect(4);
    assert!(said.err.contains("something answers at 127.0.0.1:") && !ground.marker(&id).exists(), "{said:?}");
    let source = small(10);
    let ground = Ground::new(&source.name, "drill: {server: {start: [/no/such/server], address: '127.0.0.1:1'}}");
    ground.backup();
    let said = ground.drill().expect(4);
    assert!(said.err.contains("none of its databases has Temporal's runs"), "{said:?}");
    let ground = Ground::new(
        stack().get("TEMPORAL_SQL_DATABASE"),
        "drill: {server: {start: [/no/such/server], address: '127.0.0.1:1'}}",
    );
    ground.backup();
    let said = ground.drill().expect(4);
    assert!(said.err.contains("`/no/such/server` of `drill.server.start` does not start"), "{said:?}");
}

#[test]
fn a_drill_that_is_stopped_leaves_no_server_behind() {
    let marked = format!("7{}.5", suffix().bytes().map(|byte| (byte % 10).to_string()).collect::<String>());
    let deaf = format!("trap '' TERM; touch started; sleep {marked}");
    let (ground, id) = with_command(&deaf, &free_address(), ", timeout: 10m, grace: 1s");
    let mut running = ground.site.start(&["once", "drill"], "stopped.log");
    let started = ground.site.path().join("started");
    assert!(eventually(Duration::from_secs(60), || started.exists()), "{}", running.log());
    assert!(eventually(Duration::from_secs(5), || runs(&marked)));
    running.signal("TERM");
    assert_eq!(running.wait(), Some(1), "{}", running.log());
    assert!(!runs(&marked));
    // A stopped run has so long to end; on a busy server a DROP DATABASE outlives it.
    assert!(eventually(Duration::from_secs(30), || databases_of(&id).is_empty()), "{}", running.log());
    assert!(!ground.marker(&id).exists());
}
