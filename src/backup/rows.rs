//! Finds the rows in the output of COPY, whatever pieces it arrives in.

use super::track::Tid;

/// In which form COPY writes a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `FORMAT binary`: half the processor time, for columns of built-in types.
    Binary,
    /// `FORMAT text`, for types whose binary form carries OIDs of the database it came from.
    Text,
}

impl Format {
    /// The word of COPY's option.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }
}

/// Why a stream is not what COPY writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// It does not begin with the signature.
    #[error("the stream does not begin as COPY BINARY does")]
    Signature,
    /// It has the flag for OIDs, or another one that changes its form.
    #[error("the stream has unknown flags")]
    Flags,
    /// A field has a negative length other than NULL's.
    #[error("a field of a row has a length that cannot be")]
    FieldLength,
    /// It ended inside a row, or without the trailer.
    #[error("the stream ended early")]
    Truncated,
    /// Bytes follow the trailer.
    #[error("bytes follow the end of the stream")]
    Trailing,
}

/// What COPY BINARY begins with: the signature, no flags, no header extension (PostgreSQL manual, COPY, "Binary Format").
pub const BINARY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with: a field count of -1.
pub const BINARY_TRAILER: &[u8; 2] = b"\xff\xff";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Collecting the 19 bytes of the header.
    Header,
    /// Skipping the header's extension.
    Extension(u32),
    /// Collecting the two bytes of a row's field count.
    Count,
    /// Collecting the first field, the row's place; so many fields follow it.
    Place(u16),
    /// Collecting the four bytes of a field's length; so many fields are left in the row.
    Length(u16),
    /// Inside a field: so many bytes and, after it, fields are left.
    Field(u32, u16),
    /// In text; true after a backslash.
    Text(bool),
    /// After the trailer.
    Done,
}

/// A parser of one COPY stream, fed in pieces of any size. It holds at most a few bytes of a piece.
#[derive(Debug, Clone)]
pub struct Rows {
    at: At,
    held: [u8; 19],
    held_len: usize,
    bare: bool,
    /// The places of the rows, when each begins with its `ctid`.
    places: Option<Vec<Tid>>,
}

impl Rows {
    /// For a stream as COPY writes it.
    #[must_use]
    pub const fn of_stream(format: Format) -> Self {
        let at = match format {
            Format::Binary => At::Header,
            Format::Text => At::Text(false),
        };
        Self { at, held: [0; 19], held_len: 0, bare: false, places: None }
    }

    /// For a binary stream whose rows have their `ctid` as a first field. It does not become part of the rows, which are
    /// as if it had not been asked for; see [`Self::take_places`].
    #[must_use]
    pub fn of_placed_stream() -> Self {
        Self { places: Some(Vec::new()), ..Self::of_stream(Format::Binary) }
    }

    /// The places of the first `rows` rows since the last call.
    pub fn take_places(&mut self, rows: usize) -> Vec<Tid> {
        let Some(places) = &mut self.places else { return Vec::new() };
        let later = places.split_off(rows.min(places.len()));
        std::mem::replace(places, later)
    }

    /// For rows alone, without header and trailer, as a chunk holds them.
    #[must_use]
    pub const fn of_chunk(format: Format) -> Self {
        let at = match format {
            Format::Binary => At::Count,
            Format::Text => At::Text(false),
        };
        Self { at, held: [0; 19], held_len: 0, bare: true, places: None }
    }

    /// Takes the next piece. The bytes that belong to rows are appended to `out`, and for each row that ends, the
    /// length that `out` has then is appended to `ends`.
    ///
    /// # Errors
    /// When the stream is not what COPY writes; the parser is of no use after that.
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<(), RowsError> {
        while !piece.is_empty() {
            if self.at == At::Count
                && self.held_len == 0
                && let Some(rest) = self.whole_row(piece, out)
            {
                ends.push(out.len());
                piece = rest;
                continue;
            }
            match self.at {
                At::Header => {
                    let Some(header) = self.collect(19, &mut piece) else { return Ok(()) };
                    let (signature, rest) = header.split_at(11);
                    if signature != &BINARY_HEADER[..11] {
                        return Err(RowsError::Signature);
                    }
                    let (flags, extension) = rest.split_at(4);
                    if flags != [0; 4] {
                        return Err(RowsError::Flags);
                    }
                    let length = number(extension);
                    self.at = if length == 0 { At::Count } else { At::Extension(length) };
                }
                At::Extension(left) => {
                    let taken = take(left, &mut piece);
                    let left = left - u32::try_from(taken.len()).unwrap_or(left);
                    self.at = if left == 0 { At::Count } else { At::Extension(left) };
                }
                At::Count => {
                    let Some(count) = self.collect(2, &mut piece) else { return Ok(()) };
                    let count = [count[0], count[1]];
                    if count == *BINARY_TRAILER {
                        if self.bare {
                            return Err(RowsError::Trailing);
                        }
                        self.at = At::Done;
                        continue;
                    }
                    let fields = u16::from_be_bytes(count);
                    if i16::try_from(fields).is_err() {
                        return Err(RowsError::FieldLength);
                    }
                    if self.places.is_some() {
                        self.at = At::Place(fields.checked_sub(1).ok_or(RowsError::FieldLength)?);
                        continue;
                    }
                    out.extend_from_slice(&count);
                    self.next_field(fields, out, ends);
                }
                At::Place(fields) => {
                    let Some(held) = self.collect(10, &mut piece) else { return Ok(()) };
                    let [0, 0, 0, 6, a, b, c, d, e, f, ..] = held else { return Err(RowsError::FieldLength) };
                    if let Some(places) = &mut self.places {
                        places.push(Tid::new(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])));
                    }
                    out.extend_from_slice(&fields.to_be_bytes());
                    self.next_field(fields, out, ends);
                }
                At::Length(fields) => {
                    let Some(bytes) = self.collect(4, &mut piece) else { return Ok(()) };
                    let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
                    out.extend_from_slice(&bytes);
                    match i32::from_be_bytes(bytes) {
                        -1 | 0 => self.next_field(fields - 1, out, ends),
                        length => {
                            let length = u32::try_from(length).map_err(|_| RowsError::FieldLength)?;
                            self.at = At::Field(length, fields - 1);
                        }
                    }
                }
                At::Field(left, fields) => {
                    let taken = take(left, &mut piece);
                    out.extend_from_slice(taken);
                    let left = left - u32::try_from(taken.len()).unwrap_or(left);
                    if left == 0 {
                        self.next_field(fields, out, ends);
                    } else {
                        self.at = At::Field(left, fields);
                    }
                }
                At::Text(_) => {
                    // COPY writes a newline inside a value as \n, so that each newline byte ends a row.
                    let end = piece.iter().position(|b| *b == b'\n').map_or(piece.len(), |at| at + 1);
                    let (row, rest) = piece.split_at(end);
                    out.extend_from_slice(row);
                    piece = rest;
                    let complete = row.ends_with(b"\n");
                    if complete {
                        ends.push(out.len());
                    }
                    self.at = At::Text(!complete);
                }
                At::Done => return Err(RowsError::Trailing),
            }
        }
        Ok(())
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`RowsError::Truncated`] when it should not be.
    pub fn finish(&self) -> Result<(), RowsError> {
        let complete = match self.at {
            At::Done => true,
            At::Count => self.bare && self.held_len == 0,
            At::Text(inside) => !inside,
            _ => false,
        };
        if complete { Ok(()) } else { Err(RowsError::Truncated) }
    }

    /// Takes the row that `piece` begins with, when the whole of it is there, as in nearly every message of the server's;
    /// what follows it. Whatever is unusual is left to the way in steps.
    fn whole_row<'a>(&mut self, piece: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (count, mut rest) = piece.split_first_chunk::<2>()?;
        let fields = u16::try_from(i16::from_be_bytes(*count)).ok()?;
        for _ in 0..fields {
            let (length, after) = rest.split_first_chunk::<4>()?;
            rest = match i32::from_be_bytes(*length) {
                -1 => after,
                length => after.get(usize::try_from(length).ok()?..)?,
            };
        }
        let row = piece.get(..piece.len() - rest.len())?;
        match &mut self.places {
            None => out.extend_from_slice(row),
            Some(places) => {
                let (place, columns) = row.get(2..)?.split_first_chunk::<10>()?;
                let [0, 0, 0, 6, a, b, c, d, e, f] = *place else { return None };
                places.push(Tid::new(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])));
                out.extend_from_slice(&fields.checked_sub(1)?.to_be_bytes());
                out.extend_from_slice(columns);
            }
        }
        Some(rest)
    }

    fn next_field(&mut self, fields: u16, out: &[u8], ends: &mut Vec<usize>) {
        self.at = if fields == 0 {
            ends.push(out.len());
            At::Count
        } else {
            At::Length(fields)
        };
    }

    /// The next `length` bytes once they are all there.
    fn collect(&mut self, length: usize, piece: &mut &[u8]) -> Option<[u8; 19]> {
        let wanted = length - self.held_len;
        let (now, rest) = piece.split_at(wanted.min(piece.len()));
        self.held[self.held_len..self.held_len + now.len()].copy_from_slice(now);
        self.held_len += now.len();
        *piece = rest;
        if self.held_len < length {
            return None;
        }
        self.held_len = 0;
        Some(self.held)
    }
}

fn take<'a>(limit: u32, piece: &mut &'a [u8]) -> &'a [u8] {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(piece.len());
    let (taken, rest) = piece.split_at(limit);
    *piece = rest;
    taken
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(rows: &[Vec<Option<Vec<u8>>>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (BINARY_HEADER.to_vec(), Vec::new());
        for row in rows {
            bytes.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
            for field in row {
                match field {
                    None => bytes.extend((-1i32).to_be_bytes()),
                    Some(value) => {
                        bytes.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                        bytes.extend(value);
                    }
                }
            }
            ends.push(bytes.len() - BINARY_HEADER.len());
        }
        bytes.extend(BINARY_TRAILER);
        (bytes, ends)
    }

    fn run(mut parser: Rows, bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<usize>), RowsError> {
        let (mut out, mut ends, mut from) = (Vec::new(), Vec::new(), 0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        for cut in cuts {
            parser.feed(&bytes[from..cut], &mut out, &mut ends)?;
            from = cut;
        }
        parser.finish().map(|()| (out, ends))
    }

    fn any_rows() -> impl Strategy<Value = Vec<Vec<Option<Vec<u8>>>>> {
        let field = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        proptest::collection::vec(proptest::collection::vec(field, 0..5), 0..12)
    }

    proptest! {
        #[test]
        fn any_split_of_a_binary_stream_gives_the_same_rows(rows in any_rows(), cuts in proptest::collection::vec(any::<usize>(), 0..30)) {
            let (bytes, ends) = stream(&rows);
            let body = bytes[BINARY_HEADER.len()..bytes.len() - 2].to_vec();
            prop_assert_eq!(run(Rows::of_stream(Format::Binary), &bytes, &cuts), Ok((body.clone(), ends.clone())));
            prop_assert_eq!(run(Rows::of_chunk(Format::Binary), &body, &cuts), Ok((body, ends)));
        }

        #[test]
        fn any_split_of_text_gives_the_same_rows(rows in proptest::collection::vec("[a-z\\t\\\\]{0,20}", 0..12), cuts in proptest::collection::vec(any::<usize>(), 0..30)) {
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            let (out, ends) = run(Rows::of_chunk(Format::Text), text.as_bytes(), &cuts).unwrap();
            prop_assert_eq!(out, text.as_bytes());
            prop_assert_eq!(ends.len(), rows.len());
        }

        #[test]
        fn a_shorter_stream_is_seen(rows in any_rows(), cut in any::<usize>()) {
            let (bytes, _) = stream(&rows);
            prop_assert!(run(Rows::of_stream(Format::Binary), &bytes[..cut % bytes.len()], &[]).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cuts in proptest::collection::vec(any::<usize>(), 0..5)) {
            let _ = run(Rows::of_stream(Format::Binary), &bytes, &cuts);
            let _ = run(Rows::of_chunk(Format::Binary), &bytes, &cuts);
            let _ = run(Rows::of_chunk(Format::Text), &bytes, &cuts);
        }
    }

    #[test]
    fn what_is_no_copy_stream_is_refused() {
        let check = |bytes: &[u8], expect: RowsError| {
            assert_eq!(run(Rows::of_stream(Format::Binary), bytes, &[]), Err(expect), "{bytes:?}");
        };
        check(b"id\tname\nand more of it", RowsError::Signature);
        check(b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0\xff\xff", RowsError::Flags);
        check(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff\0", RowsError::Trailing);
        check(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xfe", RowsError::FieldLength);
        check(b"", RowsError::Truncated);
    }
}
