//! The rows of a `COPY … TO STDOUT (FORMAT binary)`, one at a time and without copying their fields.
//!
//! The form is that of PostgreSQL's manual ("Binary Format" under COPY): a header, then for each row the number of its
//! fields, and for each field its length and bytes, length -1 for NULL; the number -1 ends it.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use sqlx::PgConnection;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of an extension that has never been used.
const HEADER: usize = 19;

/// A COPY that is being read.
pub struct CopyOut<'c> {
    stream: BoxStream<'c, Result<Bytes, sqlx::Error>>,
    buffer: BytesMut,
    begun: bool,
    ended: bool,
}

impl std::fmt::Debug for CopyOut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOut").field("begun", &self.begun).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// The fields of a row, `None` for NULL.
#[derive(Debug)]
pub struct Fields<'r, const N: usize>([Option<&'r [u8]>; N]);

impl<'c> CopyOut<'c> {
    /// Starts a COPY. The statement has to ask for the binary format.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn start(connection: &'c mut PgConnection, sql: &str) -> Result<Self, sqlx::Error> {
        let stream = connection.copy_out_raw(sql).await?;
        Ok(Self { stream, buffer: BytesMut::new(), begun: false, ended: false })
    }

    /// Hands every row to `each`, in order, and ends with how many there were.
    ///
    /// # Errors
    /// When the server or the connection fails, or what comes is no COPY of rows of `N` fields.
    pub async fn rows<const N: usize>(mut self, mut each: impl FnMut(&Fields<'_, N>)) -> Result<u64, sqlx::Error> {
        let mut count = 0;
        while let Some(data) = self.stream.next().await {
            let data = data?;
            // A server sends a row at a time, so that hardly anything is ever kept.
            if self.buffer.is_empty() {
                let (rows, taken) = self.take(&data, &mut each)?;
                count += rows;
                self.buffer.extend_from_slice(data.get(taken..).unwrap_or_default());
            } else {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.extend_from_slice(&data);
                let (rows, taken) = self.take(&buffer, &mut each)?;
                count += rows;
                buffer.advance(taken);
                self.buffer = buffer;
            }
        }
        if self.ended && self.buffer.is_empty() { Ok(count) } else { Err(broken("it ends in the middle of a row")) }
    }

    /// Hands out the rows that are there as a whole; returns how many, and how many bytes they are.
    fn take<const N: usize>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&Fields<'_, N>),
    ) -> Result<(u64, usize), sqlx::Error> {
        let (mut rest, mut count) = (bytes, 0);
        if !self.begun {
            if bytes.len() < HEADER {
                return Ok((0, 0));
            }
            if !bytes.starts_with(SIGNATURE) {
                return Err(broken("it does not begin as one"));
            }
            rest = bytes.get(HEADER..).unwrap_or_default();
            self.begun = true;
        }
        while !self.ended {
            match row::<N>(rest)? {
                Next::Row(fields, after) => {
                    each(&Fields(fields));
                    count += 1;
                    rest = after;
                }
                Next::End(after) => {
                    self.ended = true;
                    rest = after;
                }
                Next::More => break,
            }
        }
        Ok((count, bytes.len() - rest.len()))
    }
}

enum Next<'r, const N: usize> {
    Row([Option<&'r [u8]>; N], &'r [u8]),
    End(&'r [u8]),
    /// The row is not there as a whole.
    More,
}

fn row<const N: usize>(bytes: &[u8]) -> Result<Next<'_, N>, sqlx::Error> {
    let Some((count, mut rest)) = bytes.split_first_chunk::<2>() else { return Ok(Next::More) };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Next::End(rest));
    }
    if usize::try_from(count).ok() != Some(N) {
        return Err(broken("a row has another number of fields"));
    }
    let mut fields = [None; N];
    for field in &mut fields {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(Next::More) };
        rest = after;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            continue;
        }
        let length = usize::try_from(length).map_err(|_| broken("a field has a negative length"))?;
        let Some((value, after)) = rest.split_at_checked(length) else { return Ok(Next::More) };
        *field = Some(value);
        rest = after;
    }
    Ok(Next::Row(fields, rest))
}

fn broken(what: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("a COPY cannot be read: {what}"))
}

impl<'r, const N: usize> Fields<'r, N> {
    /// The bytes of a field; empty for NULL.
    #[must_use]
    pub fn bytes(&self, place: usize) -> &'r [u8] {
        self.0.get(place).copied().flatten().unwrap_or_default()
    }

    /// A text; empty for NULL.
    #[must_use]
    pub fn text(&self, place: usize) -> &'r str {
        std::str::from_utf8(self.bytes(place)).unwrap_or_default()
    }

    /// An `int4`; 0 when it is none.
    #[must_use]
    pub fn int4(&self, place: usize) -> i32 {
        self.bytes(place).try_into().map_or(0, i32::from_be_bytes)
    }

    /// An `int8`; 0 when it is none.
    #[must_use]
    pub fn int8(&self, place: usize) -> i64 {
        self.bytes(place).try_into().map_or(0, i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: Vec<Vec<u8>>) -> CopyOut<'static> {
        let stream = futures::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))).boxed();
        CopyOut { stream, buffer: BytesMut::new(), begun: false, ended: false }
    }

    fn whole() -> Vec<u8> {
        let mut bytes = [SIGNATURE, &[0; 8]].concat();
        bytes.extend(2_i16.to_be_bytes());
        bytes.extend(4_i32.to_be_bytes());
        bytes.extend(7_i32.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes.extend(2_i16.to_be_bytes());
        bytes.extend(0_i32.to_be_bytes());
        bytes.extend(3_i32.to_be_bytes());
        bytes.extend(b"abc");
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    async fn read(pieces: Vec<Vec<u8>>) -> Result<Vec<(i32, String)>, String> {
        let mut rows = Vec::new();
        let each = |fields: &Fields<'_, 2>| rows.push((fields.int4(0), fields.text(1).to_owned()));
        stream(pieces).rows(each).await.map_err(|error| error.to_string())?;
        Ok(rows)
    }

    #[tokio::test]
    async fn rows_are_read_however_they_are_cut() {
        let expected = vec![(7, String::new()), (0, "abc".to_owned())];
        assert_eq!(read(vec![whole()]).await.unwrap(), expected);
        assert_eq!(read(whole().into_iter().map(|byte| vec![byte]).collect()).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_no_copy_of_such_rows_is_an_error() {
        let check = async |bytes: Vec<u8>, expect: &str| {
            let error = read(vec![bytes]).await.unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(b"x".repeat(30), "does not begin as one").await;
        check(whole()[..HEADER + 9].to_vec(), "in the middle of a row").await;
        check(Vec::new(), "in the middle of a row").await;
        let mut bytes = whole();
        bytes[HEADER + 1] = 3;
        check(bytes, "another number of fields").await;
        let mut bytes = whole();
        bytes[HEADER + 2..HEADER + 6].copy_from_slice(&(-2_i32).to_be_bytes());
        check(bytes, "negative length").await;
        let mut bytes = whole();
        bytes.push(0);
        check(bytes, "in the middle of a row").await;
    }
}
