//! Temporal's tables read on a standby, which a real one of a real primary is.

use std::time::Duration;

use crate::kills::Seed;
use crate::orphans::forest::Forest;
use crate::support::own_server::OwnServer;
use crate::support::postgres::Server;
use crate::support::site::{Site, eventually};
use crate::support::temporal::plain;

/// A site whose primary holds a few histories, and whose standby is this one.
fn site(primary: &OwnServer, replica: &OwnServer, database: &str) -> Site {
    let config = format!(
        "postgres: {{{}, databases: {{main: {database}}}}}\nreplica: {{{}}}\ntemporal: {{address: {}}}\nledger: {{database: sexton}}\n",
        primary.section(),
        replica.section(),
        plain().address
    );
    let site = Site::new(&config).policy("retention", "{}");
    site.run(&["ledger", "init"]).expect(0);
    site
}

#[test]
fn a_standby_is_read_and_has_to_be_one_of_this_primary() {
    let planted = Forest::of(&mut Seed::new("tables on a standby"), 20).planted("replica");
    planted.psql("UPDATE executions SET data_encoding = 'Proto3'");
    let primary = OwnServer::primary();
    primary.take_over(Server::Pg15, &planted.name);
    let standby = OwnServer::standby_of(&primary);
    let runs = planted.psql("SELECT count(*) FROM executions");
    let caught_up = || standby.psql(&planted.name, "SELECT count(*) FROM executions") == runs;
    assert!(eventually(Duration::from_secs(20), caught_up));

    let read = site(&primary, &standby, &planted.name);
    // Reads of whole tables, as the servers themselves count them.
    let scans = |server: &OwnServer| -> u64 {
        let sql = "SELECT pg_stat_clear_snapshot(); SELECT coalesce(sum(heap_blks_read + heap_blks_hit), 0) \
            FROM pg_statio_user_tables WHERE relname = 'executions'";
        server.psql(&planted.name, sql).trim().parse().unwrap()
    };
    let before = (scans(&primary), scans(&standby));
    let audit = read.run(&["audit", "--json", "-q", "--no-ledger"]).expect(0).json();
    assert_eq!(audit["runs"].to_string(), runs);
    assert!(audit["notes"].to_string().contains("read from the standby, which was"), "{}", audit["notes"]);
    assert!(audit["tables"].as_array().is_some_and(|tables| tables.len() > 20));
    assert!(eventually(Duration::from_secs(20), || scans(&standby) > before.1), "{before:?}");
    assert_eq!(scans(&primary), before.0, "nothing is read as a whole on the primary");
    let doctor = read.run(&["doctor", "--json"]).json().to_string();
    assert!(doctor.contains(r#""system":"replica""#), "{doctor}");

    // What stands still on the primary is on the standby, however long ago that was; what moves on is not.
    primary.psql(
        &planted.name,
        "UPDATE executions SET state_encoding = 'Json' WHERE ctid IN (SELECT ctid FROM executions LIMIT 1)",
    );
    let seen = || read.run(&["audit", "--json", "-q", "--no-ledger"]).expect(0).json()["unreadable"] == 1;
    assert!(eventually(Duration::from_secs(20), seen));

    let refused = |replica: &OwnServer, text: &str| {
        for args in [&["audit", "-q", "--no-ledger"][..], &["once", "overdue", "--dry-run"]] {
            let said = site(&primary, replica, &planted.name).run(args).expect(1);
            assert!(said.err.contains(text) && said.err.contains("hint: "), "{args:?}: {}", said.err);
        }
    };
    refused(&primary, "of `replica:` is not on a standby");
    let other = OwnServer::primary();
    other.take_over(Server::Pg15, &planted.name);
    let stranger = OwnServer::standby_of(&other);
    refused(&stranger, "is on a standby of another server than `postgres:`");
    standby.stop();
    refused(&standby, "cannot be reached");
}
