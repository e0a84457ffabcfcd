//! The command line: what clap refuses, and what only the verb can know.

use super::{CLOSED, Case, GOOD, Table};
use crate::support::site::Site;

fn args(name: &'static str, args: &str) -> Case {
    Case::new(name, Site::new(GOOD), args)
}

#[test]
fn what_was_typed() {
    Table::default()
        .case(args("unknown verb", "backups").says(64, "\
error: unrecognized subcommand 'backups'

  tip: a similar subcommand exists: 'backup'

Usage: sexton [OPTIONS] <COMMAND>

For more information, try '--help'."))
        .case(args("unknown job", "once backups").says(64, "\
error: invalid value 'backups' for '<JOB|all>'
  [possible values: retention, overdue, audit, visibility, reconcile, backup, drill, prune, migrate, all]

  tip: a similar value exists: 'backup'

For more information, try '--help'."))
        .case(args("unknown job to plan", "plan backups").says(64, "\
error: invalid value 'backups' for '[JOB]'
  [possible values: retention, overdue, audit, visibility, reconcile, backup, drill, prune, migrate]

  tip: a similar value exists: 'backup'

For more information, try '--help'."))
        .case(args("no job", "once").says(64, "\
error: the following required arguments were not provided:
  <JOB|all>

Usage: sexton once <JOB|all>

For more information, try '--help'."))
        .case(args("wait of no unit", "once backup --wait 10").says(64, "\
error: invalid value '10' for '--wait <DURATION>': `10` is not a duration; write a whole number and a unit (ms, s, m, h, d), such as `30d` or `12h`

For more information, try '--help'."))
        .case(args("yes to a job that asks nothing", "once backup --yes").says(64, "\
error: `--yes` is about retention: it goes with `retention` or `all`
  hint: sexton once retention --yes"))
        .case(args("set without a value", "migrate plan tune-autovacuum --set rows").says(64, "\
error: invalid value 'rows' for '--set <NAME=VALUE>': write NAME=VALUE

For more information, try '--help'."))
        .case(args("set without a name", "migrate plan tune-autovacuum --set =5").says(64, "\
error: invalid value '=5' for '--set <NAME=VALUE>': write NAME=VALUE

For more information, try '--help'."))
        .case(args("parameters that are missing", "migrate plan move-database").says(78, "\
error: migration `move-database`: parameters have no default and were not set: `start`, `stop`, `switch`, `switch_back`
  hint: set them by `--set NAME=VALUE`, or under `migrations.parameters.move-database` in sexton.yaml"))
        .case(args("unknown option", "doctor --jason").says(64, "\
error: unexpected argument '--jason' found

  tip: a similar argument exists: '--json'

Usage: sexton doctor --json

For more information, try '--help'."))
        .case(args("too many jobs", "backup restore --into x --jobs 65").says(64, "\
error: invalid value '65' for '--jobs <CONNECTIONS>': 65 is not in 1..=64

For more information, try '--help'."))
        .case(args("a target that is an unset variable", "backup restore --into=").says(64, "\
error: invalid value '' for '--into <DATABASE>': write the name of a database

For more information, try '--help'."))
        .case(args("no target", "backup restore").says(64, "\
error: the following required arguments were not provided:
  --into <DATABASE>

Usage: sexton backup restore --into <DATABASE> [BACKUP]

For more information, try '--help'."))
        .case(args("quiet and verbose", "doctor -q -v").says(64, "\
error: the argument '--quiet' cannot be used with '--verbose...'

Usage: sexton doctor --quiet

For more information, try '--help'."))
        .check();
}

#[test]
fn plans_that_cannot_be_made() {
    let config = format!("{GOOD}temporal: {{address: '{CLOSED}'}}\nstore: {{directory: backups}}\n");
    let site = Site::new(&config).policy("retention", "{}").policy("visibility", "{}");
    let told = "\
error: retention: Temporal at 127.0.0.1:1: connection refused
  hint: check that the frontend runs and that the port is its gRPC port (7233 unless configured)
error: overdue: Temporal at 127.0.0.1:1: connection refused
  hint: check that the frontend runs and that the port is its gRPC port (7233 unless configured)
error: migrate: the ledger: PostgreSQL at 127.0.0.1:1 cannot be reached: Connection refused
  hint: check that the server runs, that 127.0.0.1:1 is its address and that no network policy is in the way";
    let some = Case::new("some of the plans", site, "plan");
    let some = some.prints("visibility\n").prints("no change in the jobs that could be planned, 3 of 5 not planned");
    Table::default().case(some.says(1, told)).check();
}

#[test]
fn what_is_not_configured() {
    let no_policy = Site::new(&format!("{GOOD}temporal: {{address: '127.0.0.1:1'}}\n"));
    Table::default()
        .case(args("plan of a job without its connection", "once retention --dry-run").says(
            78,
            "\
error: the job `retention` needs the section `temporal:` in the configuration
  hint: sexton.example.yaml shows every section",
        ))
        .case(Case::new("plan of a job without its policy", no_policy, "once retention --dry-run").says(
            78,
            "\
error: the job `retention` has no policy: policies/retention.yaml does not exist
  hint: start from the file of that name that comes with sexton",
        ))
        .case(args("backup without a store", "backup list").says(
            78,
            "\
error: no `store:` is configured
  hint: add one; sexton.example.yaml shows how",
        ))
        .check();
}
