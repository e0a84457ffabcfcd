use super::Finding;
use crate::backup::store::{self, Settings};

/// Whether backups can be written. A directory that is not there yet is left to the first backup: what only looks makes
/// nothing.
pub(super) async fn examine(settings: &Settings) -> Finding {
    let store = match store::open(settings).await {
        Ok(store) => store,
        Err(error) => return Finding::failed("store", "settings", error),
    };
    if let Settings::Directory { path } = settings
        && matches!(path.try_exists(), Ok(false))
    {
        return match store.reach().await {
            Ok(()) => Finding::warning(
                "store",
                "access",
                format!("{} does not exist; the first backup makes it", store.location()),
                "make sure that it is the right path, and that whoever makes backups may make it there",
            ),
            Err(error) => Finding::failed("store", "access", error),
        };
    }
    match store.probe().await {
        Ok(()) => Finding::ok("store", "access", store.location()),
        Err(error) => Finding::failed("store", "access", error),
    }
}
