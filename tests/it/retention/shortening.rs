//! A retention that becomes shorter, through the real binary: what it says before, when it waits for a yes, and that
//! nothing else waits with it. The judges are Temporal's command line, which also tells the bytes of each history, and
//! psql for the ledger.

use std::time::Duration;

use serde_json::Value;
use sexton::units::human_bytes;

use super::{DAYS_3, DAYS_30, DAYS_90};
use crate::support::postgres::Scratch;
use crate::support::site::{Said, Site, eventually, postgres_sections};
use crate::support::temporal::{Namespace, Server, mutual, plain, prefix};

const DAY: Duration = Duration::from_secs(86_400);

/// A site for the stack's server whose tables are said to be in this database.
fn site_on(server: &Server, ledger: &Scratch, database: &str) -> Site {
    let config = format!("{}temporal: {{address: '{}'}}\n", postgres_sections(ledger, database), server.address);
    let site = Site::new(&config);
    site.run(&["ledger", "init"]).expect(0);
    site
}

fn site(server: &Server, ledger: &Scratch) -> Site {
    site_on(server, ledger, server.database())
}

/// Everything under a prefix kept for 30 days; overdue runs are not looked for, for the server is shared.
fn policy(prefix: &str, more: &str) -> String {
    format!("default: 30d\napplies_to: ['{prefix}-*']\noverdue: {{action: ignore}}\n{more}")
}

/// Runs of a namespace: closed on both sides of 30 days, and open. Returns what 30 days make deletable, in runs and in
/// bytes of history, as Temporal itself tells them.
fn runs(server: &Server, namespace: &Namespace) -> (usize, u64) {
    let name = &namespace.name;
    let ends = [("old-a", 31), ("old-b", 45), ("old-c", 80), ("young-a", 29), ("young-b", 0)];
    for (id, _) in ends {
        server.start_workflow(name, id);
        server.terminate_workflow(name, id);
    }
    server.start_workflow(name, "open");
    let old = ends.iter().filter(|(_, days)| *days > 30);
    let bytes = old.clone().map(|(id, _)| server.history_bytes(name, id)).sum();
    for (id, days) in ends.iter().filter(|(_, days)| *days > 0) {
        server.backdate_workflow(name, id, DAY * *days);
    }
    (old.count(), bytes)
}

fn run_of(said: &Said) -> Value {
    said.json()["runs"][0].clone()
}

/// The reason of the change that makes a retention shorter.
fn reason(plan: &Value, namespace: &str) -> String {
    let changes = plan["changes"].as_array().unwrap();
    let subject = format!("namespace {namespace}");
    let change = changes.iter().find(|change| change["subject"] == *subject && change["field"] == "retention").unwrap();
    assert_eq!(change["destructive"], true, "{change}");
    change["reason"].as_str().unwrap().to_owned()
}

#[test]
fn it_waits_for_a_yes_with_its_number_and_nothing_else_waits() {
    let (server, prefix, ledger) = (plain(), prefix(), Scratch::new("gate"));
    let long = server.namespace(&prefix, "long", "2160h");
    let bare = server.namespace(&prefix, "bare", "2160h");
    let short = server.namespace(&prefix, "short", "72h");
    let (old, bytes) = runs(&server, &long);
    let named = format!("namespaces: {{{}: {{owner: o@x.y}}}}\n", long.name);
    let site = site(&server, &ledger).policy("retention", &policy(&prefix, &named));
    let deletable = format!("makes {old} closed runs with {} of history deletable", human_bytes(bytes));
    let held_back = "; held back: needs `--yes` or `allow_shortening: true`";

    let planned = site.run(&["plan", "retention", "--json"]).expect(2).json()["plans"][0]["plan"].clone();
    let said = reason(&planned, &long.name);
    assert!(said.contains(&deletable) && said.ends_with(held_back), "{said}");
    let said = reason(&planned, &bare.name);
    assert!(said.contains("makes no closed run deletable") && said.ends_with(held_back), "{said}");
    let table = site.run(&["once", "retention", "--dry-run"]).expect(2);
    assert!(table.out.contains("[destructive]") && table.out.contains(&deletable), "{table:?}");
    assert_eq!((long.retention().as_str(), short.retention().as_str()), (DAYS_90, DAYS_3), "a plan changes nothing");

    let run = run_of(&site.run(&["once", "retention", "--json"]).expect(1));
    assert_eq!((&run["outcome"], &run["error"]["kind"]), (&"refused".into(), &"refused".into()), "{run}");
    let message = run["error"]["message"].as_str().unwrap();
    assert_eq!(message, format!("a shorter retention was held back: {}, {}", bare.name, long.name));
    let hint = run["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("`sexton once retention --yes`") && hint.contains("`allow_shortening: true`"), "{hint}");
    assert_eq!(run["summary"], "2 namespaces changed, 2 shorter retentions held back");
    assert_eq!((&run["report"]["changed"], &run["report"]["held_back"]), (&2.into(), &2.into()), "{run}");
    let outcomes: Vec<_> = run["report"]["namespaces"].as_array().unwrap().iter().map(|n| &n["outcome"]).collect();
    assert_eq!(outcomes, ["held_back", "updated", "updated"]);
    assert_eq!((long.retention().as_str(), bare.retention().as_str()), (DAYS_90, DAYS_90));
    assert_eq!(short.retention(), DAYS_30, "a longer one does not wait");
    let owner = |namespace: &Namespace| server.describe(&namespace.name)["namespaceInfo"]["ownerEmail"].clone();
    assert_eq!(owner(&long), "o@x.y", "nor do the other fields of the namespace");
    assert_eq!(ledger.psql("SELECT outcome FROM runs"), "refused");

    let versions = (long.version(), bare.version(), short.version());
    let again = run_of(&site.run(&["once", "retention", "--json"]).expect(1));
    assert_eq!(again["summary"], "0 namespaces changed, 2 shorter retentions held back");
    let with_yes = site.run(&["once", "retention", "--yes", "--dry-run"]).expect(2);
    assert!(with_yes.out.contains(&deletable) && !with_yes.out.contains("held back"), "{with_yes:?}");
    assert_eq!((long.version(), bare.version(), short.version()), versions, "nothing was sent");

    let run = run_of(&site.run(&["once", "retention", "--yes", "--json"]).expect(0));
    assert_eq!((&run["outcome"], &run["report"]["held_back"]), (&"changed".into(), &0.into()), "{run}");
    assert!(reason(&run["plan"], &long.name).ends_with(&deletable), "{run}");
    assert_eq!((long.retention().as_str(), bare.retention().as_str()), (DAYS_30, DAYS_30));
    assert_eq!(run_of(&site.run(&["once", "retention", "--json"]).expect(0))["outcome"], "unchanged");
}

#[test]
fn the_policy_allows_it_for_all_or_for_one() {
    let (server, prefix, ledger) = (plain(), prefix(), Scratch::new("allowed"));
    let one = server.namespace(&prefix, "one", "2160h");
    let two = server.namespace(&prefix, "two", "2160h");
    let site = site(&server, &ledger);
    let allow_one = policy(&prefix, &format!("namespaces: {{{}: {{allow_shortening: true}}}}\n", one.name));
    let site = site.policy("retention", &allow_one);
    let said = site.run(&["once", "retention"]).expect(1);
    let message = format!("error: a shorter retention was held back: {}\n", two.name);
    assert!(said.err.contains(&message) && said.out.contains("1 namespace changed"), "{said:?}");
    assert_eq!((one.retention().as_str(), two.retention().as_str()), (DAYS_30, DAYS_90));

    let all_but_two = format!("allow_shortening: true\nnamespaces: {{{}: {{allow_shortening: false}}}}\n", two.name);
    let site = site.policy("retention", &policy(&prefix, &all_but_two));
    site.run(&["once", "retention"]).expect(1);
    assert_eq!(two.retention(), DAYS_90);

    let site = site.policy("retention", &policy(&prefix, "allow_shortening: true\n"));
    site.run(&["once", "retention"]).expect(0);
    assert_eq!(two.retention(), DAYS_30);
}

#[test]
fn once_all_takes_the_yes_too() {
    let (server, prefix, ledger) = (plain(), prefix(), Scratch::new("all"));
    let long = server.namespace(&prefix, "long", "2160h");
    let site = site(&server, &ledger).policy("retention", &policy(&prefix, ""));
    site.run(&["once", "all"]).expect(1);
    assert_eq!(long.retention(), DAYS_90);
    site.run(&["once", "all", "--yes"]).expect(0);
    assert_eq!(long.retention(), DAYS_30);
}

#[test]
fn a_number_that_is_not_known_needs_a_yes_whatever_the_policy_allows() {
    let (server, prefix, ledger) = (plain(), prefix(), Scratch::new("unknown"));
    let long = server.namespace(&prefix, "long", "2160h");
    let short = server.namespace(&prefix, "short", "72h");
    let allowed = policy(&prefix, "allow_shortening: true\n");
    // One that does not exist, one that holds no tables of Temporal's, and that of another cluster, which would give a
    // number: zero.
    let other = mutual();
    for (database, why) in [
        ("it_nowhere", "database `it_nowhere`"),
        ("postgres", "reading what Temporal's cluster says of itself"),
        (other.database(), "does not know the namespace"),
    ] {
        let site = site_on(&server, &ledger, database).policy("retention", &allowed);
        let planned = site.run(&["plan", "retention", "--json"]).expect(2).json()["plans"][0]["plan"].clone();
        let said = reason(&planned, &long.name);
        assert!(said.contains("how many closed runs it makes deletable is not known: "), "{said}");
        assert!(said.contains(why) && said.ends_with("held back: without that number it needs `--yes`"), "{said}");
        let run = run_of(&site.run(&["once", "retention", "--json"]).expect(1));
        assert_eq!(run["error"]["kind"], "refused", "{run}");
        let hint = run["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("why the closed runs cannot be counted"), "{hint}");
        assert_eq!((long.retention().as_str(), short.retention().as_str()), (DAYS_90, DAYS_30));
    }
    let site = site_on(&server, &ledger, "it_nowhere").policy("retention", &allowed);
    let run = run_of(&site.run(&["once", "retention", "--yes", "--json"]).expect(0));
    assert!(reason(&run["plan"], &long.name).contains("is not known"), "{run}");
    assert_eq!(long.retention(), DAYS_30);
}

#[test]
fn the_daemon_holds_it_back_run_after_run_and_warns() {
    let (server, prefix, ledger) = (plain(), prefix(), Scratch::new("daemon_gate"));
    let long = server.namespace(&prefix, "long", "2160h");
    let short = server.namespace(&prefix, "short", "72h");
    let version = long.version();
    let site = site(&server, &ledger)
        .policy("retention", &policy(&prefix, ""))
        .policy("schedule", "jobs: {retention: {cron: '* * * * * *'}}\nshutdown_grace: 15s\n");
    let mut daemon = site.start(&["run"], "log");
    let refused = || ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'refused'").parse::<u32>().unwrap();
    assert!(eventually(Duration::from_secs(60), || refused() >= 2), "{}", daemon.log());
    let said = site.run(&["status"]).expect(0);
    assert!(said.out.contains(&format!("a shorter retention was held back: {}", long.name)), "{said:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert_eq!((long.retention().as_str(), long.version()), (DAYS_90, version));
    assert_eq!(short.retention(), DAYS_30);
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("\"outcome\":\"refused\"")).unwrap();
    assert!(line.contains("\"WARN\"") && line.contains(&long.name) && line.contains("--yes"), "{line}");
    // The run that SIGTERM met in the middle is an error of its own.
    let errors: Vec<_> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(errors.iter().all(|line| line.contains("\"outcome\":\"cancelled\"")), "{errors:?}");
}
