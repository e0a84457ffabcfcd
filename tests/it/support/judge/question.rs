//! The questions that are put to Temporal and to the database: counts by status and by every kind of search attribute.

use serde_json::Value;

use super::Run;
use crate::support::load::values::{TAGS, TIERS, TYPES, WORDS};

/// A query in Temporal's language, and the same in Rust.
pub(super) struct Question {
    pub(super) query: String,
    holds: Box<dyn Fn(&Run) -> bool>,
}

const STATUSES: [&str; 7] = ["Running", "Completed", "Failed", "Canceled", "Terminated", "ContinuedAsNew", "TimedOut"];

impl Question {
    pub(super) fn holds(&self, run: &Run) -> bool {
        (self.holds)(run)
    }

    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![
            ask("", |_| true),
            ask("CloseTime IS NULL", Run::is_open),
            ask("Amount > 5", |run| number(run, "Amount").is_some_and(|amount| amount > 5.0)),
            ask("Amount = 0", |run| number(run, "Amount") == Some(0.0)),
            ask("Amount IS NULL", |run| number(run, "Amount").is_none()),
            ask("Ratio < 0.5", |run| number(run, "Ratio").is_some_and(|ratio| ratio < 0.5)),
            ask("Shipped = true", |run| run.attributes.get("Shipped") == Some(&Value::Bool(true))),
            ask("Shipped = false", |run| run.attributes.get("Shipped") == Some(&Value::Bool(false))),
            ask("Due > '2026-06-15T00:00:00Z'", |run| due(run).is_some_and(|due| due > "2026-06-15T00:00:00Z")),
        ];
        for status in STATUSES {
            all.push(ask(format!("ExecutionStatus = '{status}'"), move |run| run.status == status));
        }
        for tier in TIERS {
            all.push(ask(format!("CustomerTier = '{tier}'"), move |run| is(run, "CustomerTier", tier)));
            let query = format!("CustomerTier = '{tier}' AND ExecutionStatus = 'Running'");
            all.push(ask(query, move |run| is(run, "CustomerTier", tier) && run.status == "Running"));
        }
        for tag in TAGS {
            all.push(ask(format!("Tags = '{tag}'"), move |run| is(run, "Tags", tag)));
        }
        for word in WORDS {
            let has = move |run: &Run| text(run, "Notes").is_some_and(|notes| notes.split(' ').any(|w| w == word));
            all.push(ask(format!("Notes = '{word}'"), has));
        }
        for kind in TYPES {
            all.push(ask(format!("WorkflowType = '{kind}'"), move |run| run.kind == kind));
        }
        all
    }
}

fn ask(query: impl Into<String>, holds: impl Fn(&Run) -> bool + 'static) -> Question {
    Question { query: query.into(), holds: Box::new(holds) }
}

fn number(run: &Run, name: &str) -> Option<f64> {
    run.attributes.get(name)?.as_f64()
}

fn text<'a>(run: &'a Run, name: &str) -> Option<&'a str> {
    run.attributes.get(name)?.as_str()
}

/// Instants of one form, which compare as text.
fn due(run: &Run) -> Option<&str> {
    text(run, "Due")
}

/// Equal, or one of several.
fn is(run: &Run, name: &str, value: &str) -> bool {
    match run.attributes.get(name) {
        Some(Value::Array(values)) => values.iter().any(|one| one == value),
        Some(one) => one == value,
        None => false,
    }
}
