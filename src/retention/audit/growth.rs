//! How the database grows, from what earlier audits said.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an earlier audit said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// When.
    pub at: Timestamp,
    /// Bytes of all tables then.
    pub bytes: u64,
}

/// How it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The earliest audit that was compared with.
    pub since: Timestamp,
    /// Bytes a day, on average; negative while it shrinks.
    pub bytes_per_day: i64,
    /// Days until the disk is full at this rate; `None` without a size of the disk, and while nothing grows.
    pub disk_lasts_days: Option<u64>,
}

/// Audits closer than this say more about the moment than about the trend.
const SHORTEST_SECONDS: i64 = 6 * 3_600;

/// The line through the earliest of the audits and now. The disk has so many bytes for this database.
#[must_use]
pub fn growth(past: &[Past], now: Past, disk: Option<u64>) -> Option<Growth> {
    let first = past.iter().min_by_key(|past| past.at)?;
    let seconds = now.at.duration_since(first.at).as_secs();
    if seconds < SHORTEST_SECONDS {
        return None;
    }
    let grown = i128::from(now.bytes) - i128::from(first.bytes);
    let per_day = i64::try_from(grown * 86_400 / i128::from(seconds)).ok()?;
    let lasts = |disk: u64| {
        let free = disk.saturating_sub(now.bytes);
        u64::try_from(per_day).ok().and_then(|per_day| free.checked_div(per_day))
    };
    Some(Growth { since: first.at, bytes_per_day: per_day, disk_lasts_days: disk.and_then(lasts) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(day: i64, bytes: u64) -> Past {
        Past { at: Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap(), bytes }
    }

    #[test]
    fn growth_is_measured_from_the_earliest_audit() {
        let found = growth(&[past(5, 600), past(0, 100), past(9, 950)], past(10, 1_100), Some(5_200)).unwrap();
        assert_eq!((found.since, found.bytes_per_day, found.disk_lasts_days), (past(0, 0).at, 100, Some(41)));
        let shrinking = growth(&[past(0, 900)], past(10, 400), Some(5_000)).unwrap();
        assert_eq!((shrinking.bytes_per_day, shrinking.disk_lasts_days), (-50, None));
        assert_eq!(growth(&[past(0, 100)], past(10, 1_100), Some(1_000)).unwrap().disk_lasts_days, Some(0));
        assert_eq!(growth(&[past(0, 100)], past(10, 1_100), None).unwrap().disk_lasts_days, None);
        assert_eq!(growth(&[], past(10, 1_100), None), None);
        assert_eq!(growth(&[past(10, 100)], past(10, 1_100), None), None);
    }
}
