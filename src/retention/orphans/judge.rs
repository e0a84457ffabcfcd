//! Which branches of a tree nothing refers to, and which nodes go with them. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::clients::persistence::{Branch, Removal};

/// Every node of a branch.
const ALL: i64 = i64::MAX;

/// What there is to say of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its run exists, or it cannot be told whose it is.
    Lives,
    /// Its run does not exist.
    Orphan,
    /// Its run does not exist, but it is so young that the run may be about to come: a history is written before its
    /// run.
    Young,
    /// It cannot be read, or another branch of its tree cannot: which nodes are used is not known.
    Unreadable,
}

/// Judges the branches of one tree, each given with whether its run exists.
pub(super) fn judge(tree: &[(Branch, bool)], now: Timestamp, min_age: SignedDuration) -> Vec<Verdict> {
    let readable = tree.iter().all(|(branch, _)| branch.readable && branch.run.is_some());
    let verdict = |(branch, exists): &(Branch, bool)| {
        let old = branch.forked.is_some_and(|forked| now.duration_since(forked) >= min_age);
        match () {
            () if *exists => Verdict::Lives,
            () if !readable => Verdict::Unreadable,
            () if old => Verdict::Orphan,
            () => Verdict::Young,
        }
    };
    tree.iter().map(verdict).collect()
}

/// Up to which node each branch is used by the branches that stay.
fn used<'b>(stay: impl Iterator<Item = &'b Branch>) -> BTreeMap<Uuid, i64> {
    let mut used = BTreeMap::new();
    for branch in stay {
        used.insert(branch.id, ALL);
        for ancestor in &branch.ancestors {
            let end = used.entry(ancestor.branch).or_insert(ancestor.end);
            *end = ancestor.end.max(*end);
        }
    }
    used
}

/// What goes when the orphans of a tree go (`DeleteHistoryBranch` in the server's source does the same for one branch):
/// of each its own nodes, then those of its ancestors from the youngest up, until one is met that another branch uses;
/// of that one the nodes after the last one used.
pub(super) fn removal(tree: &[(Branch, bool)], verdicts: &[Verdict]) -> Removal {
    let judged = || tree.iter().zip(verdicts).map(|((branch, _), verdict)| (branch, *verdict));
    let used = used(judged().filter(|(_, verdict)| *verdict != Verdict::Orphan).map(|(branch, _)| branch));
    let (mut branches, mut nodes) = (Vec::new(), BTreeMap::new());
    for (orphan, _) in judged().filter(|(_, verdict)| *verdict == Verdict::Orphan) {
        branches.push(orphan.id);
        let chain = std::iter::once(orphan.id).chain(orphan.ancestors.iter().rev().map(|ancestor| ancestor.branch));
        for branch in chain {
            match used.get(&branch) {
                Some(&ALL) => break,
                Some(&end) => {
                    nodes.insert(branch, end);
                    break;
                }
                None => drop(nodes.insert(branch, 0)),
            }
        }
    }
    Removal { branches, nodes: nodes.into_iter().collect() }
}

/// From which node on a branch without a row of its own is used by none of the tree's branches; `None` when all of it is.
pub(super) fn unused_from(tree: &[(Branch, bool)], branch: Uuid) -> Option<i64> {
    match used(tree.iter().map(|(branch, _)| branch)).get(&branch) {
        Some(&ALL) => None,
        Some(&end) => Some(end),
        None => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::persistence::{Ancestor, RunKey};

    const WEEK: SignedDuration = SignedDuration::from_hours(24 * 7);

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn branch(number: u128, ancestors: &[(u128, i64)], exists: bool, days: i64) -> (Branch, bool) {
        let run = RunKey { shard: 1, namespace: id(1), workflow: "w".into(), run: id(100 + number) };
        let branch = Branch {
            shard: 1,
            tree: id(7),
            id: id(number),
            ancestors: ancestors.iter().map(|(branch, end)| Ancestor { branch: id(*branch), end: *end }).collect(),
            run: Some(run),
            forked: Some(now() - SignedDuration::from_hours(24 * days)),
            readable: true,
        };
        (branch, exists)
    }

    fn removed(tree: &[(Branch, bool)]) -> Removal {
        removal(tree, &judge(tree, now(), WEEK))
    }

    fn expect(branches: &[u128], nodes: &[(u128, i64)]) -> Removal {
        let nodes = nodes.iter().map(|(branch, from)| (id(*branch), *from)).collect();
        Removal { branches: branches.iter().map(|number| id(*number)).collect(), nodes }
    }

    #[test]
    fn a_branch_lives_as_long_as_its_run() {
        assert_eq!(removed(&[branch(1, &[], true, 90)]), Removal::default());
        assert_eq!(removed(&[branch(1, &[], false, 90)]), expect(&[1], &[(1, 0)]));
    }

    #[test]
    fn a_young_branch_is_left_alone_and_so_is_what_it_uses() {
        assert_eq!(removed(&[branch(1, &[], false, 6)]), Removal::default());
        let tree = [branch(1, &[], false, 90), branch(2, &[(1, 5)], false, 6)];
        assert_eq!(removed(&tree), expect(&[1], &[(1, 5)]));
        let mut no_time = [branch(1, &[], false, 90)];
        no_time[0].0.forked = None;
        assert_eq!(removed(&no_time), Removal::default());
    }

    #[test]
    fn what_a_living_reset_uses_of_its_base_stays() {
        let tree = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60)];
        assert_eq!(removed(&tree), expect(&[1], &[(1, 5)]));
    }

    #[test]
    fn a_reset_of_a_reset_keeps_both_its_ancestors() {
        let tree = [
            branch(1, &[], false, 90),
            branch(2, &[(1, 5)], false, 60),
            branch(3, &[(1, 5), (2, 9)], true, 30),
            branch(4, &[(1, 3)], false, 30),
        ];
        assert_eq!(removed(&tree), expect(&[1, 2, 4], &[(1, 5), (2, 9), (4, 0)]));
    }

    #[test]
    fn the_last_of_a_tree_takes_ancestors_without_rows_with_it() {
        let tree = [branch(3, &[(1, 5), (2, 9)], false, 30)];
        assert_eq!(removed(&tree), expect(&[3], &[(1, 0), (2, 0), (3, 0)]));
        // With another one beside it only what that one does not use.
        let tree = [branch(3, &[(1, 5), (2, 9)], false, 30), branch(4, &[(1, 4)], true, 30)];
        assert_eq!(removed(&tree), expect(&[3], &[(1, 4), (2, 0), (3, 0)]));
    }

    #[test]
    fn an_orphaned_fork_of_a_living_run_takes_its_own_nodes_only() {
        let tree = [branch(1, &[], true, 90), branch(2, &[(1, 5)], false, 60)];
        assert_eq!(removed(&tree), expect(&[2], &[(2, 0)]));
    }

    #[test]
    fn nothing_goes_from_a_tree_with_a_branch_that_cannot_be_read() {
        let mut tree = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60)];
        tree[1].0.readable = false;
        assert_eq!(judge(&tree, now(), WEEK), [Verdict::Unreadable, Verdict::Lives]);
        assert_eq!(removed(&tree), Removal::default());
        let mut tree = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60)];
        tree[1].0.run = None;
        assert_eq!(removed(&tree), Removal::default());
    }

    #[test]
    fn a_branch_without_a_row_is_used_as_far_as_others_say() {
        let tree = [branch(2, &[(1, 5)], true, 60), branch(3, &[(1, 7)], true, 60)];
        assert_eq!(unused_from(&tree, id(1)), Some(7));
        assert_eq!(unused_from(&tree, id(2)), None);
        assert_eq!(unused_from(&tree, id(9)), Some(0));
        assert_eq!(unused_from(&[], id(1)), Some(0));
    }
}
