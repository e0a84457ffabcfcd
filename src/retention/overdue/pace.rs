//! Not faster than asked for, and not on when the server suffers.

use std::collections::VecDeque;
use std::time::Duration;

/// Calls that say how quick the server is when all is well.
const FIRST: usize = 20;
/// Calls that say how quick it is now.
const LAST: usize = 20;
/// The server suffers when it takes so many times as long as in the beginning.
const SLOWER: u32 = 10;
/// No server suffers that answers faster than this.
const QUICK: Duration = Duration::from_millis(500);
/// Nor one of whose last calls fewer failed.
const FAILED: usize = 5;

/// Watches the server's answers.
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Vec<Duration>,
    last: VecDeque<(Duration, bool)>,
}

impl Pace {
    /// Takes an answer in; `Some` with the reason when it is time to stop.
    pub(super) fn answered(&mut self, took: Duration, failed: bool) -> Option<String> {
        if self.first.len() < FIRST {
            self.first.push(took);
        }
        self.last.push_back((took, failed));
        if self.last.len() > LAST {
            self.last.pop_front();
        }
        let failures = self.last.iter().filter(|(_, failed)| *failed).count();
        if failures >= FAILED {
            return Some(format!("{failures} of the last {} calls failed", self.last.len()));
        }
        if self.first.len() < FIRST || self.last.len() < LAST {
            return None;
        }
        let (then, now) = (median(self.first.iter().copied()), median(self.last.iter().map(|(took, _)| *took)));
        (now > QUICK && now > then.saturating_mul(SLOWER))
            .then(|| format!("a call takes {} ms, {} ms in the beginning", now.as_millis(), then.as_millis()))
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_stops_when_calls_fail_or_take_much_longer_than_at_first() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(pace.answered(ms(5), false), None);
        }
        let slow = (0..LAST).find_map(|_| pace.answered(ms(900), false));
        assert_eq!(slow.as_deref(), Some("a call takes 900 ms, 5 ms in the beginning"));

        let mut pace = Pace::default();
        let failing = (0..FAILED).find_map(|_| pace.answered(ms(5), true));
        assert_eq!(failing.as_deref(), Some("5 of the last 5 calls failed"));

        // Slow from the start is the server's own way.
        let mut pace = Pace::default();
        assert!((0..100).all(|_| pace.answered(ms(2_000), false).is_none()));
        // Now and then a failure is no reason.
        let mut pace = Pace::default();
        assert!((0..200).all(|call| pace.answered(ms(5), call % 10 == 0).is_none()));
    }
}
