//! What ends a step early: its stage's deadline, a lock that is gone, somebody who wants the migration undone.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::migrate::error::MigrateError;
use crate::migrate::journal::Lock;
use crate::migrate::steps::child::GRACE;
use crate::units::Span;

/// How often lock and journal are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long a step that is to stop may take to reach a safe point before it is dropped: a program that it has started
/// gets its grace.
const PATIENCE: Duration = GRACE.saturating_add(Duration::from_secs(2));

/// Why a step was ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The stage has had its time.
    Deadline(Span),
    /// The session that holds the lock is gone.
    LockLost,
    /// Somebody wants the migration undone.
    UndoRequested,
}

/// Lets a step run until it ends or must; `None` in the first place when it was dropped because it did not stop.
pub(super) async fn watched<T, A>(
    step: impl Future<Output = T>,
    token: &CancellationToken,
    deadline: Option<(Span, Instant)>,
    lock: &mut Lock,
    asked: impl Fn() -> A,
) -> (Option<T>, Option<Reason>)
where
    A: Future<Output = Result<bool, MigrateError>>,
{
    tokio::pin!(step);
    let mut reason = None;
    loop {
        let until = deadline.map_or_else(|| Instant::now() + LOOK, |(_, at)| at.min(Instant::now() + LOOK));
        tokio::select! {
            biased;
            done = &mut step => return (Some(done), reason),
            () = token.cancelled() => break,
            () = tokio::time::sleep_until(until.into()) => {}
        }
        reason = match deadline {
            Some((limit, at)) if Instant::now() >= at => Some(Reason::Deadline(limit)),
            _ if !lock.is_held().await => Some(Reason::LockLost),
            // A journal that cannot be read now is found out when the step's evidence is written.
            _ => asked().await.unwrap_or(false).then_some(Reason::UndoRequested),
        };
        if reason.is_some() {
            token.cancel();
            break;
        }
    }
    (tokio::time::timeout(PATIENCE, step).await.ok(), reason)
}
