//! The short part, while writes to the live index are blocked: clone or last pass, comparison, one swap.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::AdoptError;
use super::plan::{Adoption, Way};
use super::prepare::{Prepared, cancelled, carry_fields, carry_mapping, live};
use crate::clients::search::Search;
use crate::context::Context;
use crate::progress::Unit;
use crate::visibility::copy::{Copy, CopyError};

/// How long is waited between two looks at something that takes a moment.
const PAUSE: Duration = Duration::from_millis(25);

/// One adoption at its decisive moment.
#[derive(Debug)]
pub(super) struct Swap<'a> {
    pub search: &'a Search,
    pub index: &'a str,
    pub adoption: &'a Adoption,
    pub prepared: &'a Prepared,
    /// The mark of the live index.
    pub mark: &'a str,
    /// What is being done, for the message when it takes too long, and since when writes are blocked.
    pub clock: &'a Clock,
    pub ctx: &'a Context,
}

/// What the swap came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swapped {
    pub docs: u64,
    pub pause: Duration,
    /// Documents written by the last pass of a copy.
    pub copied: u64,
    /// Documents compared one by one.
    pub compared: u64,
}

/// Since when writes are blocked, and what is being done.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: Mutex<(Option<Instant>, String)>,
}

impl Clock {
    fn block(&self) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(Instant::now());
    }

    pub(super) fn doing(&self, what: impl Into<String>) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1 = what.into();
    }

    /// What was being done last.
    pub(super) fn stage(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// How long writes have been blocked; `None` before.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0.map(|since| since.elapsed())
    }
}

impl Swap<'_> {
    /// Blocks writes and does everything up to the swap. It may be dropped at any instant; undoing is the caller's.
    pub(super) async fn run(&self) -> Result<Swapped, AdoptError> {
        let Self { search, index, adoption, .. } = *self;
        self.stage("marking the live index");
        search.update_aliases(json!([{"add": {"index": index, "alias": self.mark}}])).await?;
        self.stage("blocking writes");
        self.clock.block();
        search.block_writes(index).await?;
        self.stage("waiting for the writes under way");
        while !search.writes_are_over(index).await? {
            tokio::time::sleep(PAUSE).await;
        }
        search.refresh(index).await?;
        let everything = json!({"match_all": {}});
        let (written, docs) = tokio::try_join!(search.highest_seq_nos(index), search.count(index, everything))?;
        let (copied, compared) = match adoption.way {
            Way::Clone => {
                self.clone().await?;
                (0, 0)
            }
            Way::Copy => self.last_pass().await?,
        };
        self.compare(docs, &written).await?;
        self.stage("swapping");
        search.update_aliases(self.actions()).await?;
        Ok(Swapped { docs, pause: self.clock.pause().unwrap_or_default(), copied, compared })
    }

    fn stage(&self, what: &str) {
        tracing::debug!(index = self.index, blocked_ms = self.clock.pause().map(|pause| pause.as_millis()), "{what}");
        self.clock.doing(what);
        self.ctx.progress.stage(what, None, Unit::Items);
    }

    async fn clone(&self) -> Result<(), AdoptError> {
        let Self { search, index, adoption, prepared, .. } = *self;
        self.stage("cloning");
        let mut settings = prepared.replicas.clone();
        // A clone takes the block over, unless it is told not to.
        settings.insert("index.blocks.write".into(), Value::Null);
        search.clone_index(index, &adoption.read, settings, &prepared.read_mark).await?;
        loop {
            let copies = search.shard_copies(&adoption.read).await?;
            if copies.active > 0 && copies.missing == 0 {
                return Ok(());
            }
            self.clock.doing(format!(
                "waiting for the clone to be green: {} of {} shard copies are not there yet",
                copies.missing,
                copies.missing + copies.active
            ));
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn last_pass(&self) -> Result<(u64, u64), AdoptError> {
        let Self { search, index, adoption, prepared, ctx, .. } = *self;
        self.stage("copying what was written last");
        let copy = Copy { source: search, from: index, target: search, to: &adoption.read };
        carry_mapping(search, &live(search, index).await?, &adoption.read).await?;
        let pass = copy.pass(&prepared.position, ctx).await.map_err(cancelled)?;
        self.clock.doing("comparing what was written last");
        let mut verified = copy.verify(&prepared.position, None, ctx).await.map_err(cancelled)?;
        let compared = verified.compared;
        if verified.target > verified.source {
            self.clock.doing("removing what was deleted since");
            copy.sweep(ctx).await.map_err(cancelled)?;
            verified = copy.verify(&prepared.position, None, ctx).await.map_err(cancelled)?;
        }
        if !verified.equal() {
            let (from, to, verified) = (index.to_owned(), adoption.read.clone(), Box::new(verified));
            return Err(CopyError::Differs { from, to, verified }.into());
        }
        Ok((pass.written, compared))
    }

    /// The last look before the live index goes, which cannot be undone.
    async fn compare(&self, docs: u64, written: &BTreeMap<String, i64>) -> Result<(), AdoptError> {
        let Self { search, index, adoption, .. } = *self;
        self.stage("comparing");
        let everything = json!({"match_all": {}});
        let (found, family, now_written) = tokio::try_join!(
            search.count(&adoption.read, everything),
            search.describe_family(index),
            search.highest_seq_nos(index),
        )?;
        if found != docs {
            let (index, copy) = (index.to_owned(), adoption.read.clone());
            return Err(AdoptError::Counts { index, copy, expected: docs, found });
        }
        let ours = family.get(index).filter(|now| {
            let same = now.setting("index.uuid").as_deref() == Some(&adoption.uuid);
            same && now.blocks("write") && now.aliases.contains(self.mark)
        });
        let (Some(now), Some(read), Some(write)) = (ours, family.get(&adoption.read), family.get(&adoption.write))
        else {
            return Err(AdoptError::Stale(format!("{index} is not blocked by this adoption any more")));
        };
        if now_written != *written {
            return Err(AdoptError::Written(index.to_owned()));
        }
        // A search attribute may have been added since the new indices were made.
        carry_fields(search, &now.mapping, &adoption.write, &write.mapping).await?;
        carry_fields(search, &now.mapping, &adoption.read, &read.mapping).await?;
        Ok(())
    }

    /// One call, all or nothing. The live index's own mark goes with it.
    fn actions(&self) -> Value {
        let Self { index, adoption, prepared, .. } = *self;
        let mut unmark = json!({"index": adoption.write, "alias": prepared.next_mark});
        if prepared.must_exist {
            unmark["must_exist"] = json!(true);
        }
        json!([
            {"remove": unmark},
            {"remove": {"index": adoption.read, "alias": prepared.read_mark}},
            {"remove_index": {"index": index}},
            {"add": {"index": adoption.read, "alias": index, "is_write_index": false}},
            {"add": {"index": adoption.write, "alias": index, "is_write_index": true}},
        ])
    }
}
