//! The manifest: what a backup consists of. It is written last, so a backup exists when its manifest does.

mod io;
mod table;

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chunk::ChunkRef;
use super::error::BackupError;
pub use super::id::BackupId;
use super::track::Origin;
pub(super) use io::{Loaded, loaded};
pub use io::{commit, ids, load};
pub use table::{Column, Gone, Place, Slice, Table, Tracking, keys};

/// The version of the format that is written; readers refuse others.
pub const FORMAT: u32 = 2;

/// One backup of one or more databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of sexton that wrote it.
    pub written_by: String,
    /// Its identifier.
    pub id: BackupId,
    /// When the backup began.
    pub started: Timestamp,
    /// When everything but the manifest was stored.
    pub finished: Timestamp,
    /// The public keys that new chunks were encrypted for; empty when they were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// The databases, each consistent in itself.
    pub databases: Vec<Database>,
}

/// One database as it was at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// `server_version_num`.
    pub server_version: u32,
    /// Character encoding.
    pub encoding: String,
    /// The instant of the snapshot, by the server's clock.
    pub snapshot_at: Timestamp,
    /// The write-ahead log's position right after the snapshot: everything in the backup lies before it.
    pub snapshot_lsn: String,
    /// What the server was, so that the next backup can tell whether it is still the same; `None` when that cannot be
    /// relied on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Temporal's schema versions, when this is a database of Temporal's.
    pub schema_versions: Vec<SchemaVersion>,
    /// The schema without indexes and constraints, as `pg_dump --section=pre-data` writes it.
    pub pre_data: String,
    /// The rest of the schema.
    pub post_data: String,
    /// Sequences and where they stood.
    pub sequences: Vec<Sequence>,
    /// Materialized views to fill again, in the order in which they were made.
    pub materialized_views: Vec<Name>,
    /// The tables.
    pub tables: Vec<Table>,
    /// What the backup knows that it does not hold.
    pub not_covered: Vec<String>,
}

/// A row of Temporal's `schema_version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaVersion {
    /// `db_name` of the row.
    pub name: String,
    /// `curr_version` of the row.
    pub version: String,
}

/// A name within a schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The schema.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl Name {
    /// As SQL writes it.
    #[must_use]
    pub fn sql(&self) -> String {
        use crate::clients::postgres::quote_identifier;
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A sequence and where it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its name.
    pub name: Name,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

fn total(numbers: impl Iterator<Item = u64>) -> Option<u64> {
    let mut numbers = numbers;
    numbers.try_fold(0, u64::checked_add)
}

impl Manifest {
    /// The database of this name.
    ///
    /// # Errors
    /// [`BackupError::NoSuchDatabase`].
    pub fn database(&self, name: &str) -> Result<&Database, BackupError> {
        self.databases.iter().find(|database| database.name == name).ok_or_else(|| BackupError::NoSuchDatabase {
            id: self.id.to_string(),
            database: name.to_owned(),
            has: self.databases.iter().map(|database| database.name.clone()).collect(),
        })
    }

    /// Every chunk that it names, with its table and database; a chunk that several name comes several times. Whoever
    /// asks what a backup needs of the store asks here.
    pub fn chunks(&self) -> impl Iterator<Item = (&Database, &Table, &ChunkRef)> {
        let tables =
            self.databases.iter().flat_map(|database| database.tables.iter().map(move |table| (database, table)));
        tables.flat_map(|(database, table)| table.objects().map(move |(_, chunk)| (database, table, chunk)))
    }

    /// Reads a manifest from its bytes and the hash that was stored beside it.
    ///
    /// # Errors
    /// Why it cannot be relied on.
    pub fn read(bytes: &[u8], sum: &[u8]) -> Result<Self, String> {
        let expected = String::from_utf8_lossy(sum);
        let expected = expected.split_whitespace().next().unwrap_or_default();
        if blake3::hash(bytes).to_hex().as_str() != expected {
            return Err("its bytes do not match the hash stored beside it".into());
        }
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version.format != FORMAT {
            return Err(format!("it has format {}, this version reads format {FORMAT}", version.format));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        manifest.adds_up()?;
        Ok(manifest)
    }

    /// Every table is the sum of its chunks, and no sum of the whole manifest is beyond 64 bits: whoever adds these
    /// numbers later need not ask.
    fn adds_up(&self) -> Result<(), String> {
        let tables = || self.databases.iter().flat_map(|database| &database.tables);
        for table in tables() {
            table.adds_up().map_err(|why| format!("table {}: {why}", table.name))?;
        }
        let chunks = || tables().flat_map(Table::objects).map(|(_, chunk)| chunk);
        let sums = [
            total(chunks().map(|chunk| chunk.rows)),
            total(chunks().map(|chunk| chunk.bytes)),
            total(chunks().map(|chunk| chunk.stored)),
        ];
        if sums.contains(&None) { Err("its numbers are larger than any backup's".into()) } else { Ok(()) }
    }

    /// The bytes of the manifest and of the hash beside it (as `b3sum` writes it).
    ///
    /// # Errors
    /// Never in practice.
    pub fn write(&self) -> Result<(Bytes, Bytes), serde_json::Error> {
        let bytes = serde_json::to_vec(self)?;
        let sum = format!("{}  manifest.json\n", blake3::hash(&bytes).to_hex());
        Ok((bytes.into(), sum.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::chunk::{Content, Keys};
    use crate::backup::rows::Format;
    use proptest::prelude::*;

    #[tokio::test]
    async fn the_same_manifest_may_be_stored_twice_and_another_under_its_name_may_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::backup::store::Directory::new(folder.path().into());
        let first = manifest("t".into(), vec![(1, 2)], String::new());
        commit(&store, &first).await.unwrap();
        commit(&store, &first).await.unwrap();
        let other = Manifest { written_by: "1".into(), ..first };
        assert!(matches!(commit(&store, &other).await, Err(BackupError::Manifest { .. })));
    }

    fn manifest(name: String, rows: Vec<(u64, u128)>, sql: String) -> Manifest {
        let keys = Keys::new("x", Format::Text);
        let chunks: Vec<ChunkRef> = rows
            .iter()
            .map(|(rows, content)| ChunkRef {
                id: keys.id(&rows.to_be_bytes()),
                bytes: *rows,
                stored: 7,
                rows: *rows,
                content: *content,
                sealed: None,
            })
            .collect();
        let sum = chunks.iter().fold(Content::default(), |sum, chunk| sum.plus(chunk.content()));
        let table = Name { schema: "public".into(), name };
        Manifest {
            format: FORMAT,
            written_by: "0".into(),
            id: BackupId::new(Timestamp::UNIX_EPOCH),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            recipients: vec![],
            databases: vec![Database {
                name: "main".into(),
                server_version: 150_018,
                encoding: "UTF8".into(),
                snapshot_at: Timestamp::UNIX_EPOCH,
                snapshot_lsn: "0/0".into(),
                origin: None,
                schema_versions: vec![],
                pre_data: sql.clone(),
                post_data: sql,
                sequences: vec![Sequence { name: table.clone(), last_value: i64::MIN, is_called: true }],
                materialized_views: vec![],
                tables: vec![Table {
                    name: table,
                    copy_format: Format::Binary,
                    columns: vec![],
                    rows: sum.rows,
                    bytes: sum.rows,
                    content: sum.sum,
                    chunks: chunks.into_iter().map(Slice::whole).collect(),
                    tracking: None,
                }],
                not_covered: vec![],
            }],
        }
    }

    proptest! {
        #[test]
        fn a_manifest_reads_back_and_no_changed_byte_passes(
            name in ".{0,10}",
            rows in proptest::collection::vec((0..u64::MAX / 4, any::<u128>()), 0..4),
            sql in ".{0,40}",
            at in any::<usize>(),
        ) {
            let manifest = manifest(name, rows, sql);
            let (bytes, sum) = manifest.write().unwrap();
            prop_assert_eq!(Manifest::read(&bytes, &sum), Ok(manifest));
            let mut changed = bytes.to_vec();
            let at = at % changed.len();
            changed[at] ^= 4;
            prop_assert!(Manifest::read(&changed, &sum).is_err());
        }
    }

    #[test]
    fn numbers_that_cannot_be_added_are_refused() {
        let read = |manifest: &Manifest| {
            let (bytes, sum) = manifest.write().unwrap();
            Manifest::read(&bytes, &sum)
        };
        let mut huge = manifest("t".into(), vec![(u64::MAX, 0)], String::new());
        assert_eq!(read(&huge), Ok(huge.clone()));
        huge.databases.extend(huge.databases.clone());
        assert_eq!(read(&huge), Err("its numbers are larger than any backup's".into()));
        let mut other = manifest("t".into(), vec![(1, 1)], String::new());
        other.databases[0].tables[0].bytes = 2;
        assert_eq!(read(&other), Err("table public.t: its chunks do not add up to it".into()));
    }

    #[tokio::test]
    async fn what_was_committed_may_be_committed_again_but_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = crate::backup::store::Settings::Directory { path: folder.path().into() };
        let store = crate::backup::store::open(&settings).await.unwrap();
        let mut manifest = manifest("t".into(), vec![], String::new());
        commit(&*store, &manifest).await.unwrap();
        commit(&*store, &manifest).await.unwrap();
        let first = manifest.clone();
        manifest.written_by = "1".into();
        let error = commit(&*store, &manifest).await.unwrap_err();
        assert!(matches!(error, BackupError::Manifest { .. }), "{error:?}");
        assert_eq!(load(&*store, &first.id).await.unwrap(), first);
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let mut manifest = manifest("t".into(), vec![], String::new());
        manifest.format = 3;
        let (bytes, sum) = manifest.write().unwrap();
        assert_eq!(Manifest::read(&bytes, &sum), Err("it has format 3, this version reads format 2".into()));
    }

    #[test]
    fn identifiers_read_back_and_lead_nowhere_else() {
        let id = BackupId::new(Timestamp::now());
        assert_eq!(id.as_str().parse::<BackupId>().ok(), Some(id));
        for text in
            ["", "../../etc", "20260131T235959Z-1f2e3d4", "20260131T235959Z-1F2E3D4C", "20260131T235959Z/1f2e3d4c"]
        {
            assert!(text.parse::<BackupId>().is_err(), "{text}");
        }
    }
}
