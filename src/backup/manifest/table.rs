//! A table of a backup: in which chunks its rows are, which rows of these are gone, and what the next backup can build on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Name;
use crate::backup::chunk::{ChunkRef, Content, Holds, Keys, hex128};
use crate::backup::rows::Format;

/// A column that is copied; generated ones are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as `format_type` writes it with an empty search path.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// A table and where its rows lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: Name,
    /// In which form its rows were copied.
    pub copy_format: Format,
    /// The copied columns in their order.
    pub columns: Vec<Column>,
    /// How many rows.
    pub rows: u64,
    /// Bytes of COPY output, without header and trailer; where rows of a chunk are gone, its share of them.
    pub bytes: u64,
    /// The sum of the rows' hashes ([`Content`]).
    #[serde(with = "hex128")]
    pub content: u128,
    /// The rows, in chunks.
    pub chunks: Vec<Slice>,
    /// What the next backup can build on; `None` for a table that is copied whole each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
}

/// A chunk, and which of its rows belong to this backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct Slice {
    /// The chunk.
    pub chunk: ChunkRef,
    /// The rows that do not belong to it any more; `None` when all do.
    pub gone: Option<Gone>,
    /// Where it is written at which places of the table its rows lay; `None` for a table that is not tracked.
    pub place: Option<Place>,
}

/// Rows of a chunk that a later backup no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes.
    #[serde(with = "hex128")]
    pub content: u128,
    /// Where in [`Tracking::gone`] its bitmap begins, in bytes. It has a bit for each row of the chunk.
    pub at: u64,
}

/// Where the places of a chunk's rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The stripe of the table that it is of.
    pub stripe: u64,
    /// Which of [`Tracking::places`].
    pub object: usize,
    /// Which section of that object.
    pub section: usize,
}

/// What is known of a table beside its rows, so that the next backup reads and stores only what changed
/// ([`crate::backup::track`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracking {
    /// The file of the table; another one after it was rewritten.
    pub filenode: i64,
    /// The numbers of its columns: one that was dropped and made again has another.
    pub attributes: Vec<i16>,
    /// Pages of a stripe.
    pub stripe_pages: u64,
    /// When each stripe was last read whole.
    pub read: Vec<Timestamp>,
    /// Objects with the places of rows ([`crate::backup::track::places`]). No restore needs them.
    pub places: Vec<ChunkRef>,
    /// The bitmaps of the rows that are gone, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<ChunkRef>,
}

impl Gone {
    /// What these rows hold.
    #[must_use]
    pub const fn content(self) -> Content {
        Content { rows: self.rows, sum: self.content }
    }
}

impl Slice {
    /// A chunk of which every row counts, of a table that is not tracked.
    #[must_use]
    pub const fn whole(chunk: ChunkRef) -> Self {
        Self { chunk, gone: None, place: None }
    }

    /// What the rows that count hold.
    #[must_use]
    pub fn content(&self) -> Content {
        self.chunk.content().minus(self.gone.map(Gone::content).unwrap_or_default())
    }

    /// The share of the chunk's bytes that the rows that count have, by their number.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Some(gone) = self.gone else { return self.chunk.bytes };
        let live = u128::from(self.chunk.rows.saturating_sub(gone.rows));
        let share = u128::from(self.chunk.bytes) * live / u128::from(self.chunk.rows.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl Table {
    /// What its rows are hashed with.
    #[must_use]
    pub fn keys(&self) -> Keys {
        keys(&self.columns, self.copy_format)
    }

    /// What its rows hold.
    #[must_use]
    pub const fn content(&self) -> Content {
        Content { rows: self.rows, sum: self.content }
    }

    /// Every object that it needs of the store, and what that holds.
    pub fn objects(&self) -> impl Iterator<Item = (Holds, &ChunkRef)> {
        let rows = self.chunks.iter().map(|slice| (Holds::Rows(self.copy_format), &slice.chunk));
        let places = self.tracking.iter().flat_map(|tracking| &tracking.places).map(|list| (Holds::Places, list));
        let gone = self.tracking.iter().flat_map(|tracking| &tracking.gone).map(|list| (Holds::Gone, list));
        rows.chain(gone).chain(places)
    }

    /// It is the sum of its chunks, and what it says of them can be.
    pub(super) fn adds_up(&self) -> Result<(), String> {
        let sum = self.chunks.iter().fold(Content::default(), |sum, slice| sum.plus(slice.content()));
        let bytes = super::total(self.chunks.iter().map(Slice::bytes));
        if sum != self.content() || bytes != Some(self.bytes) {
            return Err("its chunks do not add up to it".into());
        }
        let list = self.tracking.as_ref().and_then(|tracking| tracking.gone);
        let objects = self.tracking.as_ref().map_or(0, |tracking| tracking.places.len());
        for slice in &self.chunks {
            if slice.chunk.rows > slice.chunk.bytes {
                return Err(format!("chunk {} cannot have so many rows", slice.chunk.id));
            }
            let bits = slice.chunk.rows.div_ceil(8);
            let fits = |gone: Gone| {
                gone.rows <= slice.chunk.rows && list.is_some_and(|list| gone.at.checked_add(bits) <= Some(list.bytes))
            };
            if slice.gone.is_some_and(|gone| !fits(gone)) {
                return Err(format!("the rows of chunk {} that are gone are nowhere", slice.chunk.id));
            }
            if slice.place.is_some_and(|place| place.object >= objects) {
                return Err(format!("the places of chunk {} are nowhere", slice.chunk.id));
            }
        }
        Ok(())
    }
}

/// The keys for rows of these columns.
#[must_use]
pub fn keys(columns: &[Column], format: Format) -> Keys {
    // JSON, because names may hold any separator.
    let signature = serde_json::to_string(&(format, columns)).unwrap_or_default();
    Keys::new(&signature, format)
}

/// A slice as the manifest writes it: one object, that of its chunk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    id: crate::backup::chunk::ChunkId,
    bytes: u64,
    stored: u64,
    rows: u64,
    #[serde(with = "hex128")]
    content: u128,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<crate::backup::seal::SetId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Gone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

impl From<Slice> for Flat {
    fn from(Slice { chunk, gone, place }: Slice) -> Self {
        let ChunkRef { id, bytes, stored, rows, content, sealed } = chunk;
        Self { id, bytes, stored, rows, content, sealed, gone, place }
    }
}

impl From<Flat> for Slice {
    fn from(Flat { id, bytes, stored, rows, content, sealed, gone, place }: Flat) -> Self {
        Self { chunk: ChunkRef { id, bytes, stored, rows, content, sealed }, gone, place }
    }
}
