//! The Job that moves Temporal, run as its pod runs it: with its own configuration's parameters, its account's token and its
//! role. There is no controller behind the API, so there are no pods.

use serde_json::json;

use super::api::{Api, Ground};
use crate::migrate::{Move, quiet};

const PARTS: [&str; 4] = ["frontend", "history", "matching", "worker"];
const NAME: &str = "move-database-kubernetes";

/// A Temporal of four Deployments, of 1 to 4 replicas, and the Secret with its database's address.
struct Temporal {
    ground: Ground,
    _account: Api,
    moving: Move,
}

impl Temporal {
    fn new() -> Self {
        let ground = Ground::of("k8s/recipes/move-database");
        let labels = |part: &str| json!({"app.kubernetes.io/component": part});
        let mut all: Vec<_> = (1..)
            .zip(PARTS)
            .map(|(replicas, part)| {
                json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": format!("temporal-{part}"), "namespace": ground.temporal},
                    "spec": {
                        "replicas": replicas, "selector": {"matchLabels": labels(part)},
                        "template": {
                            "metadata": {"labels": labels(part)},
                            "spec": {"containers": [{"name": "temporal", "image": "temporal"}]},
                        },
                    },
                })
            })
            .collect();
        all.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "temporal-database", "namespace": ground.temporal},
            "stringData": {"POSTGRES_SEEDS": "old", "DB_PORT": "5432", "DBNAME": "temporal", "POSTGRES_PWD": "kept"},
        }));
        ground.apply(all);
        let account = ground.account("sexton-move-database");
        let moving = quiet("job");
        let file = moving.site.path().join("sexton.yaml");
        let config = std::fs::read_to_string(&file).unwrap();
        let job = std::fs::read_to_string("k8s/recipes/move-database/sexton.yaml").unwrap();
        let parameters = job.split_once("kubernetes: {namespace: temporal}\n").unwrap().1;
        let before = config.split_once("migrations:").unwrap().0;
        let section =
            format!("kubernetes: {{namespace: {}, kubeconfig: {}}}\n", ground.temporal, account.kubeconfig().display());
        std::fs::write(file, format!("{before}{section}{parameters}")).unwrap();
        Self { ground, _account: account, moving }
    }

    fn replicas(&self) -> Vec<String> {
        let of = |part: &str| {
            let name = format!("temporal-{part}");
            let args = ["get", "deployment", &name, "-n", &self.ground.temporal, "-o", "jsonpath={.spec.replicas}"];
            self.ground.api.ask(&args).done().out
        };
        PARTS.into_iter().map(of).collect()
    }

    fn secret(&self, key: &str) -> String {
        let field = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        let args = ["get", "secret", "temporal-database", "-n", &self.ground.temporal, "-o", &field];
        self.ground.api.ask(&args).done().out
    }
}

#[test]
fn its_role_is_enough_to_move_temporal_and_to_take_it_back() {
    let temporal = Temporal::new();
    let site = &temporal.moving.site;
    site.run(&["migrate", "approve", NAME, "--by", "Ada"]).expect(0);
    site.run(&["migrate", "run", NAME, "-q"]).expect(0);
    assert_eq!(temporal.replicas(), ["1", "2", "3", "4"]);
    let [host, port, database, password] =
        ["POSTGRES_SEEDS", "DB_PORT", "DBNAME", "POSTGRES_PWD"].map(|key| temporal.secret(key));
    let get = |name: &str| crate::support::stack().get(name).to_owned();
    assert_eq!([host, port, database], [get("PG17_HOST"), get("PG17_PORT"), temporal.moving.target.clone()]);
    assert_eq!(password, "kept");
    site.run(&["migrate", "undo", NAME]).expect(0);
    assert_eq!(temporal.replicas(), ["1", "2", "3", "4"]);
    assert_eq!((temporal.secret("POSTGRES_SEEDS"), temporal.secret("DBNAME")), ("old".into(), "temporal".into()));
}

#[test]
fn a_stop_that_was_killed_half_way_remembers_what_there_was_at_first() {
    let temporal = Temporal::new();
    let site = &temporal.moving.site;
    site.run(&["migrate", "approve", NAME, "--by", "Ada"]).expect(0);
    site.run(&["migrate", "run", NAME, "-q", "--until", "stop"]).expect(0);
    assert_eq!(temporal.replicas(), ["0", "0", "0", "0"]);
    // As a kill leaves it that came when three of them were scaled.
    temporal.moving.ledger.psql(
        "UPDATE migrations SET state = 'running'; DELETE FROM migration_steps WHERE step IN ('pods-gone', 'fence-source');
         UPDATE migration_steps SET state = 'intended', evidence = NULL, ended_at = NULL WHERE step = 'stop-temporal'",
    );
    let args = ["scale", "deployment", "temporal-worker", "-n", &temporal.ground.temporal, "--replicas", "4"];
    temporal.ground.api.ask(&args).done();
    site.run(&["migrate", "run", NAME, "-q", "--until", "stop"]).expect(0);
    assert_eq!(temporal.replicas(), ["0", "0", "0", "0"]);
    site.run(&["migrate", "undo", NAME]).expect(0);
    assert_eq!(temporal.replicas(), ["1", "2", "3", "4"]);
}

#[test]
fn without_its_role_nothing_is_done() {
    let temporal = Temporal::new();
    temporal.ground.api.ask(&["delete", "rolebinding", "sexton-move-database", "-n", &temporal.ground.temporal]).done();
    let refused = temporal.moving.site.run(&["migrate", "plan", NAME]).expect(1);
    assert!(refused.err.contains("forbidden"), "{refused:?}");
    assert_eq!(temporal.replicas(), ["1", "2", "3", "4"]);
    assert_eq!(temporal.secret("POSTGRES_SEEDS"), "old");
}
