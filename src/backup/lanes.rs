//! BLAKE3 of many rows at once. The crate fills the lanes of the processor's vector registers from within one input, and a
//! row is mostly a chunk of BLAKE3's (1024 bytes) or less, or a few, which take one lane. Here the chunks of several rows, and the
//! blocks of shorter ones, lie side by side. The hashes are those of `blake3::keyed_hash`, which a test holds them against.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};
use blake3::{BLOCK_LEN, CHUNK_LEN, IncrementCounter};

/// A row of so many chunks fills the lanes by itself.
const LONG: usize = 16;
/// Rows that are looked at together, so that enough of them are alike to lie side by side; few enough for a near cache.
const BATCH: usize = 256;
/// Of those of several chunks so many are hashed side by side: enough for every lane there is.
const ABREAST: usize = 64;
/// Blocks of a chunk.
const BLOCKS: usize = CHUNK_LEN / BLOCK_LEN;

// The flags of BLAKE3's compression (its specification, 2.2).
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const ROOT: u8 = 8;
const KEYED_HASH: u8 = 16;

type Value = [u8; 32];

/// The keyed hashes of rows.
pub(super) fn keyed_hashes<'a>(key: &[u8; 32], rows: impl Iterator<Item = &'a [u8]>) -> Vec<Value> {
    let rows: Vec<&[u8]> = rows.collect();
    let mut hashes = vec![[0; 32]; rows.len()];
    let mut values = Vec::new();
    for (rows, hashes) in rows.chunks(BATCH).zip(hashes.chunks_mut(BATCH)) {
        short(key, rows, hashes);
        let middle = |row: &&[u8]| row.len() > CHUNK_LEN && row.len() <= LONG * CHUNK_LEN;
        let places: Vec<usize> = (0..rows.len()).filter(|at| middle(&rows[*at])).collect();
        for places in places.chunks(ABREAST) {
            values.resize(ABREAST, [[0; 32]; LONG]);
            whole_chunks(key, places.iter().map(|at| rows[*at]), &mut values);
            for (at, values) in places.iter().zip(&mut values) {
                hashes[*at] = joined(key, rows[*at], values);
            }
        }
        for (row, hash) in rows.iter().zip(hashes).filter(|(row, _)| row.len() > LONG * CHUNK_LEN) {
            *hash = *blake3::keyed_hash(key, row).as_bytes();
        }
    }
    hashes
}

/// The hashes of the rows that are one chunk: all blocks but the last, which may be cut short, side by side with those of
/// rows that have as many.
fn short(key: &[u8; 32], rows: &[&[u8]], hashes: &mut [Value]) {
    let (platform, words) = (Platform::detect(), words_from_le_bytes_32(key));
    let mut alike: [Vec<usize>; BLOCKS] = Default::default();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.len() <= CHUNK_LEN) {
        alike[row.len().saturating_sub(1) / BLOCK_LEN].push(at);
    }
    let mut heads = [0; 32 * BATCH];
    for (blocks, places) in alike.iter().enumerate().filter(|(_, places)| !places.is_empty()) {
        let rows: Vec<&[u8]> = places.iter().map(|at| rows[*at]).collect();
        head(blocks, platform, &words, &rows, &mut heads);
        let start = if blocks == 0 { CHUNK_START } else { 0 };
        for ((at, row), head) in places.iter().zip(rows).zip(heads.as_chunks::<32>().0) {
            let mut value = if blocks == 0 { words } else { words_from_le_bytes_32(head) };
            let rest = row.get(blocks * BLOCK_LEN..).unwrap_or_default();
            let mut block = [0; BLOCK_LEN];
            block[..rest.len()].copy_from_slice(rest);
            // At most a block.
            let length = rest.len() as u8;
            platform.compress_in_place(&mut value, &block, length, 0, KEYED_HASH | start | CHUNK_END | ROOT);
            hashes[*at] = le_bytes_from_words_32(&value);
        }
    }
}

/// What so many blocks at the beginning of each row come to.
fn head(blocks: usize, platform: Platform, key: &[u32; 8], rows: &[&[u8]], out: &mut [u8]) {
    macro_rules! by_blocks {
        ($($blocks:literal)*) => {
            match blocks {
                $($blocks => begun::<{ $blocks * BLOCK_LEN }>(platform, key, rows, out),)*
                _ => {}
            }
        };
    }
    by_blocks!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
}

fn begun<const BYTES: usize>(platform: Platform, key: &[u32; 8], rows: &[&[u8]], out: &mut [u8]) {
    let heads: Vec<&[u8; BYTES]> = rows.iter().filter_map(|row| row.first_chunk()).collect();
    platform.hash_many(&heads, key, 0, IncrementCounter::No, KEYED_HASH, CHUNK_START, 0, out);
}

/// The values of the whole chunks of these rows.
fn whole_chunks<'a>(key: &[u8; 32], rows: impl Iterator<Item = &'a [u8]> + Clone, values: &mut [[Value; LONG]]) {
    let (platform, words) = (Platform::detect(), words_from_le_bytes_32(key));
    let mut out = [0; 32 * ABREAST];
    for (number, counter) in (0..LONG as u64).enumerate() {
        let chunk = |row: &'a [u8]| row.get(number * CHUNK_LEN..)?.first_chunk::<CHUNK_LEN>();
        let (at, chunks): (Vec<usize>, Vec<&[u8; CHUNK_LEN]>) =
            rows.clone().enumerate().filter_map(|(at, row)| Some((at, chunk(row)?))).unzip();
        if chunks.is_empty() {
            return;
        }
        let same = IncrementCounter::No;
        platform.hash_many(&chunks, &words, counter, same, KEYED_HASH, CHUNK_START, CHUNK_END, &mut out);
        for (at, value) in at.into_iter().zip(out.as_chunks::<32>().0) {
            values[at][number] = *value;
        }
    }
}

/// The hash of a row of more than one chunk, of which the whole ones have these values.
fn joined(key: &[u8; 32], row: &[u8], values: &mut [Value; LONG]) -> Value {
    let (whole, rest) = row.as_chunks::<CHUNK_LEN>();
    let mut count = whole.len();
    if !rest.is_empty() {
        let mut hasher = blake3::Hasher::new_keyed(key);
        values[count] = hasher.set_input_offset((count * CHUNK_LEN) as u64).update(rest).finalize_non_root();
        count += 1;
    }
    let mode = Mode::KeyedHash(key);
    // Neighbours are joined level by level, and one without a neighbour goes up as it is: that is BLAKE3's tree.
    while count > 2 {
        for at in 0..count / 2 {
            values[at] = merge_subtrees_non_root(&values[2 * at], &values[2 * at + 1], mode);
        }
        if count % 2 == 1 {
            values[count / 2] = values[count - 1];
        }
        count = count.div_ceil(2);
    }
    *merge_subtrees_root(&values[0], &values[1], mode).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(lengths: &[usize]) {
        let key = blake3::derive_key("test", b"");
        let most = lengths.iter().copied().max().unwrap_or(0);
        let bytes: Vec<u8> = (0..most + lengths.len()).map(|at| (at * at / 7) as u8).collect();
        let rows: Vec<&[u8]> = lengths.iter().enumerate().map(|(at, length)| &bytes[at..at + length]).collect();
        let expected: Vec<Value> = rows.iter().map(|row| *blake3::keyed_hash(&key, row).as_bytes()).collect();
        assert!(keyed_hashes(&key, rows.into_iter()) == expected, "{lengths:?}");
    }

    #[test]
    fn rows_of_every_length_hash_as_they_do_alone() {
        let edges = (0..=LONG + 2).flat_map(|chunks| [0, 1, 63, 64, 65, 1000].map(|more| chunks * CHUNK_LEN + more));
        let edges: Vec<usize> = edges.chain((1..=LONG).map(|chunks| chunks * CHUNK_LEN - 1)).collect();
        check(&edges);
        edges.iter().for_each(|length| check(&[*length]));
        check(&[1100; 2 * BATCH]);
        check(&[]);
    }

    proptest! {
        #[test]
        fn short_rows_side_by_side_hash_as_they_do_alone(lengths in proptest::collection::vec(0usize..1_100, 0..600)) {
            check(&lengths);
        }

        #[test]
        fn rows_side_by_side_hash_as_they_do_alone(lengths in proptest::collection::vec(0usize..20_000, 0..150)) {
            check(&lengths);
        }
    }
}
