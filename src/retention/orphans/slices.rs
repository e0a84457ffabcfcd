//! How the histories of a cluster are cut into slices: some shards at a time, or a part of one where a shard is large.

use crate::clients::persistence::Slice;

/// About so many histories make a slice: it is held in memory, and its snapshot for as long as it is read.
const AT_ONCE: u64 = 150_000;
/// A shard with more is read in parts. Each part goes through the keys of all its runs, so that a part is worth more.
const OF_A_SHARD: u64 = 300_000;
/// Parts of a shard at most.
const PARTS: u32 = 256;

/// The slices that are still to be read.
#[derive(Debug)]
pub(super) struct Slices {
    shards: i32,
    /// The next shard.
    next: i32,
    /// Shards to read with the next slice.
    step: i32,
    /// Of a shard that is read in parts, how many there are and which is next.
    parts: u32,
    part: u32,
}

impl Slices {
    /// The slices of so many shards that have so many histories.
    pub(super) fn new(shards: i32, histories: u64) -> Self {
        let of_a_shard = (histories / u64::try_from(shards.max(1)).unwrap_or(1)).max(1);
        let step = i32::try_from((AT_ONCE / of_a_shard).clamp(1, 1_000)).unwrap_or(1);
        let parts = u32::try_from(of_a_shard.div_ceil(OF_A_SHARD)).unwrap_or(PARTS).next_power_of_two().min(PARTS);
        Self { shards, next: 1, step, parts, part: 0 }
    }

    /// The next slice; `None` at the end.
    pub(super) fn next(&self) -> Option<Slice> {
        let all = Slice::ALL_TREES;
        let at = |part: u32| all.end / self.parts * part;
        (self.next <= self.shards).then(|| Slice {
            shards: self.next..self.next.saturating_add(self.step).min(self.shards.saturating_add(1)),
            trees: at(self.part)..at(self.part + 1),
        })
    }

    /// Goes on to the one after it; returns how many shards are done with it, and the share of them that it was.
    pub(super) fn advance(&mut self) -> (u64, f64) {
        let Some(slice) = self.next() else { return (0, 0.0) };
        let shards = u64::try_from(slice.shards.end - slice.shards.start).unwrap_or_default();
        let share = shards as f64 / f64::from(self.parts);
        self.part += 1;
        if self.part < self.parts {
            return (0, share);
        }
        (self.part, self.next) = (0, slice.shards.end);
        (shards, share)
    }

    /// Makes the slices to come half as large.
    pub(super) fn halve(&mut self) {
        if self.step > 1 {
            self.step /= 2;
        } else if self.parts < PARTS {
            (self.part, self.parts) = (self.part * 2, self.parts * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whenever they are made smaller.
        #[test]
        fn every_tree_of_every_shard_is_in_one_slice(
            shards in 1..40,
            histories in 0..60_000_000_u64,
            slow in prop::collection::vec(any::<bool>(), 400),
        ) {
            let mut slices = Slices::new(shards, histories);
            let (mut shard, mut tree, mut done, mut share) = (1, 0, 0, 0.0);
            let mut slow = slow.into_iter();
            while let Some(slice) = slices.next() {
                prop_assert_eq!((slice.shards.start, slice.trees.start), (shard, tree));
                prop_assert!(slice.shards.end > shard && slice.trees.end > tree);
                (shard, tree) = match slice.trees.end {
                    0x1_0000 => (slice.shards.end, 0),
                    end => (shard, end),
                };
                let (more, of_them) = slices.advance();
                (done, share) = (done + more, share + of_them);
                if slow.next().unwrap_or(false) {
                    slices.halve();
                }
            }
            prop_assert_eq!((shard, tree, done), (shards + 1, 0, u64::try_from(shards).unwrap()));
            prop_assert!((share - f64::from(shards)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_slice_has_about_as_much_as_fits_into_memory() {
        let check = |shards: i32, histories: u64, expect: (i32, u32)| {
            let slices = Slices::new(shards, histories);
            assert_eq!((slices.step, slices.parts), expect, "{shards} shards, {histories} histories");
        };
        check(512, 0, (1_000, 1));
        check(512, 1_000_000, (76, 1));
        check(4, 400_000, (1, 1));
        check(4, 1_200_000, (1, 1));
        check(4, 2_000_000, (1, 2));
        check(4, 100_000_000, (1, 128));
        check(1, u64::MAX, (1, PARTS));
    }
}
