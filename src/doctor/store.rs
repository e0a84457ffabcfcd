use super::Finding;
use crate::backup::store::{self, Settings};

/// Whether backups can be written.
pub(super) async fn examine(settings: &Settings) -> Finding {
    let store = match store::open(settings).await {
        Ok(store) => store,
        Err(error) => return Finding::failed("store", "settings", error),
    };
    match store.probe().await {
        Ok(()) => Finding::ok("store", "access", store.location()),
        Err(error) => Finding::failed("store", "access", error),
    }
}
