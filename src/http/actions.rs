//! Who did what: every request that changes something stands in the ledger, also one that was refused to somebody who is
//! known.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::{info, warn};

use super::App;
use super::auth::{Peer, Principal};
use super::problem::Problem;
use crate::daemon::ledger::Action;
use crate::failure::chain;

/// Characters of the longest path that is noted; none of sexton's own is that long.
const LONGEST_PATH: usize = 300;

/// Does a request that changes something to its end, also when whoever asked has gone meanwhile, and notes it. Otherwise
/// a connection that breaks would leave a run begun and not noted, and its `Idempotency-Key` without an answer.
pub(super) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let done = app.changes.spawn(do_and_note(app.clone(), request, next));
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was not answered");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this request could not be answered").into_response()
    })
}

async fn do_and_note(app: App, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let method: String = request.method().as_str().chars().take(20).collect();
    let path: String = request.uri().path().chars().take(LONGEST_PATH).collect();
    let address = peer.map(|peer| app.gate.address(peer.0, request.headers()));
    let who = peer.and_then(|peer| app.gate.known(peer.0, request.headers()));
    let response = next.run(request).await;
    // Whoever signs in is known only afterwards.
    let who = response.extensions().get::<SignedIn>().map(|signed| signed.0.clone()).or(who);
    let Some(Principal { name, role, .. }) = who else { return response };
    let status = response.status().as_u16();
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    info!(who = name, role = role.as_str(), address, method, path, status, "asked for");
    let action = Action { who: name, role: role.as_str().to_owned(), address, method, path, status: status.into() };
    if let Err(error) = app.ledger().note_action(&action).await {
        warn!(error = %chain(&error), "who did what could not be written to the ledger");
    }
    response
}

/// Put into the answer to a sign-in.
#[derive(Debug, Clone)]
pub(super) struct SignedIn(pub Principal);

/// How often what is old is removed.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Removes what is old until it is stopped.
pub(super) async fn sweep(app: &App) {
    loop {
        if let Err(error) = app.ledger().sweep_http().await {
            warn!(error = %chain(&error), "removing what is old of the API's tables");
        }
        if app.stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_none() {
            return;
        }
    }
}
