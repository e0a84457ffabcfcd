//! The audit: what fills Temporal's tables, what should not be there any more, and how it grows. Writes nothing.
//!
//! `executions` streams by once, a range of pages at a time; what is kept does not grow with the table. Bytes of a
//! history are those that Temporal counts in the run's row: `history_node` itself is only counted, by its index.

mod error;
mod growth;
mod html;
mod runs;
mod tables;

pub use error::{AuditError, Refusal};
pub use growth::{Growth, Past, growth};
pub use html::html;
pub use runs::{Example, Group, NamespaceSum, Sum};
pub use tables::{Leak, TableReport};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use crate::clients::persistence::NamespaceRow;
use crate::context::Context;
use crate::progress::silent;
use crate::retention::orphans::{self, Orphans};
use crate::retention::{Reading, Source};
use crate::units::Span;

/// Versions of Temporal's schema that were looked at: server 1.22 to 1.31.
const SCHEMAS: std::ops::RangeInclusive<u32> = 10..=19;

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// A closed run is overdue only so long after its retention has ended.
    pub slack: Span,
    /// An open run is worth a word when it is older than this.
    pub long_open: Span,
    /// A branch without a run is an orphan only when it is older than this.
    pub orphan_age: Span,
    /// Trees with orphans that are noted for removal.
    pub most_trees: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// When it began.
    pub at: Timestamp,
    /// The database.
    pub database: String,
    /// The version of Temporal's schema.
    pub schema: Option<String>,
    /// History shards.
    pub shards: i32,
    /// Bytes of all tables with their indexes.
    pub bytes: u64,
    /// Rows of `executions`.
    pub runs: u64,
    /// By namespace, the largest first.
    pub namespaces: Vec<NamespaceSum>,
    /// The largest histories.
    pub largest: Vec<Example>,
    /// The runs that have been open longest, of those older than the policy finds usual.
    pub oldest_open: Vec<Example>,
    /// Rows that cannot be read.
    pub unreadable: u64,
    /// Rows of other archetypes than workflows.
    pub other_archetypes: u64,
    /// Runs in a state that is neither open nor closed, such as the losing side of a conflict between clusters.
    pub hidden: u64,
    /// Histories that nothing refers to.
    pub orphans: Orphans,
    /// Every table, the largest first.
    pub tables: Vec<TableReport>,
    /// Rows in tables that leak.
    pub leaks: Vec<Leak>,
    /// How it grows, once there are earlier audits to compare with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub growth: Option<Growth>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

impl Audit {
    /// The closed runs of all namespaces by age.
    #[must_use]
    pub fn ages(&self) -> Vec<Group> {
        runs::together(self.namespaces.iter().flat_map(|of| &of.ages))
    }

    /// The workflow types of all namespaces, each with its namespace, the largest first.
    #[must_use]
    pub fn types(&self) -> Vec<(&str, &Group)> {
        let all = self.namespaces.iter().flat_map(|of| of.types.iter().map(|group| (of.namespace.as_str(), group)));
        let mut types: Vec<(&str, &Group)> = all.collect();
        types.sort_by_key(|(_, group)| std::cmp::Reverse(group.sum.bytes()));
        types
    }

    /// Closed runs that should have been deleted.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.namespaces.iter().map(|namespace| namespace.overdue.runs).sum()
    }
}

/// A database that was looked at before anything is read from it, and the namespaces there.
#[derive(Debug)]
pub struct Checked {
    /// A session for reading its tables as a whole.
    pub reading: Reading,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceRow>,
    /// History shards.
    pub shards: i32,
    /// The version of the schema.
    pub schema: Option<String>,
}

/// Connects, and refuses a database that would give wrong answers.
///
/// # Errors
/// [`AuditError::Refused`], and any error of the database.
pub async fn check(source: &Source, ctx: &Context) -> Result<Checked, AuditError> {
    let mut reading = source.open().await?;
    let cluster = reading.session.cluster().await?;
    let database = || source.primary().database().to_owned();
    if let Some(version) = cluster.schema.as_ref().filter(|version| !is_known(version)) {
        return Err(Refusal::Schema { database: database(), version: version.clone() }.into());
    }
    cluster.shards.check(source.primary().database()).map_err(Refusal::from)?;
    if let Some(refusal) = Refusal::clock(cluster.now.duration_since(Timestamp::now())) {
        return Err(refusal.into());
    }
    if ctx.is_cancelled() {
        return Err(AuditError::Cancelled);
    }
    let namespaces = reading.session.namespace_rows().await?;
    let shards = cluster.shards.count();
    Ok(Checked { reading, namespaces, shards, schema: cluster.schema })
}

/// The same for what is to be acted on: a standby may lack rows, and a database that does not say its version is nobody's.
///
/// # Errors
/// As for [`check`].
pub(crate) async fn check_primary(source: &Source, ctx: &Context) -> Result<Checked, AuditError> {
    let mut checked = check(source, ctx).await?;
    let database = || source.primary().database().to_owned();
    if checked.schema.is_none() {
        return Err(Refusal::NoSchema { database: database() }.into());
    }
    let standby = match checked.reading.behind {
        // It is the primary's session.
        None => checked.reading.session.is_standby().await?,
        Some(_) => {
            let mut primary = source.primary().connect().await?;
            let standby = primary.is_standby().await?;
            primary.close().await;
            standby
        }
    };
    if standby {
        return Err(Refusal::Standby { database: database() }.into());
    }
    Ok(checked)
}

/// Whether a version of the main database's schema is one that this version was made for.
#[must_use]
pub fn is_known(version: &str) -> bool {
    let minor = version.strip_prefix("1.").and_then(|minor| minor.split('.').next()?.parse().ok());
    minor.is_some_and(|minor| SCHEMAS.contains(&minor))
}

/// Looks at everything. Writes nothing.
///
/// # Errors
/// Any [`AuditError`].
pub async fn audit(source: &Source, wanted: Wanted, ctx: &Context) -> Result<Audit, AuditError> {
    let Checked { mut reading, namespaces, shards, schema } = check(source, ctx).await?;
    // A standby keeps no statistics of its own on dead rows and vacuum.
    let mut primary = source.primary().connect().await?;
    let tables = primary.tables().await?;
    primary.close().await;
    let mut totals = runs::Totals::new(&namespaces, ctx.now, wanted.slack, wanted.long_open);
    let looking = orphans::Looking { shards, min_age: wanted.orphan_age, most: wanted.most_trees };
    // Side by side, in a task of its own: the scan hardly ever waits, and would not let it go on.
    let beside = AbortOnDropHandle::new(tokio::spawn(histories(source.clone(), looking, ctx.clone())));
    let runs = reading.executions(ctx, |run| totals.add(run)).await?;
    // A task that panics has been told of; the audit is as good as stopped.
    let (orphans, leaks) = beside.await.unwrap_or(Err(AuditError::Cancelled))?;
    let behind = reading.behind;
    reading.close().await;

    let (unreadable, other_archetypes, hidden) = (totals.unreadable, totals.other_archetypes, totals.hidden);
    let (namespaces, largest, oldest_open) = totals.conclude();
    let bytes = tables.iter().map(|table| table.bytes).sum();
    let mut notes = Vec::new();
    if let Some(behind) = behind {
        notes.push(format!("read from the standby, which was {} behind", Span::from(behind.unsigned_abs())));
    }
    if unreadable > 0 {
        notes.push(format!("{unreadable} rows of executions cannot be read; they are in no figure but this one"));
    }
    if schema.is_none() {
        notes.push("the database does not say which version of Temporal's schema it has".into());
    }
    Ok(Audit {
        at: ctx.now,
        database: source.primary().database().to_owned(),
        schema,
        shards,
        bytes,
        runs,
        namespaces,
        largest,
        oldest_open,
        unreadable,
        other_archetypes,
        hidden,
        orphans,
        tables: tables.into_iter().map(TableReport::of).collect(),
        leaks,
        growth: None,
        notes,
    })
}

/// What only the histories' own tables say. The scan is what takes long, so that its progress is the one to show.
async fn histories(
    source: Source,
    looking: orphans::Looking,
    ctx: Context,
) -> Result<(Orphans, Vec<Leak>), AuditError> {
    let mut reading = source.open().await?;
    let orphans = orphans::find(&mut reading, looking, &Context { progress: silent(), ..ctx }).await?;
    let leaks = tables::leaks(&mut reading.session).await?;
    reading.close().await;
    Ok((orphans, leaks))
}

/// What there is to say of a namespace's retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The namespace.
    pub namespace: String,
    /// How long a closed run is kept; `None` when it is not known.
    pub retention: Option<Span>,
    /// Closed runs there are.
    pub closed: u64,
    /// When the oldest of them ended.
    pub oldest_closed: Option<Timestamp>,
    /// Those that should be gone.
    pub overdue: u64,
    /// Whether none should be gone.
    pub holds: bool,
}

/// Looks at every closed run, whether its retention has ended. Writes nothing.
///
/// # Errors
/// Any [`AuditError`]; [`Refusal::Unreadable`] when there are rows that cannot be read, which might be overdue.
pub async fn prove(source: &Source, slack: Span, ctx: &Context) -> Result<Vec<Proof>, AuditError> {
    let Checked { mut reading, namespaces, schema, .. } = check(source, ctx).await?;
    if schema.is_none() {
        return Err(Refusal::NoSchema { database: source.primary().database().to_owned() }.into());
    }
    let mut totals = runs::Totals::new(&namespaces, ctx.now, slack, Span::days(36_500));
    reading.executions(ctx, |run| totals.add(run)).await?;
    reading.close().await;
    if totals.unreadable > 0 {
        return Err(Refusal::Unreadable { rows: totals.unreadable }.into());
    }
    let mut proofs: Vec<Proof> = totals.conclude().0.into_iter().map(Proof::of).collect();
    proofs.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(proofs)
}

impl Proof {
    fn of(sum: NamespaceSum) -> Self {
        Self {
            holds: sum.overdue.runs == 0 && sum.retention.is_some(),
            namespace: sum.namespace,
            retention: sum.retention,
            closed: sum.closed.runs,
            oldest_closed: sum.oldest_closed,
            overdue: sum.overdue.runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_versions_are_told_apart() {
        for known in ["1.10", "1.17", "1.19"] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["1.20", "1.9", "2.0", "", "x", "1.x"] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
