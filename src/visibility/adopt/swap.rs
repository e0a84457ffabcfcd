//! The short part, while writes to the live index are blocked: clone or last pass, comparison, one swap.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::error::AdoptError;
use super::guard::Guard;
use super::plan::{Adoption, Way};
use super::prepare::{PAUSE, Prepared, cancelled, green};
use crate::clients::search::{Search, SearchError, WriteBlock};
use crate::context::Context;
use crate::progress::Unit;
use crate::units::Span;
use crate::visibility::copy::{Copy, CopyError, carry_fields, carry_mapping};

/// One adoption at its decisive moment.
#[derive(Debug)]
pub(super) struct Swap<'a> {
    pub search: &'a Search,
    pub index: &'a str,
    pub adoption: &'a Adoption,
    pub prepared: &'a Prepared,
    /// The mark of the live index.
    pub mark: &'a str,
    /// How long all of it may take.
    pub limit: Duration,
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
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    since: Option<Instant>,
    call: Option<AbortHandle>,
    doing: String,
}

impl Clock {
    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block(&self) {
        self.now().since = Some(Instant::now());
    }

    fn sends(&self, call: AbortHandle) {
        self.now().call = Some(call);
    }

    pub(super) fn doing(&self, what: impl Into<String>) {
        self.now().doing = what.into();
    }

    /// What was being done last.
    pub(super) fn stage(&self) -> String {
        self.now().doing.clone()
    }

    /// Since when writes have been blocked; `None` before.
    pub(super) fn since(&self) -> Option<Instant> {
        self.now().since
    }

    /// The last of the calls that mark the live index and block its writes.
    pub(super) fn call(&self) -> Option<AbortHandle> {
        self.now().call.clone()
    }
}

impl Swap<'_> {
    /// Has the guard watch, then runs under the deadline; undoing is the caller's.
    pub(super) async fn guarded(&self, guard: &mut Guard) -> Result<Swapped, AdoptError> {
        let end = Instant::now() + self.limit;
        self.stage("having the guard watch");
        guard.watch(self.mark).await?;
        // A process that slept looks at its deadline before it goes on with anything.
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(end.into()) => Err(self.late()),
            () = self.ctx.cancel.cancelled() => Err(AdoptError::Cancelled),
            result = self.run(end) => result,
        }
    }

    fn late(&self) -> AdoptError {
        AdoptError::Deadline { limit: Span::from(self.limit), doing: self.clock.stage() }
    }

    /// Blocks writes and does everything up to the swap. It may be dropped at any instant.
    async fn run(&self, end: Instant) -> Result<Swapped, AdoptError> {
        let Self { search, index, adoption, .. } = *self;
        self.stage("marking the live index");
        if self.write_block().await? != WriteBlock::Off {
            // Under the mark it would be taken for this adoption's.
            return Err(AdoptError::Stale(format!("writes to {index} have been blocked meanwhile")));
        }
        self.mark().await?;
        self.stage("blocking writes");
        self.in_time(end)?;
        self.block().await?;
        self.stage("waiting for the writes under way");
        while !search.writes_are_over(index).await? {
            tokio::time::sleep(PAUSE).await;
        }
        search.refresh(index).await?;
        let everything = json!({"match_all": {}});
        let written = self.written().await?;
        let docs = search.count(index, everything).await?;
        let (copied, compared) = match adoption.way {
            Way::Clone => {
                self.clone().await?;
                (0, 0)
            }
            Way::Copy => self.last_pass().await?,
        };
        self.compare(docs, &written).await?;
        self.stage("swapping");
        self.in_time(end)?;
        search.update_aliases(self.actions()).await?;
        let pause = self.clock.since().map(|since| since.elapsed()).unwrap_or_default();
        Ok(Swapped { docs, pause, copied, compared })
    }

    fn in_time(&self, end: Instant) -> Result<(), AdoptError> {
        if Instant::now() < end { Ok(()) } else { Err(self.late()) }
    }

    async fn mark(&self) -> Result<(), AdoptError> {
        let (search, action) = (self.search.clone(), json!([{"add": {"index": self.index, "alias": self.mark}}]));
        self.answered(async move { search.update_aliases(action).await }).await
    }

    /// Blocks writes by a call to the mark: once that has been taken off, a call that is late cannot block them any more.
    async fn block(&self) -> Result<(), AdoptError> {
        let (search, mark) = (self.search.clone(), self.mark.to_owned());
        self.clock.block();
        self.answered(async move { search.block_writes(&mark).await }).await
    }

    /// Makes a call that goes on when this is dropped, so that the undoing knows when it was answered.
    async fn answered(
        &self,
        call: impl Future<Output = Result<(), SearchError>> + Send + 'static,
    ) -> Result<(), AdoptError> {
        let call = tokio::spawn(call);
        self.clock.sends(call.abort_handle());
        let lost = |error: tokio::task::JoinError| {
            Err(SearchError::Malformed { call: self.clock.stage(), cause: error.to_string() })
        };
        Ok(call.await.unwrap_or_else(lost)?)
    }

    /// The live index's write block.
    async fn write_block(&self) -> Result<WriteBlock, AdoptError> {
        match self.search.block_state(self.index).await? {
            Some(now) if now.uuid == self.adoption.uuid => Ok(now.write),
            _ => Err(AdoptError::Stale(format!("{} is another index, or none, by now", self.index))),
        }
    }

    /// How far each shard of the live index has been written, when all of them are there with all their copies: what a
    /// lost shard holds would be in no count and in no clone.
    async fn written(&self) -> Result<Vec<u64>, AdoptError> {
        let Self { search, index, .. } = *self;
        let (copies, mut numbers) = tokio::try_join!(search.shard_copies(index), search.numbers_given(index))?;
        match numbers.remove(index) {
            Some(shards) if copies.missing == 0 => Ok(shards),
            _ => Err(AdoptError::Shards { index: index.to_owned(), missing: copies.missing }),
        }
    }

    fn stage(&self, what: &str) {
        tracing::debug!(
            index = self.index,
            blocked_ms = self.clock.since().map(|since| since.elapsed().as_millis()),
            "{what}"
        );
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
        green(search, &adoption.read, None, |copies| {
            self.clock.doing(format!(
                "waiting for the clone to be green: {} of {} shard copies are not there yet",
                copies.missing,
                copies.missing + copies.active
            ));
        })
        .await
    }

    async fn last_pass(&self) -> Result<(u64, u64), AdoptError> {
        let Self { search, index, adoption, prepared, ctx, .. } = *self;
        self.stage("copying what was written last");
        let copy = Copy { source: search, from: index, target: search, to: &adoption.read };
        carry_mapping(search, index, search, &adoption.read).await?;
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
    async fn compare(&self, docs: u64, written: &[u64]) -> Result<(), AdoptError> {
        let Self { search, index, adoption, .. } = *self;
        self.stage("comparing");
        let everything = json!({"match_all": {}});
        let (found, family) =
            tokio::try_join!(search.count(&adoption.read, everything), search.describe_family(index))?;
        if found != docs {
            let (index, copy) = (index.to_owned(), adoption.read.clone());
            return Err(AdoptError::Counts { index, copy, expected: docs, found });
        }
        let stale = || AdoptError::Stale(format!("{index} is not blocked by this adoption any more"));
        let of = |name: &str| family.get(name).map(|found| &found.mapping).ok_or_else(stale);
        let (now, read, write) = (of(index)?, of(&adoption.read)?, of(&adoption.write)?);
        // A search attribute may have been added since the new indices were made.
        carry_fields(search, now, &adoption.write, write).await?;
        carry_fields(search, now, &adoption.read, read).await?;
        if self.written().await? != written {
            return Err(AdoptError::Written(index.to_owned()));
        }
        // Last of all: from the block's call until here no write can have come in between.
        match search.block_state(index).await? {
            Some(now)
                if now.write == WriteBlock::On && now.uuid == adoption.uuid && now.aliases.contains(self.mark) =>
            {
                Ok(())
            }
            _ => Err(stale()),
        }
    }

    /// One call, all or nothing. The live index's own mark goes with it.
    fn actions(&self) -> Value {
        let Self { index, adoption, prepared, .. } = *self;
        let mut unmark = json!({"index": adoption.write, "alias": prepared.next_mark});
        if prepared.key.is_none() {
            unmark["must_exist"] = json!(true);
        }
        let mut actions = vec![
            json!({"remove": unmark}),
            json!({"remove": {"index": adoption.read, "alias": prepared.read_mark}}),
            json!({"remove_index": {"index": index}}),
            json!({"add": {"index": adoption.read, "alias": index, "is_write_index": false}}),
            json!({"add": {"index": adoption.write, "alias": index, "is_write_index": true}}),
        ];
        actions.extend(prepared.key.iter().map(|key| json!({"remove_index": {"index": key}})));
        Value::Array(actions)
    }
}
