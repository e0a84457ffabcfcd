//! Reads a backup back from the store, without a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;

use super::aside;
use super::chunk::{self, ChunkError, ChunkRef, Keys, MAX_STORED};
use super::error::BackupError;
use super::manifest::{BackupId, Gone, Manifest, Slice};
use super::seal::{self, Identities};
use super::store::{Store, StoreError};
use super::track::gone::Bitmap;
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;

/// A chunk that is not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The chunk's name.
    pub chunk: String,
    /// `database schema.table` of its rows.
    pub table: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What reading a backup back came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The backup.
    pub id: BackupId,
    /// Chunks that are what they should be; a chunk that several tables share counts once.
    pub good_chunks: u64,
    /// Bytes that were read from the store.
    pub stored_bytes: u64,
    /// Chunks that are missing, damaged or hold other rows.
    pub bad: Vec<Finding>,
    /// Chunks that the store would not give, for reasons that say nothing about them.
    pub unread: Vec<Finding>,
}

impl VerifyReport {
    /// `Ok` only when every chunk was read and is what it should be.
    ///
    /// # Errors
    /// [`BackupError::Differs`] when a chunk is bad, else [`BackupError::Unverified`] when one could not be read.
    pub fn verdict(&self) -> Result<(), BackupError> {
        let subject = format!("what the store holds of backup `{}`", self.id);
        let lines = |findings: &[Finding]| {
            let line = |finding: &Finding| format!("chunk {} of {}: {}", finding.chunk, finding.table, finding.problem);
            findings.iter().map(line).collect()
        };
        if !self.bad.is_empty() {
            return Err(BackupError::Differs { subject, findings: lines(&self.bad) });
        }
        if !self.unread.is_empty() {
            return Err(BackupError::Unverified { subject, reasons: by_reason(&self.unread) });
        }
        Ok(())
    }
}

/// A line for each reason: without the key every chunk has the same one.
fn by_reason(findings: &[Finding]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        reasons.entry(&finding.problem).or_default().push(finding);
    }
    let line = |(problem, found): (&str, Vec<&Finding>)| match found.as_slice() {
        [one] => format!("chunk {} of {}: {problem}", one.chunk, one.table),
        many => format!("{} chunks: {problem}", many.len()),
    };
    reasons.into_iter().map(line).collect()
}

/// What became of reading a chunk.
pub(super) enum Outcome {
    /// It is what it should be, and so many bytes in the store.
    Good(u64),
    /// It is not.
    Bad(String),
    /// The store would not give it.
    Unread(String),
}

/// Which rows of a chunk are gone, and what they come to by the manifest.
pub(super) type Lost = (Bitmap, Gone);

/// What is to be read, and what of.
struct Work {
    chunk: ChunkRef,
    keys: Keys,
    lost: Option<Lost>,
    table: String,
}

/// Reads every chunk of a backup once: it is there, decompresses, hashes to its name and holds the rows that the
/// manifest says, and those of them that are gone are the ones that the table's list marks. The report must be asked for
/// its [`VerifyReport::verdict`].
///
/// Takes memory for each chunk, and a bit for each row of the chunks of which rows are gone.
///
/// # Errors
/// When the run is cancelled; all else is in the report.
pub async fn verify(
    store: &dyn Store,
    manifest: &Manifest,
    identities: &Arc<Identities>,
    ctx: &Context,
) -> Result<VerifyReport, BackupError> {
    let mut report =
        VerifyReport { id: manifest.id.clone(), good_chunks: 0, stored_bytes: 0, bad: vec![], unread: vec![] };
    let mut seen = std::collections::HashSet::new();
    let mut work = Vec::new();
    for database in &manifest.databases {
        for table in &database.tables {
            if ctx.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            let (keys, label) = (table.keys(), format!("{} {}", database.name, table.name));
            let list = table.tracking.as_ref().and_then(|tracking| tracking.gone);
            if let Some(chunk) = list.filter(|list| seen.insert((*list, None, &[][..]))) {
                work.push(Work { chunk, keys: Keys::list(), lost: None, table: label.clone() });
            }
            // One that is bad is told of when its own turn comes. One that was not to be had now may be by then, and the
            // rows that it marks would pass unchecked.
            let marks = match list {
                None => None,
                Some(list) => match opened(store, &list, &Keys::list(), identities).await {
                    Ok((_, bytes)) => Some(bytes),
                    Err(Outcome::Unread(problem)) => {
                        let (chunk, table) = (list.name().to_string(), label.clone());
                        report.unread.push(Finding { chunk, table, problem });
                        None
                    }
                    Err(_) => None,
                },
            };
            for Slice { chunk, gone, .. } in &table.chunks {
                // A name that is given with other columns or other rows is another claim, and is checked as well.
                if !seen.insert((*chunk, *gone, &table.columns)) {
                    continue;
                }
                let lost = gone.and_then(|gone| Some((Bitmap::of(marks.as_ref()?, gone.at, chunk.rows)?, gone)));
                work.push(Work { chunk: *chunk, keys: keys.clone(), lost, table: label.clone() });
            }
        }
    }
    let total = work.iter().map(|work| work.chunk.stored).sum();
    ctx.progress.stage("reading chunks", Some(total), Unit::Bytes);
    let mut results = futures::stream::iter(work)
        .map(|Work { chunk, keys, lost, table }| async move {
            (look(store, &chunk, keys, lost, identities).await, chunk, table)
        })
        .buffer_unordered(4);
    while let Some((outcome, chunk, table)) = results.next().await {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let finding = |problem| Finding { chunk: chunk.name().to_string(), table, problem };
        match outcome {
            Outcome::Good(bytes) => {
                report.good_chunks += 1;
                report.stored_bytes += bytes;
            }
            Outcome::Bad(problem) => report.bad.push(finding(problem)),
            Outcome::Unread(problem) => report.unread.push(finding(problem)),
        }
        ctx.progress.advance(chunk.stored);
    }
    report.bad.sort_by(|a, b| (&a.table, &a.chunk).cmp(&(&b.table, &b.chunk)));
    report.unread.sort_by(|a, b| (&a.table, &a.chunk).cmp(&(&b.table, &b.chunk)));
    Ok(report)
}

/// Reads a chunk and holds it against what a manifest says of it, and of those of its rows that are gone.
pub(super) async fn look(
    store: &dyn Store,
    wanted: &ChunkRef,
    keys: Keys,
    lost: Option<Lost>,
    identities: &Arc<Identities>,
) -> Outcome {
    let (bytes, raw) = match opened(store, wanted, &keys, identities).await {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    let wanted = wanted.content();
    let checked = aside::work(move || {
        let is_gone = |row| lost.as_ref().is_some_and(|(bitmap, _)| bitmap.has(row));
        let (found, gone) = chunk::contents_of(&raw, &keys, is_gone)?;
        match &lost {
            _ if found != wanted => Err(ChunkError::Content { expected: wanted.rows, found: found.rows }),
            Some((_, said)) if gone != said.content() => {
                Err(ChunkError::Gone { expected: said.rows, found: gone.rows })
            }
            _ => Ok(()),
        }
    });
    match checked.await {
        Ok(Ok(())) => Outcome::Good(bytes),
        Ok(Err(error)) => Outcome::Bad(error.to_string()),
        Err(error) => Outcome::Unread(error.to_string()),
    }
}

/// The bytes of a chunk that is the one of its name, and its size in the store.
async fn opened(
    store: &dyn Store,
    wanted: &ChunkRef,
    keys: &Keys,
    identities: &Arc<Identities>,
) -> Result<(u64, Vec<u8>), Outcome> {
    let key = wanted.key().map_err(|error| Outcome::Bad(error.to_string()))?;
    let stored = match store.get(&key, MAX_STORED).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound { .. }) => return Err(Outcome::Bad("it is missing".into())),
        Err(error @ (StoreError::Checksum { .. } | StoreError::TooLarge { .. })) => {
            return Err(Outcome::Bad(chain(&error)));
        }
        Err(error) => return Err(Outcome::Unread(chain(&error))),
    };
    let bytes = u64::try_from(stored.len()).unwrap_or(u64::MAX);
    let (wanted, keys, identities) = (*wanted, keys.clone(), Arc::clone(identities));
    match aside::work(move || seal::open(&stored, &wanted, &keys, &identities)).await {
        Ok(Ok(raw)) => Ok((bytes, raw)),
        Ok(Err(error @ ChunkError::NoIdentity(_))) => Err(Outcome::Unread(error.to_string())),
        Ok(Err(error)) => Err(Outcome::Bad(error.to_string())),
        Err(error) => Err(Outcome::Unread(error.to_string())),
    }
}
