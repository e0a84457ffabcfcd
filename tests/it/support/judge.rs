//! The judge of visibility: what Temporal tells of its workflows, compared with the `executions` table, which is what
//! they are. Nothing of sexton is asked.
//!
//! The two can only be compared while nothing changes: see [`super::load::Load::quiesce`].

mod question;
mod told;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use temporalio_protos::temporal::api::common::v1::Payload;

use self::question::Question;
use self::told::Told;
use super::cluster::{ATTRIBUTES, Cluster};

/// Workflow id and run id.
pub type Key = (String, String);

/// A run of a workflow, from either side.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// As Temporal's queries spell it: `Running`, `ContinuedAsNew`.
    pub status: String,
    /// The workflow's type.
    pub kind: String,
    /// Custom search attributes by name, and the memo's fields by `memo.` and their name.
    pub attributes: BTreeMap<String, Value>,
}

impl Run {
    /// Open means without a close time; a paused workflow is open.
    pub fn is_open(&self) -> bool {
        self.status == "Running" || self.status == "Paused"
    }
}

/// Compares for one cluster's namespace.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    cluster: &'a Cluster,
}

impl<'a> Judge<'a> {
    pub fn of(cluster: &'a Cluster) -> Self {
        Self { cluster }
    }

    /// What is in the `executions` table.
    pub fn truth(&self) -> BTreeMap<Key, Run> {
        truth::read(self.cluster)
    }

    /// Lists all, asks every question, and says where Temporal is wrong.
    pub async fn compare(&self) -> Verdict {
        self.cluster.refresh();
        let truth = self.truth();
        let told = Told::listen(self.cluster).await;
        let mut verdict = compare(&truth, &told.list);
        for question in Question::all() {
            let want = truth.values().filter(|run| question.holds(run)).count() as u64;
            let told = told.count(&question.query).await;
            if want != told {
                verdict.counts.push(Count { query: question.query, want, told });
            }
        }
        let mut by_status: BTreeMap<String, u64> = BTreeMap::new();
        for run in truth.values() {
            *by_status.entry(run.status.clone()).or_default() += 1;
        }
        let groups = told.count_by_status().await;
        for status in by_status.keys().chain(groups.keys()).collect::<BTreeSet<_>>() {
            let [want, told] = [&by_status, &groups].map(|counts| counts.get(status).copied().unwrap_or_default());
            if want != told {
                verdict.counts.push(Count { query: format!("GROUP BY ExecutionStatus: {status}"), want, told });
            }
        }
        verdict
    }

    /// Panics with the verdict unless Temporal tells exactly what is so. Returns how many runs there are.
    pub async fn agree(&self) -> usize {
        let verdict = self.compare().await;
        assert!(verdict.is_clean(), "{verdict}");
        verdict.runs
    }

    /// The same through Temporal's command line, as an operator sees it: `workflow list` and `workflow count`.
    pub fn agree_by_cli(&self) {
        self.cluster.refresh();
        let truth = self.truth();
        let verdict = compare_statuses(&truth, &told::list_by_cli(self.cluster));
        assert!(verdict.is_clean(), "temporal workflow list: {verdict}");
        for query in ["", "ExecutionStatus = 'Running'", "CustomerTier = 'gold'"] {
            let want = truth.values().filter(|run| match query {
                "" => true,
                "CustomerTier = 'gold'" => run.attributes.get("CustomerTier") == Some(&Value::from("gold")),
                _ => run.status == "Running",
            });
            let told = told::count_by_cli(self.cluster, query);
            assert_eq!(told, want.count() as u64, "temporal workflow count --query \"{query}\"");
        }
    }
}

/// Where Temporal's answer differs from its database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Runs in the database.
    pub runs: usize,
    /// In the database and not listed.
    pub missing: Vec<Key>,
    /// Listed and not in the database.
    pub extra: Vec<Key>,
    /// Listed more than once, and how often.
    pub duplicated: Vec<(Key, usize)>,
    /// With another status: the database's and the listed one.
    pub wrong_status: Vec<(Key, String, String)>,
    /// With another type, custom search attribute or memo: its name, the database's value and the listed one.
    pub wrong_attribute: Vec<(Key, String, Value, Value)>,
    /// Counts that are not the database's.
    pub counts: Vec<Count>,
}

/// A count that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// In Temporal's language; empty for all runs.
    pub query: String,
    /// By the database.
    pub want: u64,
    /// By Temporal.
    pub told: u64,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        *self == Self { runs: self.runs, ..Self::default() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return write!(f, "Temporal tells all {} runs as they are", self.runs);
        }
        write!(f, "Temporal does not tell its {} runs as they are", self.runs)?;
        let name = |(workflow, run): &Key| format!("{workflow} {run}");
        lines(f, "missing", self.missing.iter().map(name))?;
        lines(f, "extra", self.extra.iter().map(name))?;
        lines(f, "duplicated", self.duplicated.iter().map(|(key, times)| format!("{}: {times} times", name(key))))?;
        let statuses = self.wrong_status.iter();
        lines(f, "wrong status", statuses.map(|(key, want, told)| format!("{}: {want}, told {told}", name(key))))?;
        let attributes = self.wrong_attribute.iter();
        let line = |(key, attribute, want, told): &(Key, String, Value, Value)| {
            format!("{}: {attribute} is {want}, told {told}", name(key))
        };
        lines(f, "wrong attribute", attributes.map(line))?;
        let count = |Count { query, want, told }: &Count| match query.as_str() {
            "" => format!("of all: {want}, told {told}"),
            query => format!("{query}: {want}, told {told}"),
        };
        lines(f, "wrong count", self.counts.iter().map(count))
    }
}

/// The first ten of a kind, one a line.
fn lines(f: &mut fmt::Formatter<'_>, what: &str, all: impl ExactSizeIterator<Item = String>) -> fmt::Result {
    const SHOWN: usize = 10;
    let count = all.len();
    if count > 0 {
        write!(f, "\n  {what}: {count}")?;
    }
    for line in all.take(SHOWN) {
        write!(f, "\n    {line}")?;
    }
    if count > SHOWN { write!(f, "\n    and {} more", count - SHOWN) } else { Ok(()) }
}

fn compare(truth: &BTreeMap<Key, Run>, list: &[(Key, Run)]) -> Verdict {
    let statuses: Vec<(Key, String)> = list.iter().map(|(key, run)| (key.clone(), run.status.clone())).collect();
    let mut verdict = compare_statuses(truth, &statuses);
    for (key, told) in list {
        let Some(run) = truth.get(key) else { continue };
        let mut wrong = |name: &str, want: &Value, told: &Value| {
            if want != told {
                verdict.wrong_attribute.push((key.clone(), name.to_owned(), want.clone(), told.clone()));
            }
        };
        wrong("WorkflowType", &run.kind.as_str().into(), &told.kind.as_str().into());
        for name in run.attributes.keys().chain(told.attributes.keys()).collect::<BTreeSet<_>>() {
            let [want, told] = [run, told].map(|side| side.attributes.get(name).unwrap_or(&Value::Null));
            wrong(name, want, told);
        }
    }
    verdict
}

fn compare_statuses(truth: &BTreeMap<Key, Run>, list: &[(Key, String)]) -> Verdict {
    let mut verdict = Verdict { runs: truth.len(), ..Verdict::default() };
    let mut times: BTreeMap<&Key, usize> = BTreeMap::new();
    for (key, told) in list {
        *times.entry(key).or_default() += 1;
        match truth.get(key) {
            Some(run) if run.status != *told => {
                verdict.wrong_status.push((key.clone(), run.status.clone(), told.clone()));
            }
            _ => {}
        }
    }
    verdict.missing = truth.keys().filter(|key| !times.contains_key(key)).cloned().collect();
    verdict.extra = times.keys().filter(|key| !truth.contains_key(key)).map(|key| (*key).clone()).collect();
    verdict.duplicated =
        times.iter().filter(|(_, times)| **times > 1).map(|(key, times)| ((*key).clone(), *times)).collect();
    verdict
}

/// The custom search attributes of a run, in the one form in which both sides can be compared.
fn attributes<'a>(
    search: impl IntoIterator<Item = (&'a String, &'a Payload)>,
    memo: impl IntoIterator<Item = (&'a String, &'a Payload)>,
) -> BTreeMap<String, Value> {
    let custom = search.into_iter().filter(|(name, _)| ATTRIBUTES.iter().any(|(known, _)| known == name));
    let custom = custom.map(|(name, payload)| (name.clone(), payload));
    let memo = memo.into_iter().map(|(name, payload)| (format!("memo.{name}"), payload));
    let read = |payload: &Payload| normal(serde_json::from_slice(&payload.data).unwrap_or_default());
    custom.chain(memo).map(|(name, payload)| (name, read(payload))).filter(|(_, value)| !value.is_null()).collect()
}

/// The engine gives a list of one value as that value, a whole number as it likes, and an instant in any precision.
fn normal(value: Value) -> Value {
    match value {
        Value::Array(mut values) if values.len() == 1 => normal(values.remove(0)),
        Value::Array(values) => values.into_iter().map(normal).collect(),
        Value::Number(number) => number.as_f64().into(),
        Value::String(text) => text.parse::<Timestamp>().map_or(Value::String(text), |at| at.to_string().into()),
        other => other,
    }
}
