//! Where rows lay when they were read: for each chunk a section with the place and the hash of every row.
//!
//! The bytes of an object, before compression: a 1; the number of sections; then for each section the number of its rows,
//! their places in ascending order, each as what it is more than the one before, and after all of these the hashes, 8
//! bytes each, little endian. Numbers are LEB128.

use super::Tid;

const VERSION: u8 = 1;

/// A row of a section: its place and its hash.
pub(in super::super) type Placed = (Tid, u64);

/// Bytes that are no sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no list of places")]
pub struct NoPlaces;

/// The bytes of these sections. The places of each must ascend; `None` when they do not.
#[must_use]
pub(in super::super) fn write(sections: &[Vec<Placed>]) -> Option<Vec<u8>> {
    let mut bytes = vec![VERSION];
    number(sections.len() as u64, &mut bytes);
    for section in sections {
        number(section.len() as u64, &mut bytes);
        let mut before = 0;
        for (tid, _) in section {
            let more = tid.get().checked_sub(before).filter(|more| *more > 0)?;
            number(more, &mut bytes);
            before = tid.get();
        }
        for (_, hash) in section {
            bytes.extend(hash.to_le_bytes());
        }
    }
    Some(bytes)
}

/// The sections of an object.
///
/// # Errors
/// [`NoPlaces`].
pub(in super::super) fn read(bytes: &[u8]) -> Result<Vec<Vec<Placed>>, NoPlaces> {
    let rest = &mut &bytes[..];
    if take(rest, 1)? != [VERSION] {
        return Err(NoPlaces);
    }
    let mut sections = Vec::new();
    for _ in 0..count(rest)? {
        // Each row takes nine bytes at least, so that a lie about their number takes no memory.
        let rows = usize::try_from(count(rest)?).ok().filter(|rows| rows.saturating_mul(9) <= rest.len());
        let rows = rows.ok_or(NoPlaces)?;
        let mut section = Vec::with_capacity(rows);
        let mut at = 0u64;
        for _ in 0..rows {
            at = count(rest)?.checked_add(at).filter(|next| *next > at).ok_or(NoPlaces)?;
            section.push((Tid::from_number(at).ok_or(NoPlaces)?, 0));
        }
        for (_, hash) in &mut section {
            *hash = take(rest, 8)?.first_chunk().copied().map(u64::from_le_bytes).ok_or(NoPlaces)?;
        }
        sections.push(section);
    }
    if rest.is_empty() { Ok(sections) } else { Err(NoPlaces) }
}

fn number(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn count(rest: &mut &[u8]) -> Result<u64, NoPlaces> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(rest, 1)? else { return Err(NoPlaces) };
        value |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(NoPlaces)?;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(NoPlaces)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], NoPlaces> {
    let (taken, left) = rest.split_at_checked(length).ok_or(NoPlaces)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_no_bytes_panic(
            sections in proptest::collection::vec(proptest::collection::btree_map(1u64..1 << 48, any::<u64>(), 0..50), 0..5),
            cut in any::<usize>(),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let sections: Vec<Vec<Placed>> = sections
                .into_iter()
                .map(|rows| rows.into_iter().map(|(tid, hash)| (Tid::from_number(tid).unwrap(), hash)).collect())
                .collect();
            let bytes = write(&sections).unwrap();
            prop_assert_eq!(read(&bytes), Ok(sections));
            prop_assert_eq!(read(&bytes[..cut % bytes.len()]), Err(NoPlaces));
            let _ = read(&noise);
        }
    }

    #[test]
    fn places_that_do_not_ascend_are_not_written() {
        let at = |number| (Tid::new(0, number), 7);
        assert_eq!(write(&[vec![at(2), at(1)]]), None);
        assert_eq!(write(&[vec![at(1), at(1)]]), None);
        assert!(write(&[vec![at(1), at(2)]]).is_some());
    }

    #[test]
    fn a_number_of_rows_that_cannot_be_takes_no_memory() {
        assert_eq!(read(&[VERSION, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Err(NoPlaces));
    }
}
