//! Reads the store over all backups: everything that a manifest names is there and is what it should be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;

use super::chunk::{ChunkRef, Holds, Keys};
use super::error::BackupError;
use super::manifest::{self, BackupId, Loaded};
use super::names::{self, ChunkName};
use super::seal::Identities;
use super::store::{Store, StoreError};
use super::verify::{Outcome, look};
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;

/// Chunks that are read at once.
const AT_ONCE: usize = 4;
/// A store that has refused so many reads one after the other is not asked for the rest.
const PATIENCE: usize = 20;

/// Which chunks are read: a share of them, chosen by a seed. That a chunk is there is looked at of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// From 0 to 100.
    pub percent: f64,
    /// Equal seeds choose equally.
    pub seed: u64,
}

impl Sample {
    fn takes(&self, id: &ChunkName) -> bool {
        let hash = blake3::hash(format!("{} {id}", self.seed).as_bytes());
        let number = hash.as_bytes().iter().take(6).fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
        #[allow(clippy::cast_precision_loss, reason = "48 bits fit")]
        let place = number as f64 / (1u64 << 48) as f64 * 100.0;
        place < self.percent
    }
}

/// A chunk, or a manifest, that is not what it should be, and what that concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The chunk's name; `None` when the manifest itself cannot be read.
    pub chunk: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// The backups that need it, the oldest first.
    pub backups: Vec<BackupId>,
    /// `database schema.table` of its rows.
    pub tables: Vec<String>,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Backups that were looked at.
    pub backups: u64,
    /// Chunks that they name, each counted once.
    pub chunks: u64,
    /// Chunks that were read and are what they should be.
    pub good_chunks: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Which were read; `None` means all.
    pub sample: Option<Sample>,
    /// What is missing or damaged.
    pub bad: Vec<Found>,
    /// What the store would not give, for reasons that say nothing about it.
    pub unread: Vec<Found>,
}

impl CheckReport {
    /// `Ok` only when all is there and what was to be read is what it should be.
    ///
    /// # Errors
    /// [`BackupError::Differs`] when something is bad, else [`BackupError::Unverified`] when something could not be read.
    pub fn verdict(&self) -> Result<(), BackupError> {
        let subject = "what the store holds of the backups".to_owned();
        let line = |found: &Found| {
            let ids = found.backups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            match &found.chunk {
                Some(chunk) => {
                    format!("chunk {chunk} of {} (backups {ids}): {}", found.tables.join(", "), found.problem)
                }
                None if ids.is_empty() => found.problem.clone(),
                None => format!("backup {ids}: {}", found.problem),
            }
        };
        if !self.bad.is_empty() {
            return Err(BackupError::Differs { subject, findings: self.bad.iter().map(line).collect() });
        }
        if !self.unread.is_empty() {
            return Err(BackupError::Unverified { subject, reasons: self.unread.iter().map(line).collect() });
        }
        Ok(())
    }
}

/// What manifests say about one chunk: mostly one thing, however many backups share it.
type Claims = Vec<(ChunkRef, Keys)>;

/// Looks at every chunk of every backup once: it is there, and when it is to be read or its size is not the one it was
/// stored with, it holds what the manifests say. The report must be asked for its [`CheckReport::verdict`].
///
/// Takes memory for each chunk, a few hundred bytes, and for the few that are being read.
///
/// # Errors
/// [`BackupError::NoneYet`], the store cannot be listed at the beginning, or the run is cancelled; all else is in the
/// report.
pub async fn check(
    store: &dyn Store,
    identities: &Arc<Identities>,
    sample: Option<Sample>,
    ctx: &Context,
) -> Result<CheckReport, BackupError> {
    let ids = manifest::ids(store).await?;
    if ids.is_empty() {
        return Err(BackupError::NoneYet { location: store.location() });
    }
    let mut report = CheckReport {
        backups: ids.len() as u64,
        chunks: 0,
        good_chunks: 0,
        read_bytes: 0,
        sample,
        bad: vec![],
        unread: vec![],
    };
    let named = claims(store, &ids, &mut report, ctx).await?;
    report.chunks = named.len() as u64;
    let sizes = match sizes(store).await {
        Ok(sizes) => sizes,
        Err(error) => {
            report.unread.push(Found { chunk: None, problem: chain(&error), backups: ids, tables: vec![] });
            return Ok(report);
        }
    };
    let mut problems: HashMap<ChunkName, (String, bool)> = HashMap::new();
    let (mut work, mut spare) = (Vec::new(), None);
    for (id, claims) in named {
        match sizes.get(&id) {
            None => drop(problems.insert(id, ("it is missing".into(), true))),
            Some(size) => {
                let odd = claims.iter().any(|(chunk, _)| chunk.stored != *size);
                if odd || sample.is_none_or(|sample| sample.takes(&id)) {
                    work.push((id, *size, claims));
                } else {
                    spare.get_or_insert((id, *size, claims));
                }
            }
        }
    }
    // However small the share: a check that read nothing would be no check.
    if work.is_empty() {
        work.extend(spare);
    }
    ctx.progress.stage("reading chunks", Some(work.iter().map(|(_, size, _)| size).sum()), Unit::Bytes);
    let mut results = futures::stream::iter(work)
        .map(|(id, size, claims)| async move { (id, size, read(store, identities, size, claims).await) })
        .buffer_unordered(AT_ONCE);
    let mut refused = 0;
    while let Some((id, size, outcome)) = results.next().await {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        match outcome {
            Outcome::Good(bytes) => {
                refused = 0;
                report.good_chunks += 1;
                report.read_bytes += bytes;
            }
            Outcome::Bad(problem) => drop(problems.insert(id, (problem, true))),
            Outcome::Unread(problem) => {
                refused += 1;
                drop(problems.insert(id, (problem, false)));
            }
        }
        if refused >= PATIENCE {
            let problem = format!("given up after {PATIENCE} chunks in a row could not be read");
            report.unread.push(Found { chunk: Some("the rest".to_owned()), problem, backups: vec![], tables: vec![] });
            break;
        }
        ctx.progress.advance(size);
    }
    attribute(store, &problems, &mut report, ctx).await?;
    Ok(report)
}

/// What the manifests name. One that cannot be read is a finding.
async fn claims(
    store: &dyn Store,
    ids: &[BackupId],
    report: &mut CheckReport,
    ctx: &Context,
) -> Result<HashMap<ChunkName, Claims>, BackupError> {
    ctx.progress.stage("reading manifests", Some(ids.len() as u64), Unit::Items);
    let mut named: HashMap<ChunkName, Claims> = HashMap::new();
    let mut seen = HashSet::new();
    // Equal columns have equal keys, which are made once.
    let mut signatures: HashMap<String, (u32, Keys)> = HashMap::new();
    for id in ids {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let found = |problem| Found { chunk: None, problem, backups: vec![id.clone()], tables: vec![] };
        match manifest::loaded(store, id).await {
            Ok(Loaded::Read(manifest)) => {
                for table in manifest.databases.iter().flat_map(|database| &database.tables) {
                    let signature = serde_json::to_string(&(table.copy_format, &table.columns)).unwrap_or_default();
                    let number = u32::try_from(signatures.len()).unwrap_or(u32::MAX);
                    let (number, keys) = signatures.entry(signature).or_insert_with(|| (number, table.keys()));
                    // A name that is given with other columns or other rows is another claim, and is checked as well.
                    for (holds, chunk) in table.objects() {
                        if holds == Holds::Places || !seen.insert((*chunk, holds, *number)) {
                            continue;
                        }
                        let keys = if holds == Holds::Gone { Keys::list() } else { keys.clone() };
                        named.entry(chunk.name()).or_default().push((*chunk, keys));
                    }
                }
            }
            Ok(Loaded::Gone) => report.backups = report.backups.saturating_sub(1),
            Ok(Loaded::Unreadable(why)) => report.bad.push(found(why)),
            Err(error) => report.unread.push(found(chain(&error))),
        }
        ctx.progress.advance(1);
    }
    Ok(named)
}

async fn sizes(store: &dyn Store) -> Result<HashMap<ChunkName, u64>, StoreError> {
    Ok(names::listed(store).await?.into_iter().map(|(name, entry)| (name, entry.size)).collect())
}

/// Holds the chunk against each claim. Its size is told when its content is wrong; a chunk that was stored anew with
/// another level of compression is as good as before.
async fn read(store: &dyn Store, identities: &Arc<Identities>, size: u64, claims: Claims) -> Outcome {
    let mut read = 0;
    for (chunk, keys) in claims {
        match look(store, &chunk, keys, None, identities).await {
            Outcome::Good(bytes) => read = bytes,
            Outcome::Bad(problem) if size != chunk.stored => {
                return Outcome::Bad(format!("it has {size} bytes instead of {}: {problem}", chunk.stored));
            }
            other => return other,
        }
    }
    Outcome::Good(read)
}

/// Says which backups and tables need what is bad; the manifests are read again for that, since it is rare. A chunk that
/// no backup names any more was removed by a prune, and is no finding.
async fn attribute(
    store: &dyn Store,
    problems: &HashMap<ChunkName, (String, bool)>,
    report: &mut CheckReport,
    ctx: &Context,
) -> Result<(), BackupError> {
    if problems.is_empty() {
        return Ok(());
    }
    let mut needed: BTreeMap<ChunkName, (BTreeSet<BackupId>, BTreeSet<String>)> = BTreeMap::new();
    let mut unknown = None;
    match manifest::ids(store).await {
        Ok(ids) => {
            for id in ids {
                if ctx.is_cancelled() {
                    return Err(BackupError::Cancelled);
                }
                match manifest::loaded(store, &id).await {
                    Ok(Loaded::Read(manifest)) => {
                        for (database, table, chunk) in manifest.chunks() {
                            if problems.contains_key(&chunk.name()) {
                                let (backups, tables) = needed.entry(chunk.name()).or_default();
                                backups.insert(id.clone());
                                tables.insert(format!("{} {}", database.name, table.name));
                            }
                        }
                    }
                    // Found bad before, or gone by now.
                    Ok(Loaded::Gone | Loaded::Unreadable(_)) => {}
                    Err(error) => unknown = Some(chain(&error)),
                }
            }
        }
        Err(error) => unknown = Some(chain(&error)),
    }
    let mut all: Vec<_> = problems.iter().collect();
    all.sort_by_key(|(id, _)| **id);
    for (id, (problem, is_bad)) in all {
        let (backups, tables) = match (needed.remove(id), &unknown) {
            (Some(found), _) => found,
            (None, Some(_)) => Default::default(),
            (None, None) => continue,
        };
        let found = Found {
            chunk: Some(id.to_string()),
            problem: problem.clone(),
            backups: backups.into_iter().collect(),
            tables: tables.into_iter().collect(),
        };
        if *is_bad { report.bad.push(found) } else { report.unread.push(found) }
    }
    if let Some(problem) = unknown {
        report.unread.push(Found { chunk: None, problem, backups: vec![], tables: vec![] });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::rows::Format;

    #[test]
    fn a_sample_takes_about_its_share_and_the_same_for_the_same_seed() {
        let keys = Keys::new("x", Format::Text);
        let ids: Vec<ChunkName> =
            (0..10_000u32).map(|n| ChunkName { id: keys.id(&n.to_be_bytes()), sealed: None }).collect();
        let taken = |percent, seed| -> Vec<ChunkName> {
            ids.iter().copied().filter(|id| Sample { percent, seed }.takes(id)).collect()
        };
        assert!((400..600).contains(&taken(5.0, 1).len()), "{}", taken(5.0, 1).len());
        assert_eq!(taken(5.0, 7), taken(5.0, 7));
        assert_ne!(taken(5.0, 7), taken(5.0, 8));
        assert_eq!((taken(0.0, 1).len(), taken(100.0, 1).len()), (0, 10_000));
    }
}
