//! Compares two sides table by table: a database with a backup, or with another database. Each side is of one instant.
//!
//! First every table's content hash; where it differs, the rows are narrowed down ([`narrow`]) to the primary keys that
//! differ, or for a table without one to ranges of pages. Memory does not grow with the tables.

mod checkpoint;
mod key;
mod live;
mod marks;
mod narrow;
mod side;

use std::collections::BTreeSet;

use futures::StreamExt;
use serde::Serialize;

use super::chunk::Content;
use super::compare::Verdict;
use super::error::BackupError;
use super::manifest::Name;
use crate::context::Context;
use crate::failure::{Explain, Kind, chain};
use crate::progress::Unit;
use crate::units::millis_since;

pub use checkpoint::Checkpoint;
pub use live::Live;
pub use narrow::{Difference, Narrowed, Which};
pub use side::Side;

/// How two sides are compared.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Tables that are read at once.
    pub jobs: usize,
    /// Keys that are named for each table.
    pub shown: usize,
}

/// One table of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableDifference {
    /// `schema.table`.
    pub table: String,
    /// The outcome.
    pub verdict: Verdict,
    /// Rows on the left side; `None` when they were not counted.
    pub left_rows: Option<u64>,
    /// Rows on the right side.
    pub right_rows: Option<u64>,
    /// What happened, when it is not equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which rows differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<Narrowed>,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DifferenceReport {
    /// What stood on the left, in words.
    pub left: String,
    /// What stood on the right.
    pub right: String,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Tables that an earlier run of the same checkpoint has read, wholly or in part.
    pub resumed: u64,
    /// The tables of both sides, in the order of their names.
    pub tables: Vec<TableDifference>,
}

impl DifferenceReport {
    /// `Ok` only when every table is there on both sides with the same rows.
    ///
    /// # Errors
    /// [`BackupError::Unequal`], else [`BackupError::Unverified`].
    pub fn verdict(&self) -> Result<(), BackupError> {
        let of = |wanted: Verdict| -> Vec<String> {
            let chosen = self.tables.iter().filter(|table| table.verdict == wanted);
            chosen.map(|table| format!("{}: {}", table.table, table.detail.as_deref().unwrap_or("differs"))).collect()
        };
        let (findings, reasons) = (of(Verdict::Differs), of(Verdict::Unknown));
        if !findings.is_empty() {
            return Err(BackupError::Unequal { left: self.left.clone(), right: self.right.clone(), findings });
        }
        if !reasons.is_empty() {
            return Err(BackupError::Unverified { subject: format!("{} against {}", self.left, self.right), reasons });
        }
        Ok(())
    }
}

/// Compares every table of both sides, going on where the checkpoint is. The report must be asked for its
/// [`DifferenceReport::verdict`].
///
/// # Errors
/// When the run is cancelled, and [`BackupError::Checkpoint`]; what keeps a table from being compared is in its verdict.
pub async fn compare(
    mut left: Side,
    mut right: Side,
    options: Options,
    checkpoint: Option<&Checkpoint>,
    ctx: &Context,
) -> Result<DifferenceReport, BackupError> {
    let clock = std::time::Instant::now();
    let names: BTreeSet<Name> = left.names().chain(right.names()).cloned().collect();
    ctx.progress.stage("comparing tables", Some(names.len() as u64), Unit::Items);
    let (of_left, of_right) = (&left, &right);
    let mut results = futures::stream::iter(names.clone())
        .map(|name| async move {
            let compared = table(of_left, of_right, &name, options, checkpoint, ctx).await;
            (name, compared)
        })
        .buffered(options.jobs.max(1));
    let (mut tables, mut resumed) = (Vec::new(), 0);
    while let Some((name, compared)) = results.next().await {
        ctx.progress.advance(1);
        tables.push(match compared {
            Ok((compared, is_resumed)) => {
                resumed += u64::from(is_resumed);
                compared
            }
            Err(error @ BackupError::Checkpoint { .. }) => return Err(error),
            Err(error) if error.kind() == Kind::Cancelled => {
                checkpoint.map(Checkpoint::save).transpose()?;
                return Err(error);
            }
            Err(error) => unknown(&name, chain(&error)),
        });
    }
    drop(results);
    let mut lost = false;
    // Without its locks a side may have been read wrongly, and nothing that was found counts.
    for error in [left.end().await, right.end().await].into_iter().filter_map(Result::err) {
        lost = true;
        let names = tables.iter().map(|table| table.table.clone()).collect::<Vec<_>>();
        let unread =
            |table| TableDifference { table, ..unknown_named(format!("the snapshot was lost: {}", chain(&error))) };
        tables = names.into_iter().map(unread).collect();
    }
    if let Some(checkpoint) = checkpoint {
        // With an answer it has served; kept, it would answer the next time for what was read today.
        if lost || tables.iter().all(|table| table.verdict != Verdict::Unknown) {
            checkpoint.remove();
        } else {
            checkpoint.save()?;
        }
    }
    let milliseconds = millis_since(clock);
    Ok(DifferenceReport { left: left.to_string(), right: right.to_string(), milliseconds, resumed, tables })
}

fn unknown(name: &Name, detail: String) -> TableDifference {
    TableDifference { table: name.to_string(), ..unknown_named(detail) }
}

fn unknown_named(detail: String) -> TableDifference {
    TableDifference {
        table: String::new(),
        verdict: Verdict::Unknown,
        left_rows: None,
        right_rows: None,
        detail: Some(detail),
        narrowed: None,
    }
}

async fn table(
    left: &Side,
    right: &Side,
    name: &Name,
    options: Options,
    checkpoint: Option<&Checkpoint>,
    ctx: &Context,
) -> Result<(TableDifference, bool), BackupError> {
    let alone = |compared| Ok((compared, false));
    let differs = |detail: String| TableDifference { verdict: Verdict::Differs, ..unknown(name, detail) };
    let (shape, other) = match (left.shape(name), right.shape(name)) {
        (Some(shape), Some(other)) => (shape, other),
        (Some(_), None) => return alone(differs(format!("it is missing in {right}"))),
        (None, _) => return alone(differs(format!("it is only in {right}"))),
    };
    if shape.columns != other.columns {
        let first = shape.columns.iter().zip(&other.columns).find(|(a, b)| a != b);
        let detail = match first {
            Some((a, b)) => {
                format!("its columns differ: `{}` {} against `{}` {}", a.name, a.type_name, b.name, b.type_name)
            }
            None => format!("its columns differ: {} against {}", shape.columns.len(), other.columns.len()),
        };
        return alone(differs(detail));
    }
    for side in [left, right] {
        if let Some(reason) = side.barred(name) {
            return alone(unknown(name, format!("{side}: {reason}")));
        }
    }
    let counted = |left: u64, right: u64| TableDifference {
        verdict: Verdict::Equal,
        left_rows: Some(left),
        right_rows: Some(right),
        detail: None,
        ..unknown(name, String::new())
    };
    let kept = checkpoint.and_then(|checkpoint| checkpoint.table(name, [left.mark(name), right.mark(name)]));
    if let Some(rows) = kept.as_ref().and_then(|kept| kept.equal) {
        return Ok((counted(rows, rows), true));
    }
    let (mut here, mut there) = contents((left, right), &shape, kept.as_ref(), ctx).await?;
    let is_resumed = kept.as_ref().is_some_and(checkpoint::Kept::is_resumed);
    if is_resumed && here != there {
        (here, there) = contents((left, right), &shape, None, ctx).await?;
    }
    if here == there {
        kept.map(|kept| kept.found_equal(here.rows)).transpose()?;
        return Ok((counted(here.rows, there.rows), is_resumed));
    }
    kept.map(|kept| kept.forget()).transpose()?;
    // The database knows its keys; a backup has them in its schema only.
    let key = right.key(name).or_else(|| left.key(name)).and_then(|key| key::Key::new(&shape, key));
    let narrowed =
        narrow::narrow((left, here.rows), (right, there.rows), &shape, key.as_ref(), options.shown, ctx).await;
    let (detail, narrowed) = match narrowed {
        Ok(narrowed) => (narrowed.to_string(), Some(narrowed)),
        Err(error) if error.kind() == Kind::Cancelled => return Err(error),
        // That they differ is known; only where is not.
        Err(error) => {
            (format!("{} against {} rows; not narrowed down: {}", here.rows, there.rows, chain(&error)), None)
        }
    };
    alone(TableDifference {
        verdict: Verdict::Differs,
        detail: Some(detail),
        narrowed,
        ..counted(here.rows, there.rows)
    })
}

/// What a table holds on both sides, which are read at once.
async fn contents(
    (left, right): (&Side, &Side),
    shape: &side::Shape,
    kept: Option<&checkpoint::Kept<'_>>,
    ctx: &Context,
) -> Result<(Content, Content), BackupError> {
    let of = |side: usize| kept.map(|kept| (kept, side));
    futures::try_join!(left.content(shape, of(0), ctx), right.content(shape, of(1), ctx))
}
