//! The command line: what clap refuses, and what only the verb can know.

use super::{Case, GOOD, TODO, Table};
use crate::support::site::Site;

fn args(name: &'static str, args: &str) -> Case {
    Case::new(name, Site::new(GOOD), args)
}

#[test]
fn what_was_typed() {
    Table::default()
        .case(args("unknown verb", "backups").says(64, TODO))
        .case(args("unknown job", "once backups").says(64, TODO))
        .case(args("unknown job to plan", "plan backups").says(64, TODO))
        .case(args("no job", "once").says(64, TODO))
        .case(args("wait of no unit", "once backup --wait 10").says(64, TODO))
        .case(args("set without a value", "migrate plan tune-autovacuum --set rows").says(64, TODO))
        .case(args("set without a name", "migrate plan tune-autovacuum --set =5").says(64, TODO))
        .case(args("unknown option", "doctor --jason").says(64, TODO))
        .case(args("too many jobs", "backup restore --into x --jobs 65").says(64, TODO))
        .case(args("no target", "backup restore").says(64, TODO))
        .case(args("quiet and verbose", "doctor -q -v").says(64, TODO))
        .check();
}

#[test]
fn what_is_not_configured() {
    let no_policy = Site::new(&format!("{GOOD}temporal: {{address: '127.0.0.1:1'}}\n"));
    Table::default()
        .case(args("plan of a job without its connection", "once retention --dry-run").says(78, TODO))
        .case(Case::new("plan of a job without its policy", no_policy, "once retention --dry-run").says(78, TODO))
        .case(args("backup without a store", "backup list").says(78, TODO))
        .check();
}
