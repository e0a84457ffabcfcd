//! Writes the rows of one table of a backup, without a database server: as COPY would write them.

pub(super) mod decode;
mod float;
pub(super) mod text;

use bytes::Bytes;
use futures::TryStreamExt;

use super::error::BackupError;
use super::live::{Chunks, table_rows};
use super::manifest::{Manifest, Table};
use super::name::find_table;
use super::rows::{BINARY_HEADER, BINARY_TRAILER, Format, RowsError};
use crate::context::Context;

/// Chunks that are fetched ahead.
const AHEAD: usize = 2;

/// In which form the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// As `COPY … (FORMAT csv)`.
    Csv,
    /// As `COPY … (FORMAT text)`.
    Text,
    /// A complete stream as `COPY … (FORMAT binary)`.
    Binary,
}

/// A table that is to be written, found out to be possible before a byte is.
#[derive(Debug)]
pub struct Cat<'m> {
    table: &'m Table,
    output: Output,
    /// Places of the columns in a stored row; `None` takes the rows as they are.
    chosen: Vec<usize>,
    is_whole: bool,
    decoders: Vec<decode::Decoder>,
}

impl<'m> Cat<'m> {
    /// The table of this name, some of its columns or, when none are named, all.
    ///
    /// # Errors
    /// When there is no such database, table or column, or a column's type cannot be written in this form.
    pub fn new(
        manifest: &'m Manifest,
        database: &str,
        table: &str,
        columns: &[String],
        output: Output,
    ) -> Result<Self, BackupError> {
        let table = find_table(&manifest.id, manifest.database(database)?, table)?;
        let place = |name: &String| {
            let found = table.columns.iter().position(|column| column.name == *name);
            found.ok_or_else(|| BackupError::NoSuchColumn {
                table: table.name.to_string(),
                column: name.clone(),
                has: table.columns.iter().map(|column| column.name.clone()).collect(),
            })
        };
        let chosen: Vec<usize> = match columns {
            [] => (0..table.columns.len()).collect(),
            names => names.iter().map(place).collect::<Result<_, _>>()?,
        };
        let mut decoders = Vec::new();
        match (table.copy_format, output) {
            (Format::Text, Output::Binary) => {
                return Err(BackupError::StoredAsText { table: table.name.to_string() });
            }
            (Format::Binary, Output::Csv | Output::Text) => {
                for column in chosen.iter().filter_map(|place| table.columns.get(*place)) {
                    let decoder = decode::Decoder::of(&column.type_name);
                    decoders.push(decoder.ok_or_else(|| BackupError::NotDecoded {
                        table: table.name.to_string(),
                        column: column.name.clone(),
                        type_name: column.type_name.clone(),
                    })?);
                }
            }
            _ => {}
        }
        Ok(Self { table, output, chosen, is_whole: columns.is_empty(), decoders })
    }

    /// The names of the columns in their order, as a line of CSV.
    #[must_use]
    pub fn header(&self) -> Bytes {
        let mut line = Vec::new();
        let names = self.chosen.iter().filter_map(|place| self.table.columns.get(*place));
        let fields: Vec<Option<&[u8]>> = names.map(|column| Some(column.name.as_bytes())).collect();
        text::csv_row(&fields, &mut line);
        line.into()
    }

    /// Hands the bytes to `write`, in order, until they end or it says `false`. Memory is bounded by some chunks.
    ///
    /// # Errors
    /// When a chunk cannot be read or is damaged, and on cancel. What was written until then is not all of the table.
    pub async fn rows<W>(&self, from: &Chunks, ctx: &Context, mut write: W) -> Result<(), BackupError>
    where
        W: AsyncFnMut(Bytes) -> Result<bool, BackupError>,
    {
        if self.output == Output::Binary && !write(Bytes::from_static(BINARY_HEADER)).await? {
            return Ok(());
        }
        let chunks = table_rows(from, self.table, AHEAD);
        futures::pin_mut!(chunks);
        loop {
            let next = ctx.cancel.run_until_cancelled(chunks.try_next()).await.ok_or(BackupError::Cancelled)?;
            let Some(stored) = next? else { break };
            let bytes = self.convert(stored)?;
            if !write(bytes).await? {
                return Ok(());
            }
        }
        if self.output == Output::Binary {
            write(Bytes::from_static(BINARY_TRAILER)).await?;
        }
        Ok(())
    }

    fn convert(&self, stored: Vec<u8>) -> Result<Bytes, BackupError> {
        let as_stored = matches!(
            (self.table.copy_format, self.output),
            (Format::Binary, Output::Binary) | (Format::Text, Output::Text)
        );
        if as_stored && self.is_whole {
            return Ok(stored.into());
        }
        let broken = |cause| BackupError::Stream { relation: self.table.name.to_string(), cause };
        let mut out = Vec::with_capacity(stored.len());
        match self.table.copy_format {
            Format::Binary => self.binary_rows(&stored, &mut out).map_err(broken)?,
            Format::Text => self.text_rows(&stored, &mut out).map_err(broken)?,
        }
        Ok(out.into())
    }

    fn binary_rows(&self, mut rest: &[u8], out: &mut Vec<u8>) -> Result<(), RowsError> {
        let mut fields = Vec::new();
        let mut values: Vec<Option<Vec<u8>>> = Vec::new();
        while !rest.is_empty() {
            rest = decode::row(rest, &mut fields)?;
            let chosen = self.chosen.iter().map(|place| fields.get(*place).copied().ok_or(RowsError::Truncated));
            if self.output == Output::Binary {
                out.extend(u16::try_from(self.chosen.len()).unwrap_or(0).to_be_bytes());
                for field in chosen {
                    let field = field?;
                    let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap_or(i32::MAX));
                    out.extend(length.to_be_bytes());
                    out.extend(field.unwrap_or_default());
                }
                continue;
            }
            values.clear();
            for (field, decoder) in chosen.zip(&self.decoders) {
                values.push(field?.map(|field| decoder.text(field)).transpose()?);
            }
            self.line(&values.iter().map(Option::as_deref).collect::<Vec<_>>(), out);
        }
        Ok(())
    }

    fn text_rows(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), RowsError> {
        for line in stored.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").ok_or(RowsError::Truncated)?;
            let fields: Vec<&[u8]> = match self.table.columns.is_empty() {
                true => Vec::new(),
                false => line.split(|byte| *byte == b'\t').collect(),
            };
            let mut values = Vec::new();
            for place in &self.chosen {
                values.push(text::unescape(fields.get(*place).ok_or(RowsError::Truncated)?));
            }
            self.line(&values.iter().map(Option::as_deref).collect::<Vec<_>>(), out);
        }
        Ok(())
    }

    fn line(&self, fields: &[Option<&[u8]>], out: &mut Vec<u8>) {
        match self.output {
            Output::Csv => text::csv_row(fields, out),
            Output::Text | Output::Binary => text::text_row(fields, out),
        }
    }
}
