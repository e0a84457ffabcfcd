//! What a restore would do, without doing it.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::Connection;

use super::error::BackupError;
use super::live::Chunks;
use super::manifest::{BackupId, Manifest, Table};
use super::restore::{Run, Target, refuse_sealed};
use super::single::Part;
use crate::context::Context;

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The backup.
    pub id: BackupId,
    /// The database in the backup.
    pub source: String,
    /// The database it would be restored to.
    pub target: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that would be fetched from the store.
    pub stored_bytes: u64,
    /// Rows and bytes of each table.
    pub tables: Vec<PreviewTable>,
    /// What a restore of a single table leaves out.
    pub left_out: Vec<String>,
}

/// One table of a [`Preview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewTable {
    /// `schema.table`.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What a restore would do, of the whole database or of one table, after looking whether the target would take it.
/// Writes nothing.
///
/// # Errors
/// Everything that a restore refuses before it changes anything.
pub async fn preview(
    from: &Chunks,
    manifest: &Manifest,
    database: &str,
    table: Option<&str>,
    target: &Target,
    ctx: &Context,
) -> Result<Preview, BackupError> {
    let Part { source, schema, left_out } = match table {
        Some(table) => Part::single(manifest, database, table)?,
        None => Part::whole(manifest, database)?,
    };
    let run = Run { target: target.clone(), schema, ctx: ctx.clone() };
    let examined = ctx.cancel.run_until_cancelled(run.examine(&source)).await;
    let (session, _) = examined.ok_or(BackupError::Cancelled)??;
    let _ = session.close().await;
    refuse_sealed(from, &source).await?;
    let chunks: HashMap<_, _> =
        source.tables.iter().flat_map(Table::objects).map(|(_, chunk)| (chunk.name(), chunk.stored)).collect();
    let table = |table: &Table| PreviewTable { table: table.name.to_string(), rows: table.rows, bytes: table.bytes };
    Ok(Preview {
        id: manifest.id.clone(),
        source: source.name.clone(),
        target: target.database.clone(),
        rows: source.tables.iter().map(|table| table.rows).sum(),
        bytes: source.tables.iter().map(|table| table.bytes).sum(),
        stored_bytes: chunks.values().sum(),
        tables: source.tables.iter().map(table).collect(),
        left_out,
    })
}
