//! What an audit does not take for an answer. Temporal's tables without a server are enough.

use crate::kills::Seed;
use crate::orphans::forest::Forest;
use crate::support::postgres::Scratch;
use crate::support::site::{Site, postgres_sections};
use crate::support::temporal::plain;

/// A site on tables with a few histories.
fn site() -> (Scratch, Scratch, Site) {
    let forest = Forest::of(&mut Seed::new("tables to audit"), 20);
    let (database, ledger) = (forest.planted("audit"), Scratch::new("ledger"));
    database.psql("UPDATE executions SET data_encoding = 'Proto3'");
    let config = format!("{}temporal: {{address: {}}}\n", postgres_sections(&ledger, &database.name), plain().address);
    let site = Site::new(&config);
    site.run(&["ledger", "init"]).expect(0);
    (database, ledger, site)
}

#[test]
fn rows_that_cannot_be_read_are_counted_and_in_no_other_figure() {
    let (database, _ledger, site) = site();
    let before = site.run(&["audit", "--json", "-q"]).expect(0).json();
    database.psql(
        "UPDATE executions SET data_encoding = 'Json' WHERE ctid IN (SELECT ctid FROM executions LIMIT 2);
         UPDATE executions SET state = '\\xff' WHERE ctid IN (SELECT ctid FROM executions \
             WHERE data_encoding = 'Proto3' LIMIT 1)",
    );
    let after = site.run(&["audit", "--json", "-q"]).expect(0).json();
    assert_eq!((&before["unreadable"], &after["unreadable"]), (&0.into(), &3.into()));
    assert_eq!(before["runs"], after["runs"]);
    let closed = |audit: &serde_json::Value| audit["namespaces"][0]["closed"]["runs"].as_u64().unwrap();
    assert_eq!(closed(&after), closed(&before) - 3);
    let note = "3 rows of executions cannot be read";
    assert!(after["notes"].to_string().contains(note), "{}", after["notes"]);
    assert!(site.run(&["audit", "-q"]).expect(0).out.contains(note));
}

#[test]
fn a_schema_that_is_not_known_is_refused() {
    let (database, ledger, site) = site();
    let note = |version: &str| {
        database.psql(&format!(
            "DELETE FROM schema_version; INSERT INTO schema_version (version_partition, db_name, creation_time, \
             curr_version, min_compatible_version) VALUES (0, '{}', now(), '{version}', '1.0')",
            database.name
        ));
    };
    note("1.99");
    let said = site.run(&["audit", "-q"]).expect(1);
    assert!((said.err.clone() + &said.out).contains("has version 1.99 of Temporal's schema"), "{said:?}");
    let said = site.run(&["audit", "-q", "--no-ledger"]).expect(1);
    assert!(said.err.contains("has version 1.99 of Temporal's schema"), "{said:?}");
    assert_eq!(ledger.psql("SELECT DISTINCT outcome FROM runs"), "refused");
    note("1.19");
    assert_eq!(site.run(&["audit", "--json", "-q"]).expect(0).json()["schema"], "1.19");
}

#[test]
fn a_shard_that_the_cluster_does_not_have_is_refused() {
    let (database, _ledger, site) = site();
    // `ClusterMetadata` with a history_shard_count of 4; the tables have five.
    let metadata = "INSERT INTO cluster_metadata_info (metadata_partition, cluster_name, data, data_encoding, version) \
        VALUES (0, 'active', '\\x1004', 'Proto3', 1)";
    database.psql(metadata);
    let said = site.run(&["audit", "-q", "--no-ledger"]).expect(1);
    assert!(said.err.contains("has 4 history shards") && said.err.contains("has a shard 5"), "{said:?}");
    database.psql("UPDATE cluster_metadata_info SET data = '\\x1005'");
    assert_eq!(site.run(&["audit", "--json", "-q"]).expect(0).json()["shards"], 5);
}

/// On a standby an audit may look; what decides over a deletion may not. PostgreSQL says that it is one by a function,
/// in place of which stands another one here.
#[test]
fn a_standby_is_good_enough_for_an_audit_only() {
    let (database, _ledger, site) = site();
    let site = site.policy("retention", "overdue: {action: ignore}\norphans: {action: delete, min_age: 7d}\n");
    let wanted = site.run(&["once", "overdue", "--dry-run", "--json"]).expect(2).json();
    assert!(wanted.to_string().contains("histories that nothing refers to"), "{wanted}");
    database.psql(&format!(
        "CREATE FUNCTION public.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true';
         ALTER DATABASE {} SET search_path = public, pg_catalog",
        database.name
    ));
    let audit = site.run(&["audit", "--json", "-q"]).expect(0).json();
    assert!(audit["orphans"]["branches"].as_u64().unwrap() > 0, "{audit}");
    let before = database.psql("SELECT count(*) FROM history_node");
    let said = site.run(&["once", "overdue", "-q"]).expect(1);
    assert!((said.err + &said.out).contains("is a standby"));
    assert_eq!(database.psql("SELECT count(*) FROM history_node"), before);
}
