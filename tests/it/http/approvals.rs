//! A migration over HTTP: seen, approved, run, and what is not approved.

use std::time::Duration;

use super::{APPROVE, Api, READ, RUN, section, site};
use crate::support::postgres::Scratch;
use crate::support::site::{eventually, postgres_sections};

pub(super) const RECIPE: &str = "\
name: one-table
description: One table
database: main
approval: required
stages:
  - name: make
    steps:
      - name: table
        do:
          sql:
            check: SELECT to_regclass('made') IS NOT NULL
            run: [CREATE TABLE made (n int)]
            undo: [DROP TABLE IF EXISTS made]
";

const PATH: &str = "/api/v1/migrations/one-table";

fn api(main: &Scratch) -> Api {
    let ledger = Scratch::new("approve");
    let sections = postgres_sections(&ledger, &main.name);
    let config = format!("{sections}migrations: {{recipes: recipes}}\n{}", section(""));
    let site = site(&config).policy("visibility", "{}");
    std::fs::create_dir(site.path().join("recipes")).unwrap();
    Api::of(site.file("recipes/one-table.yaml", RECIPE), ledger)
}

#[test]
fn exactly_the_plan_that_was_seen() {
    let main = Scratch::new("approved");
    let api = api(&main);
    let approvals = format!("{PATH}/approvals");
    let seen = api.get(PATH).expect(200).json();
    assert_eq!((seen["state"].as_str(), seen["approval"].as_str()), (Some("not_begun"), Some("needed")), "{seen}");
    assert_eq!(seen["steps"][0]["step"], "table", "{seen}");
    let digest = seen["digest"].as_str().unwrap();
    let wanted = format!("{{\"plan\": \"{digest}\"}}");

    // Not yet: the run waits for an approval, and nothing is made.
    let run = api.post(RUN, &format!("{PATH}/runs?wait=30s"), "").expect(200).json();
    assert_eq!(run["outcome"], "refused", "{run}");
    for token in [READ, RUN] {
        api.post(token, &approvals, &wanted).problem(403);
    }
    api.post(APPROVE, &approvals, "{\"plan\": \"0123456789abcdef\"}").problem(409);
    api.post(APPROVE, &approvals, "{\"plan\": \"0123\"}").problem(400);
    api.post(APPROVE, &approvals, &wanted.replace('}', ", \"expires\": \"31d\"}")).problem(400);
    api.post(APPROVE, &approvals, &wanted.replace('}', ", \"expires\": \"0s\"}")).problem(400);
    api.post(APPROVE, &approvals, &wanted.replace('}', ", \"by\": \"somebody else\"}")).problem(422);
    assert_eq!(api.psql("SELECT count(*) FROM migration_approvals"), "0");

    // Taken back, it is none.
    let given = api.post(APPROVE, &approvals, &wanted).expect(201);
    assert_eq!(given.header("location"), Some(PATH));
    assert_eq!(api.psql("SELECT approved_by, plan FROM migration_approvals"), format!("ada|{digest}"));
    assert_eq!(api.get(PATH).json()["approval"], "given");
    api.ask(RUN, &approvals, &["-X", "DELETE"]).problem(403);
    assert_eq!(api.ask(APPROVE, &approvals, &["-X", "DELETE"]).expect(200).json()["revoked"], 1);
    assert_eq!(api.get(PATH).json()["approval"], "stale");
    let run = api.post(RUN, &format!("{PATH}/runs?wait=30s"), "").expect(200).json();
    assert_eq!(run["outcome"], "refused", "{run}");
    assert_eq!(main.psql("SELECT to_regclass('made') IS NULL"), "t");

    // The beginning of the digest is enough, and the run is the approved one.
    let short = format!("{{\"plan\": \"{}\", \"expires\": \"1h\"}}", &digest[..12]);
    api.post(APPROVE, &approvals, &short).expect(201);
    api.post(RUN, &format!("{PATH}/runs"), "{\"until\": \"nonsense\"}").problem(422);
    let run = api.post(RUN, &format!("{PATH}/runs?wait=30s"), "{\"until\": \"make\"}").expect(200).json();
    assert_eq!((run["outcome"].as_str(), run["requested_by"].as_str()), (Some("changed"), Some("ops")), "{run}");
    assert_eq!(main.psql("SELECT to_regclass('made') IS NOT NULL"), "t");
    assert_eq!(api.psql("SELECT name, state FROM migrations"), "one-table|applied");
    assert_eq!(api.get(PATH).json()["state"], "applied");
    let list = api.get("/api/v1/migrations").expect(200).json();
    let ours = list["migrations"].as_array().unwrap().iter().find(|recipe| recipe["name"] == "one-table").unwrap();
    assert_eq!((&ours["state"], &ours["recipe_missing"]), (&"applied".into(), &false.into()));
    let file = api.site.path().join("recipes/one-table.yaml");
    std::fs::remove_file(&file).unwrap();
    let list = api.get("/api/v1/migrations").expect(200).json();
    let ours = list["migrations"].as_array().unwrap().iter().find(|recipe| recipe["name"] == "one-table").unwrap();
    assert_eq!((&ours["state"], &ours["recipe_missing"]), (&"applied".into(), &true.into()));
    // Without its recipe nothing can be approved, and all can be taken back.
    api.psql("UPDATE migration_approvals SET used_at = NULL, revoked_at = NULL WHERE expires_at > now() + interval '30 minutes'");
    assert!(api.ask(APPROVE, &approvals, &["-X", "DELETE"]).expect(200).json()["revoked"].as_u64() > Some(0));
    for answer in
        [api.ask(APPROVE, &approvals, &["-X", "DELETE"]), api.get(PATH), api.post(RUN, &format!("{PATH}/runs"), "")]
    {
        let told = answer.problem(409);
        assert!(
            told["detail"].as_str().unwrap().contains("`one-table`, which is applied, is not there any more"),
            "{told}"
        );
    }
    std::fs::write(&file, RECIPE).unwrap();

    for path in ["/api/v1/migrations/nothing", "/api/v1/migrations/..%2F..%2Fetc%2Fpasswd", "/api/v1/migrations/%00"] {
        api.get(path).problem(404);
        api.post(RUN, &format!("{path}/runs"), "").problem(404);
        api.ask(APPROVE, &format!("{path}/approvals"), &["-X", "DELETE"]).problem(404);
    }
    api.is_sound();
}

#[test]
fn what_a_migration_has_done_is_taken_back() {
    let main = Scratch::new("taken_back");
    let api = api(&main);
    let made = || main.psql("SELECT to_regclass('made') IS NOT NULL");
    let undo = format!("{PATH}/undo");
    api.post(APPROVE, &undo, "").problem(409);
    let digest = api.get(PATH).expect(200).json()["digest"].as_str().unwrap().to_owned();
    api.post(APPROVE, &format!("{PATH}/approvals"), &format!("{{\"plan\": \"{digest}\"}}")).expect(201);
    api.post(RUN, &format!("{PATH}/runs?wait=30s"), "").expect(200);
    assert_eq!(made(), "t");
    for token in [READ, RUN] {
        api.post(token, &undo, "").problem(403);
    }
    let run = api.post(APPROVE, &format!("{undo}?wait=30s"), "").expect(200).json();
    assert_eq!((run["outcome"].as_str(), run["requested_by"].as_str()), (Some("changed"), Some("ada")), "{run}");
    assert_eq!((made().as_str(), api.get(PATH).json()["state"].as_str()), ("f", Some("undone")));
    let again = api.post(APPROVE, &format!("{undo}?wait=30s"), "").expect(200).json();
    assert_eq!(again["outcome"], "unchanged", "{again}");
    api.is_sound();
}

#[test]
fn a_run_that_is_at_it_turns_around() {
    let main = Scratch::new("turns");
    let api = api(&main);
    let slow = "      - {name: slow, do: {sql: {run: [SELECT pg_sleep(30)], undo: [SELECT 1]}}}\n";
    let recipe = format!("{}{slow}", RECIPE.replace("approval: required\n", ""));
    std::fs::write(api.site.path().join("recipes/one-table.yaml"), recipe).unwrap();
    let run = api.post(RUN, &format!("{PATH}/runs"), "").expect(202).json();
    let sleeps = || {
        main.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()")
    };
    assert!(eventually(Duration::from_secs(30), || sleeps() == "1"), "{}", api.daemon.log());
    let turned = api.post(APPROVE, &format!("{PATH}/undo?wait=60s"), "").expect(200).json();
    assert_eq!(turned["id"], run["id"], "it is the run that was at it: {turned}");
    assert_eq!(main.psql("SELECT to_regclass('made') IS NULL"), "t");
    assert_eq!(api.psql("SELECT state FROM migrations"), "undone");
    assert_eq!(api.psql("SELECT count(*) FROM runs"), "1");
    api.is_sound();
}

/// What nobody has set is named: all of it, by the API and on the page.
#[test]
fn a_recipe_without_its_parameters_says_which() {
    let main = Scratch::new("needy");
    let api = api(&main);
    let parameters = "parameters:\n  table: {type: identifier, description: Of `made`}\n  rows: {type: integer}\n  \
                      more: {type: integer, default: 1}\n";
    let recipe = RECIPE.replace("stages:", &format!("{parameters}stages:"));
    std::fs::write(api.site.path().join("recipes/one-table.yaml"), recipe).unwrap();
    for told in [api.get(PATH).problem(409), api.post(RUN, &format!("{PATH}/runs"), "").problem(409)] {
        assert_eq!(told["detail"], "`one-table` needs parameters: `rows`, `table`");
        assert_eq!(told["hint"], "set `rows`, `table` under `migrations.parameters.one-table` in sexton.yaml");
    }
    let page = api.get("/migrations/one-table").expect(200).body;
    assert!(page.contains("It needs parameters: rows, table."), "{page}");
    assert!(page.contains("<dd>Of <code>made</code></dd>"), "{page}");
    assert!(!page.contains("<code>more</code>"), "{page}");
    api.get("/migrations").expect(200);
    api.is_sound();
}

/// The journal has them; the configuration does not.
#[test]
fn what_was_begun_with_parameters_of_the_command_line_is_undone_with_them() {
    let main = Scratch::new("typed");
    let api = api(&main);
    let recipe = RECIPE.replace("approval: required\n", "parameters:\n  rows: {type: integer}\n");
    std::fs::write(api.site.path().join("recipes/one-table.yaml"), recipe).unwrap();
    api.site.run(&["migrate", "run", "one-table", "--set", "rows=1", "-q"]).expect(0);
    let run = api.post(APPROVE, &format!("{PATH}/undo?wait=30s"), "").expect(200).json();
    assert_eq!(run["outcome"], "changed", "{run}");
    assert_eq!(main.psql("SELECT to_regclass('made') IS NULL"), "t");
    api.is_sound();
}

#[test]
fn a_plan_that_has_changed_is_not_approved() {
    let main = Scratch::new("edited");
    let api = api(&main);
    let digest = api.get(PATH).expect(200).json()["digest"].as_str().unwrap().to_owned();
    let edited = RECIPE.replace("made (n int)", "made (n bigint)");
    std::fs::write(api.site.path().join("recipes/one-table.yaml"), edited).unwrap();
    let told = api.post(APPROVE, &format!("{PATH}/approvals"), &format!("{{\"plan\": \"{digest}\"}}")).problem(409);
    assert!(told["hint"].is_string(), "{told}");
    assert_eq!(api.psql("SELECT count(*) FROM migration_approvals"), "0");
    api.is_sound();
}
