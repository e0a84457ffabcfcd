use clap::Subcommand;

use super::Global;
use super::failures::Shown;
use crate::daemon::jobs::Site;
use crate::exit::Exit;

/// `sexton migrate`.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateVerb {
    /// List
    List,
}

pub(super) async fn migrate(_site: Site, _verb: &MigrateVerb, _global: &Global) -> Result<Exit, Shown> {
    Ok(Exit::Done)
}
