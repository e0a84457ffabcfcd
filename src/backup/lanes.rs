//! BLAKE3 of many rows at once. The crate fills the lanes of the processor's vector registers from within one input, and a
//! row is mostly a chunk of BLAKE3's (1024 bytes) or a few, which take one lane. Here the chunks of several rows lie side by
//! side. The hashes are those of `blake3::keyed_hash`, which a test holds them against.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::platform::Platform;
use blake3::{CHUNK_LEN, IncrementCounter};

/// A row of so many chunks fills the lanes by itself.
const LONG: usize = 16;
/// Rows that are hashed side by side: enough for every lane there is, few enough to lie in a near cache.
const BATCH: usize = 64;

// The flags of BLAKE3's compression (its specification, 2.2).
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const KEYED_HASH: u8 = 16;

type Value = [u8; 32];

/// The keyed hashes of rows.
pub(super) fn keyed_hashes<'a>(key: &[u8; 32], rows: impl Iterator<Item = &'a [u8]>) -> Vec<Value> {
    let mut hashes = Vec::with_capacity(rows.size_hint().0);
    let mut batch: Vec<&[u8]> = Vec::with_capacity(BATCH);
    let mut values = vec![[[0; 32]; LONG]; BATCH];
    for row in rows {
        batch.push(row);
        if batch.len() == BATCH {
            add(key, &batch, &mut values, &mut hashes);
            batch.clear();
        }
    }
    add(key, &batch, &mut values, &mut hashes);
    hashes
}

fn add(key: &[u8; 32], rows: &[&[u8]], values: &mut [[Value; LONG]], hashes: &mut Vec<Value>) {
    let apart = |row: &[u8]| row.len() <= CHUNK_LEN || row.len() > LONG * CHUNK_LEN;
    whole_chunks(key, rows.iter().map(|row| if apart(row) { &[] } else { *row }), values);
    hashes.extend(rows.iter().zip(values).map(|(row, values)| match *row {
        row if apart(row) => *blake3::keyed_hash(key, row).as_bytes(),
        row => joined(key, row, values),
    }));
}

/// The values of the whole chunks of these rows.
fn whole_chunks<'a>(key: &[u8; 32], rows: impl Iterator<Item = &'a [u8]> + Clone, values: &mut [[Value; LONG]]) {
    let (platform, words) = (Platform::detect(), blake3::platform::words_from_le_bytes_32(key));
    let mut out = [0; 32 * BATCH];
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
        fn rows_side_by_side_hash_as_they_do_alone(lengths in proptest::collection::vec(0usize..20_000, 0..150)) {
            check(&lengths);
        }
    }
}
