//! What the runs of a cluster take up, added up while they stream by.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clients::persistence::{ExecutionState, NamespaceRow, ScannedRun};
use crate::retention::overdue::is_overdue;
use crate::units::Span;

/// Workflow types told apart in one namespace; a type made up for every run must not fill the memory.
const TYPES: usize = 10_000;
/// Entries of each list of examples.
const SHOWN: usize = 20;

/// The bounds of the age buckets of closed runs, in days since they closed.
const AGES: [(i64, &str); 5] =
    [(1, "under 1d"), (7, "1d to 7d"), (30, "7d to 30d"), (90, "30d to 90d"), (i64::MAX, "over 90d")];

/// Runs and what they take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Runs.
    pub runs: u64,
    /// Bytes of their histories, as Temporal counts them: before PostgreSQL compresses them.
    pub history_bytes: u64,
    /// Bytes of their rows in `executions`.
    pub row_bytes: u64,
}

impl Sum {
    fn add(&mut self, run: &ScannedRun<'_>) {
        self.runs += 1;
        self.history_bytes += run.history_bytes;
        self.row_bytes += run.row_bytes;
    }

    fn plus(&mut self, other: Self) {
        self.runs += other.runs;
        self.history_bytes += other.history_bytes;
        self.row_bytes += other.row_bytes;
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.history_bytes + self.row_bytes
    }
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NamespaceSum {
    /// Its name; the identity where the namespace itself is gone.
    pub namespace: String,
    /// Its identity.
    pub id: Uuid,
    /// How long a closed run is kept; `None` when it is not known.
    pub retention: Option<Span>,
    /// Open runs.
    pub open: Sum,
    /// Closed runs.
    pub closed: Sum,
    /// Closed runs by age.
    pub ages: Vec<Group>,
    /// Runs by workflow type, the largest first.
    pub types: Vec<Group>,
    /// When the oldest closed run ended.
    pub oldest_closed: Option<Timestamp>,
    /// Closed runs that should have been deleted.
    pub overdue: Sum,
    /// Runs that have been open for longer than the policy finds usual.
    pub long_open: Sum,
}

/// Runs that have something in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What.
    pub name: String,
    /// Together.
    #[serde(flatten)]
    pub sum: Sum,
}

/// The groups of several namespaces, those of one name together, in the order in which the names come.
pub(super) fn together<'g>(groups: impl Iterator<Item = &'g Group>) -> Vec<Group> {
    let mut all: Vec<Group> = Vec::new();
    for group in groups {
        match all.iter_mut().find(|there| there.name == group.name) {
            Some(there) => there.sum.plus(group.sum),
            None => all.push(group.clone()),
        }
    }
    all
}

/// A run worth a line of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The namespace.
    pub namespace: String,
    /// The workflow's id.
    pub workflow: String,
    /// The run.
    pub run: Uuid,
    /// The workflow type.
    pub workflow_type: String,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended; `None` while it is open.
    pub closed: Option<Timestamp>,
    /// Bytes of its history.
    pub history_bytes: u64,
}

/// Everything the scan finds.
#[derive(Debug)]
pub(super) struct Totals {
    namespaces: BTreeMap<Uuid, (NamespaceSum, BTreeMap<String, Sum>)>,
    largest: BinaryHeap<Reverse<Ranked>>,
    oldest_open: BinaryHeap<Reverse<Ranked>>,
    /// Rows in an encoding that is not read.
    pub unreadable: u64,
    /// Rows of other archetypes than workflows.
    pub other_archetypes: u64,
    /// Runs in a state that is neither open nor closed.
    pub hidden: u64,
    now: Timestamp,
    slack: Span,
    long: Span,
}

/// An example by what it is ranked by.
#[derive(Debug)]
struct Ranked(u64, Example);

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1.run).cmp(&(other.0, other.1.run))
    }
}

impl Totals {
    pub(super) fn new(namespaces: &[NamespaceRow], now: Timestamp, slack: Span, long: Span) -> Self {
        let known = namespaces.iter().map(|row| {
            let retention = row.retention.map(Span::from);
            let sum = NamespaceSum { namespace: row.name.clone(), id: row.id, retention, ..NamespaceSum::default() };
            (row.id, (sum, BTreeMap::new()))
        });
        Self {
            namespaces: known.collect(),
            largest: BinaryHeap::new(),
            oldest_open: BinaryHeap::new(),
            unreadable: 0,
            other_archetypes: 0,
            hidden: 0,
            now,
            slack,
            long,
        }
    }

    pub(super) fn add(&mut self, run: &ScannedRun<'_>) {
        if !run.readable {
            self.unreadable += 1;
        } else if run.state == ExecutionState::Hidden {
            self.hidden += 1;
        } else {
            if !run.has_history {
                self.other_archetypes += 1;
            }
            self.count(run);
        }
    }

    fn count(&mut self, run: &ScannedRun<'_>) {
        let (sum, types) = self.namespaces.entry(run.namespace).or_insert_with(|| {
            let namespace = run.namespace.to_string();
            (NamespaceSum { namespace, id: run.namespace, ..NamespaceSum::default() }, BTreeMap::new())
        });
        match types.get_mut(run.workflow_type.as_str()) {
            Some(of_type) => of_type.add(run),
            None => {
                let name = if types.len() < TYPES { run.workflow_type.as_str() } else { "(all others)" };
                types.entry(name.to_owned()).or_default().add(run);
            }
        }
        let rank = match run.state {
            ExecutionState::Open => {
                sum.open.add(run);
                let age = run.started.map(|started| self.now.duration_since(started));
                let long = age.filter(|age| *age > SignedDuration::from(self.long));
                if long.is_some() {
                    sum.long_open.add(run);
                }
                long.and_then(|age| u64::try_from(age.as_secs()).ok())
            }
            _ => {
                sum.closed.add(run);
                if let Some(closed) = run.closed {
                    sum.oldest_closed = Some(sum.oldest_closed.map_or(closed, |oldest| oldest.min(closed)));
                    let days = self.now.duration_since(closed).as_hours() / 24;
                    let place = AGES.iter().position(|(below, _)| days < *below).unwrap_or(AGES.len() - 1);
                    if sum.ages.is_empty() {
                        sum.ages = AGES.map(|(_, name)| Group { name: name.to_owned(), sum: Sum::default() }).into();
                    }
                    if let Some(group) = sum.ages.get_mut(place) {
                        group.sum.add(run);
                    }
                    if sum.retention.is_some_and(|kept| is_overdue(closed, kept, self.slack, self.now)) {
                        sum.overdue.add(run);
                    }
                }
                None
            }
        };
        let namespace = &sum.namespace;
        if let Some(rank) = rank {
            keep(&mut self.oldest_open, rank, || example(namespace, run));
        }
        keep(&mut self.largest, run.history_bytes, || example(namespace, run));
    }

    /// The namespaces, the largest first; the largest histories; the runs that have been open longest.
    pub(super) fn conclude(self) -> (Vec<NamespaceSum>, Vec<Example>, Vec<Example>) {
        let mut namespaces: Vec<NamespaceSum> = self
            .namespaces
            .into_values()
            .map(|(mut sum, types)| {
                sum.types = types.into_iter().map(|(name, sum)| Group { name, sum }).collect();
                sum.types.sort_by_key(|group| Reverse(group.sum.bytes()));
                sum.types.truncate(SHOWN);
                sum
            })
            .collect();
        namespaces.sort_by_key(|sum| Reverse(sum.open.bytes() + sum.closed.bytes()));
        (namespaces, ranked(self.largest), ranked(self.oldest_open))
    }
}

fn example(namespace: &str, run: &ScannedRun<'_>) -> Example {
    Example {
        namespace: namespace.to_owned(),
        workflow: run.workflow.to_owned(),
        run: run.run,
        workflow_type: run.workflow_type.clone(),
        started: run.started,
        closed: run.closed,
        history_bytes: run.history_bytes,
    }
}

fn keep(heap: &mut BinaryHeap<Reverse<Ranked>>, rank: u64, example: impl FnOnce() -> Example) {
    if heap.len() < SHOWN {
        heap.push(Reverse(Ranked(rank, example())));
    } else if heap.peek().is_some_and(|Reverse(least)| least.0 < rank) {
        heap.pop();
        heap.push(Reverse(Ranked(rank, example())));
    }
}

fn ranked(heap: BinaryHeap<Reverse<Ranked>>) -> Vec<Example> {
    heap.into_sorted_vec().into_iter().map(|Reverse(Ranked(_, example))| example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: ExecutionState, started_days: i64, closed_days: Option<i64>, bytes: u64) -> ScannedRun<'static> {
        let ago = |days: i64| now() - SignedDuration::from_hours(24 * days);
        ScannedRun {
            shard: 1,
            namespace: Uuid::nil(),
            workflow: "w",
            run: Uuid::from_u128(u128::from(bytes)),
            state,
            workflow_type: "Order".into(),
            started: Some(ago(started_days)),
            closed: closed_days.map(ago),
            history_bytes: bytes,
            row_bytes: 10,
            has_history: true,
            readable: true,
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn totals() -> Totals {
        let row = NamespaceRow {
            id: Uuid::nil(),
            name: "orders".into(),
            retention: Some(Span::days(30).into()),
            is_deleted: false,
            is_deprecated: false,
            archives: false,
        };
        Totals::new(&[row], now(), Span::hours(2), Span::days(30))
    }

    #[test]
    fn runs_are_added_up_by_state_age_and_type() {
        let mut totals = totals();
        totals.add(&run(ExecutionState::Open, 2, None, 100));
        totals.add(&run(ExecutionState::Open, 31, None, 200));
        totals.add(&run(ExecutionState::Closed, 3, Some(0), 1));
        totals.add(&run(ExecutionState::Closed, 40, Some(30), 5));
        totals.add(&run(ExecutionState::Closed, 40, Some(31), 7));
        totals.add(&ScannedRun { readable: false, ..run(ExecutionState::Closed, 1, Some(1), 9) });
        totals.add(&run(ExecutionState::Hidden, 1, None, 9));
        assert_eq!((totals.unreadable, totals.hidden, totals.other_archetypes), (1, 1, 0));
        let (namespaces, largest, oldest) = totals.conclude();
        let [sum] = namespaces.as_slice() else { panic!("{namespaces:?}") };
        assert_eq!(sum.open, Sum { runs: 2, history_bytes: 300, row_bytes: 20 });
        assert_eq!(sum.closed, Sum { runs: 3, history_bytes: 13, row_bytes: 30 });
        let ages: Vec<u64> = sum.ages.iter().map(|group| group.sum.runs).collect();
        assert_eq!(ages, [1, 0, 0, 2, 0]);
        // 30 days and the slack of two hours are not over for the run that closed 30 days ago.
        assert_eq!(sum.overdue, Sum { runs: 1, history_bytes: 7, row_bytes: 10 });
        assert_eq!(sum.long_open.runs, 1);
        assert_eq!(largest.iter().map(|example| example.history_bytes).collect::<Vec<_>>(), [200, 100, 7, 5, 1]);
        assert_eq!(oldest.iter().map(|example| example.history_bytes).collect::<Vec<_>>(), [200]);
        assert_eq!(sum.types[0].sum.runs, 5);
    }

    #[test]
    fn the_list_of_the_largest_is_bounded() {
        let mut totals = totals();
        for bytes in 0..1_000 {
            totals.add(&run(ExecutionState::Closed, 1, Some(0), bytes));
        }
        let (_, largest, _) = totals.conclude();
        assert_eq!(largest.len(), SHOWN);
        assert_eq!((largest[0].history_bytes, largest[SHOWN - 1].history_bytes), (999, 980));
    }
}
