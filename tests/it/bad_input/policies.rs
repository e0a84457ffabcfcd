//! The policies: the folder, and each file.

use super::{Case, GOOD, TODO, Table, with};
use crate::support::site::Site;

fn policy(name: &'static str, file: &str, text: &str) -> Case {
    Case::new(name, Site::new(GOOD).policy(file, text), "plan")
}

#[test]
fn the_folder() {
    let twice = Site::new(GOOD).policy("backup", "{}").file("policies/backup.yml", "{}");
    let broken_link = Site::new(GOOD);
    std::os::unix::fs::symlink("/nonexistent", broken_link.path().join("policies/backup.yaml")).unwrap();
    let no_folder = with(GOOD, "ledger:", "policies: nowhere\nledger:");
    Table::default()
        .case(Case::new("folder missing", Site::new(&no_folder), "plan").says(78, TODO))
        .case(policy("unknown file", "retentions", "{}").says(78, TODO))
        .case(Case::new("yaml beside yml", twice, "plan").says(78, TODO))
        .case(Case::new("link to nothing", broken_link, "plan").says(78, TODO))
        .case(policy("empty file", "retention", "").says(78, TODO))
        .check();
}

#[test]
fn retention() {
    let namespaces = "namespaces: {temporal-system: {retention: 30d}}\n";
    let both = "ignore: [orders]\nnamespaces: {orders: {retention: 3d}}\n";
    Table::default()
        .case(policy("retention below an hour", "retention", "default: 30m\n").says(78, TODO))
        .case(policy("retention beyond the cap", "retention", "default: 40000d\n").says(78, TODO))
        .case(policy("retention in parts of a second", "retention", "default: 3600500ms\n").says(78, TODO))
        .case(policy("retention without a unit", "retention", "default: 30\n").says(78, TODO))
        .case(policy("Temporal's own namespace", "retention", namespaces).says(78, TODO))
        .case(policy("pattern as a name", "retention", "namespaces: {'team-*': {}}\n").says(78, TODO))
        .case(policy("named and ignored", "retention", both).says(78, TODO))
        .case(policy("misspelled field", "retention", "namespaces: {orders: {retntion: 3d}}\n").says(78, TODO))
        .check();
}

#[test]
fn visibility() {
    let early = "rollover: {max_age: 30d}\ndelete:\n  after: 10d\n  counted_from: creation\n";
    Table::default()
        .case(policy("index name invalid", "visibility", "index: Temporal_Visibility\n").says(78, TODO))
        .case(policy("deleted before it rolls", "visibility", early).says(78, TODO))
        .case(policy("unknown driver", "visibility", "driver: ims\n").says(78, TODO))
        .case(policy("size without a unit", "visibility", "rollover: {max_size: 50}\n").says(78, TODO))
        .case(policy("size in another unit", "visibility", "rollover: {max_size: 50GiB}\n").says(78, TODO))
        .case(policy("size overflows", "visibility", "rollover: {max_size: 99999999999tb}\n").says(78, TODO))
        .case(policy("age of nothing", "visibility", "rollover: {max_age: 0s}\n").says(78, TODO))
        .case(
            policy("engine deletes without a lifecycle", "visibility", "driver: daemon\ndeletion: engine\n")
                .says(78, TODO),
        )
        .check();
}

#[test]
fn backup_and_schedule() {
    let jobs = |cron: &str| format!("jobs:\n  backup: {{cron: '{cron}'}}\n");
    Table::default()
        .case(policy("parallel zero", "backup", "parallel: 0\n").says(78, TODO))
        .case(policy("parallel negative", "backup", "parallel: -2\n").says(78, TODO))
        .case(policy("compression level unknown", "backup", "compression_level: 22\n").says(78, TODO))
        .case(policy("range size too small", "backup", "range_size: 1kb\n").says(78, TODO))
        .case(policy("cron wrong", "schedule", &jobs("61 * * * *")).says(78, TODO))
        .case(policy("cron of four fields", "schedule", &jobs("0 2 * *")).says(78, TODO))
        .case(policy("cron that never comes", "schedule", &jobs("0 0 30 2 *")).says(78, TODO))
        .case(policy("cron by nickname", "schedule", &jobs("@daily")).says(78, TODO))
        .case(policy("unknown job", "schedule", "jobs:\n  backups: {cron: '0 2 * * *'}\n").says(78, TODO))
        .case(policy("job without a cron", "schedule", "jobs: {backup: {deadline: 1h}}\n").says(78, TODO))
        .case(Case::new("nothing scheduled", Site::new(GOOD).policy("schedule", "jobs: {}\n"), "run").says(78, TODO))
        .check();
}
