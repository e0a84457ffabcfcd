//! The manifest: what a backup consists of. It is written last, so a backup exists when its manifest does.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chunk::{ChunkRef, Content, Keys, hex128};
use super::error::BackupError;
pub use super::id::BackupId;
use super::rows::Format;
use super::store::{Store, StoreError};

/// The version of the format that is written; readers refuse others.
pub const FORMAT: u32 = 1;
/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 30;

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

/// A column that is copied; generated ones are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as `format_type` writes it with an empty search path.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// A table and where its rows lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: Name,
    /// In which form its rows were copied.
    pub copy_format: Format,
    /// The copied columns in their order.
    pub columns: Vec<Column>,
    /// How many rows.
    pub rows: u64,
    /// Bytes of COPY output, without header and trailer.
    pub bytes: u64,
    /// The sum of the rows' hashes ([`Content`]).
    #[serde(with = "hex128")]
    pub content: u128,
    /// The rows, in chunks.
    pub chunks: Vec<ChunkRef>,
}

impl Table {
    /// What its rows are hashed with.
    #[must_use]
    pub fn keys(&self) -> Keys {
        keys(&self.columns, self.copy_format)
    }

    /// What its rows hold.
    #[must_use]
    pub const fn content(&self) -> Content {
        Content { rows: self.rows, sum: self.content }
    }
}

/// The keys for rows of these columns.
#[must_use]
pub fn keys(columns: &[Column], format: Format) -> Keys {
    // JSON, because names may hold any separator.
    let signature = serde_json::to_string(&(format, columns)).unwrap_or_default();
    Keys::new(&signature, format)
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
        tables.flat_map(|(database, table)| table.chunks.iter().map(move |chunk| (database, table, chunk)))
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
            let sum = table.chunks.iter().fold(Content::default(), |sum, chunk| sum.plus(chunk.content()));
            let bytes = total(table.chunks.iter().map(|chunk| chunk.bytes));
            if sum != table.content() || bytes != Some(table.bytes) {
                return Err(format!("the chunks of table {} do not add up to it", table.name));
            }
        }
        let chunks = || tables().flat_map(|table| &table.chunks);
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

/// Stores a manifest; with that the backup exists. Storing the same one again is no error.
///
/// # Errors
/// When it could not be stored, or its identifier is taken.
pub async fn commit(store: &dyn Store, manifest: &Manifest) -> Result<(), BackupError> {
    let id = &manifest.id;
    let (bytes, sum) =
        manifest.write().map_err(|error| BackupError::Manifest { id: id.to_string(), message: error.to_string() })?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > MAX_MANIFEST) {
        let message = format!("it would be {} bytes, more than is read back; raise `range_size`", bytes.len());
        return Err(BackupError::Manifest { id: id.to_string(), message });
    }
    for (name, body) in [("manifest.b3", sum), ("manifest.json", bytes)] {
        let key = id.object(name)?;
        // A store whose answer was lost is asked again, and then finds what the first attempt has stored.
        if !store.put_if_absent(&key, body.clone()).await? && store.get(&key, MAX_MANIFEST).await? != body {
            let message = "another backup has the same identifier".into();
            return Err(BackupError::Manifest { id: id.to_string(), message });
        }
    }
    Ok(())
}

/// Reads the manifest of a backup.
///
/// # Errors
/// [`BackupError::NoBackup`], [`BackupError::Manifest`], or what the store says.
pub async fn load(store: &dyn Store, id: &BackupId) -> Result<Manifest, BackupError> {
    let bytes = match store.get(&id.object("manifest.json")?, MAX_MANIFEST).await {
        Err(StoreError::NotFound { location, .. }) => {
            return Err(BackupError::NoBackup { location, id: id.to_string() });
        }
        other => other?,
    };
    let bad = |message: String| BackupError::Manifest { id: id.to_string(), message };
    let sum = match store.get(&id.object("manifest.b3")?, 4096).await {
        // A prune that removes the backup takes the manifest first.
        Err(StoreError::NotFound { location, .. }) if store.size(&id.object("manifest.json")?).await?.is_none() => {
            return Err(BackupError::NoBackup { location, id: id.to_string() });
        }
        Err(StoreError::NotFound { .. }) => return Err(bad("the hash beside it is missing".into())),
        other => other?,
    };
    let manifest = Manifest::read(&bytes, &sum).map_err(bad)?;
    if &manifest.id == id { Ok(manifest) } else { Err(bad(format!("it is the manifest of `{}`", manifest.id))) }
}

/// The identifiers of all backups that have a manifest, newest first. Folders of other names are left out.
///
/// # Errors
/// When the listing fails.
pub async fn ids(store: &dyn Store) -> Result<Vec<BackupId>, BackupError> {
    let entries = store.list("backups/").await?;
    let mut ids: Vec<BackupId> = entries
        .iter()
        .filter_map(|entry| entry.key.as_str().strip_prefix("backups/")?.strip_suffix("/manifest.json")?.parse().ok())
        .collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
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
                    chunks,
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
        assert_eq!(read(&other), Err("the chunks of table public.t do not add up to it".into()));
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
        manifest.format = 2;
        let (bytes, sum) = manifest.write().unwrap();
        assert_eq!(Manifest::read(&bytes, &sum), Err("it has format 2, this version reads format 1".into()));
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
