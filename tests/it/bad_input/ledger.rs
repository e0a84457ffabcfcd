//! The ledger, when it is not ready.

use super::{Case, Table};
use crate::support::postgres::{Scratch, Server};
use crate::support::site::{Site, postgres_sections};

#[test]
fn not_initialised() {
    let empty = Scratch::new("empty");
    let half = Scratch::new("half");
    let gone = Scratch { server: Server::Pg15, name: "it_no_such_ledger".into() };
    let site = |ledger: &Scratch| Site::new(&postgres_sections(ledger, "postgres")).policy("visibility", "{}");
    site(&half).run(&["ledger", "init"]).expect(0);
    half.psql("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)");
    Table::default()
        .case(Case::new("no tables", site(&empty), "once visibility").hide(&empty.name, "LEDGER").says(
            1,
            "\
error: the ledger database `LEDGER` is not ready: 10 schema migrations are not applied
  hint: run `sexton ledger init`",
        ))
        .case(Case::new("older tables", site(&half), "status").hide(&half.name, "LEDGER").says(
            1,
            "\
error: the ledger database `LEDGER` is not ready: 1 schema migration is not applied
  hint: run `sexton ledger init`",
        ))
        .case(Case::new("no database", site(&gone), "once visibility").says(
            1,
            "\
error: the ledger: PostgreSQL at PG15 has no database `it_no_such_ledger`
  hint: run `sexton ledger init`",
        ))
        .case(Case::new("no database, for migrations", site(&gone), "migrate list").says(
            1,
            "\
error: the ledger: PostgreSQL at PG15 has no database `it_no_such_ledger`
  hint: run `sexton ledger init`",
        ))
        .check();
}
