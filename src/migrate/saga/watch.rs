//! What ends a step early: its stage's deadline, a lock that is gone, somebody who wants the migration undone.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

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

/// Looks again and again until there is a reason to end the step. A journal that cannot be read now is found out when the step's
/// evidence is written.
pub(super) async fn look<A: Future<Output = bool>>(lock: &mut Lock, asked: impl Fn() -> A) -> Reason {
    loop {
        tokio::time::sleep(LOOK).await;
        if !lock.is_held().await {
            return Reason::LockLost;
        }
        if asked().await {
            return Reason::UndoRequested;
        }
    }
}

/// Lets a step run until it ends or must; `None` in the first place when it was dropped because it did not stop. A look that
/// gets no answer holds up neither the step nor what else ends it.
pub(super) async fn watched<T>(
    step: impl Future<Output = T>,
    token: &CancellationToken,
    deadline: Option<(Span, Instant)>,
    look: impl Future<Output = Reason>,
) -> (Option<T>, Option<Reason>) {
    tokio::pin!(step);
    let late = async {
        match deadline {
            Some((limit, at)) => {
                tokio::time::sleep_until(at.into()).await;
                Reason::Deadline(limit)
            }
            None => std::future::pending().await,
        }
    };
    let reason = tokio::select! {
        biased;
        done = &mut step => return (Some(done), None),
        () = token.cancelled() => None,
        reason = late => Some(reason),
        reason = look => Some(reason),
    };
    if reason.is_some() {
        token.cancel();
    }
    (tokio::time::timeout(PATIENCE, step).await.ok(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// A step that stops when it is told to.
    async fn stops(token: &CancellationToken) -> &'static str {
        token.cancelled().await;
        "stopped"
    }

    #[tokio::test]
    async fn a_look_without_an_answer_holds_nothing_up() {
        let token = CancellationToken::new();
        let step = async {
            tokio::time::sleep(SOON).await;
            "done"
        };
        assert_eq!(watched(step, &token, None, std::future::pending()).await, (Some("done"), None));

        let limit = Span::milliseconds(20);
        let late = watched(stops(&token), &token, Some((limit, Instant::now() + SOON)), std::future::pending()).await;
        assert_eq!(late, (Some("stopped"), Some(Reason::Deadline(limit))));

        let token = CancellationToken::new();
        let told = async {
            tokio::time::sleep(SOON).await;
            token.cancel();
            std::future::pending().await
        };
        let (stopped, ()) = tokio::select! {
            stopped = watched(stops(&token), &token, None, std::future::pending()) => (stopped, ()),
            () = told => unreachable!(),
        };
        assert_eq!(stopped, (Some("stopped"), None));
    }

    #[tokio::test]
    async fn what_a_look_finds_ends_the_step() {
        let token = CancellationToken::new();
        let found = watched(stops(&token), &token, None, async { Reason::LockLost }).await;
        assert_eq!(found, (Some("stopped"), Some(Reason::LockLost)));
    }
}
