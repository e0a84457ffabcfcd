use clap::Args;

use super::failures::Shown;
use crate::daemon::jobs::Site;
use crate::exit::Exit;

/// `sexton doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn doctor(_site: Site, _args: &DoctorArgs) -> Result<Exit, Shown> {
    Ok(Exit::Done)
}
