//! For how long nobody has asked for anything on a connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

/// The requests of one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    in_flight: usize,
    since: Instant,
}

impl Activity {
    /// Of a connection that was just made.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { in_flight: 0, since: Instant::now() })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request has come. It is in flight until this is dropped, which its answer's body may take along.
    pub(super) fn begin(&self) -> InFlight {
        self.with(|state| state.in_flight += 1);
        InFlight(self.clone())
    }

    /// Returns when nothing was in flight for that long.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            let left = self.with(|state| match state.in_flight {
                0 => patience.saturating_sub(state.since.elapsed()),
                _ => patience,
            });
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// A request whose answer is not yet sent.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.in_flight -= 1;
            state.since = Instant::now();
        });
    }
}

/// A body whose request is in flight until it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub body: Body,
    pub _request: InFlight,
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_once_everything_was_sent() {
        let (activity, short) = (Activity::new(), Duration::from_millis(20));
        let request = activity.begin();
        let waited = tokio::time::timeout(short * 5, activity.idle(short)).await;
        assert!(waited.is_err(), "it is being answered");
        let body = Sent { body: Body::empty(), _request: request };
        let from = Instant::now();
        drop(body);
        activity.idle(short).await;
        assert!(from.elapsed() >= short);
    }
}
