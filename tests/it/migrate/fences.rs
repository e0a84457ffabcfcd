//! What a fence takes away and gives back. The judge is the server's own access list.

use sexton::clients::postgres::{Postgres, Settings};
use sexton::migrate::{Place, World, undo};
use sqlx::Connection;

use super::moves::quiet;
use super::{Ground, from_text};
use crate::support::postgres::{Role, Server};

#[test]
fn who_was_let_in_is_let_in_again_by_whatever_name() {
    let ground = quiet("grants");
    let get = |sql: &str| Server::Pg15.psql("postgres", sql);
    let (name, me) = (&ground.source.name, ground.role());
    let [let_in, renamed, gone] = ["let_in", "renamed", "gone"].map(|role| format!("{role}_{name}"));
    let new_name = format!("new_{name}");
    for role in [&let_in, &renamed, &gone] {
        get(&format!("CREATE ROLE {role}"));
    }
    let on = format!("CONNECT ON DATABASE {name}");
    // sexton's own role may let others in, and has.
    get(&format!("GRANT {on} TO {me} WITH GRANT OPTION"));
    get(&format!("SET ROLE {me}; GRANT {on} TO {let_in}"));
    get(&format!("GRANT {on} TO {renamed} WITH GRANT OPTION; GRANT {on} TO {gone}"));
    let oid = |role: &str| get(&format!("SELECT oid FROM pg_roles WHERE rolname = '{role}'"));
    let (of_gone, of_renamed) = (oid(&gone), oid(&renamed));
    let before = ground.access();

    ground.site.run(&["migrate", "run", "move-database", "--until", "stop", "-q"]).expect(0);
    let within = "SELECT string_agg(format('%s %s', a.grantee::regrole, a.is_grantable), ', ') FROM pg_database d, aclexplode(d.datacl) a \
                  WHERE a.privilege_type = 'CONNECT' AND d.datname = ";
    assert_eq!(get(&format!("{within}'{name}'")), format!("{me} f"), "nobody else, and it lets nobody in");

    get(&format!("ALTER ROLE {renamed} RENAME TO {new_name}; DROP ROLE {gone}; CREATE ROLE {renamed}"));
    let impostor = oid(&renamed);
    let undone = ground.site.run(&["migrate", "undo", "move-database", "--json", "-q"]).expect(0).json();
    let after = ground.access();
    get(&format!("REVOKE {on} FROM {me} CASCADE; REVOKE {on} FROM {let_in}, {new_name}"));
    get(&format!("DROP ROLE {let_in}; DROP ROLE {new_name}; DROP ROLE {renamed}"));

    let without = before.split(", ").filter(|one| !one.starts_with(&format!("{of_gone} "))).collect::<Vec<_>>();
    assert_eq!(after.split(", ").collect::<Vec<_>>(), without);
    assert!(after.contains(&format!("{of_renamed} CONNECT t")) && !after.contains(&impostor), "{after}");
    let steps = undone["runs"][0]["report"]["migrations"][0]["steps"].as_array().unwrap();
    let fence = steps.iter().find(|step| step["step"] == "fence-source").unwrap();
    assert_eq!(fence["found"]["not_let_in_again"], serde_json::json!([format!("main: {gone}")]));
}

/// As an older version kept it: names alone.
#[test]
fn what_was_kept_without_oids_is_given_back_by_name() {
    let ground = quiet("kept_names");
    let before = ground.access();
    ground.site.run(&["migrate", "run", "move-database", "--until", "stop", "-q"]).expect(0);
    let old = "UPDATE migration_steps SET undo = jsonb_build_object('main', jsonb_build_object('sexton', undo->'main'->'sexton', 'connect', \
               (SELECT jsonb_agg(one - 'oid') FROM jsonb_array_elements(undo->'main'->'connect') one))) WHERE step = 'fence-source'";
    ground.ledger.psql(old);
    ground.site.run(&["migrate", "undo", "move-database", "-q"]).expect(0);
    assert_eq!(ground.access(), before);
    assert!(ground.lets_temporal_in());
}

/// `postgres.role`: a role that sexton acts as, and another one that it logs in as.
#[tokio::test]
async fn sexton_stays_inside_whatever_role_it_acts_as() {
    let role = Role::new(Server::Pg15);
    let ground = Ground::new().await;
    let (me, name) = (&role.name, &ground.main.name);
    Server::Pg15.psql("postgres", &format!("GRANT temporal TO {me}; ALTER DATABASE {name} OWNER TO temporal"));
    let settings = Settings {
        user: me.clone(),
        password: Some(role.password.clone().into()),
        role: Some("temporal".into()),
        ..Server::Pg15.settings()
    };
    let postgres = Postgres::new(settings);
    let ground = Ground { world: World::of(Place::new(postgres.clone(), name, None)), ..ground };
    let (me, name) = (&role.name, &ground.main.name);
    let step = |name: &str, what: &str| format!("      - {{name: {name}, do: {{{what}}}}}\n");
    let migration = from_text(&format!(
        "name: closed\ndescription: x\ndatabase: main\nstages:\n  - name: s\n    steps:\n{}{}",
        step("fence", "fence: {databases: [main]}"),
        step("made", "sql: {run: [CREATE TABLE made ()], undo: [DROP TABLE made]}")
    ));
    let list = || {
        ground.main.psql(&format!(
            "SELECT string_agg(coalesce(r.rolname, 'PUBLIC'), ' ' ORDER BY r.rolname) FROM pg_database d, \
             aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles r ON r.oid = a.grantee \
             WHERE a.privilege_type = 'CONNECT' AND d.datname = '{name}'"
        ))
    };
    assert_eq!(list(), "temporal PUBLIC");
    let mut another = postgres.connect(name).await.unwrap();
    ground.run(&migration).await.unwrap();
    another.ping().await.unwrap();
    assert_eq!(&list(), me);
    assert_eq!(ground.main.psql("SELECT tableowner FROM pg_tables WHERE tablename = 'made'"), "temporal");
    undo(&migration, &ground.journal, &ground.world, None, &ground.ctx).await.verdict().unwrap();
    assert_eq!(list(), "temporal PUBLIC");
}
