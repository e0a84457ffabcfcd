//! Instants in rows. sqlx does not know jiff's, so that they come as text.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// An expression of type `timestamptz` as text that [`instant`] and [`required`] read.
macro_rules! utc {
    ($instant:literal) => {
        concat!("to_char(", $instant, " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
}
pub(crate) use utc;

/// The instant in a column of [`utc!`]; `None` for NULL.
pub(crate) fn instant(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|t| t.parse().map_err(|error: jiff::Error| sqlx::Error::Decode(Box::new(error)))).transpose()
}

/// The same where there is no NULL.
pub(crate) fn required(row: &PgRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    instant(row, column)?.ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))
}
