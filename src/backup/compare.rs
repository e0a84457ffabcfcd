//! Compares a database with a manifest: every table's rows, by their content hash.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::aside::aside;
use super::catalog;
use super::chunk::{Content, Keys};
use super::copy::{self, Reader, Source, Spares};
use super::error::BackupError;
use super::manifest::{Database, Table};
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::failure::chain;
use crate::progress::Unit;

/// Rows are hashed in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// How one table compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same rows.
    Equal,
    /// Other rows.
    Differs,
    /// Its rows could not be read.
    Unknown,
}

/// One table of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableVerdict {
    /// `schema.table`.
    pub table: String,
    /// The outcome.
    pub verdict: Verdict,
    /// Rows in the manifest.
    pub expected_rows: u64,
    /// Rows in the database.
    pub found_rows: u64,
    /// What happened, when it is not equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `Ok` only when every table is equal.
///
/// # Errors
/// [`BackupError::Differs`], else [`BackupError::Unverified`].
pub fn verdict(subject: &str, tables: &[TableVerdict]) -> Result<(), BackupError> {
    let of = |wanted: Verdict| -> Vec<String> {
        let chosen = tables.iter().filter(|table| table.verdict == wanted);
        chosen.map(|table| format!("{}: {}", table.table, table.detail.as_deref().unwrap_or("differs"))).collect()
    };
    let (findings, reasons) = (of(Verdict::Differs), of(Verdict::Unknown));
    let subject = subject.to_owned();
    if !findings.is_empty() {
        return Err(BackupError::Differs { subject, findings });
    }
    if !reasons.is_empty() {
        return Err(BackupError::Unverified { subject, reasons });
    }
    Ok(())
}

/// Reads every table of the manifest in a database and compares; the tables come back in the manifest's order.
///
/// # Errors
/// When the run is cancelled; what keeps a single table from being read is in its verdict.
pub async fn with_manifest(
    postgres: &Postgres,
    database: &str,
    expected: &Database,
    jobs: usize,
    ctx: &Context,
) -> Result<Vec<TableVerdict>, BackupError> {
    ctx.progress.stage("comparing", Some(expected.tables.iter().map(|table| table.bytes).sum()), Unit::Bytes);
    let queue: VecDeque<(usize, Table)> = expected.tables.iter().cloned().enumerate().collect();
    let queue = Arc::new(Mutex::new(queue));
    let mut workers = JoinSet::new();
    for _ in 0..jobs.max(1) {
        let (queue, postgres, ctx) = (Arc::clone(&queue), postgres.clone(), ctx.clone());
        let database = database.to_owned();
        workers.spawn(async move {
            let mut verdicts = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((index, table)) = next else { break };
                let found = content(&postgres, &database, &table, &ctx).await;
                if matches!(found, Err(BackupError::Cancelled)) {
                    return Err(BackupError::Cancelled);
                }
                verdicts.push((index, judge(&table, found)));
            }
            Ok(verdicts)
        });
    }
    let mut verdicts = Vec::new();
    while let Some(done) = workers.join_next().await {
        verdicts.extend(done.map_err(|error| BackupError::Internal(error.to_string()))??);
    }
    verdicts.sort_by_key(|(index, _)| *index);
    Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
}

fn judge(table: &Table, found: Result<Content, BackupError>) -> TableVerdict {
    let expected = table.content();
    let (verdict, found_rows, detail) = match found {
        Ok(found) if found == expected => (Verdict::Equal, found.rows, None),
        Ok(found) if found.rows == expected.rows => {
            (Verdict::Differs, found.rows, Some(format!("as many rows ({}), but not the same ones", found.rows)))
        }
        Ok(found) => (Verdict::Differs, found.rows, Some(format!("{} rows instead of {}", found.rows, expected.rows))),
        Err(error) => (Verdict::Unknown, 0, Some(chain(&error))),
    };
    TableVerdict { table: table.name.to_string(), verdict, expected_rows: expected.rows, found_rows, detail }
}

/// What a table in a database holds, hashed as the manifest's table of the same name was.
///
/// # Errors
/// When it cannot be read.
pub async fn content(
    postgres: &Postgres,
    database: &str,
    table: &Table,
    ctx: &Context,
) -> Result<Content, BackupError> {
    let mut connection = catalog::session(postgres, database).await?;
    let source = Source { postgres, database, name: &table.name, format: table.copy_format, cancel: &ctx.cancel };
    let sql = copy::out_sql(&table.name, &table.columns, table.copy_format, None);
    content_of(&mut connection, source, &sql, &table.keys(), ctx).await
}

/// What a COPY statement gives, hashed with these keys.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn content_of(
    connection: &mut PgConnection,
    source: Source<'_>,
    sql: &str,
    keys: &Keys,
    ctx: &Context,
) -> Result<Content, BackupError> {
    let mut sum = Content::default();
    // One piece is hashed while the next is read.
    let mut hashing: JoinSet<(Content, u64)> = JoinSet::new();
    let add = |done: Option<Result<(Content, u64), tokio::task::JoinError>>| match done {
        Some(Ok((content, bytes))) => {
            ctx.progress.advance(bytes);
            Ok(content)
        }
        Some(Err(error)) => Err(BackupError::Internal(error.to_string())),
        None => Ok(Content::default()),
    };
    let spares = Spares::of_pieces(2, PIECE_BYTES);
    let mut reader = Reader::start(connection, source, sql, PIECE_BYTES).await?.into_spares(&spares);
    while let Some(piece) = reader.next().await? {
        if hashing.len() >= 2 {
            sum = sum.plus(add(hashing.join_next().await)?);
        }
        let (keys, spares) = (keys.clone(), spares.clone());
        let hash = move || {
            let (content, bytes) = (keys.content(&piece.bytes, &piece.ends), piece.bytes.len());
            spares.give(piece.bytes);
            (content, u64::try_from(bytes).unwrap_or_default())
        };
        hashing.spawn_blocking_on(hash, &aside());
    }
    while !hashing.is_empty() {
        sum = sum.plus(add(hashing.join_next().await)?);
    }
    Ok(sum)
}
