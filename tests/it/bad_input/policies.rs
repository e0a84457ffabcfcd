//! The policies: the folder, and each file.

use super::{Case, GOOD, Table, with};
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
        .case(Case::new("folder missing", Site::new(&no_folder), "plan").says(
            78,
            "\
error: nowhere: the folder of policies cannot be read: No such file or directory
  hint: set `policies:` in the configuration to the folder that holds retention.yaml and its siblings",
        ))
        .case(policy("unknown file", "retentions", "{}").says(
            78,
            "\
error: policies/retentions.yaml: is not a policy that sexton knows
  hint: the policies are retention.yaml, visibility.yaml, backup.yaml, schedule.yaml; rename or remove the file",
        ))
        .case(Case::new("yaml beside yml", twice, "plan").says(
            78,
            "\
error: policies/backup.yml: is a second policy for `backup`
  hint: keep one of the .yaml and the .yml file",
        ))
        .case(Case::new("link to nothing", broken_link, "plan").says(
            78,
            "\
error: policies/backup.yaml: cannot be read: it is a link to nothing
  hint: mend or remove the link",
        ))
        .case(policy("empty file", "retention", "").says(
            78,
            "\
error: policies/retention.yaml: is empty
  hint: fill it in; `{}` alone takes every default, where there are defaults",
        ))
        .check();
}

#[test]
fn retention() {
    let namespaces = "namespaces: {temporal-system: {retention: 30d}}\n";
    let both = "ignore: [orders]\nnamespaces: {orders: {retention: 3d}}\n";
    Table::default()
        .case(policy("retention below an hour", "retention", "default: 30m\n").says(
            78,
            "\
error: policies/retention.yaml:1:10: a retention of 30m is too short
  hint: Temporal keeps closed runs for 1h at least",
        ))
        .case(policy("retention beyond the cap", "retention", "default: 40000d\n").says(
            78,
            "\
error: policies/retention.yaml:1:10: a retention of 40000d is too long
  hint: Temporal caps it at 36500d",
        ))
        .case(policy("retention in parts of a second", "retention", "default: 3600500ms\n").says(
            78,
            "\
error: policies/retention.yaml:1:10: a retention of 3600500ms is not in whole seconds
  hint: write whole seconds",
        ))
        .case(policy("retention without a unit", "retention", "default: 30\n").says(
            78,
            "\
error: policies/retention.yaml:1:10: `30` is not a duration
  hint: write a whole number and a unit (ms, s, m, h, d), such as `30d` or `12h`",
        ))
        .case(policy("Temporal's own namespace", "retention", namespaces).says(
            78,
            "\
error: policies/retention.yaml:1:14: `temporal-system` is Temporal's own namespace and is never touched
  hint: remove it",
        ))
        .case(policy("pattern as a name", "retention", "namespaces: {'team-*': {}}\n").says(
            78,
            "\
error: policies/retention.yaml:1:14: `team-*` is a pattern
  hint: patterns go under `applies_to` and `ignore`, names go here",
        ))
        .case(policy("named and ignored", "retention", both).says(
            78,
            "\
error: policies/retention.yaml: `orders` stands under both `ignore` and `namespaces`
  hint: remove it from one of them",
        ))
        .case(policy("misspelled field", "retention", "namespaces: {orders: {retntion: 3d}}\n").says(
            78,
            "\
error: policies/retention.yaml:1:23: unknown key `retntion`
  hint: did you mean `retention`?",
        ))
        .check();
}

#[test]
fn visibility() {
    let early = "rollover: {max_age: 30d}\ndelete:\n  after: 10d\n  counted_from: creation\n";
    Table::default()
        .case(policy("index name invalid", "visibility", "index: Temporal_Visibility\n").says(78, "\
error: policies/visibility.yaml:1:8: `Temporal_Visibility` is not the name of an index
  hint: write lower case, no spaces, none of \\ / * ? \" < > | , # : % +"))
        .case(policy("deleted before it rolls", "visibility", early).says(78, "\
error: policies/visibility.yaml:3:3: `delete.after` (10d) must be longer than `rollover.max_age` (30d) when it counts from creation
  hint: make `delete.after` longer, or count from the rollover"))
        .case(policy("unknown driver", "visibility", "driver: ims\n").says(78, "\
error: policies/visibility.yaml:1:9: `ims` is not known here
  hint: did you mean `ism`?"))
        .case(policy("size without a unit", "visibility", "rollover: {max_size: 50}\n").says(78, "\
error: policies/visibility.yaml:1:22: `50` is not a size
  hint: write a whole number and a unit (b, kb, mb, gb, tb), such as `50gb`"))
        .case(policy("size in another unit", "visibility", "rollover: {max_size: 50GiB}\n").says(78, "\
error: policies/visibility.yaml:1:22: `50GiB` is not a size
  hint: write a whole number and a unit (b, kb, mb, gb, tb), such as `50gb`"))
        .case(policy("size overflows", "visibility", "rollover: {max_size: 99999999999tb}\n").says(78, "\
error: policies/visibility.yaml:1:22: `99999999999tb` is too large
  hint: a duration is a thousand years at most, a size 16 million terabytes"))
        .case(policy("age of nothing", "visibility", "rollover: {max_age: 0s}\n").says(78, "\
error: policies/visibility.yaml:1:1: `rollover.max_age` must be more than nothing
  hint: write a duration such as `30d`, a size such as `50gb`, or leave the field out"))
        .case(policy("engine deletes without a lifecycle", "visibility", "driver: daemon\ndeletion: engine\n").says(78, "\
error: policies/visibility.yaml:1:1: `deletion: engine` needs an engine's lifecycle, but `driver: daemon` uses none
  hint: use `deletion: gated`, or `driver: auto`"))
        .check();
}

#[test]
fn backup_and_schedule() {
    let jobs = |cron: &str| format!("jobs:\n  backup: {{cron: '{cron}'}}\n");
    Table::default()
        .case(policy("parallel zero", "backup", "parallel: 0\n").says(
            78,
            "\
error: policies/backup.yaml:1:11: `parallel` is 0
  hint: it must be from 1 to 64",
        ))
        .case(policy("parallel negative", "backup", "parallel: -2\n").says(
            78,
            "\
error: policies/backup.yaml:1:11: a whole number, zero or more, is expected here
  hint: write it without quotes and without a unit",
        ))
        .case(policy("compression level unknown", "backup", "compression_level: 22\n").says(
            78,
            "\
error: policies/backup.yaml:1:20: `compression_level` is 22
  hint: zstd has the levels 1 to 19",
        ))
        .case(policy("range size too small", "backup", "range_size: 1kb\n").says(
            78,
            "\
error: policies/backup.yaml:1:13: `range_size` is 1kb
  hint: it must be from 64kb to 64mb",
        ))
        .case(policy("cron wrong", "schedule", &jobs("61 * * * *")).says(
            78,
            "\
error: policies/schedule.yaml:2:18: `61 * * * *` is not a cron expression: number out of bounds
  hint: write the fields as `0 2 * * *`, which is 02:00 UTC every day",
        ))
        .case(policy("cron of four fields", "schedule", &jobs("0 2 * *")).says(
            78,
            "\
error: policies/schedule.yaml:2:18: `0 2 * *` has 4 fields
  hint: write five (minute hour day month weekday), or six with seconds first: `0 2 * * *` is 02:00 UTC every day",
        ))
        .case(policy("cron that never comes", "schedule", &jobs("0 0 30 2 *")).says(
            78,
            "\
error: policies/schedule.yaml:2:18: `0 0 30 2 *` never comes
  hint: write a day that its months have",
        ))
        .case(policy("cron by nickname", "schedule", &jobs("@daily")).says(
            78,
            "\
error: policies/schedule.yaml:2:18: `@daily` is not a cron expression
  hint: write the five fields, for example `0 2 * * *` for 02:00 UTC every day",
        ))
        .case(policy("unknown job", "schedule", "jobs:\n  backups: {cron: '0 2 * * *'}\n").says(
            78,
            "\
error: policies/schedule.yaml:2:3: `backups` is not known here
  hint: did you mean `backup`?",
        ))
        .case(policy("deadline misspelled", "schedule", "jobs: {backup: {deadlin: 1h}}\n").says(
            78,
            "\
error: policies/schedule.yaml:1:17: unknown key `deadlin`
  hint: did you mean `deadline`?",
        ))
        .case(
            Case::new(
                "nothing scheduled",
                Site::new(GOOD).policy("schedule", "jobs: {backup: {deadline: 1h}}\n"),
                "run",
            )
            .says(
                78,
                "\
error: no job is scheduled in policies/schedule.yaml
  hint: name at least one under `jobs:`; policies/schedule.yaml as shipped has all of them",
            ),
        )
        .check();
}
