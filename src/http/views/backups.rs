//! The backups of the store. A manifest never changes, so each is read once.

use std::collections::HashMap;

use tokio::sync::Mutex;

use crate::backup::{self, BackupId, Listed, Summary, store};
use crate::daemon::jobs::Site;
use crate::failure::{Failure, Kind};

/// Manifests that were read already.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<BackupId, Summary>>);

pub(super) async fn look(site: &Site, known: &Known) -> Result<Vec<Listed>, Failure> {
    let no_store = || Failure::new(Kind::Config, "no `store:` is configured");
    let store = store::open(site.config.store.as_ref().ok_or_else(no_store)?).await?;
    let mut known = known.0.lock().await;
    Ok(backup::list_beside(&*store, &mut known).await?)
}
