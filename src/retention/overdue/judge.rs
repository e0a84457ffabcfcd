//! What is to be done about a closed run, from its end, the retention of now, and its deletion timers. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::units::Span;

/// A timer that fires so soon is left to fire.
const SOON: SignedDuration = SignedDuration::from_mins(15);

/// How exactly a timer has to fit the retention. Temporal adds up to 30 minutes, and never fires early.
const EXACT: SignedDuration = SignedDuration::from_mins(1);

/// The deletion timers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timers {
    /// When the first one fires.
    pub first: Timestamp,
    /// When the last one fires.
    pub last: Timestamp,
}

impl Timers {
    pub(super) fn add(timers: Option<Self>, fires: Timestamp) -> Self {
        timers.map_or(Self { first: fires, last: fires }, |timers| Self {
            first: timers.first.min(fires),
            last: timers.last.max(fires),
        })
    }
}

/// Why a closed run is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Its timer fires in time.
    Kept,
    /// It should be gone, and its timer fires any moment, or should have.
    Due,
    /// It should be gone, and its timer fires later: the retention was shortened after it had closed.
    Later,
    /// It should be gone and has no timer.
    Lost,
    /// It should be gone and has no timer because it waits to be archived.
    Archival,
    /// It is to stay, and its timer fires too soon: the retention was extended after it had closed.
    Early,
}

/// When the retention of a closed run ends.
pub(crate) fn ends(closed: Timestamp, retention: Span) -> Option<Timestamp> {
    closed.checked_add(SignedDuration::from(retention)).ok()
}

/// Whether a closed run should be gone.
pub(in crate::retention) fn is_overdue(closed: Timestamp, retention: Span, slack: Span, now: Timestamp) -> bool {
    ends(closed, retention).is_some_and(|end| now.duration_since(end) > SignedDuration::from(slack))
}

pub(super) fn judge(
    closed: Timestamp,
    retention: Span,
    slack: Span,
    archives: bool,
    timers: Option<Timers>,
    now: Timestamp,
) -> Class {
    let Some(end) = ends(closed, retention) else { return Class::Kept };
    if is_overdue(closed, retention, slack, now) {
        return match timers {
            None if archives => Class::Archival,
            None => Class::Lost,
            Some(timers) if timers.first.duration_since(now) <= SOON => Class::Due,
            Some(_) => Class::Later,
        };
    }
    // A timer derived anew stands beside the old one, which Temporal drops when it fires.
    let early = timers.is_some_and(|timers| end.duration_since(timers.last) > EXACT);
    if early { Class::Early } else { Class::Kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3_600).unwrap()
    }

    #[test]
    fn closed_runs_are_told_apart_by_their_timers() {
        let now = at(0);
        let check = |closed: i64, timers: &[i64], archives: bool, expect: Class| {
            let timers = timers.iter().fold(None, |all, hours| Some(Timers::add(all, at(*hours))));
            let found = judge(at(closed), Span::hours(24), Span::hours(2), archives, timers, now);
            assert_eq!(found, expect, "closed {closed}, timers {timers:?}");
        };
        check(-1, &[23], false, Class::Kept);
        check(-1, &[24], false, Class::Kept);
        check(-25, &[], false, Class::Kept);
        check(-26, &[], false, Class::Kept);
        check(-27, &[], false, Class::Lost);
        check(-27, &[], true, Class::Archival);
        check(-27, &[-3], false, Class::Due);
        check(-27, &[0, 500], false, Class::Due);
        check(-27, &[1], false, Class::Later);
        check(-27, &[1], true, Class::Later);
        check(-1, &[5], false, Class::Early);
        check(-1, &[5, 23], false, Class::Kept);
        check(-1, &[], false, Class::Kept);
    }

    #[test]
    fn a_retention_beyond_all_time_keeps_everything() {
        let found = judge(at(-1), Span::days(40_000_000), Span::hours(2), false, None, at(0));
        assert_eq!(found, Class::Kept);
    }
}
