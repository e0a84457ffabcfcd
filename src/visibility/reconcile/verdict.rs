//! Which of several documents of one run stays.

/// A document of a run: in which index it is, by rank, and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    /// Indices by age, the write index last.
    pub rank: usize,
    /// The task id of the write.
    pub version: u64,
}

/// The place of the one that stays: the newest version, and of equal ones that of the newest index, where Temporal's
/// next write will find it. `None` when there is none.
pub(super) fn winner(copies: &[Copy]) -> Option<usize> {
    let by_age = |(_, copy): &(usize, &Copy)| (copy.version, copy.rank);
    copies.iter().enumerate().max_by_key(by_age).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_version_stays_wherever_it_lies() {
        let check = |copies: &[(usize, u64)], stays: Option<usize>| {
            let copies: Vec<Copy> = copies.iter().map(|&(rank, version)| Copy { rank, version }).collect();
            assert_eq!(winner(&copies), stays, "{copies:?}");
        };
        check(&[], None);
        check(&[(0, 5)], Some(0));
        check(&[(0, 5), (1, 7)], Some(1));
        // A write that was under way during the rollover came late to the old index.
        check(&[(0, 9), (1, 7)], Some(0));
        // A carry that was killed between the copy and the removal.
        check(&[(0, 5), (1, 5)], Some(1));
        check(&[(2, 5), (1, 5), (0, 6)], Some(2));
    }

    proptest! {
        #[test]
        fn no_version_is_ever_lost(copies in prop::collection::vec((0_usize..5, 0_u64..9), 1..6)) {
            let copies: Vec<Copy> = copies.into_iter().map(|(rank, version)| Copy { rank, version }).collect();
            let stays = copies[winner(&copies).unwrap()];
            prop_assert_eq!(stays.version, copies.iter().map(|copy| copy.version).max().unwrap());
        }
    }
}
