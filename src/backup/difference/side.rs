//! One side of a comparison: a database, or a database of a backup.

use std::fmt;

use futures::TryStreamExt;

use super::checkpoint::Kept;
use super::live::Live;
use crate::backup::chunk::{Content, Keys};
use crate::backup::copy::{Pages, Piece};
use crate::backup::error::BackupError;
use crate::backup::live::{Chunks, table_rows};
use crate::backup::manifest::{self, BackupId, Column, Database, Name};
use crate::backup::rows::{Format, Rows};
use crate::context::Context;

/// Chunks that are fetched ahead.
const AHEAD: usize = 2;

/// What is compared.
#[derive(Debug)]
pub enum Side {
    /// A database on a server.
    Database(Box<Live>),
    /// A database of a backup.
    Backup {
        /// Where its chunks are.
        chunks: Chunks,
        /// The backup.
        id: BackupId,
        /// Its part of the manifest.
        database: Box<Database>,
    },
}

/// How a table's rows look.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) name: Name,
    pub(super) columns: Vec<Column>,
    pub(super) format: Format,
    pub(super) keys: Keys,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(live) => f.write_str(&live.label()),
            Self::Backup { id, database, .. } => write!(f, "database `{}` of backup `{id}`", database.name),
        }
    }
}

impl Side {
    pub(super) fn names(&self) -> Box<dyn Iterator<Item = &Name> + '_> {
        match self {
            Self::Database(live) => Box::new(live.tables().keys()),
            Self::Backup { database, .. } => Box::new(database.tables.iter().map(|table| &table.name)),
        }
    }

    pub(super) fn shape(&self, name: &Name) -> Option<Shape> {
        let (columns, format) = match self {
            Self::Database(live) => live.tables().get(name).map(|table| (&table.columns, table.format))?,
            Self::Backup { .. } => self.stored(name).map(|table| (&table.columns, table.copy_format))?,
        };
        let keys = manifest::keys(columns, format);
        Some(Shape { name: name.clone(), columns: columns.clone(), format, keys })
    }

    fn stored(&self, name: &Name) -> Option<&manifest::Table> {
        let Self::Backup { database, .. } = self else { return None };
        database.tables.iter().find(|table| table.name == *name)
    }

    /// Why a table cannot be read.
    pub(super) fn barred(&self, name: &Name) -> Option<&String> {
        match self {
            Self::Database(live) => live.barred(name),
            Self::Backup { .. } => None,
        }
    }

    /// The columns of the primary key.
    pub(super) fn key(&self, name: &Name) -> Option<&Vec<String>> {
        match self {
            Self::Database(live) => live.key(name),
            Self::Backup { .. } => None,
        }
    }

    /// What it is, beyond its name: another database of the same name has another identity.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Database(live) => live.identity(),
            Self::Backup { .. } => self.to_string(),
        }
    }

    /// What changes when a table is written to; `None` when that cannot be told.
    pub(super) fn mark(&self, name: &Name) -> Option<String> {
        match self {
            Self::Database(live) => live.mark(name),
            Self::Backup { .. } => Some(String::new()),
        }
    }

    /// What a table holds; read range by range and noted, when a checkpoint keeps it.
    pub(super) async fn content(
        &self,
        shape: &Shape,
        kept: Option<(&Kept<'_>, usize)>,
        ctx: &Context,
    ) -> Result<Content, BackupError> {
        match self {
            Self::Database(live) => live.content(shape, kept, ctx).await,
            Self::Backup { .. } => Ok(self.stored(&shape.name).map(manifest::Table::content).unwrap_or_default()),
        }
    }

    /// Hands every row to `each`, in no order; with the range of pages it lies in when that is asked for and known.
    pub(super) async fn rows(
        &self,
        shape: &Shape,
        by_pages: bool,
        ctx: &Context,
        mut each: impl FnMut(&[u8], Option<Pages>) + Send,
    ) -> Result<(), BackupError> {
        let mut of_piece = |piece: &Piece, pages: Option<Pages>| {
            let mut from = 0;
            for end in &piece.ends {
                if let Some(row) = piece.bytes.get(from..*end) {
                    each(row, pages);
                }
                from = *end;
            }
        };
        let stored = match self {
            Self::Database(live) => return live.pieces(shape, by_pages, ctx, &mut of_piece).await,
            Self::Backup { chunks, .. } => chunks,
        };
        let Some(table) = self.stored(&shape.name) else { return Ok(()) };
        let chunks = table_rows(stored, table, AHEAD);
        futures::pin_mut!(chunks);
        loop {
            let next = ctx.cancel.run_until_cancelled(chunks.try_next()).await.ok_or(BackupError::Cancelled)?;
            let Some(bytes) = next? else { return Ok(()) };
            let (mut piece, mut rows) = (Piece::default(), Rows::of_chunk(shape.format));
            let fed = rows.feed(&bytes, &mut piece.bytes, &mut piece.ends).and_then(|()| rows.finish());
            fed.map_err(|cause| BackupError::Stream { relation: shape.name.to_string(), cause })?;
            of_piece(&piece, None);
        }
    }

    /// Ends the instant; an error says that it was lost before.
    pub(super) async fn end(&mut self) -> Result<(), BackupError> {
        match self {
            Self::Database(live) => live.end().await,
            Self::Backup { .. } => Ok(()),
        }
    }
}
