//! The binary itself, killed while it removes orphans.

use std::time::Instant;

use super::forest::{Forest, Rows};
use crate::kills::{Seed, kills};
use crate::support::cluster::schema;
use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Site, postgres_sections};
use crate::support::temporal::plain;

const POLICY: &str = "overdue: {action: report}\norphans: {action: delete, min_age: 7d}\n";

/// A site whose Temporal is never told anything: nothing in the forest is of a namespace that it could be told about.
fn site(database: &Scratch, ledger: &Scratch) -> Site {
    let config = format!("{}temporal: {{address: {}}}\n", postgres_sections(ledger, &database.name), plain().address);
    let site = Site::new(&config).policy("retention", POLICY);
    site.run(&["ledger", "init"]).expect(0);
    site
}

#[test]
fn a_killed_removal_comes_to_the_same_end() {
    let mut seed = Seed::new("killed removals of orphans");
    let forest = Forest::of(&mut seed, 120);
    let planted = forest.planted("killed");
    let run = ["once", "overdue", "-q"];
    let copy = || Scratch::copy_of(Server::Pg15, "killed", &planted.name);
    let whole = {
        let (database, ledger) = (copy(), Scratch::new("ledger"));
        let site = site(&database, &ledger);
        let plan = site.run(&["once", "overdue", "--dry-run", "--json"]).expect(2).json();
        assert!(plan.to_string().contains("histories that nothing refers to"), "{plan}");
        Rows::read(&database).assert_is(&forest.before, &forest);
        let clock = Instant::now();
        site.run(&run).expect(0);
        let whole = clock.elapsed();
        Rows::read(&database).assert_is(&forest.after, &forest);
        assert!(site.run(&run).expect(0).out.contains("unchanged"));
        site.run(&["once", "overdue", "--dry-run"]).expect(0);
        whole
    };
    for _ in 0..kills() {
        let (database, ledger) = (copy(), Scratch::new("ledger"));
        let site = site(&database, &ledger);
        let mut running = site.start(&run, "killed.log");
        std::thread::sleep(seed.part_of(whole));
        running.signal("KILL");
        running.wait();
        site.run(&run).expect(0);
        Rows::read(&database).assert_is(&forest.after, &forest);
        assert_eq!(ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'running'"), "0");
    }
}

/// Without the policy's word nothing goes.
#[test]
fn orphans_are_only_reported_by_default() {
    let mut seed = Seed::new("orphans reported");
    let forest = Forest::of(&mut seed, 40);
    let (database, ledger) = (forest.planted("reported"), Scratch::new("ledger"));
    let site = site(&database, &ledger).policy("retention", "overdue: {action: report}\n");
    site.run(&["once", "overdue", "-q"]).expect(0);
    let audit = site.run(&["audit", "--json", "-q"]).expect(0).json();
    Rows::read(&database).assert_is(&forest.before, &forest);
    let gone = forest.before.branches.len() - forest.after.branches.len();
    assert_eq!(audit["orphans"]["branches"], gone, "{}", audit["orphans"]);
}

/// `sexton doctor` names what is missing, and what it says to run is enough.
#[test]
fn a_role_that_may_not_remove_is_found_by_the_doctor() {
    let (database, role) = (Scratch::copy_of(Server::Pg15, "doctor", schema()), Role::new(Server::Pg15));
    let settings = Server::Pg15.settings();
    let config = format!(
        "postgres:\n  host: {}\n  port: {}\n  user: {}\n  password: {{env: IT_ROLE}}\n  \
         databases: {{main: {}}}\nledger: {{database: none}}\n",
        settings.host, settings.port, role.name, database.name
    );
    let policy = |action: &str| format!("orphans: {{action: {action}}}\n");
    let site = Site::new(&config).policy("retention", &policy("delete")).env("IT_ROLE", &role.password);
    database.psql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", role.name));
    let finding = || {
        let said = site.run(&["doctor", "--json"]).expect(1).json();
        let findings = said["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["subject"] == "removal of orphans").cloned()
    };
    let found = finding().unwrap();
    assert_eq!(found["verdict"], "failed", "{found:#}");
    for missing in ["UPDATE ON history_tree", "DELETE ON history_tree", "DELETE ON history_node"] {
        assert!(found["detail"].as_str().unwrap().contains(missing), "{found:#}");
    }
    database.psql(found["hint"].as_str().unwrap());
    assert_eq!(finding().unwrap()["verdict"], "ok");
    std::fs::write(site.path().join("policies/retention.yaml"), policy("report")).unwrap();
    assert_eq!(finding(), None, "nothing is removed, and nothing need be");
    database.psql(&format!("DROP OWNED BY {}", role.name));
}
