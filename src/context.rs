//! What every operation of a domain gets passed in: the instant it takes for now, the token that stops it, and the
//! sink for its progress. Clients are passed beside it, by type.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::progress::{Progress, silent};

/// The surroundings of one run.
#[derive(Debug, Clone)]
pub struct Context {
    /// The instant the run takes for now; plans compare ages with it.
    pub now: Timestamp,
    /// Cancelled when the run should stop at its next safe point: a signal, a deadline, a lost lock.
    pub cancel: CancellationToken,
    /// Where progress goes.
    pub progress: Arc<dyn Progress>,
}

impl Context {
    /// A context with the wall clock's now, no canceller and no listener.
    #[must_use]
    pub fn plain() -> Self {
        Self { now: Timestamp::now(), cancel: CancellationToken::new(), progress: silent() }
    }

    /// True once the run should stop; loops ask it between two units of work.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
