use clap::Subcommand;

use super::Global;
use super::failures::Shown;
use crate::daemon::jobs::Site;
use crate::exit::Exit;

/// `sexton backup`.
#[derive(Debug, Subcommand)]
pub(super) enum BackupVerb {
    /// List
    List,
}

pub(super) async fn backup(_site: Site, _verb: &BackupVerb, _global: &Global) -> Result<Exit, Shown> {
    Ok(Exit::Done)
}
