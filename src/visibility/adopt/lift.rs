//! Taking the write block off, so that it stays off.
//!
//! What counts is the block in force, not the setting ([`WriteBlock`]). The calls are sent to the adoption's mark, which
//! is an alias of the live index, and not to its name: one that is late, because its process slept or its network did,
//! fails once the mark is gone, and cannot take off the block of a later adoption or of somebody else.

use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tracing::warn;

use super::error::UndoError;
use crate::clients::search::{Search, SearchError, WriteBlock};
use crate::failure::chain;
use crate::units::Span;

/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a block that was begun is waited for at once; then it is looked at again.
const FINISH: Duration = Duration::from_secs(5);

/// The lifting of the block that stands under these marks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lift<'a> {
    pub search: &'a Search,
    pub index: &'a str,
    /// As long as one of them is there the block is an adoption's. Without them it may be a later one's.
    pub marks: &'a [String],
    /// For so long the block has to stay off.
    pub settle: Duration,
    /// When a block that does not go becomes an error.
    pub limit: Duration,
}

/// What one look came to.
enum Seen {
    /// None of the marks is there any more.
    Unmarked,
    Off,
    Blocked,
}

impl Lift<'_> {
    /// Lifts until no block is in force, none came back for a while, and this process's own block call was answered. The
    /// instant at which the block was seen to be off; `None` when there was none.
    pub(super) async fn run(&self, call: Option<&AbortHandle>) -> Result<Option<Instant>, UndoError> {
        let begun = Instant::now();
        let (mut quiet, mut blocked, mut off) = (begun, false, None);
        loop {
            // Asked before the look: the look would not see the block of a call that ends during it.
            let answered = call.is_none_or(AbortHandle::is_finished);
            let seen = self.once(begun).await;
            match &seen {
                Ok(Seen::Unmarked) => return Ok(off.or(blocked.then(Instant::now))),
                Ok(Seen::Off) => {
                    if blocked {
                        off = Some(Instant::now());
                        blocked = false;
                    }
                    if answered && quiet.elapsed() >= self.settle {
                        return Ok(off);
                    }
                }
                Ok(Seen::Blocked) => (quiet, blocked) = (Instant::now(), true),
                Err(error) => {
                    warn!(error = %chain(error), "the write block is not lifted yet");
                    quiet = Instant::now();
                }
            }
            if begun.elapsed() >= self.limit {
                return match seen {
                    Err(error) => Err(error.into()),
                    Ok(Seen::Blocked) => Err(self.still_blocked()),
                    // The call that was not answered needs the mark, which goes now.
                    Ok(Seen::Off | Seen::Unmarked) => Ok(off),
                };
            }
            tokio::time::sleep(PAUSE.min(self.settle.max(Duration::from_millis(20)))).await;
        }
    }

    async fn once(&self, begun: Instant) -> Result<Seen, SearchError> {
        let Some(now) = self.search.block_state(self.index).await? else { return Ok(Seen::Unmarked) };
        let Some(mark) = self.marks.iter().find(|mark| now.aliases.contains(*mark)) else {
            return Ok(Seen::Unmarked);
        };
        let lifted = match now.write {
            WriteBlock::Off => return Ok(Seen::Off),
            WriteBlock::On => self.search.lift_write_block(mark).await,
            WriteBlock::Begun => {
                let left = self.limit.saturating_sub(begun.elapsed()).min(FINISH);
                match self.search.finish_write_block(mark, left).await {
                    Ok(true) => self.search.lift_write_block(mark).await,
                    // There are writes under way still.
                    Ok(false) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        };
        match lifted {
            // The mark went meanwhile; whether another is there is seen by the next look.
            Ok(()) | Err(SearchError::NotFound { .. }) => Ok(Seen::Blocked),
            Err(error) => Err(error),
        }
    }

    pub(super) fn still_blocked(&self) -> UndoError {
        UndoError::StillBlocked {
            address: self.search.address().to_owned(),
            index: self.index.to_owned(),
            waited: Span::from(self.limit),
            begun: self.search.engine().has_block_call(),
        }
    }
}
