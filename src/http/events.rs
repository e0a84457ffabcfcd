//! What goes on now, told to whoever listens. One task looks at the ledger for all of them, and only while somebody does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::App;
use super::auth::Reader;
use super::problem::Problem;
use crate::daemon::ledger::{Asked, Run};
use crate::progress::Stage;

/// How often it is looked while somebody listens.
const LOOK: Duration = Duration::from_secs(1);
/// Listeners at one time.
const LISTENERS: usize = 500;
/// Runs that are looked at: more never go on at once than there are jobs.
const RUNS: u32 = 20;

/// A run, as far as it changes while it goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Live {
    /// Its id.
    pub id: Uuid,
    /// Of which job.
    pub job: String,
    /// How it ended, or `running`.
    pub outcome: String,
    /// How far its stage is.
    pub progress: Option<Stage>,
}

impl Live {
    fn of(run: Run) -> Self {
        Self { id: run.id, job: run.job, outcome: run.outcome, progress: run.progress }
    }
}

/// The last look, and who waits for the next.
#[derive(Debug)]
pub(super) struct Events {
    latest: watch::Sender<Arc<Vec<Live>>>,
    listeners: Arc<AtomicUsize>,
    poke: Notify,
}

impl Default for Events {
    fn default() -> Self {
        Self { latest: watch::channel(Arc::default()).0, listeners: Arc::default(), poke: Notify::new() }
    }
}

impl Events {
    /// Something has happened that is worth a look at once.
    pub(super) fn poke(&self) {
        self.poke.notify_one();
    }

    /// Looks until it is stopped.
    pub(super) async fn follow(&self, app: &App) {
        loop {
            tokio::select! {
                () = app.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {
                    // Views that show what runs have changed are kept fresh for everybody, more slowly.
                    if self.latest.receiver_count() == 0 { tokio::time::sleep(LOOK * 4).await; }
                }
                () = self.poke.notified() => {}
            }
            let Ok(runs) = app.ledger().runs(&Asked { limit: RUNS, ..Asked::default() }).await else { continue };
            let now: Vec<Live> = runs.into_iter().map(Live::of).collect();
            let before = self.latest.borrow().clone();
            if *before == now {
                continue;
            }
            for ended in now.iter().filter(|run| run.outcome != "running") {
                if before.iter().all(|run| run.id != ended.id || run.outcome == "running") {
                    app.views.refresh_after(&ended.job);
                }
            }
            self.latest.send_replace(Arc::new(now));
        }
    }
}

/// One listener less when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The runs of now, and again whenever they change: events `runs` with a list of runs.
pub(super) async fn events(
    State(app): State<App>,
    _: Reader,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let listeners = Arc::clone(&app.events.listeners);
    if listeners.fetch_add(1, Ordering::Relaxed) >= LISTENERS {
        listeners.fetch_sub(1, Ordering::Relaxed);
        let problem = Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "too many listen already");
        return Err(problem.with_hint("ask for /api/v1/runs now and then instead"));
    }
    let (latest, counted) = (app.events.latest.subscribe(), Counted(listeners));
    app.events.poke();
    let changes = stream::unfold((latest, counted, true), |(mut latest, counted, first)| async move {
        if !first {
            latest.changed().await.ok()?;
        }
        let runs = Arc::clone(&latest.borrow_and_update());
        let event = Event::default().event("runs").json_data(&*runs).unwrap_or_default();
        Some((Ok(event), (latest, counted, false)))
    });
    let stop = app.stop.clone();
    let until_stopped = changes.take_until(async move { stop.cancelled().await });
    Ok(Sse::new(until_stopped).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}
