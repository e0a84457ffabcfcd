//! Everything slow, done while Temporal writes on: the template, the empty next index, the bulk of a copy.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::error::AdoptError;
use super::marks::{Mark, key, tag};
use super::plan::{Adoption, Way};
use crate::clients::search::{IndexDescription, Search, ShardCopies};
use crate::context::Context;
use crate::units::Span;
use crate::visibility::copy::{Copy, CopyError, Position, carry_mapping};
use crate::visibility::step::Step;

/// How long a new index may take to become green.
const GREEN: Duration = Duration::from_secs(60);
/// How long is waited between two looks at something that takes a moment.
pub(super) const PAUSE: Duration = Duration::from_millis(25);
/// A pass that writes no more than this is the last one before the block.
const SMALL_PASS: u64 = 500;
/// Passes over an index that is written to faster than it can be copied come to no end.
const PASSES: u32 = 20;

/// Settings of the live index that its successors get as well. Others are the engine's own, or belong to a lifecycle.
const CARRIED: [&str; 16] = [
    "analysis",
    "auto_expand_replicas",
    "codec",
    "mapping",
    "mapper",
    "max_",
    "number_of_replicas",
    "number_of_shards",
    "query",
    "refresh_interval",
    "replication",
    "routing.allocation.exclude",
    "routing.allocation.include",
    "routing.allocation.require",
    "sort",
    "unassigned",
];

/// What the blocked part needs to know of what was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    /// The mark of the next index.
    pub next_mark: String,
    /// The mark of the index that is read.
    pub read_mark: String,
    /// The index that the swap has to remove, where it cannot be made to fail when the next index lost its mark.
    pub key: Option<String>,
    /// The settings that give a clone the live index's replicas.
    pub replicas: Map<String, Value>,
    /// Where the last pass of a copy begins.
    pub position: Position,
    /// Documents copied.
    pub copied: u64,
    /// Documents compared.
    pub compared: u64,
}

/// Makes the template, the next index and, for a copy, the copy.
pub(super) async fn prepare(
    search: &Search,
    index: &str,
    adoption: &Adoption,
    id: &str,
    ctx: &Context,
) -> Result<Prepared, AdoptError> {
    let live = live(search, index).await?;
    if let Some(Step::PutTemplate { name, template, .. }) = &adoption.template {
        search.put_template(name, template).await?;
    }
    let next_mark = Mark::Next { id: id.to_owned() }.alias(index);
    search.create_index(&adoption.write, body(&live, &next_mark)).await?;
    let key = match search.has_must_exist(&adoption.write, &next_mark).await? {
        true => None,
        false => Some(create_key(search, index, id).await?),
    };
    let of = tag(&adoption.uuid);
    let read_mark = match adoption.way {
        Way::Clone => Mark::Clone { of },
        Way::Copy => Mark::Copy { of },
    };
    let read_mark = read_mark.alias(index);
    let replicas = replicas(&live);
    let position = Position::new();
    let mut prepared = Prepared { next_mark, read_mark, key, replicas, position, copied: 0, compared: 0 };
    if adoption.way == Way::Copy {
        if !adoption.resumes {
            search.create_index(&adoption.read, body(&live, &prepared.read_mark)).await?;
        }
        green(search, &adoption.read, Some(GREEN), |_| {}).await?;
        passes(search, index, adoption, &mut prepared, ctx).await?;
    } else {
        // What is on disk already need not be written while writes are blocked.
        search.flush(index).await?;
    }
    green(search, &adoption.write, Some(GREEN), |_| {}).await?;
    Ok(prepared)
}

/// An empty index of this adoption alone. The swap removes it, and fails when an undoing has done so before.
async fn create_key(search: &Search, index: &str, id: &str) -> Result<String, AdoptError> {
    let name = key(index, id);
    let settings = json!({"number_of_shards": 1, "number_of_replicas": 0, "auto_expand_replicas": false});
    let mark = Mark::Key { id: id.to_owned() }.alias(index);
    search.create_index(&name, json!({ "settings": settings, "aliases": { mark: {} } })).await?;
    Ok(name)
}

/// The live index, as long as it is one.
pub(super) async fn live(search: &Search, index: &str) -> Result<IndexDescription, AdoptError> {
    let mut family = search.describe_family(index).await?;
    family.remove(index).ok_or_else(|| AdoptError::Stale(format!("{index} is no index any more")))
}

/// The replicas of a clone, which a clone does not take over.
fn replicas(live: &IndexDescription) -> Map<String, Value> {
    let name = match live.setting("index.auto_expand_replicas").filter(|expand| expand != "false") {
        Some(_) => "index.auto_expand_replicas",
        None => "index.number_of_replicas",
    };
    live.settings.get(name).map(|value| (name.to_owned(), value.clone())).into_iter().collect()
}

async fn passes(
    search: &Search,
    index: &str,
    adoption: &Adoption,
    prepared: &mut Prepared,
    ctx: &Context,
) -> Result<(), AdoptError> {
    let copy = Copy { source: search, from: index, target: search, to: &adoption.read };
    for _ in 0..PASSES {
        carry_mapping(search, index, search, &adoption.read).await?;
        let from = prepared.position.clone();
        let pass = copy.pass(&from, ctx).await.map_err(cancelled)?;
        prepared.copied += pass.written;
        // What has been compared need not be compared again while writes are blocked.
        let verified = copy.verify(&from, Some(&pass.next), ctx).await.map_err(cancelled)?;
        prepared.compared += verified.compared;
        if verified.differing > 0 {
            let (from, to, verified) = (index.to_owned(), adoption.read.clone(), Box::new(verified));
            return Err(CopyError::Differs { from, to, verified }.into());
        }
        prepared.position = pass.next;
        if pass.written <= SMALL_PASS {
            break;
        }
    }
    copy.sweep(ctx).await.map_err(cancelled)?;
    Ok(())
}

/// A stop during a copy is a stop of the adoption.
pub(super) fn cancelled(error: CopyError) -> AdoptError {
    match error {
        CopyError::Cancelled(_) => AdoptError::Cancelled,
        error => error.into(),
    }
}

/// Waits until the index is green, for so long; without a limit the caller has one. What is missing still is told.
pub(super) async fn green(
    search: &Search,
    index: &str,
    limit: Option<Duration>,
    told: impl Fn(ShardCopies),
) -> Result<(), AdoptError> {
    let begun = Instant::now();
    loop {
        let copies = search.shard_copies(index).await?;
        if copies.active > 0 && copies.missing == 0 {
            return Ok(());
        }
        if let Some(limit) = limit.filter(|limit| begun.elapsed() > *limit) {
            let (index, waited) = (index.to_owned(), Span::from(limit));
            return Err(AdoptError::NotGreen { index, waited, missing: copies.missing });
        }
        told(copies);
        tokio::time::sleep(PAUSE).await;
    }
}

/// The body that creates an index like the live one.
fn body(live: &IndexDescription, mark: &str) -> Value {
    let carried = live.settings.iter().filter(|(name, _)| {
        let name = name.strip_prefix("index.").unwrap_or(name);
        CARRIED.iter().any(|carried| name.starts_with(carried))
    });
    let settings: Map<String, Value> = carried.map(|(name, value)| (name.clone(), value.clone())).collect();
    json!({ "settings": settings, "mappings": live.mapping, "aliases": { mark: {} } })
}
