//! Failed attempts to sign in, by address: after some of them an address has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed attempts that an address may make within the window.
const MOST: u32 = 20;
/// How long they count.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that those whose window is over are forgotten, and all of them when that makes no room.
const ADDRESSES: usize = 10_000;

/// Who is counted as one: an address, or the network of an IPv6 address, of which one machine has as many as it likes.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Who has failed lately.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Throttle {
    /// How long the address has to wait before it may try again; `None` when it may now.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let address = counted(address);
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = failed.get(&address)?;
        let left = WINDOW.checked_sub(now.duration_since(*since))?;
        (*count >= MOST).then_some(left)
    }

    /// Notes a failed attempt.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let address = counted(address);
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= ADDRESSES && !failed.contains_key(&address) {
            failed.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
            if failed.len() >= ADDRESSES {
                failed.clear();
            }
        }
        let entry = failed.entry(address).or_insert((0, now));
        if now.duration_since(entry.1) >= WINDOW {
            *entry = (0, now);
        }
        entry.0 = entry.0.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_after_too_many_failures_and_only_for_a_while() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..MOST {
            assert_eq!(throttle.wait(one, now), None);
            throttle.failed(one, now);
        }
        assert_eq!(throttle.wait(one, now), Some(WINDOW));
        assert_eq!(throttle.wait(other, now), None);
        assert_eq!(throttle.wait(one, now + WINDOW + Duration::from_secs(1)), None);
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..MOST {
            throttle.failed(format!("2001:db8:1:2::{n:x}").parse().unwrap(), now);
        }
        assert!(throttle.wait("2001:db8:1:2:ffff::1".parse().unwrap(), now).is_some());
        assert_eq!(throttle.wait("2001:db8:1:3::1".parse().unwrap(), now), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..(ADDRESSES as u32 * 2) {
            throttle.failed(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(throttle.0.lock().unwrap().len() <= ADDRESSES);
    }
}
