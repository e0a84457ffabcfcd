//! When a delivery that failed is tried again, and when it is given up.

use std::time::Duration;

/// No pause is longer, whatever a receiver asks for.
const LONGEST: Duration = Duration::from_secs(3_600);
/// For so long a delivery is tried: longer than a night in which nobody mends the receiver.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The pause before the next attempt; `None` when it would be too late by then. `attempts` counts those that were made,
/// `tried` is how long ago the first one was made, `chance` lies between 0 and 1 and keeps deliveries that failed together
/// from coming back together.
pub(super) fn pause(
    attempts: u32,
    first: Duration,
    tried: Duration,
    asked: Option<Duration>,
    chance: f64,
) -> Option<Duration> {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    let spread = doubled.min(LONGEST).mul_f64(0.8 + 0.2 * chance.clamp(0.0, 1.0));
    let pause = spread.max(asked.unwrap_or_default().min(LONGEST));
    (tried.saturating_add(pause) <= GIVEN_UP_AFTER).then_some(pause)
}

/// A number from 0 to 1 that nobody foresees.
pub(super) fn chance() -> f64 {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);

    #[test]
    fn pauses_grow_up_to_an_hour_for_a_day() {
        let (mut tried, mut attempts, mut pauses) = (Duration::ZERO, 1, Vec::new());
        while let Some(pause) = pause(attempts, FIRST, tried, None, 1.0) {
            (tried, attempts) = (tried + pause, attempts + 1);
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses[..10], [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]);
        assert!(pauses[9..].iter().all(|pause| *pause == 3600), "{pauses:?}");
        assert!(tried > Duration::from_secs(23 * 3600) && tried <= GIVEN_UP_AFTER, "{tried:?}");
        assert_eq!(pause(u32::MAX, FIRST, Duration::ZERO, None, 1.0), Some(LONGEST));
    }

    #[test]
    fn a_receiver_may_ask_for_more_and_not_for_ever() {
        let check = |asked: u64, seconds: u64| {
            let pause = pause(1, FIRST, Duration::ZERO, Some(Duration::from_secs(asked)), 0.0);
            assert_eq!(pause, Some(Duration::from_secs(seconds)));
        };
        check(0, 8);
        check(90, 90);
        check(u64::MAX, 3600);
    }

    #[test]
    fn chance_is_between_zero_and_one() {
        assert!((0..1000).all(|_| (0.0..=1.0).contains(&chance())));
    }
}
