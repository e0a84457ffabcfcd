//! Carrying documents forward to the write index, beside a Temporal that goes on writing and deleting.
//!
//! A part at a time is copied, made visible, checked, and removed where it was. The parts are large, because the index
//! is sorted: each time that documents become visible the engine writes a sorted segment, and merges it with others
//! document by document later; that costs as much as the copying when it is done for a thousand documents.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;

use super::act::{Act, BULK};
use super::batch::{self, Copied};
use super::plan::Item;
use super::report::ReconcileReport;
use crate::progress::Unit;
use crate::visibility::rollover::missing_fields;
use crate::visibility::{VisibilityError, refile};

/// Documents in one part: some seconds of work, for which they are listed twice.
const PART: usize = 20_000;

/// Batches under way at one time: while one is looked up, another is written.
const AT_ONCE: usize = 3;

type Done = Result<(), VisibilityError>;

/// Batches that are taken in turn by those who have time.
struct Queue<T> {
    batches: Vec<T>,
    next: AtomicUsize,
}

impl<T> Queue<T> {
    fn new(batches: Vec<T>) -> Self {
        Self { batches, next: AtomicUsize::new(0) }
    }

    fn take(&self) -> Option<&T> {
        self.batches.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// After a failure nobody begins another one.
    fn close(&self) {
        self.next.store(self.batches.len(), Ordering::Relaxed);
    }
}

pub(super) async fn carry(act: &mut Act<'_>, items: &[Item], report: &mut ReconcileReport) -> Done {
    if items.is_empty() {
        return Ok(());
    }
    act.ctx.progress.stage("documents carried forward", Some(items.len() as u64), Unit::Items);
    let mut others = Vec::new();
    for _ in 1..AT_ONCE.min(items.len().div_ceil(BULK)) {
        others.push(Act::new(act.ground, act.survey, act.ctx).await?);
    }
    let mut lanes: Vec<&mut Act<'_>> = std::iter::once(act).chain(&mut others).collect();
    let mut prepared = BTreeSet::new();
    let survey = lanes.first().map(|act| act.survey);
    for (place, from) in survey.iter().flat_map(|survey| survey.members.iter().enumerate()) {
        let mut of_index: Vec<&Item> = items.iter().filter(|item| item.member == place).collect();
        // The index is sorted by start time, and run ids grow with it: documents that lie side by side are read in half
        // the time.
        of_index.sort_by_key(|item| item.id.rsplit_once('~').map(|(_, run)| run));
        for part in of_index.chunks(PART) {
            one_part(&mut lanes, (place, &from.name), part, &mut prepared, report).await?;
        }
    }
    Ok(())
}

async fn one_part(
    lanes: &mut [&mut Act<'_>],
    (place, from): (usize, &str),
    part: &[&Item],
    prepared: &mut BTreeSet<(String, String)>,
    report: &mut ReconcileReport,
) -> Done {
    let Some(act) = lanes.first() else { return Ok(()) };
    act.go_on()?;
    let to = act.write_index().await?;
    if to == from {
        // An older index became the write index again: nothing is in the wrong place any more.
        report.changed_meanwhile += part.len() as u64;
        return Ok(());
    }
    if prepared.insert((from.to_owned(), to.clone())) {
        same_fields(act, place, &to).await?;
    }

    let queue = Queue::new(part.chunks(BULK).collect());
    let copied = join_all(lanes.iter_mut().map(|act| copy(act, from, &to, &queue))).await;
    let (mut batches, mut failed) = (Vec::new(), Ok(()));
    for (copied, done, result) in copied {
        batches.extend(copied);
        report.add(done);
        failed = failed.and(result);
    }
    // What was copied until then is through before this stops: nothing stays listed twice.
    let Some(act) = lanes.first() else { return Ok(()) };
    // Lists have to see the copies before the originals go.
    act.search().refresh(&to).await?;
    let queue = Queue::new(batches);
    for (done, result) in join_all(lanes.iter_mut().map(|act| remove(act, from, &to, &queue))).await {
        report.add(done);
        failed = failed.and(result);
    }
    failed
}

/// Copies batches until there are no more, it fails, or the run is to stop.
async fn copy(
    act: &mut Act<'_>,
    from: &str,
    to: &str,
    queue: &Queue<&[&Item]>,
) -> (Vec<Vec<Copied>>, ReconcileReport, Done) {
    let (mut copied, mut report) = (Vec::new(), ReconcileReport::default());
    while let Some(items) = queue.take() {
        let one = match act.go_on() {
            Ok(()) => batch::copy(act, from, to, items, &mut report).await,
            Err(stop) => Err(stop),
        };
        match one {
            Ok(batch) => copied.push(batch),
            Err(error) => {
                queue.close();
                return (copied, report, Err(error));
            }
        }
    }
    (copied, report, Ok(()))
}

/// Checks the batches, and removes the originals.
async fn remove(act: &mut Act<'_>, from: &str, to: &str, queue: &Queue<Vec<Copied>>) -> (ReconcileReport, Done) {
    let mut report = ReconcileReport::default();
    while let Some(copied) = queue.take() {
        if let Err(error) = batch::remove(act, from, to, copied, &mut report).await {
            queue.close();
            return (report, Err(error));
        }
        act.ctx.progress.advance(copied.len() as u64);
    }
    (report, Ok(()))
}

/// A search attribute that the write index does not know would not be found by any more.
async fn same_fields(act: &Act<'_>, from: usize, to: &str) -> Done {
    let Some(from) = act.survey.members.get(from) else { return Ok(()) };
    let mapping = act.search().mappings(to).await?.remove(to).unwrap_or_default();
    let missing = missing_fields(&from.mapping, &mapping);
    if !missing.is_empty() {
        refile::add_fields(act.search(), to, &missing, act.ctx).await?;
    }
    Ok(())
}
