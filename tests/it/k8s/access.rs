//! What the accounts may do and what they may not, asked and tried with their own tokens.

use serde_json::{Value, json};

use super::api::{Api, Ground};
use crate::support::suffix;

const MOVE: &str = "k8s/recipes/move-database";

/// A verb and `RESOURCE[.GROUP][/NAME][:SUBRESOURCE]`.
type Right = (&'static str, &'static str);

/// Which of these this account may, by the API's own answers: what `kubectl auth can-i` asks, all in one go.
fn may(account: &Api, namespace: &str, rights: &[Right]) -> Vec<Right> {
    let reviews = rights.iter().map(|(verb, what)| {
        let (what, subresource) = what.split_once(':').unwrap_or((what, ""));
        let (resource, name) = what.split_once('/').unwrap_or((what, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let attributes = json!({
            "namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource,
            "name": name,
        });
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        })
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": reviews.collect::<Vec<_>>()});
    let answer = "jsonpath={.status.allowed}{\"\\n\"}";
    let said = account.tell(&["create", "-f", "-", "-o", answer], &list.to_string()).done();
    let allowed: Vec<bool> = said.out.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(allowed.len(), rights.len());
    rights.iter().zip(allowed).filter(|(_, allowed)| *allowed).map(|(right, _)| *right).collect()
}

/// A right to something that is not there would never be given: what the tables name the API has.
fn assert_there(rights: &[Right]) {
    let said = Api::administrator().ask(&["api-resources", "-o", "name"]).done();
    let there: Vec<&str> = said.out.lines().collect();
    for (_, what) in rights {
        let resource = what.split([':', '/']).next().unwrap();
        assert!(there.contains(&resource), "{what}");
    }
}

/// Of everything that is of worth to somebody else.
const FORBIDDEN: [Right; 35] = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("watch", "secrets"),
    ("get", "secrets/sexton"),
    ("get", "secrets/other"),
    ("patch", "secrets/other"),
    ("update", "secrets/temporal-database"),
    ("delete", "secrets/temporal-database"),
    ("create", "secrets"),
    ("create", "pods"),
    ("delete", "pods"),
    ("patch", "pods"),
    ("create", "pods:exec"),
    ("create", "pods:attach"),
    ("create", "pods:portforward"),
    ("get", "pods:log"),
    ("create", "deployments.apps"),
    ("delete", "deployments.apps"),
    ("list", "deployments.apps"),
    ("update", "deployments.apps"),
    ("patch", "deployments.apps/temporal-frontend"),
    ("patch", "deployments.apps/temporal-web"),
    ("patch", "deployments.apps/temporal-web:scale"),
    ("delete", "deployments.apps/temporal-frontend"),
    ("create", "jobs.batch"),
    ("patch", "statefulsets.apps"),
    ("patch", "horizontalpodautoscalers.autoscaling/other"),
    ("get", "configmaps"),
    ("create", "serviceaccounts:token"),
    ("create", "roles.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("bind", "roles.rbac.authorization.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("impersonate", "serviceaccounts"),
    ("patch", "networkpolicies.networking.k8s.io"),
];

/// What stopping, moving and starting Temporal takes.
const ALLOWED: [Right; 9] = [
    ("list", "pods"),
    ("get", "deployments.apps/temporal-frontend"),
    ("get", "deployments.apps/temporal-worker"),
    ("patch", "deployments.apps/temporal-frontend:scale"),
    ("patch", "deployments.apps/temporal-history:scale"),
    ("patch", "deployments.apps/temporal-matching:scale"),
    ("list", "horizontalpodautoscalers.autoscaling"),
    ("get", "secrets/temporal-database"),
    ("patch", "secrets/temporal-database"),
];

#[test]
fn the_jobs_account_may_do_nothing_anywhere() {
    let ground = Ground::of("k8s/overlays/cronjobs");
    let account = ground.account("sexton");
    let who = account.ask(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).done();
    assert_eq!(who.out, format!("system:serviceaccount:{}:sexton", ground.sexton));
    let rights = [FORBIDDEN.as_slice(), ALLOWED.as_slice()].concat();
    assert_there(&rights);
    for namespace in [&ground.sexton, &ground.temporal, "kube-system"] {
        assert_eq!(may(&account, namespace, &rights), [], "{namespace}");
    }
    account.ask(&["get", "pods", "-n", &ground.sexton]).refused("cannot list resource \"pods\"");
}

#[test]
fn the_migrations_account_may_do_its_work_in_temporals_namespace_and_nothing_else() {
    let ground = Ground::of(MOVE);
    let account = ground.account("sexton-move-database");
    let rights = [FORBIDDEN.as_slice(), ALLOWED.as_slice()].concat();
    assert_eq!(may(&account, &ground.temporal, &rights), ALLOWED);
    for elsewhere in [&ground.sexton, "default", "kube-system"] {
        assert_eq!(may(&account, elsewhere, &rights), [], "{elsewhere}");
    }
    let wide = [
        ("list", "namespaces"),
        ("get", "nodes"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("*", "*.*"),
    ];
    assert_eq!(may(&account, "", &wide), []);
    // The same question to somebody who may.
    assert_eq!(may(&ground.api, "", &wide), wide);
    let can_i = account.ask(&["auth", "can-i", "list", "secrets", "-n", &ground.temporal]);
    assert_eq!(can_i.out.trim(), "no");
}

/// Something of Temporal's, as far as these tests look.
fn deployment(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"is": name}},
            "template": {
                "metadata": {"labels": {"is": name}},
                "spec": {"containers": [{"name": "temporal", "image": "temporal"}]},
            },
        },
    })
}

fn secret(name: &str, namespace: &str) -> Value {
    let data = json!({"POSTGRES_SEEDS": "old", "POSTGRES_PWD": "kept"});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data})
}

#[test]
fn real_requests_end_as_the_role_says() {
    let ground = Ground::of(MOVE);
    let (temporal, other) = (ground.temporal.as_str(), format!("other-{}", suffix()));
    ground.api.ask(&["create", "namespace", &other]).done();
    ground.apply(vec![
        deployment("temporal-frontend", temporal),
        deployment("temporal-web", temporal),
        deployment("temporal-frontend", &other),
        secret("temporal-database", temporal),
        secret("other", temporal),
        secret("temporal-database", &other),
    ]);
    let account = ground.account("sexton-move-database");
    let one = "{\"metadata\": {\"annotations\": {\"seen\": \"yes\"}}}";
    let patch = |what: &str, name: &str, namespace: &str| {
        account.ask(&["patch", what, name, "-n", namespace, "--type", "merge", "-p", one])
    };
    let scale =
        |name: &str, namespace: &str| account.ask(&["scale", "deployment", name, "--replicas", "0", "-n", namespace]);

    patch("deployment", "temporal-frontend", temporal).refused("cannot patch resource \"deployments\"");
    scale("temporal-frontend", temporal).done();
    patch("secret", "temporal-database", temporal).done();
    account.ask(&["get", "secret", "temporal-database", "-n", temporal]).done();
    account.ask(&["get", "pods", "-n", temporal]).done();

    account.ask(&["get", "secrets", "-n", temporal]).refused("cannot list resource \"secrets\"");
    account.ask(&["get", "secret", "other", "-n", temporal]).refused("cannot get resource \"secrets\"");
    account.ask(&["get", "secret", "temporal-database", "-n", &other]).refused("cannot get resource \"secrets\"");
    patch("secret", "other", temporal).refused("cannot get resource \"secrets\"");
    patch("deployment", "temporal-web", temporal).refused("cannot get resource \"deployments\"");
    patch("deployment", "temporal-frontend", &other).refused("cannot get resource \"deployments\"");
    scale("temporal-frontend", &other).refused("cannot get resource \"deployments\"");
    account.ask(&["delete", "deployment", "temporal-frontend", "-n", temporal]).refused("cannot delete");
    account.ask(&["run", "pod", "--image", "any", "-n", temporal]).refused("cannot create resource \"pods\"");
    account
        .ask(&["create", "token", "default", "-n", temporal])
        .refused("cannot create resource \"serviceaccounts/token\"");

    // What the account itself may, it may give to nobody, nor take more.
    let role = ["create", "role", "more", "--verb", "get", "--resource", "pods", "-n", temporal];
    account.ask(&role).refused("cannot create resource \"roles\"");
    let all = "{\"rules\": [{\"apiGroups\": [\"*\"], \"resources\": [\"*\"], \"verbs\": [\"*\"]}]}";
    let widen = ["patch", "role", "sexton-move-database", "-n", temporal, "--type", "merge", "-p", all];
    account.ask(&widen).refused("cannot get resource \"roles\"");
    // The other things are as they were.
    for (name, namespace) in [("temporal-web", temporal), ("temporal-frontend", &other)] {
        let replicas = ["get", "deployment", name, "-n", namespace, "-o", "jsonpath={.spec.replicas}"];
        assert_eq!(ground.api.ask(&replicas).done().out, "3");
    }
}
