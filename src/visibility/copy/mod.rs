//! The versioned copy: every document of an index into another one, in the same cluster or another, with the version it
//! has.
//!
//! A document is written with its external version and wins only over lower ones, so that a copy may be broken off and
//! begun again, made in passes while the source is written to, and made twice: it ends in the same documents. Memory is
//! bounded by [`BATCH_BYTES`] and [`BATCH`], whatever the index holds.
//!
//! A copy only adds. What was deleted in the source meanwhile is found by [`Copy::sweep`]. Whether both sides hold the
//! same is said by [`Copy::verify`], by count and by the version of each document.

mod outcome;
mod read;
mod whole;

use std::time::Duration;

use serde_json::{Value, json};

use self::read::{Reader, versions};
use crate::clients::search::{Bulk, Done, Hit, Op, Search, SearchError};
use crate::context::Context;
use crate::progress::Unit;

pub use outcome::{CopyError, Difference, Verified};
pub use whole::copy_indices;
pub(super) use whole::{carry_fields, carry_mapping};

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

fn everything() -> Value {
    json!({"match_all": {}})
}

fn stopped(ctx: &Context, done: u64) -> Result<(), CopyError> {
    if ctx.is_cancelled() { Err(CopyError::Cancelled(done)) } else { Ok(()) }
}
