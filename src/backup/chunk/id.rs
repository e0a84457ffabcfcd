//! What chunks are named by, and their rows told apart by: keyed hashes.

use std::fmt;
use std::str::FromStr;

use super::{Content, rows};
use crate::backup::lanes;
use crate::backup::rows::Format;
use crate::text::text_serde;

const ID_CONTEXT: &str = "sexton 2026 backup chunk id v1";
const LIST_CONTEXT: &str = "sexton 2026 backup list id v1";
const ROW_CONTEXT: &str = "sexton 2026 backup row hash v1";

/// The keys under which one table's rows are hashed: both follow from the signature of its columns, so that equal
/// bytes under other columns are something else.
#[derive(Clone)]
pub struct Keys {
    id: [u8; 32],
    row: [u8; 32],
    holds: Holds,
}

/// What an object of the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holds {
    /// Rows, in this form.
    Rows(Format),
    /// Which rows of other objects are gone: a restore needs it.
    Gone,
    /// Where rows lay: the next backup saves work by it, and nobody else needs it.
    Places,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("holds", &self.holds).finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of a column signature.
    #[must_use]
    pub fn new(signature: &str, format: Format) -> Self {
        let id = blake3::derive_key(ID_CONTEXT, signature.as_bytes());
        let row = blake3::derive_key(ROW_CONTEXT, signature.as_bytes());
        Self { id, row, holds: Holds::Rows(format) }
    }

    /// The keys of lists, which are no rows, of either kind.
    #[must_use]
    pub fn list() -> Self {
        Self { id: blake3::derive_key(LIST_CONTEXT, b""), row: [0; 32], holds: Holds::Places }
    }

    /// The name of a chunk of these bytes.
    #[must_use]
    pub fn id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.id, bytes).as_bytes())
    }

    /// The content hash of rows that lie one after the other and end where `ends` says.
    #[must_use]
    pub fn content(&self, bytes: &[u8], ends: &[usize]) -> Content {
        let hashes = self.rows(rows(bytes, ends));
        hashes.into_iter().fold(Content::default(), |sum, hash| sum.plus(Content::of_row(hash)))
    }

    /// The hash of one row, as it goes into [`Content`].
    #[must_use]
    pub fn row(&self, row: &[u8]) -> u64 {
        low(blake3::keyed_hash(&self.row, row).as_bytes())
    }

    /// The hashes of these rows, in a part of the time that each alone would take.
    pub(in super::super) fn rows<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
        lanes::keyed_hashes(&self.row, rows).iter().map(low).collect()
    }

    /// What the bytes are.
    #[must_use]
    pub const fn holds(&self) -> Holds {
        self.holds
    }
}

/// The first 8 bytes of a hash, little endian.
fn low(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The name of a chunk: a keyed BLAKE3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId([u8; 32]);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

impl FromStr for ChunkId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).map_err(|_| format!("`{text}` is not the name of a chunk"))?;
        Ok(Self(id))
    }
}

text_serde!(ChunkId);
