//! Rows of chunks that a backup no longer has: one bitmap for each such chunk, with a bit for each of its rows.

use super::super::rows::{Format, Rows, RowsError};

/// Which rows of one chunk are gone. The first row is the lowest bit of the first byte, as PostgreSQL's `get_bit` counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Bitmap {
    /// How many bytes it has.
    len: usize,
    /// None as long as no bit is set: a backup holds one of every chunk of a database, and of few of them rows are gone.
    bits: Vec<u8>,
}

impl Bitmap {
    /// Of a chunk of so many rows, all of which are there.
    pub(in super::super) fn none(rows: u64) -> Self {
        Self { len: usize::try_from(rows.div_ceil(8)).unwrap_or(0), bits: Vec::new() }
    }

    /// The bitmap that begins at a byte of a list; `None` when the list is shorter.
    pub(in super::super) fn of(list: &[u8], at: u64, rows: u64) -> Option<Self> {
        let from = usize::try_from(at).ok()?;
        let to = from.checked_add(usize::try_from(rows.div_ceil(8)).ok()?)?;
        let bytes = list.get(from..to)?;
        let is_any = bytes.iter().any(|byte| *byte != 0);
        Some(Self { len: bytes.len(), bits: if is_any { bytes.to_vec() } else { Vec::new() } })
    }

    /// Writes its bytes behind others.
    pub(in super::super) fn write(&self, list: &mut Vec<u8>) {
        let end = list.len() + self.len;
        list.extend_from_slice(&self.bits);
        list.resize(end, 0);
    }

    /// Marks a row as gone.
    pub(in super::super) fn set(&mut self, row: usize) {
        if self.bits.is_empty() {
            self.bits = vec![0; self.len];
        }
        if let Some(byte) = self.bits.get_mut(row / 8) {
            *byte |= 1 << (row % 8);
        }
    }

    /// Whether a row is gone.
    pub(in super::super) fn has(&self, row: usize) -> bool {
        self.bits.get(row / 8).is_some_and(|byte| byte & (1 << (row % 8)) != 0)
    }

    /// The rows of a chunk without those that are gone.
    ///
    /// # Errors
    /// When the bytes are not whole rows.
    pub(in super::super) fn without(&self, bytes: &[u8], format: Format) -> Result<Vec<u8>, RowsError> {
        let (mut whole, mut ends) = (Vec::with_capacity(bytes.len()), Vec::new());
        let mut rows = Rows::of_chunk(format);
        rows.feed(bytes, &mut whole, &mut ends)?;
        rows.finish()?;
        let (mut out, mut from) = (Vec::with_capacity(bytes.len()), 0);
        for (row, end) in ends.into_iter().enumerate() {
            if !self.has(row) {
                out.extend_from_slice(whole.get(from..end).unwrap_or_default());
            }
            from = end;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_the_rows_that_are_gone_are_left_out(rows in proptest::collection::vec(("[a-z]{0,9}", any::<bool>()), 0..70)) {
            let bytes: String = rows.iter().map(|(row, _)| format!("{row}\n")).collect();
            let left: String = rows.iter().filter(|(_, gone)| !gone).map(|(row, _)| format!("{row}\n")).collect();
            let mut bitmap = Bitmap::none(rows.len() as u64);
            for (at, _) in rows.iter().enumerate().filter(|(_, (_, gone))| *gone) {
                bitmap.set(at);
            }
            prop_assert_eq!(bitmap.without(bytes.as_bytes(), Format::Text), Ok(left.into_bytes()));
            let mut list = b"before".to_vec();
            bitmap.write(&mut list);
            prop_assert_eq!(list.len(), 6 + rows.len().div_ceil(8));
            list.extend_from_slice(b"after");
            prop_assert_eq!(Bitmap::of(&list, 6, rows.len() as u64), Some(bitmap));
        }
    }

    #[test]
    fn a_list_that_is_too_short_has_no_bitmap() {
        assert_eq!(Bitmap::of(&[0; 3], 2, 9), None);
        assert_eq!(Bitmap::of(&[0; 3], u64::MAX, u64::MAX), None);
    }
}
