use std::sync::Arc;

use clap::Subcommand;

use super::failures::Shown;
use super::output;
use crate::daemon::jobs::Site;
use crate::daemon::ledger::{Ledger, close_statement};
use crate::exit::Exit;
use crate::units::counted;

/// `sexton ledger`.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerVerb {
    /// Create the ledger's database and bring its tables up to date; safe to repeat
    Init {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn ledger(site: Site, verb: &LedgerVerb) -> Result<Exit, Shown> {
    let LedgerVerb::Init { json } = verb;
    let database = &site.config.ledger_database;
    let (_, done) = Ledger::init(Arc::new(site.postgres()), database).await.map_err(Shown::of)?;
    if *json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    if done.created || done.applied > 0 {
        let created = if done.created { "created" } else { "found" };
        let applied = counted(done.applied, "schema migration", "schema migrations");
        output::text(format_args!("ledger database `{database}` {created}, {applied} applied"));
    } else if !done.closed {
        output::text(format_args!("ledger database `{database}` is up to date: nothing to do"));
    }
    if done.closed {
        output::text(format_args!(
            "ledger database `{database}` closed to PUBLIC: only its owner connects, and whom you let in by `GRANT CONNECT`"
        ));
    }
    if done.open_to_public {
        output::text(format_args!(
            "ledger database `{database}` is open to PUBLIC: every role of the server may connect to it; it is not this \
             role's to close, or Temporal's as well. Where it is sexton's alone, let its owner run `{}`",
            close_statement(database)
        ));
    }
    Ok(Exit::Done)
}
