//! A chunk: rows of one table as COPY writes them, named by a hash of what it holds.

mod id;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::names::ChunkName;
use super::rows::Rows;
use super::seal::SetId;
use super::store::{Key, KeyError};

pub use id::{ChunkId, Holds, Keys};

/// The largest compressed chunk that is read back: far above what is ever written, against a store gone mad.
pub const MAX_STORED: u64 = 2 << 30;

/// The largest chunk that is opened: a chunk is cut at 256 MiB at most, after the row that exceeds it, and PostgreSQL
/// sends no row of more than 1 GiB.
const MAX_OPENED: u64 = 2 << 30;

/// Rows that lie one after the other and end where `ends` says.
pub(super) fn rows<'a>(bytes: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(ends).map(|(from, to)| bytes.get(from..*to).unwrap_or_default())
}

/// What a set of rows holds, independent of their order and of how they lie in chunks: the number of rows, and the
/// sum modulo 2^128 of the first 8 bytes (little endian) of each row's keyed BLAKE3. Equal sums with other rows do
/// not happen by accident; against a forger the chunks' names stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Content {
    /// How many rows.
    pub rows: u64,
    /// The sum.
    pub sum: u128,
}

impl Content {
    /// These rows and those together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { rows: self.rows.wrapping_add(other.rows), sum: self.sum.wrapping_add(other.sum) }
    }

    /// These rows without those.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self { rows: self.rows.wrapping_sub(other.rows), sum: self.sum.wrapping_sub(other.sum) }
    }

    /// A single row.
    #[must_use]
    pub fn of_row(hash: u64) -> Self {
        Self { rows: 1, sum: hash.into() }
    }

    /// The sum as 32 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// Compresses a chunk: one zstd frame with its checksum.
///
/// # Errors
/// When zstd runs out of memory.
pub fn compress(bytes: &[u8], level: i32) -> std::io::Result<Bytes> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    compressor.compress(bytes).map(Bytes::from)
}

/// Why a stored chunk is not the one it is named for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// zstd refuses it.
    #[error("it does not decompress: {0}")]
    Compression(String),
    /// It would take more memory than any chunk does.
    #[error("it would be {declared} bytes, more than any chunk has")]
    TooLarge {
        /// What the manifest says.
        declared: u64,
    },
    /// The store has no such object.
    #[error("it is missing")]
    Missing,
    /// It is no age file, or a damaged one.
    #[error("it cannot be decrypted: {0}")]
    Encryption(String),
    /// None of the identities opens it; nothing is known of it.
    #[error("it is encrypted for the recipients `{0}`, of which no identity is configured")]
    NoIdentity(SetId),
    /// Its size is another.
    #[error("it decompresses to {found} bytes instead of {expected}")]
    Size {
        /// What the manifest says.
        expected: u64,
        /// What came out.
        found: u64,
    },
    /// Its hash is another.
    #[error("its bytes hash to {0}")]
    Hash(ChunkId),
    /// It holds no whole rows.
    #[error("its rows cannot be read: {0}")]
    Rows(#[from] super::rows::RowsError),
    /// The rows of it that are gone are others.
    #[error("the list of what is gone marks {found} of its rows that are not the {expected} of the manifest")]
    Gone {
        /// Rows in the manifest.
        expected: u64,
        /// Rows that are marked.
        found: u64,
    },
    /// Its rows are others.
    #[error("it holds {found} rows that are not the {expected} of the manifest")]
    Content {
        /// Rows in the manifest.
        expected: u64,
        /// Rows found.
        found: u64,
    },
}

/// The bytes of a stored chunk, after it was proven to be the one that the manifest names.
///
/// # Errors
/// Any [`ChunkError`].
pub fn open(stored: &[u8], wanted: &ChunkRef, keys: &Keys) -> Result<Vec<u8>, ChunkError> {
    // The manifest and the frame may lie about the size, and memory must not follow them.
    if wanted.bytes > MAX_OPENED {
        return Err(ChunkError::TooLarge { declared: wanted.bytes });
    }
    let declared = zstd::zstd_safe::get_frame_content_size(stored).ok().flatten();
    if let Some(found) = declared.filter(|found| *found != wanted.bytes) {
        return Err(ChunkError::Size { expected: wanted.bytes, found });
    }
    let refused = |error: String| ChunkError::Compression(error);
    let mut bytes = Vec::new();
    let capacity = usize::try_from(wanted.bytes).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(capacity).map_err(|error| refused(error.to_string()))?;
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|error| refused(error.to_string()))?;
    decompressor.decompress_to_buffer(stored, &mut bytes).map_err(|error| refused(error.to_string()))?;
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if found != wanted.bytes {
        return Err(ChunkError::Size { expected: wanted.bytes, found });
    }
    let id = keys.id(&bytes);
    if id == wanted.id { Ok(bytes) } else { Err(ChunkError::Hash(id)) }
}

/// The content of a chunk's bytes, read row by row; nothing for a list.
///
/// # Errors
/// When they are not whole rows.
pub fn content_of(bytes: &[u8], keys: &Keys) -> Result<Content, ChunkError> {
    contents_of(bytes, keys, |_| false).map(|(all, _)| all)
}

/// The same, and the content of those rows, counted from 0, that `is_gone` names.
///
/// # Errors
/// When they are not whole rows.
pub(super) fn contents_of(
    bytes: &[u8],
    keys: &Keys,
    is_gone: impl Fn(usize) -> bool,
) -> Result<(Content, Content), ChunkError> {
    let Holds::Rows(format) = keys.holds() else { return Ok(Default::default()) };
    let (mut out, mut ends) = (Vec::with_capacity(bytes.len()), Vec::new());
    let mut parser = Rows::of_chunk(format);
    parser.feed(bytes, &mut out, &mut ends)?;
    parser.finish()?;
    let (mut all, mut gone) = (Content::default(), Content::default());
    for (row, hash) in keys.rows(rows(&out, &ends)).into_iter().enumerate() {
        let content = Content::of_row(hash);
        all = all.plus(content);
        if is_gone(row) {
            gone = gone.plus(content);
        }
    }
    Ok((all, gone))
}

/// A chunk as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRef {
    /// Its name.
    pub id: ChunkId,
    /// Its bytes before compression.
    pub bytes: u64,
    /// The size of its object.
    pub stored: u64,
    /// Its rows.
    pub rows: u64,
    /// The sum of its rows' hashes.
    #[serde(with = "hex128")]
    pub content: u128,
    /// The recipients it is encrypted for; `None` when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SetId>,
}

impl ChunkRef {
    /// Its name in the store.
    #[must_use]
    pub const fn name(&self) -> ChunkName {
        ChunkName { id: self.id, sealed: self.sealed }
    }

    /// Where it lies in the store.
    ///
    /// # Errors
    /// Never in practice: such names make keys.
    pub fn key(&self) -> Result<Key, KeyError> {
        self.name().key()
    }

    /// What its rows hold.
    #[must_use]
    pub const fn content(&self) -> Content {
        Content { rows: self.rows, sum: self.content }
    }
}

/// 128 bits as 32 hexadecimal digits.
pub(super) mod hex128 {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(in super::super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:032x}"))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != 32 {
            return Err(serde::de::Error::custom("a content hash has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::rows::Format;
    use proptest::prelude::*;

    fn keys() -> Keys {
        Keys::new("t(a text)", Format::Text)
    }

    fn content(rows: &[String]) -> Content {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        content_of(text.as_bytes(), &keys()).unwrap()
    }

    proptest! {
        #[test]
        fn the_content_hash_does_not_know_order_or_boundaries(mut rows in proptest::collection::vec("[a-z]{0,8}", 0..20), cut in any::<usize>()) {
            let whole = content(&rows);
            let (left, right) = rows.split_at(cut % (rows.len() + 1));
            prop_assert_eq!(content(left).plus(content(right)), whole);
            rows.reverse();
            prop_assert_eq!(content(&rows), whole);
            rows.push("one more".into());
            prop_assert_ne!(content(&rows), whole);
        }

        #[test]
        fn a_chunk_opens_to_what_it_was_and_no_flipped_bit_passes(bytes in proptest::collection::vec(any::<u8>(), 1..3000), at in any::<usize>(), bit in 0..8u8) {
            let keys = keys();
            let mut stored = compress(&bytes, 1).unwrap().to_vec();
            let wanted = ChunkRef { id: keys.id(&bytes), bytes: bytes.len() as u64, stored: stored.len() as u64, rows: 0, content: 0, sealed: None };
            prop_assert_eq!(open(&stored, &wanted, &keys), Ok(bytes.clone()));
            let at = at % stored.len();
            stored[at] ^= 1 << bit;
            if let Ok(opened) = open(&stored, &wanted, &keys) {
                prop_assert_eq!(opened, bytes);
            }
            stored.truncate(at);
            prop_assert!(open(&stored, &wanted, &keys).is_err());
        }
    }

    #[test]
    fn a_chunk_that_claims_to_be_enormous_takes_no_memory() {
        for claimed in [u64::MAX, 1 << 50, MAX_OPENED + 1, MAX_OPENED] {
            // A frame of a single segment: magic number, descriptor, eight bytes of size, an empty last block.
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
            frame.extend(claimed.to_le_bytes());
            frame.extend([1, 0, 0]);
            let wanted = ChunkRef { id: keys().id(b""), bytes: claimed, stored: 16, rows: 0, content: 0, sealed: None };
            assert!(open(&frame, &wanted, &keys()).is_err(), "{claimed}");
        }
    }

    #[test]
    fn equal_bytes_under_other_columns_are_another_chunk() {
        assert_ne!(keys().id(b"x"), Keys::new("t(b text)", Format::Text).id(b"x"));
    }
}
