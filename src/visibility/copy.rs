//! The versioned copy: every document of an index into another one, in the same cluster or another, with the version it
//! has.
//!
//! A document is written with its external version and wins only over lower ones, so that a copy may be broken off and
//! begun again, made in passes while the source is written to, and made twice: it ends in the same documents. Memory is
//! bounded by [`BATCH_BYTES`] and [`BATCH`], whatever the index holds.
//!
//! A copy only adds. What was deleted in the source meanwhile is found by [`Copy::sweep`]. Whether both sides hold the
//! same is said by [`Copy::verify`], by count and by the version of each document.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::rollover::missing_fields;
use crate::clients::search::{Bulk, Done, Hit, Op, Scan, Search, SearchError};
use crate::context::Context;
use crate::failure::{Explain, Kind};
use crate::progress::Unit;

/// At most so many documents are read and written at once.
pub const BATCH: usize = 1_000;
/// A batch is made smaller when it holds more than this.
pub const BATCH_BYTES: usize = 8 << 20;
/// At most so many differences are listed.
const LISTED: usize = 20;
/// How often a write is sent again that the target was too busy for.
const ATTEMPTS: u32 = 8;

/// From where to where.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'a> {
    /// The cluster that is read.
    pub source: &'a Search,
    /// The index that is read.
    pub from: &'a str,
    /// The cluster that is written to; it may be the same.
    pub target: &'a Search,
    /// The index that is written to.
    pub to: &'a str,
}

/// Per shard of the source, the first sequence number that has not been copied; empty for none at all.
pub type Position = Vec<u64>;

/// What one pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pass {
    /// Documents written.
    pub written: u64,
    /// Documents that were there with the same or a higher version.
    pub present: u64,
    /// Where the next pass begins.
    pub next: Position,
}

/// Whether both sides hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verified {
    /// Documents compared one by one.
    pub compared: u64,
    /// Documents in the source.
    pub source: u64,
    /// Documents in the target.
    pub target: u64,
    /// How many documents differ.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A document that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its id.
    pub id: String,
    /// Its version in the source.
    pub source: u64,
    /// Its version in the target; `None` when it is not there.
    pub target: Option<u64>,
}

/// A copy that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// An engine could not be asked or told.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The target refuses a document.
    #[error("index `{index}` refuses the document `{id}`: {reason}")]
    Refused {
        /// The index written to.
        index: String,
        /// The document.
        id: String,
        /// The engine's words.
        reason: String,
    },
    /// Documents cannot be read in full: `_source` is switched off.
    #[error("index `{0}` keeps no `_source`, so that its documents cannot be copied")]
    NoSource(String),
    /// Both sides do not hold the same.
    #[error("the copy in `{to}` differs from `{from}`: {}", told(verified))]
    Differs {
        /// The index read.
        from: String,
        /// The index written.
        to: String,
        /// What was found.
        verified: Box<Verified>,
    },
    /// The run was asked to stop between two batches.
    #[error("the copy was stopped after {0} documents")]
    Cancelled(u64),
}

impl Explain for CopyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Search(error) => error.kind(),
            Self::Refused { .. } | Self::NoSource(_) => Kind::Failed,
            Self::Differs { .. } => Kind::VerificationFailed,
            Self::Cancelled(_) => Kind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Search(error) => error.hint(),
            Self::Refused { .. } => Some("compare the mappings of the two indices (`GET <index>/_mapping`)".into()),
            Self::NoSource(_) => Some("an index without `_source` can only be cloned".into()),
            Self::Differs { .. } => Some("look whether somebody else writes to the copy, then run again".into()),
            Self::Cancelled(_) => Some("run again: what was copied is not copied twice".into()),
        }
    }
}

impl Verified {
    /// True when both sides hold the same documents with the same versions.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.differing == 0 && self.source == self.target
    }
}

fn told(verified: &Verified) -> String {
    let mut text = format!("{} documents against {}", verified.target, verified.source);
    for difference in verified.differences.iter().take(3) {
        let found = difference.target.map_or_else(|| "missing".to_owned(), |version| format!("version {version}"));
        text += &format!(", `{}` is {found} and should be version {}", difference.id, difference.source);
    }
    text
}

impl Copy<'_> {
    /// Copies what was written from this position on, and what is written while it does. Everything below
    /// [`Pass::next`] has been copied when it returns.
    ///
    /// # Errors
    /// Any [`CopyError`] but [`CopyError::Differs`].
    pub async fn pass(&self, from: &Position, ctx: &Context) -> Result<Pass, CopyError> {
        // Read before the refresh: what is below is then seen by the searches.
        let next = self.position().await?;
        self.source.refresh(self.from).await?;
        let total = self.source.count(self.from, everything()).await?;
        ctx.progress.stage(
            &format!("copying {} to {}", self.from, self.to),
            from.is_empty().then_some(total),
            Unit::Items,
        );
        let mut pass = Pass { next, ..Pass::default() };
        for shard in 0..pass.next.len() {
            self.shard(shard, from.get(shard).copied().unwrap_or(0), &mut pass, ctx).await?;
        }
        Ok(pass)
    }

    /// Removes from the target what the source does not have (any more); how many documents that were.
    ///
    /// # Errors
    /// Any [`CopyError`] but [`CopyError::Differs`].
    pub async fn sweep(&self, ctx: &Context) -> Result<u64, CopyError> {
        self.target.refresh(self.to).await?;
        self.source.refresh(self.from).await?;
        let shards = self.target.checkpoints(self.to).await?.remove(self.to).unwrap_or_default();
        let mut removed = 0;
        for shard in 0..shards.len() {
            let mut reader = Reader::new(self.target, self.to, shard, 0, false);
            while let Some(page) = reader.next().await? {
                stopped(ctx, removed)?;
                let known = versions(self.source, self.from, &page).await?;
                let gone: Vec<&Hit> = page.iter().filter(|hit| !known.contains_key(&hit.id)).collect();
                removed += gone.len() as u64;
                self.write(&gone, |hit| Some(Op::Delete { index: self.to, id: &hit.id, version: hit.version })).await?;
            }
        }
        Ok(removed)
    }

    /// Compares the counts of both sides, and the version of each document that was written from the one position on
    /// and before the other. A source that is written to can only be compared below a position, and not by its count;
    /// the target may then have a higher version.
    ///
    /// # Errors
    /// Any [`CopyError`] but [`CopyError::Differs`]: a difference is a result.
    pub async fn verify(
        &self,
        from: &Position,
        below: Option<&Position>,
        ctx: &Context,
    ) -> Result<Verified, CopyError> {
        self.source.refresh(self.from).await?;
        self.target.refresh(self.to).await?;
        let mut verified = Verified::default();
        ctx.progress.stage(&format!("comparing {} with {}", self.to, self.from), None, Unit::Items);
        for shard in 0..self.position().await?.len() {
            let begin = from.get(shard).copied().unwrap_or(0);
            let mut reader = Reader::new(self.source, self.from, shard, begin, false);
            reader.below = below.map(|below| below.get(shard).copied().unwrap_or(0));
            while let Some(page) = reader.next().await? {
                stopped(ctx, verified.compared)?;
                let known = versions(self.target, self.to, &page).await?;
                for hit in &page {
                    let found = known.get(&hit.id).copied();
                    let same = match below {
                        None => found == Some(hit.version),
                        Some(_) => found >= Some(hit.version),
                    };
                    if !same {
                        verified.differing += 1;
                        if verified.differences.len() < LISTED {
                            let id = hit.id.clone();
                            verified.differences.push(Difference { id, source: hit.version, target: found });
                        }
                    }
                }
                verified.compared += page.len() as u64;
                ctx.progress.advance(page.len() as u64);
            }
        }
        verified.source = self.source.count(self.from, everything()).await?;
        verified.target = self.target.count(self.to, everything()).await?;
        Ok(verified)
    }

    /// The source's position now: everything below is written on all its copies.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn position(&self) -> Result<Position, SearchError> {
        Ok(self.source.checkpoints(self.from).await?.remove(self.from).unwrap_or_default())
    }

    async fn shard(&self, shard: usize, from: u64, pass: &mut Pass, ctx: &Context) -> Result<(), CopyError> {
        let mut reader = Reader::new(self.source, self.from, shard, from, true);
        while let Some(page) = reader.next().await? {
            stopped(ctx, pass.written)?;
            if page.iter().any(|hit| hit.source.is_none()) {
                return Err(CopyError::NoSource(self.from.to_owned()));
            }
            let all: Vec<&Hit> = page.iter().collect();
            let written = self
                .write(&all, |hit| {
                    let body = hit.source.as_deref()?;
                    Some(Op::Index { index: self.to, id: &hit.id, version: hit.version, body })
                })
                .await?;
            pass.written += written;
            pass.present += (page.len() as u64).saturating_sub(written);
            ctx.progress.advance(page.len() as u64);
        }
        Ok(())
    }

    /// Makes one write for each document; how many were applied. Those the target is too busy for are sent again.
    async fn write<'d>(&self, hits: &[&'d Hit], op: impl Fn(&'d Hit) -> Option<Op<'d>>) -> Result<u64, CopyError> {
        let (mut left, mut applied) = (hits.to_vec(), 0);
        for attempt in 0..ATTEMPTS {
            let mut bulk = Bulk::default();
            left.iter().filter_map(|hit| op(hit)).for_each(|op| self.target.add(&mut bulk, &op));
            let done = self.target.bulk(bulk).await?;
            let mut busy = Vec::new();
            for (hit, done) in left.iter().zip(done) {
                match done {
                    Done::Applied => applied += 1,
                    Done::Conflict | Done::Missing => {}
                    Done::Failed { status: 429 | 503, .. } if attempt + 1 < ATTEMPTS => busy.push(*hit),
                    Done::Failed { status, kind, reason } => {
                        let reason = format!("{status} {kind}: {reason}");
                        return Err(CopyError::Refused { index: self.to.to_owned(), id: hit.id.clone(), reason });
                    }
                }
            }
            if busy.is_empty() {
                break;
            }
            left = busy;
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
        Ok(applied)
    }
}

/// Copies whole indices, one after the other, each into an index of the given name in the target, and verifies each by
/// count and version. A target index that is missing is created from the target's own templates; fields that only the
/// source's mapping has (custom search attributes) are added to it. Made twice, the second time writes nothing.
///
/// The source must not be written to meanwhile, or the comparison finds a difference.
///
/// # Errors
/// Any [`CopyError`]; [`CopyError::Differs`] names the first documents that differ.
pub async fn copy_indices(
    source: &Search,
    target: &Search,
    pairs: &[(String, String)],
    ctx: &Context,
) -> Result<Vec<Verified>, CopyError> {
    let mut all = Vec::new();
    for (from, to) in pairs {
        carry_mapping(source, from, target, to).await?;
        let copy = Copy { source, from, target, to };
        copy.pass(&Position::new(), ctx).await?;
        let verified = copy.verify(&Position::new(), None, ctx).await?;
        if !verified.equal() {
            let verified = Box::new(verified);
            return Err(CopyError::Differs { from: from.clone(), to: to.clone(), verified });
        }
        all.push(verified);
    }
    Ok(all)
}

/// The target index exists and has every field of the source. Where both have a field the target's type stays: a
/// `date` of Elasticsearch 6 becomes the `date_nanos` of Temporal's newer template.
async fn carry_mapping(source: &Search, from: &str, target: &Search, to: &str) -> Result<(), SearchError> {
    let of = source.mappings(from).await?.remove(from).unwrap_or_default();
    let there = match target.mappings(to).await {
        Ok(mut found) => found.remove(to),
        Err(SearchError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let there = match there {
        Some(mapping) => mapping,
        None => {
            target.create_index(to, json!({})).await?;
            target.mappings(to).await?.remove(to).unwrap_or_default()
        }
    };
    let missing = missing_fields(&of, &there);
    if missing.is_empty() { Ok(()) } else { target.add_fields(to, &missing).await }
}

/// Reads one shard page by page.
struct Reader<'a> {
    search: &'a Search,
    index: &'a str,
    shard: usize,
    from: u64,
    below: Option<u64>,
    source: bool,
    size: usize,
}

impl<'a> Reader<'a> {
    fn new(search: &'a Search, index: &'a str, shard: usize, from: u64, source: bool) -> Self {
        // Until it is known how large the documents are, few of them are read.
        Self { search, index, shard, from, below: None, source, size: if source { BATCH / 10 } else { BATCH } }
    }

    async fn next(&mut self) -> Result<Option<Vec<Hit>>, SearchError> {
        let (shard, filter) = (self.shard, everything());
        let scan = Scan {
            shard,
            filter,
            from: self.from,
            below: self.below,
            size: self.size,
            fields: &[],
            source: self.source,
        };
        let page = self.search.scan(self.index, &scan).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.from = last.seq_no.saturating_add(1);
        let bytes: usize = page.iter().filter_map(|hit| hit.source.as_ref()).map(|body| body.get().len()).sum();
        let fitting = BATCH_BYTES.checked_div(bytes / page.len()).unwrap_or(BATCH);
        self.size = fitting.clamp(1, BATCH).min(self.size.saturating_mul(4));
        Ok(Some(page))
    }
}

async fn versions(search: &Search, index: &str, page: &[Hit]) -> Result<BTreeMap<String, u64>, SearchError> {
    let ids: Vec<&str> = page.iter().map(|hit| hit.id.as_str()).collect();
    let found = search.find(&[index], &ids, &[], false).await?;
    Ok(found.into_iter().map(|hit| (hit.id, hit.version)).collect())
}

fn everything() -> Value {
    json!({"match_all": {}})
}

fn stopped(ctx: &Context, done: u64) -> Result<(), CopyError> {
    if ctx.is_cancelled() { Err(CopyError::Cancelled(done)) } else { Ok(()) }
}
