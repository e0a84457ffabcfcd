//! What goes on now, told to whoever listens. One task looks at the ledger for all of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tracing::warn;
use uuid::Uuid;

use super::App;
use super::auth::Reader;
use super::problem::Problem;
use crate::daemon::ledger::{Asked, LedgerError, Run};
use crate::failure::chain;
use crate::progress::Stage;

/// How often it is looked while somebody listens.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked otherwise, so that the views show what runs have changed.
const IDLE: Duration = Duration::from_secs(5);
/// Listeners at one time.
const LISTENERS: usize = 500;
/// The latest runs that are told; what goes on is told as well, however long ago it began.
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
        let (mut is_first, mut is_away) = (true, false);
        loop {
            let pause = if self.latest.receiver_count() == 0 { IDLE } else { LOOK };
            tokio::select! {
                () = app.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.poke.notified() => {}
            }
            let Some(looked) = app.stop.run_until_cancelled(look(app)).await else { return };
            let now = match looked {
                Ok(now) => now,
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        warn!(error = %chain(&error), "the ledger does not tell what goes on; it is asked again");
                    }
                    continue;
                }
            };
            is_away = false;
            let before = self.latest.borrow().clone();
            // What had ended before the first look is in the views already.
            if !std::mem::take(&mut is_first) {
                ended(&before, &now).for_each(|run| app.views.refresh_after(&run.job));
            }
            if *before == now {
                continue;
            }
            self.latest.send_replace(Arc::new(now));
        }
    }
}

/// The runs that have ended between two looks. One that was long is no longer among the latest.
fn ended<'a>(before: &'a [Live], now: &'a [Live]) -> impl Iterator<Item = &'a Live> {
    let is_new = |run: &&Live| before.iter().all(|was| was.id != run.id || was.outcome == "running");
    let seen = now.iter().filter(|run| run.outcome != "running").filter(is_new);
    seen.chain(before.iter().filter(|was| was.outcome == "running" && now.iter().all(|run| run.id != was.id)))
}

/// The latest runs and those that go on, the newest first.
async fn look(app: &App) -> Result<Vec<Live>, LedgerError> {
    let asked = Asked { limit: RUNS, brief: true, ..Asked::default() };
    let mut runs = app.ledger().runs(&asked).await?;
    // Many short runs may have begun since a long one did.
    if runs.len() == RUNS as usize {
        let going_on = Asked { outcome: Some("running".to_owned()), before: runs.last().map(|run| run.id), ..asked };
        runs.extend(app.ledger().runs(&going_on).await?);
    }
    Ok(runs.into_iter().map(Live::of).collect())
}

/// One listener less when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The runs of now, and again whenever they change: server-sent events called `runs`, each with the list of the latest runs
/// and of those that go on. The stream has no end.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "runs",
    responses(
        (status = 200, description = "Server-sent events", content_type = "text/event-stream", body = String),
        (status = 401, body = Problem),
        (status = 503, description = "The ledger does not answer, or too many listen", body = Problem)
    )
)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_seen_also_when_it_is_no_longer_among_the_latest() {
        let run = |id: u128, outcome: &str| Live {
            id: Uuid::from_u128(id),
            job: "backup".to_owned(),
            outcome: outcome.to_owned(),
            progress: None,
        };
        let check = |before: &[Live], now: &[Live], expect: &[u128]| {
            let ids: Vec<_> = ended(before, now).map(|run| run.id.as_u128()).collect();
            assert_eq!(ids, expect, "{before:?} {now:?}");
        };
        check(&[run(1, "running")], &[run(1, "changed")], &[1]);
        check(&[run(1, "changed")], &[run(1, "changed")], &[]);
        check(&[run(1, "running")], &[run(2, "unchanged")], &[2, 1]);
        check(&[run(1, "changed")], &[run(2, "running")], &[]);
    }
}
