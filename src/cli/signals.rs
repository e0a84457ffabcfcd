//! SIGTERM and SIGINT ask for a stop at the next safe point; a second one ends the process at once.

use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A token that the first signal cancels.
pub(super) fn stop_token() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let name = first().await;
        warn!(signal = name, "stopping at the next safe point; once more to stop at once");
        cancel.cancel();
        let name = first().await;
        warn!(signal = name, "stopping at once");
        // The ledger's lock is freed by the end of the session, and the run is marked as interrupted by the next one.
        std::process::exit(130);
    });
    token
}

async fn first() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the default action ends the process, which is a stop as well.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}
