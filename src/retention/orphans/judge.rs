//! Which branches of a tree nothing refers to, and which nodes go with them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::clients::persistence::{Ancestor, Branch, Removal, TreeState};

/// Every node of a branch.
const ALL: i64 = i64::MAX;

/// What there is to say of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its run exists, a run has its history there, or it cannot be told whose it is.
    Lives,
    /// Nothing refers to it.
    Orphan,
    /// Its run does not exist, but it is so young that the run may be about to come: a history is written before its
    /// run.
    Young,
    /// Its run does not exist, but which nodes are used is not known: see [`unknown`].
    Unknown,
}

/// Why it is not known which nodes of a tree are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A branch, or a run of the workflow, cannot be read.
    Unreadable,
    /// So many runs have their history in a branch that has lost its row. What the row said is only to be guessed.
    Lost(u64),
}

/// Whether all that uses the tree is known. Of a tree in which something is not, nothing is removed.
pub(super) fn unknown(tree: &TreeState) -> Option<Unknown> {
    let rows: BTreeSet<Uuid> = tree.branches.iter().map(|(branch, _)| branch.id).collect();
    let lost = tree.uses.branches.iter().filter(|used| !rows.contains(&used.branch)).count() as u64;
    let readable = tree.branches.iter().all(|(branch, _)| branch.readable && branch.run.is_some());
    match () {
        () if lost > 0 => Some(Unknown::Lost(lost)),
        () if !readable || tree.uses.unreadable > 0 => Some(Unknown::Unreadable),
        () => None,
    }
}

/// Judges the branches of one tree.
pub(super) fn judge(tree: &TreeState, now: Timestamp, min_age: SignedDuration) -> Vec<Verdict> {
    let is_unknown = unknown(tree).is_some();
    let has_run: BTreeSet<Uuid> = tree.uses.branches.iter().map(|used| used.branch).collect();
    let verdict = |(branch, exists): &(Branch, bool)| match () {
        () if *exists || has_run.contains(&branch.id) => Verdict::Lives,
        () if is_unknown => Verdict::Unknown,
        () if is_old(branch.forked, now, min_age) => Verdict::Orphan,
        () => Verdict::Young,
    };
    tree.branches.iter().map(verdict).collect()
}

/// What has no age counts as young.
pub(super) fn is_old(at: Option<Timestamp>, now: Timestamp, min_age: SignedDuration) -> bool {
    at.is_some_and(|at| now.duration_since(at) >= min_age)
}

/// Up to which node each branch is used by the branches that stay, and by runs.
fn used<'t>(tree: &'t TreeState, stay: impl Iterator<Item = &'t Branch>) -> BTreeMap<Uuid, i64> {
    let of_rows = stay.map(|branch| (branch.id, &branch.ancestors));
    let of_runs = tree.uses.branches.iter().map(|used| (used.branch, &used.ancestors));
    let mut used = BTreeMap::new();
    for (branch, ancestors) in of_rows.chain(of_runs) {
        used.insert(branch, ALL);
        for Ancestor { branch, end } in ancestors {
            let there = used.entry(*branch).or_insert(*end);
            *there = (*there).max(*end);
        }
    }
    used
}

/// What goes when the orphans of a tree go (`DeleteHistoryBranch` in the server's source does the same for one branch):
/// of each its own nodes, then those of its ancestors from the youngest up, until one is met that another branch uses;
/// of that one the nodes after the last one used.
pub(super) fn removal(tree: &TreeState, verdicts: &[Verdict]) -> Removal {
    let judged = || tree.branches.iter().zip(verdicts).map(|((branch, _), verdict)| (branch, *verdict));
    let used = used(tree, judged().filter(|(_, verdict)| *verdict != Verdict::Orphan).map(|(branch, _)| branch));
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

/// From which node on a branch without a row is used by no branch that stays; `None` when all of it is, and when it goes
/// with an orphan anyway.
pub(super) fn unused_from(tree: &TreeState, verdicts: &[Verdict], going: &Removal, branch: Uuid) -> Option<i64> {
    if going.nodes.iter().any(|(there, _)| *there == branch) {
        return None;
    }
    let judged = tree.branches.iter().zip(verdicts);
    let stay = judged.filter(|(_, verdict)| **verdict != Verdict::Orphan).map(|((branch, _), _)| branch);
    Some(used(tree, stay).get(&branch).copied().unwrap_or(0)).filter(|from| *from != ALL)
}

/// Everything that goes of a tree with branches: its orphans, and the nodes without a row that no branch uses then.
pub(super) fn all_that_goes(tree: &TreeState, now: Timestamp, min_age: SignedDuration) -> Removal {
    if unknown(tree).is_some() {
        return Removal::default();
    }
    let verdicts = judge(tree, now, min_age);
    let mut all = removal(tree, &verdicts);
    let old = tree.leftovers.iter().filter(|(_, last)| is_old(*last, now, min_age));
    let unused = |branch: Uuid| Some((branch, unused_from(tree, &verdicts, &all, branch)?));
    let nodes: Vec<(Uuid, i64)> = old.filter_map(|(leftover, _)| unused(leftover.branch)).collect();
    all.nodes.extend(nodes);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::persistence::{Leftover, RunKey, Use};

    const WEEK: SignedDuration = SignedDuration::from_hours(24 * 7);

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn ago(days: i64) -> Timestamp {
        now() - SignedDuration::from_hours(24 * days)
    }

    fn ancestors(ancestors: &[(u128, i64)]) -> Vec<Ancestor> {
        ancestors.iter().map(|(branch, end)| Ancestor { branch: id(*branch), end: *end }).collect()
    }

    fn branch(number: u128, on: &[(u128, i64)], exists: bool, days: i64) -> (Branch, bool) {
        let run = RunKey { shard: 1, namespace: id(1), workflow: "w".into(), run: id(100 + number) };
        let branch = Branch {
            shard: 1,
            tree: id(7),
            id: id(number),
            ancestors: ancestors(on),
            run: Some(run),
            forked: Some(ago(days)),
            readable: true,
        };
        (branch, exists)
    }

    /// A tree in which each run that exists says what its branch says.
    fn tree(branches: &[(Branch, bool)]) -> TreeState {
        let mut tree = TreeState { branches: branches.to_vec(), ..TreeState::default() };
        for (branch, _) in branches.iter().filter(|(_, exists)| *exists) {
            tree.uses.branches.push(Use { tree: branch.tree, branch: branch.id, ancestors: branch.ancestors.clone() });
        }
        tree
    }

    fn runs_in(mut tree: TreeState, number: u128, on: &[(u128, i64)]) -> TreeState {
        tree.uses.branches.push(Use { tree: id(7), branch: id(number), ancestors: ancestors(on) });
        tree
    }

    fn left_over(mut tree: TreeState, number: u128, days: i64) -> TreeState {
        let leftover = Leftover { shard: 1, tree: id(7), branch: id(number), has_run: false };
        tree.leftovers.push((leftover, Some(ago(days))));
        tree
    }

    fn removed(tree: &TreeState) -> Removal {
        all_that_goes(tree, now(), WEEK)
    }

    fn expect(branches: &[u128], nodes: &[(u128, i64)]) -> Removal {
        let nodes = nodes.iter().map(|(branch, from)| (id(*branch), *from)).collect();
        Removal { branches: branches.iter().map(|number| id(*number)).collect(), nodes }
    }

    #[test]
    fn a_branch_lives_as_long_as_its_run() {
        assert_eq!(removed(&tree(&[branch(1, &[], true, 90)])), Removal::default());
        assert_eq!(removed(&tree(&[branch(1, &[], false, 90)])), expect(&[1], &[(1, 0)]));
    }

    #[test]
    fn a_young_branch_is_left_alone_and_so_is_what_it_uses() {
        assert_eq!(removed(&tree(&[branch(1, &[], false, 6)])), Removal::default());
        let two = [branch(1, &[], false, 90), branch(2, &[(1, 5)], false, 6)];
        assert_eq!(removed(&tree(&two)), expect(&[1], &[(1, 5)]));
        let mut no_time = [branch(1, &[], false, 90)];
        no_time[0].0.forked = None;
        assert_eq!(removed(&tree(&no_time)), Removal::default());
    }

    #[test]
    fn what_a_living_reset_uses_of_its_base_stays() {
        let two = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60)];
        assert_eq!(removed(&tree(&two)), expect(&[1], &[(1, 5)]));
    }

    #[test]
    fn a_reset_of_a_reset_keeps_both_its_ancestors() {
        let four = [
            branch(1, &[], false, 90),
            branch(2, &[(1, 5)], false, 60),
            branch(3, &[(1, 5), (2, 9)], true, 30),
            branch(4, &[(1, 3)], false, 30),
        ];
        assert_eq!(removed(&tree(&four)), expect(&[1, 2, 4], &[(1, 5), (2, 9), (4, 0)]));
    }

    #[test]
    fn the_last_of_a_tree_takes_ancestors_without_rows_with_it() {
        let one = [branch(3, &[(1, 5), (2, 9)], false, 30)];
        assert_eq!(removed(&tree(&one)), expect(&[3], &[(1, 0), (2, 0), (3, 0)]));
        // With another one beside it only what that one does not use.
        let two = [branch(3, &[(1, 5), (2, 9)], false, 30), branch(4, &[(1, 4)], true, 30)];
        assert_eq!(removed(&tree(&two)), expect(&[3], &[(1, 4), (2, 0), (3, 0)]));
    }

    #[test]
    fn an_orphaned_fork_of_a_living_run_takes_its_own_nodes_only() {
        let two = [branch(1, &[], true, 90), branch(2, &[(1, 5)], false, 60)];
        assert_eq!(removed(&tree(&two)), expect(&[2], &[(2, 0)]));
    }

    #[test]
    fn nothing_goes_from_a_tree_with_something_that_cannot_be_read() {
        let mut two = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60)];
        two[1].0.readable = false;
        let unreadable = tree(&two);
        assert_eq!(judge(&unreadable, now(), WEEK), [Verdict::Unknown, Verdict::Lives]);
        assert_eq!(removed(&left_over(unreadable, 9, 90)), Removal::default());
        let mut two = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60)];
        two[1].0.run = None;
        assert_eq!(removed(&tree(&two)), Removal::default());
        let mut run = tree(&[branch(1, &[], false, 90)]);
        run.uses.unreadable = 1;
        assert_eq!((unknown(&run), removed(&run)), (Some(Unknown::Unreadable), Removal::default()));
    }

    /// The forks of a run whose own row is lost do not take the run's nodes with them when they go.
    #[test]
    fn nothing_goes_from_a_tree_in_which_a_run_has_lost_its_row() {
        let forks = tree(&[branch(2, &[(1, 5)], false, 60), branch(3, &[(1, 7)], false, 60)]);
        assert_eq!(removed(&forks), expect(&[2, 3], &[(1, 0), (2, 0), (3, 0)]));
        let lost = left_over(runs_in(forks, 1, &[]), 1, 90);
        assert_eq!((unknown(&lost), removed(&lost)), (Some(Unknown::Lost(1)), Removal::default()));
        // Another run with two versions of its history does not stand for the one that is missing.
        let versions = [branch(1, &[], false, 90), branch(2, &[(1, 5)], true, 60), branch(3, &[(1, 6)], true, 60)];
        let lost = runs_in(tree(&versions), 4, &[(1, 9)]);
        assert_eq!((unknown(&lost), removed(&lost)), (Some(Unknown::Lost(1)), Removal::default()));
    }

    #[test]
    fn a_branch_that_a_run_has_its_history_in_lives_whoever_it_was_made_for() {
        let one = runs_in(tree(&[branch(2, &[(1, 5)], false, 60)]), 2, &[(1, 8)]);
        assert_eq!(judge(&one, now(), WEEK), [Verdict::Lives]);
        // What the run says counts as well as what the row says.
        assert_eq!(removed(&left_over(one, 1, 90)), expect(&[], &[(1, 8)]));
    }

    #[test]
    fn a_branch_without_a_row_is_used_as_far_as_others_say() {
        let two = tree(&[branch(2, &[(1, 5)], true, 60), branch(3, &[(1, 7)], true, 60)]);
        let from = |branch: u128| unused_from(&two, &judge(&two, now(), WEEK), &Removal::default(), id(branch));
        assert_eq!((from(1), from(2), from(9)), (Some(7), None, Some(0)));
        assert_eq!(removed(&left_over(left_over(two.clone(), 1, 90), 9, 6)), expect(&[], &[(1, 7)]));
        // What an orphan takes with it is not left over beside it.
        let one = tree(&[branch(2, &[(1, 5)], false, 60)]);
        assert_eq!(removed(&left_over(one, 1, 90)), expect(&[2], &[(1, 0), (2, 0)]));
    }
}
