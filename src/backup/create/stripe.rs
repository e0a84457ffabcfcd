//! One stripe of a table: what is there still of what is stored, and what is new.

use jiff::Timestamp;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::before::{KnownStripe, Tracked};
use super::job::{Job, settle};
use super::seal::Sealed;
use crate::backup::aside;
use crate::backup::catalog;
use crate::backup::chunk::{ChunkRef, Holds, Keys};
use crate::backup::copy::{self, Pages, Piece, Reader, Source};
use crate::backup::error::BackupError;
use crate::backup::manifest::{self, Place, Slice};
use crate::backup::track::gone::Bitmap;
use crate::backup::track::places::{self, Placed};
use crate::backup::track::prior::{Prior, Unknown};
use crate::backup::track::{Tid, Way};

/// Rows are held against their hashes in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// A stripe as this backup has it.
#[derive(Debug)]
pub(super) struct Stripe {
    /// Its slices, and what is gone of each. Their places count from the objects of this stripe.
    pub(super) slices: Vec<(Slice, Bitmap)>,
    /// The objects with its places.
    pub(super) objects: Vec<ChunkRef>,
    /// When it was last read whole.
    pub(super) read: Timestamp,
}

/// What of a stripe was stored for this backup.
#[derive(Default)]
struct Fresh {
    sealing: JoinSet<Result<(usize, Sealed), BackupError>>,
    done: Vec<(usize, Sealed)>,
    begun: usize,
}

impl Fresh {
    /// One chunk is sealed and stored while the next one is read; a third would only take memory.
    async fn seal(&mut self, job: &Job, piece: Piece, keys: &Keys) -> Result<(), BackupError> {
        if self.sealing.len() >= 2 {
            settle(&mut self.sealing, &mut self.done).await?;
        }
        let (job, keys, number) = (job.clone(), keys.clone(), self.begun);
        self.begun += 1;
        self.sealing.spawn(async move { job.seal(piece, keys).await.map(|sealed| (number, sealed)) });
        Ok(())
    }

    async fn end(mut self) -> Result<Vec<Sealed>, BackupError> {
        while !self.sealing.is_empty() {
            settle(&mut self.sealing, &mut self.done).await?;
        }
        self.done.sort_unstable_by_key(|(number, _)| *number);
        Ok(self.done.into_iter().map(|(_, sealed)| sealed).collect())
    }
}

/// A stripe that is being read.
struct Reading<'a> {
    job: &'a Job,
    table: &'a catalog::Table,
    keys: Keys,
    pages: Pages,
}

impl Job {
    pub(super) async fn stripe(
        &self,
        connection: &mut PgConnection,
        table: &catalog::Table,
        tracked: &Tracked,
        number: usize,
    ) -> Result<Stripe, BackupError> {
        let pages = tracked.stripes.get(number).copied().unwrap_or(Pages { from: 0, to: None });
        let reading = Reading { job: self, table, keys: manifest::keys(&table.columns, table.format), pages };
        let mut known = self.stripe_before(tracked, number).await?;
        let boundary = match known.way {
            Way::ByTransaction(id) => Some(id),
            _ => known.reread,
        };
        if let Some(id) = boundary
            && let Err(Unknown(tid)) = reading.untouched(connection, &mut known.prior, id).await?
        {
            tracing::warn!(
                table = %table.name, row = ?tid, "the last backup does not know a row that is older than it; all are stored anew"
            );
            known = KnownStripe::nothing(self.started);
        }
        let fresh = match known.way {
            Way::Whole => reading.whole(connection, tracked.step).await?,
            Way::ByHash => {
                let fresh = reading.changed(connection, &mut known.prior, None).await?;
                let altered = known.prior.altered();
                if let Some(first) = altered.first() {
                    tracing::warn!(
                        table = %table.name, rows = altered.len(), first = ?first,
                        "rows read otherwise than at the last backup though no transaction has written them: \
                         look at the disk and memory of the server"
                    );
                }
                known.read = self.started;
                fresh
            }
            Way::ByTransaction(id) => {
                let fresh = reading.changed(connection, &mut known.prior, Some(id)).await?;
                known.prior.trust();
                fresh
            }
        };
        self.joined(number, known, fresh).await
    }

    /// What was stored and is there still, and what is new, as one.
    async fn joined(&self, number: usize, known: KnownStripe, fresh: Vec<Sealed>) -> Result<Stripe, BackupError> {
        let mut slices = known.prior.end();
        self.kept(&slices, matches!(known.way, Way::ByTransaction(_)));
        let mut objects = known.objects;
        let (chunks, sections): (Vec<ChunkRef>, Vec<Vec<Placed>>) = fresh.into_iter().unzip();
        if !chunks.is_empty() {
            let list = places::write(&sections)
                .ok_or_else(|| BackupError::Internal("rows came in another order than they lie".into()))?;
            let object = objects.len();
            objects.push(self.seal_list(list, Holds::Places).await?);
            slices.extend(chunks.into_iter().enumerate().map(|(section, chunk)| {
                let place = Place { stripe: number as u64, object, section };
                (Slice { chunk, gone: None, place: Some(place) }, Bitmap::none(chunk.rows))
            }));
        }
        Ok(Stripe { slices, objects, read: known.read })
    }
}

impl Reading<'_> {
    fn source(&self) -> Source<'_> {
        self.job.source(self.table)
    }

    /// Asks the server for the rows that no transaction since the last backup has touched.
    async fn untouched(
        &self,
        connection: &mut PgConnection,
        prior: &mut Prior,
        since: u32,
    ) -> Result<Result<(), Unknown>, BackupError> {
        let sql = copy::untouched_sql(&self.table.name, self.pages, since);
        let mut reader = Reader::placed(connection, self.source(), &sql, PIECE_BYTES).await?;
        let mut outcome = Ok(());
        while let Some(piece) = reader.next().await? {
            let untouched = |tid: &Tid| prior.untouched(*tid);
            // The rest is read all the same, so that the connection is of use.
            outcome = outcome.and_then(|()| piece.places.iter().try_for_each(untouched));
        }
        Ok(outcome)
    }

    /// Reads and stores every row.
    async fn whole(&self, connection: &mut PgConnection, step: u64) -> Result<Vec<Sealed>, BackupError> {
        let mut fresh = Fresh::default();
        let mut from = self.pages.from;
        loop {
            let to = from.saturating_add(step);
            let is_last = match self.pages.to {
                Some(end) => to >= end,
                None => to >= self.table.pages,
            };
            let pages = Pages { from, to: if is_last { self.pages.to } else { Some(to) } };
            let sql = copy::placed_sql(&self.table.name, &self.table.columns, pages, None);
            let most = self.job.policy.max_chunk_bytes();
            let reader = Reader::placed(connection, self.source(), &sql, most).await?;
            let mut reader = reader.into_spares(&self.job.spares);
            while let Some(piece) = reader.next().await? {
                self.job.read(piece.bytes.len()).await?;
                fresh.seal(self.job, piece, &self.keys).await?;
            }
            drop(reader);
            if is_last {
                return fresh.end().await;
            }
            from = to;
        }
    }

    /// Reads rows, and stores those that are not stored: all rows, or those that are not untouched.
    async fn changed(
        &self,
        connection: &mut PgConnection,
        prior: &mut Prior,
        since: Option<u32>,
    ) -> Result<Vec<Sealed>, BackupError> {
        let sql = copy::placed_sql(&self.table.name, &self.table.columns, self.pages, since);
        let mut reader = Reader::placed(connection, self.source(), &sql, PIECE_BYTES).await?;
        let most = usize::try_from(self.job.policy.range_size.get().as_bytes()).unwrap_or(usize::MAX);
        let (mut fresh, mut new) = (Fresh::default(), Piece::default());
        while let Some(piece) = reader.next().await? {
            self.job.read(piece.bytes.len()).await?;
            let keys = self.keys.clone();
            let hashed = aside::work(move || {
                let hashes = keys.rows(piece.rows());
                (piece, hashes)
            });
            let (piece, hashes) = hashed.await.map_err(|error| BackupError::Internal(error.to_string()))?;
            for ((row, tid), hash) in piece.rows().zip(&piece.places).zip(hashes) {
                if !prior.read((*tid, hash)) {
                    new.bytes.extend_from_slice(row);
                    new.ends.push(new.bytes.len());
                    new.places.push(*tid);
                }
            }
            if new.bytes.len() >= most {
                fresh.seal(self.job, std::mem::take(&mut new), &self.keys).await?;
            }
        }
        if !new.ends.is_empty() {
            fresh.seal(self.job, new, &self.keys).await?;
        }
        fresh.end().await
    }
}

/// The stripes of a table, as its entry in the manifest and the list of what is gone.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The slices, in the order of the stripes.
    pub(super) slices: Vec<Slice>,
    /// The objects with places.
    pub(super) places: Vec<ChunkRef>,
    /// When each stripe was last read whole.
    pub(super) read: Vec<Timestamp>,
    /// The bitmaps.
    pub(super) gone: Vec<u8>,
}

impl Joined {
    /// Takes the next stripe.
    pub(super) fn add(&mut self, stripe: Stripe) {
        self.read.push(stripe.read);
        let mut numbers: Vec<Option<usize>> = vec![None; stripe.objects.len()];
        for (mut slice, bitmap) in stripe.slices {
            if let Some(place) = &mut slice.place
                && let Some((number, object)) = numbers.get_mut(place.object).zip(stripe.objects.get(place.object))
            {
                // An object of which no slice is left is not named any more.
                place.object = *number.get_or_insert_with(|| {
                    self.places.push(*object);
                    self.places.len() - 1
                });
            }
            if let Some(gone) = &mut slice.gone {
                gone.at = self.gone.len() as u64;
                bitmap.write(&mut self.gone);
            }
            self.slices.push(slice);
        }
    }
}
