//! What is looked at outside the ledger, kept for the page and the metrics: each view is made anew at its own pace, so
//! that no visitor waits for a slow system and a hundred visitors are as cheap as one.

mod backups;
mod connections;
mod retention;
mod visibility;

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) use self::connections::Connection;
pub(super) use self::retention::{NamespaceRow, RetentionView};
pub(super) use self::visibility::VisibilityView;
use crate::backup::{Listed, Summary};
use crate::daemon::jobs::Site;
use crate::daemon::ledger::Ledger;
use crate::failure::{Failure, Kind};
use crate::job::JobName;

/// A look that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One look.
#[derive(Debug, Clone)]
pub(super) struct Seen<T> {
    /// When it was last looked.
    pub at: Option<Timestamp>,
    /// What there was the last time that it could be told, and when that was.
    pub value: Option<(Timestamp, Arc<T>)>,
    /// Why the last look told nothing.
    pub error: Option<Failure>,
}

impl<T> Seen<T> {
    /// The last value.
    pub(super) fn get(&self) -> Option<&T> {
        self.value.as_ref().map(|(_, value)| value.as_ref())
    }
}

/// What is looked at again and again.
#[derive(Debug)]
pub(super) struct View<T> {
    seen: RwLock<Seen<T>>,
    wanted: Notify,
}

impl<T> Default for View<T> {
    fn default() -> Self {
        Self { seen: RwLock::new(Seen { at: None, value: None, error: None }), wanted: Notify::new() }
    }
}

impl<T: Send + Sync + 'static> View<T> {
    /// What was seen last.
    pub(super) fn seen(&self) -> Seen<T> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        Seen { at: seen.at, value: seen.value.clone(), error: seen.error.clone() }
    }

    /// Asks for a new look soon: something was changed.
    pub(super) fn refresh(&self) {
        self.wanted.notify_one();
    }

    fn note(&self, result: Result<T, Failure>) {
        let now = Timestamp::now();
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.at = Some(now);
        match result {
            Ok(value) => {
                seen.value = Some((now, Arc::new(value)));
                seen.error = None;
            }
            Err(failure) => seen.error = Some(failure),
        }
    }

    async fn keep<F: Future<Output = Result<T, Failure>>>(
        &self,
        every: Duration,
        stop: &CancellationToken,
        mut look: impl FnMut() -> F,
    ) {
        loop {
            let looked = async {
                let late = || Err(Failure::new(Kind::Failed, format!("no answer within {} s", PATIENCE.as_secs())));
                tokio::time::timeout(PATIENCE, look()).await.unwrap_or_else(|_| late())
            };
            let Some(result) = stop.run_until_cancelled(looked).await else { return };
            self.note(result);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
                () = self.wanted.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Views {
    pub connections: View<Vec<Connection>>,
    pub retention: View<RetentionView>,
    pub visibility: View<VisibilityView>,
    pub backups: View<Vec<Listed>>,
}

/// Those of which more is known than that they are there.
pub(super) fn readable(listed: &[Listed]) -> impl Iterator<Item = &Summary> + Clone {
    listed.iter().filter_map(|one| match one {
        Listed::Readable(summary) => Some(summary),
        Listed::Unreadable { .. } => None,
    })
}

impl Views {
    /// Looks until it is stopped.
    pub(super) async fn keep(&self, site: &Site, ledger: &Ledger, stop: &CancellationToken) {
        let connections = self.connections.keep(Duration::from_secs(60), stop, || connections::look(site));
        let retention = async {
            if site.config.temporal.is_some() {
                self.retention.keep(Duration::from_secs(60), stop, || retention::look(site, ledger)).await;
            }
        };
        let visibility = async {
            if site.policies.visibility.is_some() {
                self.visibility.keep(Duration::from_secs(60), stop, || visibility::look(site)).await;
            }
        };
        let known = backups::Known::default();
        let backups = async {
            if site.config.store.is_some() {
                self.backups.keep(Duration::from_secs(120), stop, || backups::look(site, &known)).await;
            }
        };
        tokio::join!(connections, retention, visibility, backups);
    }

    /// A run of a job has ended: what it may have changed is looked at again.
    pub(super) fn refresh_after(&self, job: &str) {
        match JobName::parse(job) {
            Some(JobName::Retention | JobName::Overdue | JobName::Audit) => self.retention.refresh(),
            Some(JobName::Visibility | JobName::Reconcile) => self.visibility.refresh(),
            Some(JobName::Backup | JobName::Drill | JobName::Prune) => self.backups.refresh(),
            Some(JobName::Migrate) => {
                self.visibility.refresh();
                self.connections.refresh();
            }
            // A later version's.
            None => {}
        }
    }
}
