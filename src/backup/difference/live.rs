//! A database held at one instant, for reading what can be read of it: a table that is locked or forbidden is left out
//! with a reason, where a backup would refuse the whole database.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::checkpoint::{Kept, Part};
use super::marks::Marks;
use super::side::Shape;
use crate::backup::catalog;
use crate::backup::chunk::Content;
use crate::backup::compare;
use crate::backup::copy::{self, Pages, Piece, Reader, Source};
use crate::backup::error::BackupError;
use crate::backup::manifest::Name;
use crate::backup::snapshot::Snapshot;
use crate::clients::postgres::{Postgres, quote_literal};
use crate::context::Context;

/// Rows are looked at in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a table in one range of pages, when it is narrowed down by pages.
const RANGE_BYTES: u64 = 256 << 10;
/// Bytes of a table that are read between two notes in a checkpoint.
const KEPT_BYTES: u64 = 64 << 20;

/// A database and the transaction that holds its instant.
#[derive(Debug)]
pub struct Live {
    postgres: Postgres,
    database: String,
    leader: PgConnection,
    exported: String,
    tables: BTreeMap<Name, catalog::Table>,
    keys: BTreeMap<Name, Vec<String>>,
    barred: BTreeMap<Name, String>,
    marks: Marks,
}

impl Live {
    /// Takes a snapshot of the database and locks every table that can be locked within five seconds against changes
    /// of its form.
    ///
    /// # Errors
    /// When the database cannot be reached or its catalog cannot be read.
    pub async fn open(postgres: &Postgres, database: &str) -> Result<Self, BackupError> {
        let fail = |doing: &'static str| move |error| postgres.error(database, doing, error);
        let mut leader = catalog::session(postgres, database).await?;
        // Before the snapshot: what is written in between is read, and counts as a change all the same.
        let marks = Marks::read(&mut leader).await.map_err(fail("reading the statistics of tables"))?;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'")
            .execute(&mut leader)
            .await
            .map_err(fail("beginning the snapshot"))?;
        let exported = sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut leader).await;
        let exported = exported.map_err(fail("exporting the snapshot"))?;
        let seen = catalog::tables(&mut leader).await.map_err(fail("reading the catalog"))?;
        let keys = primary_keys(&mut leader).await.map_err(fail("reading the primary keys"))?;
        let tables = seen.into_iter().map(|table| (table.name.clone(), table)).collect();
        let (postgres, database) = (postgres.clone(), database.to_owned());
        let mut live = Self { postgres, database, leader, exported, tables, keys, barred: BTreeMap::new(), marks };
        live.lock().await?;
        live.bar_changed().await?;
        Ok(live)
    }

    async fn lock(&mut self) -> Result<(), BackupError> {
        for (name, table) in &self.tables {
            if !table.readable {
                let reason = format!("role `{}` may not read it", self.postgres.settings().user);
                self.barred.insert(name.clone(), reason);
                continue;
            }
            let sql = format!("SAVEPOINT here; LOCK TABLE ONLY {} IN ACCESS SHARE MODE; RELEASE here", name.sql());
            let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.leader).await else { continue };
            let is_refusal = error.as_database_error().is_some();
            let error = self.postgres.error(&self.database, "locking it against changes of its form", error);
            if !is_refusal {
                return Err(error.into());
            }
            self.barred.insert(name.clone(), crate::failure::chain(&error));
            let back = sqlx::raw_sql("ROLLBACK TO here; RELEASE here").execute(&mut self.leader).await;
            back.map_err(|error| self.postgres.error(&self.database, "going on after a lock", error))?;
        }
        Ok(())
    }

    /// A table that was rewritten or truncated between the snapshot and its lock would be read wrongly, since such
    /// changes do not respect snapshots (PostgreSQL manual, 13.6).
    async fn bar_changed(&mut self) -> Result<(), BackupError> {
        let mut outside = catalog::session(&self.postgres, &self.database).await?;
        let now = catalog::tables(&mut outside).await;
        let now = now.map_err(|error| self.postgres.error(&self.database, "reading the catalog", error))?;
        let _ = outside.close().await;
        for (name, table) in &self.tables {
            let same = |other: &catalog::Table| {
                other.name == *name && other.filenode == table.filenode && other.columns == table.columns
            };
            if !now.iter().any(same) {
                self.barred.entry(name.clone()).or_insert_with(|| "it changed while the comparison began".into());
            }
        }
        Ok(())
    }

    pub(super) fn tables(&self) -> &BTreeMap<Name, catalog::Table> {
        &self.tables
    }

    pub(super) fn barred(&self, name: &Name) -> Option<&String> {
        self.barred.get(name)
    }

    pub(super) fn key(&self, name: &Name) -> Option<&Vec<String>> {
        self.keys.get(name)
    }

    /// For messages.
    pub(super) fn label(&self) -> String {
        format!("database `{}` at {}", self.database, self.postgres.address())
    }

    fn source<'a>(&'a self, shape: &'a Shape, ctx: &'a Context) -> Source<'a> {
        let (postgres, database) = (&self.postgres, self.database.as_str());
        Source { postgres, database, name: &shape.name, format: shape.format, cancel: &ctx.cancel }
    }

    /// For checkpoints.
    pub(super) fn identity(&self) -> String {
        format!("{} ({})", self.label(), self.marks.database)
    }

    pub(super) fn mark(&self, name: &Name) -> Option<String> {
        self.marks.of(name)
    }

    pub(super) async fn content(
        &self,
        shape: &Shape,
        kept: Option<(&Kept<'_>, usize)>,
        ctx: &Context,
    ) -> Result<Content, BackupError> {
        let mut connection = Snapshot::join(&self.postgres, &self.database, &self.exported).await?;
        let begun = kept.map(|(kept, side)| kept.begun(side)).unwrap_or_default();
        let is_heap = self.tables.get(&shape.name).is_some_and(|table| table.heap);
        let ranges = match kept.is_some() && is_heap {
            true => {
                let all = self.ranges(&mut connection, &shape.name, KEPT_BYTES).await?;
                all.into_iter().filter(|range| range.from >= begun.pages).map(Some).collect()
            }
            false => vec![None],
        };
        let mut content = begun.content();
        for range in ranges {
            let sql = copy::out_sql(&shape.name, &shape.columns, shape.format, range);
            let source = self.source(shape, ctx);
            content = content.plus(compare::content_of(&mut connection, source, &sql, &shape.keys, ctx).await?);
            if let (Some((kept, side)), Some(to)) = (kept, range.and_then(|range| range.to)) {
                kept.read(side, Part::new(to, content))?;
            }
        }
        let _ = connection.close().await;
        Ok(content)
    }

    /// Hands every piece of the table to `each`; by ranges of pages, with the range, when that is asked for.
    pub(super) async fn pieces(
        &self,
        shape: &Shape,
        by_pages: bool,
        ctx: &Context,
        each: &mut (dyn FnMut(&Piece, Option<Pages>) + Send),
    ) -> Result<(), BackupError> {
        let mut connection = Snapshot::join(&self.postgres, &self.database, &self.exported).await?;
        let is_heap = self.tables.get(&shape.name).is_some_and(|table| table.heap);
        let ranges = match by_pages && is_heap {
            true => self.ranges(&mut connection, &shape.name, RANGE_BYTES).await?.into_iter().map(Some).collect(),
            false => vec![None],
        };
        for range in ranges {
            let sql = copy::out_sql(&shape.name, &shape.columns, shape.format, range);
            let mut reader = Reader::start(&mut connection, self.source(shape, ctx), &sql, PIECE_BYTES).await?;
            while let Some(piece) = reader.next().await? {
                each(&piece, range);
            }
        }
        let _ = connection.close().await;
        Ok(())
    }

    async fn ranges(
        &self,
        connection: &mut PgConnection,
        name: &Name,
        range_bytes: u64,
    ) -> Result<Vec<Pages>, BackupError> {
        let of = quote_literal(&name.sql());
        let sql = format!(
            "SELECT pg_relation_size({of}::regclass) / current_setting('block_size')::int8, \
             pg_table_size({of}::regclass)"
        );
        let asked: Result<(i64, i64), _> = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(connection).await;
        let (pages, bytes) =
            asked.map_err(|error| self.postgres.error(&self.database, "asking how large it is", error))?;
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Ok(copy::ranges(number(pages), number(bytes), range_bytes))
    }

    /// Ends the transaction; an error says that it was gone before, and with it the locks.
    pub(super) async fn end(&mut self) -> Result<(), BackupError> {
        let ended = sqlx::raw_sql("COMMIT").execute(&mut self.leader).await;
        ended.map_err(|error| self.postgres.error(&self.database, "holding the snapshot to the end", error))?;
        Ok(())
    }
}

async fn primary_keys(connection: &mut PgConnection) -> Result<BTreeMap<Name, Vec<String>>, sqlx::Error> {
    const KEYS: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name, \
        array_agg(a.attname::text ORDER BY k.place) AS columns FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
        JOIN pg_namespace n ON n.oid = c.relnamespace \
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attribute, place) \
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attribute \
        WHERE i.indisprimary AND k.place <= i.indnkeyatts GROUP BY 1, 2";
    let mut keys = BTreeMap::new();
    for row in sqlx::query(KEYS).fetch_all(connection).await? {
        let name = Name { schema: row.try_get("schema")?, name: row.try_get("name")? };
        keys.insert(name, row.try_get("columns")?);
    }
    Ok(keys)
}
