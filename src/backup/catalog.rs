//! What a database holds: its tables with their columns and sizes, its sequences, and what a backup cannot take along.

use sqlx::{PgConnection, Row};

use super::error::BackupError;
use super::manifest::{Column, Name, SchemaVersion, Sequence};
use super::rows::Format;
use crate::clients::postgres::Postgres;

/// A table as the server's catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: Name,
    /// The columns that are copied.
    pub columns: Vec<Column>,
    /// Their numbers in the catalog.
    pub attributes: Vec<i16>,
    /// True when a row reads the same as long as nobody writes it; a label of an enum can be changed beside that.
    pub steady: bool,
    /// In which form.
    pub format: Format,
    /// Pages of its heap, by the size of its file.
    pub pages: u64,
    /// Bytes with TOAST, free space map and visibility map.
    pub bytes: u64,
    /// Changes when the table is rewritten or truncated.
    pub filenode: i64,
    /// True when it is unlogged.
    pub unlogged: bool,
    /// True when the role may read it.
    pub readable: bool,
    /// True when its rows have a place in numbered pages, so that ranges of `ctid` can be read.
    pub heap: bool,
}

/// Everything of one database that a backup is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Tables in the order of their names.
    pub tables: Vec<Table>,
    /// Sequences, and whether the role may read them.
    pub sequences: Vec<(Name, bool)>,
    /// Materialized views that are filled and can be filled again, each after those that it reads.
    pub materialized_views: Vec<Name>,
    /// Character encoding.
    pub encoding: String,
    /// Large objects.
    pub large_objects: i64,
    /// Extensions that keep settings in tables of their own.
    pub extension_tables: Vec<String>,
    /// Foreign tables: their rows are another server's.
    pub foreign_tables: Vec<String>,
    /// Tables that are partitioned by the hash of an enum.
    pub hashed_by_enum: Vec<String>,
    /// True on a standby.
    pub standby: bool,
}

impl Catalog {
    /// Bytes of all tables, TOAST included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

/// System schemas, and what belongs to an extension, are not the backup's business: `CREATE EXTENSION` makes them.
macro_rules! ours {
    () => {
        "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' AND NOT EXISTS \
         (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
    };
}

// `relfilenode` is the snapshot's own; `pg_relation_filenode` would answer what is true by now, and a table that was
// truncated after the snapshot would look as if it had always been so.
// What was dropped since the snapshot has no privileges any more (NULL); locking it then says that it is gone.
macro_rules! tables {
    ($sizes:literal) => {
        concat!(
            "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, \
     c.relfilenode::int8 AS filenode, c.relpersistence = 'u' AS unlogged, ",
            $sizes,
            ", \
     coalesce(am.amname = 'heap', false) AS heap, coalesce(has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), true) AS readable \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam \
     WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND ",
            ours!(),
            " ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""
        )
    };
}

const TABLES: &str = tables!(
    "pg_relation_size(c.oid, 'main') / current_setting('block_size')::int8 AS pages, pg_table_size(c.oid) AS bytes"
);
/// Asking for a size waits for whoever has locked the table; everything else does not.
const TABLES_WITHOUT_SIZES: &str = tables!("NULL::int8 AS pages, NULL::int8 AS bytes");

/// `portable`: the binary form of the type means the same in another database. Arrays, ranges, composites and domains
/// of user-made types carry OIDs, and the `reg…` types are OIDs. An empty `tsquery`, `int2vector` or
/// `oidvector` is written in a binary form that no server reads again.
const COLUMNS: &str = concat!(
    "SELECT c.oid::int8 AS oid, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, \
     a.attnum AS number, b.typtype <> 'e' AS steady, \
     (b.typtype = 'e' OR (b.oid < 16384 AND b.typnamespace = 'pg_catalog'::regnamespace \
       AND b.typtype IN ('b', 'r', 'm') AND b.typsend <> 0 AND b.typreceive <> 0 \
       AND b.typname !~ '^_?(reg|aclitem|pg_|tsquery|int2vector|oidvector)' \
       AND (e.oid IS NULL OR (e.typtype <> 'c' AND e.typsend <> 0 AND e.typreceive <> 0)))) AS portable \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
     JOIN pg_type t ON t.oid = a.atttypid \
     JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
     LEFT JOIN pg_type e ON e.oid = b.typelem \
     WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND ",
    ours!(),
    " ORDER BY c.oid, a.attnum"
);

const SEQUENCES: &str = concat!(
    "SELECT n.nspname::text AS schema, c.relname::text AS name, coalesce(has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), true) AS readable \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND ",
    ours!(),
    " ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""
);

/// Each with the materialized views that it reads, through views too. One that reads any that is not filled cannot be
/// filled again; `pg_dump` leaves it empty as well.
const VIEWS: &str = concat!(
    "WITH RECURSIVE direct AS (SELECT DISTINCT r.ev_class AS of, d.refobjid AS needs FROM pg_rewrite r \
       JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass \
       JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('v', 'm') WHERE d.refobjid <> r.ev_class), \
     reads AS (SELECT of, needs FROM direct UNION \
       SELECT reads.of, direct.needs FROM reads JOIN direct ON direct.of = reads.needs), \
     needs AS (SELECT reads.of, c.oid, c.relispopulated FROM reads JOIN pg_class c ON c.oid = reads.needs AND c.relkind = 'm') \
     SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::int8 AS oid, \
     ARRAY(SELECT needs.oid::int8 FROM needs WHERE needs.of = c.oid) AS needs \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated AND ",
    ours!(),
    " AND NOT EXISTS (SELECT FROM needs WHERE needs.of = c.oid AND NOT needs.relispopulated) ORDER BY c.oid"
);

const REST: &str = "SELECT pg_encoding_to_char(encoding)::text AS encoding, pg_is_in_recovery() AS standby, \
    (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects, \
    ARRAY(SELECT extname::text FROM pg_extension WHERE extconfig IS NOT NULL ORDER BY 1) AS extensions, \
    ARRAY(SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relkind = 'f' ORDER BY 1) AS foreign_tables, \
    ARRAY(SELECT n.nspname || '.' || c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid \
      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.partstrat = 'h' AND EXISTS (SELECT 1 FROM pg_opclass o \
        WHERE o.oid = ANY (p.partclass::oid[]) AND o.opcintype = 'anyenum'::regtype) ORDER BY 1) AS hashed_by_enum \
    FROM pg_database WHERE datname = current_database()";

/// Makes every session that reads or writes rows see and write values in one form, whatever the server's or the
/// role's defaults are, in the order in which they lie, and refuse to filter rows silently. A lock is not waited for
/// without end: a statement that waits for the snapshot's own lock, such as ALTER TABLE, stands before every session
/// that comes after it, so the backup would wait for itself, and everybody else with it.
const SESSION: &str = "SET search_path = ''; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
    SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 3; SET xmloption = 'content'; \
    SET lc_monetary = 'C'; SET client_encoding = 'UTF8'; SET row_security = off; SET synchronize_seqscans = off; \
    SET max_parallel_workers_per_gather = 0; SET lock_timeout = '20s'";

/// A session on the database for copying and for reading the catalog: held, and prepared with [`SESSION`].
///
/// # Errors
/// When it cannot be made or prepared.
pub async fn session(postgres: &Postgres, database: &str) -> Result<PgConnection, BackupError> {
    let mut connection = postgres.connect_held(database).await?;
    sqlx::raw_sql(SESSION)
        .execute(&mut connection)
        .await
        .map_err(|error| postgres.error(database, "preparing the session", error))?;
    Ok(connection)
}

/// Reads the catalog. The session must come from [`session`].
///
/// # Errors
/// When a query fails.
pub async fn read(connection: &mut PgConnection, postgres: &Postgres, database: &str) -> Result<Catalog, BackupError> {
    read_rows(connection).await.map_err(|error| postgres.error(database, "reading the catalog", error).into())
}

/// The tables alone, without their sizes (0), so that a table that is locked keeps nobody waiting. The session must come
/// from [`session`].
///
/// # Errors
/// When a query fails.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>, sqlx::Error> {
    read_tables(connection, TABLES_WITHOUT_SIZES).await
}

#[derive(Default)]
struct Columns {
    columns: Vec<Column>,
    attributes: Vec<i16>,
    /// True when a type's binary form carries OIDs.
    foreign: bool,
    unsteady: bool,
}

async fn read_tables(connection: &mut PgConnection, sql: &'static str) -> Result<Vec<Table>, sqlx::Error> {
    let columns = sqlx::query(COLUMNS).fetch_all(&mut *connection).await?;
    let mut by_table: std::collections::HashMap<i64, Columns> = std::collections::HashMap::new();
    for row in &columns {
        let of = by_table.entry(row.try_get("oid")?).or_default();
        of.columns.push(Column { name: row.try_get("name")?, type_name: row.try_get("type")? });
        of.attributes.push(row.try_get("number")?);
        of.foreign |= !row.try_get::<bool, _>("portable")?;
        of.unsteady |= !row.try_get::<bool, _>("steady")?;
    }
    let mut tables = Vec::new();
    for row in &sqlx::query(sql).fetch_all(&mut *connection).await? {
        let of = by_table.remove(&row.try_get("oid")?).unwrap_or_default();
        tables.push(Table {
            name: name_of(row)?,
            columns: of.columns,
            attributes: of.attributes,
            steady: !of.unsteady,
            format: if of.foreign { Format::Text } else { Format::Binary },
            pages: count(row, "pages")?,
            bytes: count(row, "bytes")?,
            filenode: row.try_get("filenode")?,
            unlogged: row.try_get("unlogged")?,
            readable: row.try_get("readable")?,
            heap: row.try_get("heap")?,
        });
    }
    Ok(tables)
}

async fn read_rows(connection: &mut PgConnection) -> Result<Catalog, sqlx::Error> {
    let tables = read_tables(connection, TABLES).await?;
    let mut sequences = Vec::new();
    for row in &sqlx::query(SEQUENCES).fetch_all(&mut *connection).await? {
        sequences.push((name_of(row)?, row.try_get("readable")?));
    }
    let mut views = Vec::new();
    for row in &sqlx::query(VIEWS).fetch_all(&mut *connection).await? {
        views.push(View { name: name_of(row)?, oid: row.try_get("oid")?, needs: row.try_get("needs")? });
    }
    let rest = sqlx::query(REST).fetch_one(&mut *connection).await?;
    Ok(Catalog {
        tables,
        sequences,
        materialized_views: fillable(views),
        encoding: rest.try_get("encoding")?,
        large_objects: rest.try_get("large_objects")?,
        extension_tables: rest.try_get("extensions")?,
        foreign_tables: rest.try_get("foreign_tables")?,
        hashed_by_enum: rest.try_get("hashed_by_enum")?,
        standby: rest.try_get("standby")?,
    })
}

/// A materialized view that is filled.
struct View {
    name: Name,
    oid: i64,
    /// The OIDs of those that it reads.
    needs: Vec<i64>,
}

/// The views, each after those that it reads, else in the order that they come in: a view in between may have been replaced
/// since, so that the order in which they were made does not do.
fn fillable(mut views: Vec<View>) -> Vec<Name> {
    let mut order = Vec::new();
    while !views.is_empty() {
        let waits = |view: &View| views.iter().any(|other| view.needs.contains(&other.oid));
        let next = views.iter().position(|view| !waits(view)).unwrap_or(0);
        order.push(views.remove(next).name);
    }
    order
}

fn name_of(row: &sqlx::postgres::PgRow) -> Result<Name, sqlx::Error> {
    Ok(Name { schema: row.try_get("schema")?, name: row.try_get("name")? })
}

fn count(row: &sqlx::postgres::PgRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<Option<i64>, _>(column)?.unwrap_or_default()).unwrap_or_default())
}

/// Where the sequences stand.
///
/// # Errors
/// When a query fails.
pub async fn sequences(connection: &mut PgConnection, names: &[(Name, bool)]) -> Result<Vec<Sequence>, sqlx::Error> {
    let mut sequences = Vec::new();
    for (name, _) in names {
        let sql = format!("SELECT last_value, is_called FROM {}", name.sql());
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
        sequences.push(Sequence { name: name.clone(), last_value: row.try_get(0)?, is_called: row.try_get(1)? });
    }
    Ok(sequences)
}

/// The versions in Temporal's tables `schema_version`, wherever they are; empty when there is none.
///
/// # Errors
/// When a query fails.
pub async fn schema_versions(
    connection: &mut PgConnection,
    tables: &[Table],
) -> Result<Vec<SchemaVersion>, sqlx::Error> {
    versions(connection, tables.iter().map(|table| (&table.name, &table.columns))).await
}

/// The same, of the tables of a manifest.
///
/// # Errors
/// When a query fails.
pub(super) async fn schema_versions_of(
    connection: &mut PgConnection,
    tables: &[super::manifest::Table],
) -> Result<Vec<SchemaVersion>, sqlx::Error> {
    versions(connection, tables.iter().map(|table| (&table.name, &table.columns))).await
}

async fn versions(
    connection: &mut PgConnection,
    tables: impl Iterator<Item = (&Name, &Vec<Column>)>,
) -> Result<Vec<SchemaVersion>, sqlx::Error> {
    let mut versions = Vec::new();
    for (table, columns) in tables.filter(|(table, _)| table.name == "schema_version") {
        let has = |name: &str| columns.iter().any(|column| column.name == name);
        if !(has("db_name") && has("curr_version")) {
            continue;
        }
        let sql = format!("SELECT db_name::text, curr_version::text FROM {} ORDER BY 1", table.sql());
        for row in &sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *connection).await? {
            versions.push(SchemaVersion { name: row.try_get(0)?, version: row.try_get(1)? });
        }
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_materialized_view_comes_after_those_that_it_reads() {
        let view = |oid: i64, needs: &[i64]| View {
            name: Name { schema: "s".into(), name: oid.to_string() },
            oid,
            needs: needs.to_vec(),
        };
        let order = |views| fillable(views).into_iter().map(|name| name.name).collect::<Vec<_>>().join(" ");
        assert_eq!(order(vec![view(1, &[3, 4]), view(2, &[]), view(3, &[4]), view(4, &[])]), "2 4 3 1");
        assert_eq!(order(vec![view(1, &[9]), view(2, &[])]), "1 2", "one that is not among them is not waited for");
        assert_eq!(order(vec![view(1, &[2]), view(2, &[1])]), "1 2", "no circle is endless");
    }
}
