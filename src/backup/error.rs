//! What can go wrong with a backup, a restore or what is asked of a store.

mod explain;

use crate::backup::chunk::ChunkError;
use crate::backup::rows::RowsError;
use crate::backup::seal::SetId;
use crate::backup::store::{KeyError, StoreError};
use crate::clients::postgres::PostgresError;

/// What can go wrong with a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run was asked to stop.
    #[error("stopped before it was done")]
    Cancelled,
    /// No database was named.
    #[error("no database to back up is named")]
    NoDatabases,
    /// Tables that the role may not read.
    #[error("role `{role}` may not read {} in database `{database}`", list(relations))]
    Unreadable {
        /// The role.
        role: String,
        /// The database.
        database: String,
        /// Tables and sequences, qualified.
        relations: Vec<String>,
    },
    /// Large objects, which COPY does not reach.
    #[error("database `{database}` holds {count} large objects, which this backup would lose")]
    LargeObjects {
        /// The database.
        database: String,
        /// How many.
        count: i64,
    },
    /// Tables whose rows lie in other partitions in every other database: the hash is of the OID of an enum's label.
    #[error(
        "{} of database `{database}` are partitioned by the hash of an enum, which is another in every database",
        list(relations)
    )]
    HashedByEnum {
        /// The database.
        database: String,
        /// Which.
        relations: Vec<String>,
    },
    /// Tables whose contents a standby does not have.
    #[error("{} of database `{database}` are unlogged, and a standby does not have their rows", list(relations))]
    UnloggedOnStandby {
        /// The database.
        database: String,
        /// The tables.
        relations: Vec<String>,
    },
    /// The schema changed between the snapshot and the locks.
    #[error("the schema of database `{database}` changed while the backup began ({relation})")]
    SchemaChanged {
        /// The database.
        database: String,
        /// Which table.
        relation: String,
    },
    /// `pg_dump` failed.
    #[error("pg_dump of database `{database}` failed: {message}")]
    PgDump {
        /// The database.
        database: String,
        /// The end of what it said.
        message: String,
    },
    /// The server sent what is no COPY stream.
    #[error("copying {relation}")]
    Stream {
        /// The table.
        relation: String,
        /// What is wrong.
        #[source]
        cause: RowsError,
    },
    /// Nothing came for too long.
    #[error("nothing came for {seconds} s while {doing}")]
    Stalled {
        /// What was being done.
        doing: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// A task of our own died.
    #[error("an internal task failed: {0}")]
    Internal(String),
    /// No such backup.
    #[error("{location} has no backup `{id}`")]
    NoBackup {
        /// The store.
        location: String,
        /// The identifier.
        id: String,
    },
    /// The store is empty.
    #[error("there is no backup in {location} yet")]
    NoneYet {
        /// The store.
        location: String,
    },
    /// A text that is no backup's identifier.
    #[error("`{0}` is not the identifier of a backup")]
    BadId(String),
    /// A manifest that cannot be used.
    #[error("the manifest of backup `{id}` cannot be read: {message}")]
    Manifest {
        /// The identifier.
        id: String,
        /// Why.
        message: String,
    },
    /// Chunks that a backup was about to name went away meanwhile.
    #[error("the backup was not completed: {why}{}", listed(chunks))]
    Swept {
        /// What was seen.
        why: String,
        /// The chunks that are gone.
        chunks: Vec<String>,
    },
    /// Nothing is deleted, since it is not known what is needed.
    #[error("nothing is pruned while manifests cannot be read: {}", list(reasons))]
    ManifestsUnreadable {
        /// Which, and why.
        reasons: Vec<String>,
    },
    /// A sweep must not go on.
    #[error("the sweep ended early: its list `{key}` is too old or was removed")]
    SweepLost {
        /// The list of condemned chunks.
        key: String,
    },
    /// The backup has no such database.
    #[error("backup `{id}` has no database `{database}`; it has {}", list(has))]
    NoSuchDatabase {
        /// The identifier.
        id: String,
        /// What was asked for.
        database: String,
        /// What there is.
        has: Vec<String>,
    },
    /// A text that is no table's name.
    #[error("`{0}` is not the name of a table")]
    BadTableName(String),
    /// The backup has no such table.
    #[error("database `{database}` of backup `{id}` has no table `{table}`")]
    NoSuchTable {
        /// The identifier.
        id: String,
        /// The database.
        database: String,
        /// What was asked for.
        table: String,
        /// Tables of a similar name.
        near: Vec<String>,
    },
    /// The table has no such column in the backup.
    #[error("table {table} has no column `{column}` in the backup; it has {}", list(has))]
    NoSuchColumn {
        /// The table.
        table: String,
        /// What was asked for.
        column: String,
        /// What there is.
        has: Vec<String>,
    },
    /// A type whose binary form is not decoded here.
    #[error("column `{column}` of table {table} is of the type {type_name}, which is not decoded")]
    NotDecoded {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// A table that has no binary form in the backup.
    #[error("the backup holds table {table} as text, which only a server could turn into the binary form")]
    StoredAsText {
        /// The table.
        table: String,
    },
    /// The backup's schema does not say how the table is made.
    #[error("the schema in the backup does not make table {table} by itself")]
    NotAlone {
        /// The table.
        table: String,
    },
    /// What was to be written could not be.
    #[error("writing the rows: {0}")]
    Write(String),
    /// Something is in the database to restore into.
    #[error("database `{database}` at {host} is not empty: it has {}", list(objects))]
    NotEmpty {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
        /// What is there.
        objects: Vec<String>,
    },
    /// There is nothing to restore into.
    #[error("there is no database `{database}` at {host} to restore into")]
    NoTarget {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
    },
    /// The target's major version is older than the source's.
    #[error("the backup is of PostgreSQL {source_major} and the target is PostgreSQL {target_major}")]
    TargetOlder {
        /// Of the backup.
        source_major: u32,
        /// Of the target.
        target_major: u32,
    },
    /// The scratch server has not the room that the policy says it has.
    #[error("database `{database}` of backup `{id}` takes about {needed}, and the scratch server has room for {room}")]
    NoRoom {
        /// The identifier.
        id: String,
        /// The database.
        database: String,
        /// What its rows take.
        needed: String,
        /// What there is.
        room: String,
    },
    /// A statement of the schema failed.
    #[error("restoring the schema ({stage}) failed at `{statement}`")]
    Schema {
        /// `pre-data` or `post-data`.
        stage: &'static str,
        /// The beginning of the statement.
        statement: String,
        /// The server's answer.
        #[source]
        cause: Box<PostgresError>,
    },
    /// A chunk that a restore needs is not what it should be.
    #[error("chunk {id} of {relation} is damaged")]
    Chunk {
        /// Its name.
        id: String,
        /// The table.
        relation: String,
        /// How.
        #[source]
        cause: ChunkError,
    },
    /// Nothing opens a chunk; that says nothing about it.
    #[error("rows of {relation} are encrypted for the recipients `{set}`, of which no identity is configured")]
    NoIdentity {
        /// The table.
        relation: String,
        /// The set of recipients.
        set: SetId,
    },
    /// A comparison found differences.
    #[error("{subject} is not what the backup says: {}", list(findings))]
    Differs {
        /// The backup or the restored database.
        subject: String,
        /// What differs.
        findings: Vec<String>,
    },
    /// Two sides differ.
    #[error("{left} and {right} differ: {}", list(findings))]
    Unequal {
        /// One side.
        left: String,
        /// The other.
        right: String,
        /// What differs.
        findings: Vec<String>,
    },
    /// A comparison's checkpoint cannot be gone on from.
    #[error("the checkpoint {path} cannot be used: {problem}")]
    Checkpoint {
        /// The file.
        path: String,
        /// Why.
        problem: String,
    },
    /// A comparison could not be finished.
    #[error("{subject} could not be verified: {}", list(reasons))]
    Unverified {
        /// The backup or the restored database.
        subject: String,
        /// Why not.
        reasons: Vec<String>,
    },
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!(": {}", list(items)) }
}

/// The first few of a list, and how many more there are.
fn list(items: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

impl From<KeyError> for BackupError {
    fn from(error: KeyError) -> Self {
        Self::Store(error.into())
    }
}
