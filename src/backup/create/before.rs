//! What the last backup says of a table, and how the table is read now.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::job::Job;
use super::lists::Lists;
use crate::backup::catalog;
use crate::backup::chunk::{ChunkRef, Holds, Keys};
use crate::backup::copy::{self, Pages};
use crate::backup::error::BackupError;
use crate::backup::live::{Chunks, opened};
use crate::backup::manifest::{Name, Place, Slice, Tracking};
use crate::backup::rows::Format;
use crate::backup::store::StoreError;
use crate::backup::track::gone::Bitmap;
use crate::backup::track::places;
use crate::backup::track::prior::Prior;
use crate::backup::track::{Way, origin};
use crate::failure::chain;

/// Ranges of a stripe.
const STRIPE_RANGES: u64 = 4;

/// A table that is read in stripes.
#[derive(Debug)]
pub(super) struct Tracked {
    /// Pages of a stripe.
    pub(super) stripe_pages: u64,
    /// Pages of a range within one.
    pub(super) step: u64,
    /// The pages of each stripe.
    pub(super) stripes: Vec<Pages>,
    before: Option<Before>,
}

/// A table as the last backup has it.
#[derive(Debug)]
struct Before {
    table: Name,
    tracking: Tracking,
    way: Way,
    /// The bitmaps of what is gone.
    gone: Vec<u8>,
    /// Its slices by their stripes.
    stripes: BTreeMap<u64, Vec<Slice>>,
}

/// One stripe and what is known of it.
#[derive(Debug)]
pub(super) struct KnownStripe {
    /// How it is read.
    pub(super) way: Way,
    /// Read by hash though transactions tell: the one before which rows are untouched, to be held against what is read.
    pub(super) reread: Option<u32>,
    /// The rows that are stored.
    pub(super) prior: Prior,
    /// When it was last read whole.
    pub(super) read: Timestamp,
    /// The objects with its places.
    pub(super) objects: Vec<ChunkRef>,
}

impl Job {
    /// How a table is read; `None` for one that is copied as it is each time.
    pub(super) async fn tracked(&self, table: &catalog::Table) -> Result<Option<Tracked>, BackupError> {
        let range_bytes = self.policy.range_size.get().as_bytes();
        // A smaller one is read whole sooner than looked up.
        let large = table.bytes > range_bytes;
        let possible = table.heap && !table.unlogged && table.format == Format::Binary;
        if !large || !possible || matches!(self.lists, Lists::Never) {
            return Ok(None);
        }
        let step = copy::step(table.pages, table.bytes, range_bytes);
        let before = self.before(table).await?;
        let stripe_pages = before.as_ref().map_or(step * STRIPE_RANGES, |before| before.tracking.stripe_pages);
        let stripes = copy::every(table.pages, stripe_pages);
        Ok(Some(Tracked { stripe_pages, step: step.min(stripe_pages), stripes, before }))
    }

    /// What the last backup has of the table; `None` when that is nothing, or of no use.
    async fn before(&self, table: &catalog::Table) -> Result<Option<Before>, BackupError> {
        let last = self.last.iter().flat_map(|database| &database.tables).find(|known| known.name == table.name);
        let Some((known, tracking)) = last.and_then(|known| Some((known, known.tracking.as_ref()?))) else {
            return Ok(None);
        };
        let way = origin::way(Some((known, tracking, self.last_origin())), table, Some(&self.origin));
        if way == Way::Whole || tracking.stripe_pages == 0 {
            return Ok(None);
        }
        let gone = match &tracking.gone {
            None => Some(Vec::new()),
            Some(list) => self.list(list, &table.name).await?,
        };
        let Some(gone) = gone else { return Ok(None) };
        let mut stripes: BTreeMap<u64, Vec<Slice>> = BTreeMap::new();
        for slice in &known.chunks {
            stripes.entry(slice.place.map_or(0, |place| place.stripe)).or_default().push(*slice);
        }
        Ok(Some(Before { table: table.name.clone(), tracking: tracking.clone(), way, gone, stripes }))
    }

    /// The bytes of a list; `None`, with a warning, when the store does not have it as it should be. All that follows
    /// from that is that more is read.
    async fn list(&self, list: &ChunkRef, table: &Name) -> Result<Option<Vec<u8>>, BackupError> {
        let from = Chunks { store: Arc::clone(&self.store), identities: Arc::clone(&self.maker) };
        let lost = match opened(from, *list, Keys::list(), table.to_string()).await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(
                lost @ (BackupError::Chunk { .. }
                | BackupError::NoIdentity { .. }
                | BackupError::Store(StoreError::Checksum { .. } | StoreError::TooLarge { .. })),
            ) => lost,
            Err(error) => return Err(error),
        };
        // It is stored anew when it is made again.
        self.known.forget(&list.id);
        let why = chain(&lost);
        tracing::warn!(object = %list.name(), why, "a list of the last backup is lost; more is read than needed");
        Ok(None)
    }

    /// One stripe of a table, and how it is read.
    pub(super) async fn stripe_before(&self, tracked: &Tracked, stripe: usize) -> Result<KnownStripe, BackupError> {
        let known = match &tracked.before {
            Some(before) => self.known_stripe(before, stripe, tracked.stripes.len()).await?,
            None => None,
        };
        Ok(known.unwrap_or_else(|| KnownStripe::nothing(self.started)))
    }

    async fn known_stripe(
        &self,
        before: &Before,
        stripe: usize,
        stripes: usize,
    ) -> Result<Option<KnownStripe>, BackupError> {
        let from = stripe as u64;
        // The last stripe has no end, so that what was behind it is its own.
        let to = if stripe + 1 == stripes { u64::MAX } else { from };
        let mut objects: Vec<usize> = Vec::new();
        let mut slices: Vec<(Slice, usize, usize)> = Vec::new();
        for slice in before.stripes.range(from..=to).flat_map(|(_, slices)| slices) {
            let Some(place) = slice.place else { return Ok(None) };
            // The store must still have it, in the form in which new ones are stored.
            let Some(chunk) = self.known.get(&slice.chunk.id).filter(|known| known.content() == slice.chunk.content())
            else {
                return Ok(None);
            };
            let object = objects.iter().position(|object| *object == place.object).unwrap_or_else(|| {
                objects.push(place.object);
                objects.len() - 1
            });
            let section = place.section;
            slices.push((
                Slice { chunk, place: Some(Place { stripe: from, object, section }), ..*slice },
                object,
                section,
            ));
        }
        let mut sections = Vec::new();
        let mut refs = Vec::new();
        for object in objects {
            let Some(list) = before.tracking.places.get(object) else { return Ok(None) };
            // Stored by a backup that was not encrypted, it would stay readable for as long as the stripe does.
            if list.sealed.is_none() && self.lists.recipients(Holds::Places).is_some() {
                return Ok(None);
            }
            let Some(bytes) = self.list(list, &before.table).await? else { return Ok(None) };
            let Ok(read) = places::read(&bytes) else { return Ok(None) };
            sections.push(read);
            refs.push(*list);
        }
        let mut parts = Vec::new();
        for (slice, object, section) in slices {
            let places = sections.get_mut(object).and_then(|sections| sections.get_mut(section)).map(std::mem::take);
            let Some(places) = places else { return Ok(None) };
            let bitmap = match slice.gone {
                None => Some(Bitmap::none(places.len() as u64)),
                Some(gone) => Bitmap::of(&before.gone, gone.at, slice.chunk.rows),
            };
            let Some(bitmap) = bitmap else { return Ok(None) };
            parts.push((slice, bitmap, places));
        }
        let Some(prior) = Prior::new(parts) else { return Ok(None) };
        if prior.is_worn(from) {
            return Ok(None);
        }
        let read = before.tracking.read.get(stripe).copied().unwrap_or(Timestamp::UNIX_EPOCH);
        let (way, reread) = match &before.way {
            Way::ByTransaction(id) if self.is_due(stripe, read) => (Way::ByHash, Some(*id)),
            way => (way.clone(), None),
        };
        Ok(Some(KnownStripe { way, reread, prior, read, objects: refs }))
    }

    /// Whether a stripe must be read whole again. Stripes differ in that by their number, so that not all are due in one
    /// backup.
    fn is_due(&self, stripe: usize, read: Timestamp) -> bool {
        let most = std::time::Duration::from(self.policy.reread);
        let share = u32::try_from(stripe % 8).unwrap_or(0) + 9;
        let patience = most.saturating_mul(share) / 16;
        // A clock that went back makes it due too.
        self.started.duration_since(read).unsigned_abs() >= patience
    }
}

impl KnownStripe {
    /// Of a stripe that is read for the first time, or as if.
    pub(super) fn nothing(now: Timestamp) -> Self {
        Self { way: Way::Whole, reread: None, prior: Prior::default(), read: now, objects: Vec::new() }
    }
}
