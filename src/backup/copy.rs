//! Reads rows with COPY and cuts them into pieces of whole rows; memory is bounded by a piece and the largest row.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::chunk::rows;
use super::error::BackupError;
use super::manifest::{Column, Name};
use super::rows::{Format, Rows};
use super::track::Tid;
use crate::clients::postgres::{Postgres, quote_identifier};

/// A COPY that sends nothing for so long is given up: it would hold back vacuum for as long as it hangs.
const STALL: Duration = Duration::from_secs(600);

/// What stands in a row for its transaction when that was forgotten: by servers before 9.4, or by hand (pg_surgery).
const FROZEN: u32 = 2;

/// Pages of a table that are read in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// The first page.
    pub from: u64,
    /// The page after the last one; `None` reads to the end, wherever that is by then.
    pub to: Option<u64>,
}

/// The page ranges of a table, each of about `range_bytes`. Rows longer than a page lie elsewhere (TOAST), so the
/// pages of a range are fewer the more of the table lies there. Boundaries depend only on the average, rounded to a
/// power of two, so that a growing table keeps the ranges it had.
#[must_use]
pub fn ranges(pages: u64, bytes: u64, range_bytes: u64) -> Vec<Pages> {
    every(pages, step(pages, bytes, range_bytes))
}

/// The pages of such a range: a power of two.
#[must_use]
pub fn step(pages: u64, bytes: u64, range_bytes: u64) -> u64 {
    let per_page = bytes.checked_div(pages).unwrap_or(0).max(8192);
    let wanted = (range_bytes / per_page).max(1);
    // The maps of free space and visibility make a table a little more than its pages.
    1u64 << (wanted + wanted / 8).ilog2()
}

/// Ranges of `step` pages each; the last one is open.
#[must_use]
pub fn every(pages: u64, step: u64) -> Vec<Pages> {
    let step = step.max(1);
    let count = pages.div_ceil(step).max(1);
    let range = |index: u64| Pages { from: index * step, to: (index + 1 < count).then(|| (index + 1) * step) };
    (0..count).map(range).collect()
}

/// The statement that copies pages of a table out.
#[must_use]
pub fn out_sql(name: &Name, columns: &[Column], format: Format, pages: Option<Pages>) -> String {
    select(name, &column_list(columns), format, &pages.map(Pages::conditions).unwrap_or_default())
}

/// The same, where each row begins with its place; with `since`, only the rows that are not [`untouched_sql`]'s.
#[must_use]
pub fn placed_sql(name: &Name, columns: &[Column], pages: Pages, since: Option<u32>) -> String {
    let mut conditions = pages.conditions();
    conditions.extend(since.map(|id| format!("(age(xmin) <= age('{id}'::xid) OR xmin = '{FROZEN}'::xid)")));
    let columns: Vec<String> = std::iter::once("ctid".to_owned()).chain(names(columns)).collect();
    select(name, &columns.join(", "), Format::Binary, &conditions)
}

/// The statement that copies out the places of the rows that a transaction before this one wrote. A row of which that
/// is not known any more, since it is so old that its id has come round, may count as written later, never the other
/// way round.
#[must_use]
pub fn untouched_sql(name: &Name, pages: Pages, since: u32) -> String {
    let mut conditions = pages.conditions();
    conditions.push(format!("age(xmin) > age('{since}'::xid) AND xmin <> '{FROZEN}'::xid"));
    select(name, "ctid", Format::Binary, &conditions)
}

impl Pages {
    fn conditions(self) -> Vec<String> {
        let from = (self.from > 0).then(|| format!("ctid >= '({},0)'::tid", self.from));
        let to = self.to.map(|to| format!("ctid < '({to},0)'::tid"));
        from.into_iter().chain(to).collect()
    }
}

fn select(name: &Name, columns: &str, format: Format, conditions: &[String]) -> String {
    let condition = match conditions {
        [] => String::new(),
        conditions => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!("COPY (SELECT {columns} FROM ONLY {}{condition}) TO STDOUT (FORMAT {})", name.sql(), format.keyword())
}

fn names(columns: &[Column]) -> impl Iterator<Item = String> {
    columns.iter().map(|column| quote_identifier(&column.name))
}

/// The names of the columns as SQL.
#[must_use]
pub fn column_list(columns: &[Column]) -> String {
    names(columns).collect::<Vec<_>>().join(", ")
}

/// Whole rows, one after the other.
#[derive(Debug, Default)]
pub struct Piece {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
    /// Where each lay, when that was asked for.
    pub places: Vec<Tid>,
}

impl Piece {
    /// Its rows.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        rows(&self.bytes, &self.ends)
    }
}

/// Buffers of pieces that are done with: a new one for each piece would be mapped and cleared by the system each time.
#[derive(Debug, Clone, Default)]
pub struct Spares {
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    most: usize,
    largest: usize,
}

impl Spares {
    /// At most so many, of pieces of about `piece_bytes`. What a huge row made larger than that is not kept.
    #[must_use]
    pub fn of_pieces(most: usize, piece_bytes: usize) -> Self {
        Self { kept: Arc::default(), most, largest: piece_bytes.saturating_mul(2) }
    }

    fn take(&self) -> Vec<u8> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps a piece's buffer for a later one.
    pub fn give(&self, mut bytes: Vec<u8>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.capacity() <= self.largest && kept.len() < self.most {
            bytes.clear();
            kept.push(bytes);
        }
    }
}

/// What a read is about.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The server, for messages.
    pub postgres: &'a Postgres,
    /// The database.
    pub database: &'a str,
    /// The table.
    pub name: &'a Name,
    /// In which form it is copied.
    pub format: Format,
    /// Ends the read.
    pub cancel: &'a CancellationToken,
}

/// The rows of one COPY statement, in pieces, in order. While no piece is asked for, the server waits.
pub struct Reader<'a> {
    source: Source<'a>,
    stream: BoxStream<'a, Result<Bytes, sqlx::Error>>,
    rows: Rows,
    piece: Piece,
    piece_bytes: usize,
    spares: Spares,
}

impl<'a> Reader<'a> {
    /// Runs a COPY statement, whose rows come in pieces of about `piece_bytes`.
    ///
    /// # Errors
    /// When the server refuses it. The connection is of no use after an error.
    pub async fn start(
        connection: &'a mut PgConnection,
        source: Source<'a>,
        sql: &'a str,
        piece_bytes: usize,
    ) -> Result<Self, BackupError> {
        Self::of(connection, source, sql, piece_bytes, Rows::of_stream(source.format)).await
    }

    /// The same, for a statement whose rows begin with their place.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub async fn placed(
        connection: &'a mut PgConnection,
        source: Source<'a>,
        sql: &'a str,
        piece_bytes: usize,
    ) -> Result<Self, BackupError> {
        Self::of(connection, source, sql, piece_bytes, Rows::of_placed_stream()).await
    }

    async fn of(
        connection: &'a mut PgConnection,
        source: Source<'a>,
        sql: &'a str,
        piece_bytes: usize,
        rows: Rows,
    ) -> Result<Self, BackupError> {
        let started = tokio::time::timeout(STALL, connection.copy_out_raw(sql)).await;
        let stream = started.map_err(|_| source.stalled())?.map_err(|error| source.failed(error))?;
        Ok(Self { source, stream, rows, piece: Piece::default(), piece_bytes, spares: Spares::default() })
    }

    /// Puts the pieces into buffers of these, to which whoever is done with one gives it back.
    #[must_use]
    pub fn into_spares(mut self, spares: &Spares) -> Self {
        self.spares = spares.clone();
        self.piece.bytes = spares.take();
        self
    }

    /// The next piece, of at least one row; `None` at the end.
    ///
    /// # Errors
    /// When the server or the connection fails, nothing comes for ten minutes, or the run is cancelled.
    pub async fn next(&mut self) -> Result<Option<Piece>, BackupError> {
        let broken = |source: &Source<'_>, cause| BackupError::Stream { relation: source.name.to_string(), cause };
        loop {
            let Some(data) = self.message().await? else { break };
            let data = data.map_err(|error| self.source.failed(error))?;
            let fed = self.rows.feed(&data, &mut self.piece.bytes, &mut self.piece.ends);
            fed.map_err(|cause| broken(&self.source, cause))?;
            if self.piece.bytes.len() >= self.piece_bytes
                && let Some(end) = self.piece.ends.last().copied()
            {
                let rest = self.piece.bytes.split_off(end);
                // As large as the last one, so that it need not grow step by step.
                let mut bytes = self.spares.take();
                bytes.reserve(self.piece.bytes.capacity());
                bytes.extend_from_slice(&rest);
                let next = Piece { bytes, ..Piece::default() };
                return Ok(Some(self.ended(next)));
            }
        }
        self.rows.finish().map_err(|cause| broken(&self.source, cause))?;
        let last = self.ended(Piece::default());
        Ok((!last.ends.is_empty()).then_some(last))
    }
}

impl Reader<'_> {
    /// The server's next message: one row. Most are there already, and a clock for each would cost more than it does.
    async fn message(&mut self) -> Result<Option<Result<Bytes, sqlx::Error>>, BackupError> {
        if let Some(there) = self.stream.next().now_or_never() {
            return Ok(there);
        }
        let next = tokio::time::timeout(STALL, self.stream.next());
        let next = self.source.cancel.run_until_cancelled(next).await.ok_or(BackupError::Cancelled)?;
        next.map_err(|_| self.source.stalled())
    }

    fn ended(&mut self, next: Piece) -> Piece {
        let mut piece = std::mem::replace(&mut self.piece, next);
        piece.places = self.rows.take_places(piece.ends.len());
        piece
    }
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Source<'_> {
    fn doing(&self) -> String {
        format!("copying {}", self.name)
    }

    fn failed(&self, error: sqlx::Error) -> BackupError {
        self.postgres.error(self.database, &self.doing(), error).into()
    }

    fn stalled(&self) -> BackupError {
        BackupError::Stalled { doing: self.doing(), seconds: STALL.as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_cover_every_page_once_and_the_last_is_open(pages in 0u64..5_000, toast in 0u64..1 << 32, size in 1u64 << 16..1 << 26) {
            let ranges = ranges(pages, pages * 8192 + toast, size);
            prop_assert_eq!(ranges[0].from, 0);
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].to, Some(pair[1].from));
                prop_assert!(pair[0].from < pair[1].from);
            }
            prop_assert_eq!(ranges.last().unwrap().to, None);
        }
    }

    #[test]
    fn a_range_is_read_by_its_tids() {
        let name = Name { schema: "public".into(), name: "a\"b".into() };
        let columns = [Column { name: "x y".into(), type_name: "text".into() }];
        let sql = |pages| out_sql(&name, &columns, Format::Binary, pages);
        assert_eq!(sql(None), "COPY (SELECT \"x y\" FROM ONLY \"public\".\"a\"\"b\") TO STDOUT (FORMAT binary)");
        let pages = Some(Pages { from: 8, to: Some(16) });
        assert!(sql(pages).contains("WHERE ctid >= '(8,0)'::tid AND ctid < '(16,0)'::tid"));
    }
}
