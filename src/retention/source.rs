//! Where Temporal's tables are read as a whole, and how gently: from a standby where one is named, no faster than the
//! policy allows, and without a snapshot that is held for longer than it allows.

use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::audit::{AuditError, Refusal};
use crate::clients::persistence::{PageRange, Persistence, Place, ScannedRun, Session};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::policy::retention::ScanPolicy;
use crate::progress::Unit;
use crate::units::Size;

/// Pages read with one statement at most: 256 MiB.
const PAGES: u64 = 32_768;
/// And at least: 8 MiB, however slow it goes.
const FEWEST: u64 = 1_024;
/// Bytes of a page. The block size can be set when PostgreSQL is built; hardly anybody does.
const PAGE: u64 = 8_192;
/// A standby that is further behind lacks too much.
const MOST_BEHIND: SignedDuration = SignedDuration::from_hours(1);

/// Temporal's main database: where it is read as a whole, and where it is decided and written.
#[derive(Debug, Clone)]
pub struct Source {
    primary: Persistence,
    replica: Option<Persistence>,
    limits: ScanPolicy,
}

/// A session for reading tables as a whole.
#[derive(Debug)]
pub struct Reading {
    /// On the standby, when there is one.
    pub session: Session,
    /// How far the standby is behind; `None` on the primary.
    pub behind: Option<SignedDuration>,
    limits: ScanPolicy,
}

impl Source {
    /// The database of this name on the primary, and on a standby of it. Nothing is connected yet.
    #[must_use]
    pub fn new(primary: &Postgres, replica: Option<&Postgres>, database: &str, limits: ScanPolicy) -> Self {
        let bounded = |postgres: &Postgres| postgres.clone().with_statement_timeout(limits.max_snapshot.into());
        Self {
            primary: Persistence::new(bounded(primary), database),
            replica: replica.map(|replica| Persistence::new(bounded(replica), database)),
            limits,
        }
    }

    /// The database where something is decided and written.
    #[must_use]
    pub fn primary(&self) -> &Persistence {
        &self.primary
    }

    /// Connects to where tables are read as a whole.
    ///
    /// # Errors
    /// Any [`PostgresError`](crate::clients::postgres::PostgresError); [`Refusal`] when what is named as a standby is
    /// none of this primary, or too far behind it.
    pub async fn open(&self) -> Result<Reading, AuditError> {
        let Some(replica) = &self.replica else {
            return Ok(Reading { session: self.primary.connect().await?, behind: None, limits: self.limits });
        };
        let mut primary = self.primary.connect().await?;
        let ahead = primary.place().await?;
        primary.close().await;
        let mut session = replica.connect().await?;
        let place = session.place().await?;
        let behind = behind(&ahead, &place).map_err(|refusal| refusal.of(replica.database()))?;
        Ok(Reading { session, behind: Some(behind), limits: self.limits })
    }
}

/// What is wrong with a standby.
#[derive(Debug, PartialEq, Eq)]
enum Unfit {
    Primary,
    Stranger,
    Behind(SignedDuration),
}

impl Unfit {
    fn of(self, database: &str) -> Refusal {
        let database = database.to_owned();
        match self {
            Self::Primary => Refusal::NotStandby { database },
            Self::Stranger => Refusal::OtherServer { database },
            Self::Behind(by) => Refusal::Behind { database, by: by.unsigned_abs().into() },
        }
    }
}

/// How far a standby is behind a primary whose place was taken before.
fn behind(primary: &Place, standby: &Place) -> Result<SignedDuration, Unfit> {
    if !standby.in_recovery {
        return Err(Unfit::Primary);
    }
    if standby.system != primary.system {
        return Err(Unfit::Stranger);
    }
    // It has replayed all that the primary had written: on an idle primary the last transaction is old.
    if standby.position.is_some() && standby.position >= primary.position {
        return Ok(SignedDuration::ZERO);
    }
    let last = standby.last_replayed.map_or(SignedDuration::MAX, |last| standby.now.duration_since(last));
    if last > MOST_BEHIND { Err(Unfit::Behind(last)) } else { Ok(last.max(SignedDuration::ZERO)) }
}

impl Reading {
    /// Hands every run to `each`; returns how many there were.
    ///
    /// # Errors
    /// When the database cannot be read, and on cancel.
    pub async fn executions(
        &mut self,
        ctx: &Context,
        mut each: impl FnMut(&ScannedRun<'_>),
    ) -> Result<u64, AuditError> {
        let pages = self.session.pages("executions").await?;
        ctx.progress.stage("pages of executions", Some(pages), Unit::Items);
        let mut pace = self.pace();
        let (mut runs, mut from) = (0, 0);
        loop {
            if ctx.is_cancelled() {
                return Err(AuditError::Cancelled);
            }
            // The last statement reads on to wherever the table ends by then.
            let to = Some(from + pace.pages()).filter(|to| *to < pages);
            let begun = Instant::now();
            runs += self.session.scan_executions(PageRange { from, to }, &mut each).await?;
            let read = to.unwrap_or(pages).saturating_sub(from);
            ctx.progress.advance(read);
            let Some(next) = to else { return Ok(runs) };
            from = next;
            pace.took(read, begun.elapsed());
            pace.rest(ctx).await?;
        }
    }

    /// How fast tables may be read.
    #[must_use]
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.limits)
    }

    /// Ends the session.
    pub async fn close(self) {
        self.session.close().await;
    }
}

/// Keeps reading below a rate, and statements short.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Size>,
    longest: Duration,
    begun: Instant,
    bytes: u64,
    pages: u64,
}

impl Pace {
    fn new(limits: ScanPolicy) -> Self {
        // No more at once than is allowed in a second.
        let most = limits.rate.map_or(PAGES, |rate| rate.as_bytes() / PAGE);
        let longest = Duration::from(limits.max_snapshot);
        Self { rate: limits.rate, longest, begun: Instant::now(), bytes: 0, pages: most.clamp(FEWEST, PAGES) }
    }

    /// Pages to read with the next statement.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Notes a statement that read so many pages; true when it took a good part of what it may take, so that the next
    /// one has to be smaller.
    pub(crate) fn took(&mut self, pages: u64, time: Duration) -> bool {
        self.bytes += pages * PAGE;
        let long = time > self.longest / 4;
        if long {
            self.pages = (self.pages / 2).max(FEWEST);
        }
        long
    }

    /// Waits until what was read is no more than the rate allows.
    pub(crate) async fn rest(&self, ctx: &Context) -> Result<(), AuditError> {
        match ctx.cancel.run_until_cancelled(tokio::time::sleep(self.early(self.begun.elapsed()))).await {
            Some(()) => Ok(()),
            None => Err(AuditError::Cancelled),
        }
    }

    /// By how much what was read came too early, when it took so long.
    fn early(&self, took: Duration) -> Duration {
        let millis = self.rate.map_or(0, |rate| self.bytes.saturating_mul(1_000) / rate.as_bytes().max(1));
        Duration::from_millis(millis).saturating_sub(took)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::units::Span;

    fn place(in_recovery: bool, position: i64, seconds_ago: i64) -> Place {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let last_replayed = Some(now - SignedDuration::from_secs(seconds_ago));
        Place { system: 7, in_recovery, position: Some(position), last_replayed, now }
    }

    #[test]
    fn a_standby_is_as_far_behind_as_it_says_unless_it_has_everything() {
        let primary = place(false, 100, 0);
        let check = |standby: Place, expect: Result<i64, Unfit>| {
            assert_eq!(behind(&primary, &standby), expect.map(SignedDuration::from_secs), "{standby:?}");
        };
        check(place(true, 99, 5), Ok(5));
        check(place(true, 99, -5), Ok(0));
        check(place(true, 100, 1_000_000), Ok(0));
        check(place(true, 99, 3_601), Err(Unfit::Behind(SignedDuration::from_secs(3_601))));
        check(place(false, 100, 0), Err(Unfit::Primary));
        check(Place { system: 8, ..place(true, 100, 0) }, Err(Unfit::Stranger));
        let silent = Place { position: None, last_replayed: None, ..place(true, 0, 0) };
        check(silent, Err(Unfit::Behind(SignedDuration::MAX)));
    }

    #[test]
    fn statements_get_smaller_when_they_take_long_and_with_the_rate() {
        let limits = |rate: Option<&str>| ScanPolicy {
            rate: rate.map(|rate| rate.parse().unwrap()),
            max_snapshot: Span::seconds(40),
        };
        let mut pace = Pace::new(limits(None));
        assert_eq!(pace.pages(), PAGES);
        assert!(!pace.took(PAGES, Duration::from_secs(10)));
        assert_eq!(pace.pages(), PAGES);
        assert!(pace.took(PAGES, Duration::from_secs(11)));
        assert_eq!(pace.pages(), PAGES / 2);
        assert!((0..20).all(|_| pace.took(1, Duration::from_secs(39))));
        assert_eq!(pace.pages(), FEWEST);
        assert_eq!(Pace::new(limits(Some("16mb"))).pages(), 2_048);
        assert_eq!(Pace::new(limits(Some("1kb"))).pages(), FEWEST);
    }

    #[tokio::test]
    async fn reading_rests_until_the_rate_is_kept() {
        let limits = ScanPolicy { rate: Some("8mb".parse().unwrap()), max_snapshot: Span::seconds(40) };
        let mut pace = Pace::new(limits);
        pace.took(10 * FEWEST, Duration::from_millis(1));
        assert_eq!(pace.early(Duration::from_secs(3)), Duration::from_secs(7));
        assert_eq!(pace.early(Duration::from_secs(11)), Duration::ZERO);
        assert_eq!(Pace::new(ScanPolicy::default()).early(Duration::ZERO), Duration::ZERO);
        let stopped = Context::plain();
        stopped.cancel.cancel();
        assert!(matches!(pace.rest(&stopped).await, Err(AuditError::Cancelled)));
    }
}
