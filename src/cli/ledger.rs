use std::sync::Arc;

use clap::Subcommand;

use super::failures::Shown;
use super::output;
use crate::daemon::jobs::Site;
use crate::daemon::ledger::Ledger;
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
    } else if done.created || done.applied > 0 {
        let created = if done.created { "created" } else { "found" };
        let applied = counted(done.applied, "schema migration", "schema migrations");
        output::text(format_args!("ledger database `{database}` {created}, {applied} applied"));
    } else {
        output::text(format_args!("ledger database `{database}` is up to date: nothing to do"));
    }
    Ok(Exit::Done)
}
