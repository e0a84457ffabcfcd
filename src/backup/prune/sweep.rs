//! The sweep: removes condemned chunks. Its half of the protocol stands in the module above.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use futures::{StreamExt, TryStreamExt};

use super::marks::Instants;
use super::plan::Freed;
use super::references::References;
use crate::backup::claim::CONDEMNED;
use crate::backup::error::BackupError;
use crate::backup::names;
use crate::backup::names::ChunkName;
use crate::backup::store::{Entry, Key, Store};
use crate::context::Context;
use crate::progress::Unit;
use crate::units::Span;

/// A sweep goes on for no longer after it has condemned; what is left waits for the next run.
const LONGEST: Duration = Duration::from_secs(3600);
/// A list of another sweep counts no more when it is older by the store's clock.
pub(super) const FORGOTTEN: Span = Span::hours(3);
/// Removals at once.
const AT_ONCE: usize = 8;

/// A list of condemned chunks in the store, and since when by two clocks, of which one may stand still or jump.
struct Condemned {
    key: Key,
    since: (Instant, SystemTime),
}

impl Condemned {
    async fn write(store: &dyn Store, chunks: &[ChunkName]) -> Result<Self, BackupError> {
        let key = Key::new(format!("{CONDEMNED}{}", uuid::Uuid::now_v7().simple()))?;
        let since = (Instant::now(), SystemTime::now());
        store.put(&key, names::write(chunks.iter().copied())).await?;
        Ok(Self { key, since })
    }

    /// True when it is too old to rely on it, or a clock has gone back.
    fn is_over(&self) -> bool {
        let wall = SystemTime::now().duration_since(self.since.1);
        self.since.0.elapsed() > LONGEST || wall.map_or(true, |wall| wall > LONGEST)
    }
}

/// Removes those of the chunks that nothing names, and counts them.
///
/// # Errors
/// When a manifest cannot be read, the store refuses, or the run is cancelled; what was removed is counted all the same.
pub(super) async fn sweep(
    store: &dyn Store,
    due: &[ChunkName],
    references: &mut References,
    (now, grace): (Instants, Span),
    removed: &mut Freed,
    ctx: &Context,
) -> Result<(), BackupError> {
    if due.is_empty() {
        return Ok(());
    }
    ctx.progress.stage("removing chunks", Some(due.len() as u64), Unit::Items);
    let condemned = Condemned::write(store, due).await?;
    let mut unanswered = false;
    let outcome = remove(store, due, references, (now, grace), &condemned, (removed, &mut unanswered), ctx).await;
    if unanswered {
        // The store may still carry such a removal out. Backups keep off what the list names until it is forgotten.
        tracing::warn!(list = %condemned.key, for_ = %FORGOTTEN, "removals were not answered; what they name stays condemned");
        return outcome;
    }
    let released = store.delete(&condemned.key).await;
    outcome?;
    Ok(released?)
}

async fn remove(
    store: &dyn Store,
    due: &[ChunkName],
    references: &mut References,
    (now, grace): (Instants, Span),
    condemned: &Condemned,
    (removed, unanswered): (&mut Freed, &mut bool),
    ctx: &Context,
) -> Result<(), BackupError> {
    // After the list was written, so that no backup can end without one seeing the other.
    references.refresh(store, &HashSet::new(), ctx).await?;
    let mut folders: BTreeMap<String, HashSet<ChunkName>> = BTreeMap::new();
    for id in due.iter().filter(|id| !references.name(id)) {
        let folder = id.to_string().get(..2).unwrap_or_default().to_owned();
        folders.entry(folder).or_default().insert(*id);
    }
    for (folder, chunks) in folders {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        if store.size(&condemned.key).await?.is_none() {
            return Err(BackupError::SweepLost { key: condemned.key.to_string() });
        }
        // Looked at again: a backup may have stored one anew since.
        let wanted = |entry: &Entry| {
            ChunkName::of_key(&entry.key).is_some_and(|id| chunks.contains(&id)) && now.old(entry.modified, grace)
        };
        let entries = store.list(&format!("chunks/{folder}/")).await?.into_iter().filter(wanted);
        let mut removals = futures::stream::iter(entries)
            .map(|entry| async move {
                if condemned.is_over() {
                    return Err(BackupError::SweepLost { key: condemned.key.to_string() });
                }
                store.delete(&entry.key).await?;
                Ok(entry.size)
            })
            .buffer_unordered(AT_ONCE);
        let mut failed = None;
        // Every removal that was begun is waited for, whatever becomes of the others.
        loop {
            match removals.try_next().await {
                Ok(Some(size)) => {
                    removed.add(size);
                    ctx.progress.advance(1);
                }
                Ok(None) => break,
                Err(error) => {
                    *unanswered |= matches!(&error, BackupError::Store(store) if !store.is_refusal());
                    failed = failed.or(Some(error));
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(())
}
