use crate::backup::chunk::ChunkError;
use crate::backup::rows::RowsError;
use crate::backup::seal::SetId;
use crate::backup::store::{KeyError, StoreError};
use crate::clients::postgres::{PostgresError, quote_identifier};
use crate::failure::{Explain, Kind};

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

impl Explain for BackupError {
    fn kind(&self) -> Kind {
        match self {
            Self::Postgres(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Cancelled => Kind::Cancelled,
            Self::NoDatabases => Kind::Config,
            Self::BadTableName(_)
            | Self::NoSuchTable { .. }
            | Self::NoSuchColumn { .. }
            | Self::NotDecoded { .. }
            | Self::StoredAsText { .. } => Kind::Usage,
            Self::BadId(_) | Self::NoBackup { .. } | Self::NoSuchDatabase { .. } => Kind::Usage,
            Self::Unreadable { .. }
            | Self::LargeObjects { .. }
            | Self::HashedByEnum { .. }
            | Self::UnloggedOnStandby { .. }
            | Self::SchemaChanged { .. }
            | Self::NotEmpty { .. }
            | Self::ManifestsUnreadable { .. }
            | Self::NoRoom { .. }
            | Self::Checkpoint { .. }
            | Self::TargetOlder { .. } => Kind::Refused,
            Self::NoIdentity { .. } => Kind::CouldNotVerify,
            Self::Differs { .. } | Self::Unequal { .. } | Self::Chunk { .. } => Kind::VerificationFailed,
            Self::Unverified { .. } => Kind::CouldNotVerify,
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Postgres(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
            Self::NoDatabases => "name the databases of the PostgreSQL connection in the configuration".to_owned(),
            Self::Unreadable { role, .. } => {
                format!("run `GRANT pg_read_all_data TO \"{role}\"`, or log in as the owner of the tables")
            }
            Self::LargeObjects { .. } => {
                "move them into bytea columns, or back this database up with pg_dump".to_owned()
            }
            Self::HashedByEnum { .. } => {
                "partition by the label as text, or back this database up with pg_dump --load-via-partition-root".to_owned()
            }
            Self::UnloggedOnStandby { .. } => "back up from the primary".to_owned(),
            Self::SchemaChanged { .. } => "run it again when no migration is running".to_owned(),
            Self::PgDump { .. } => "run pg_dump --schema-only by hand as the same role to see all of it".to_owned(),
            Self::Swept { .. } => {
                "run the backup again; if a prune runs at the same time, schedule them apart or raise `grace`; the list of one that \
                 was killed (`prune/condemned-…`) is removed by the first prune that runs three hours later"
                    .to_owned()
            }
            Self::ManifestsUnreadable { .. } => "look at the disk below the store; when a backup is lost, move its \
                folder away from `backups/` by hand, and prune again"
                .to_owned(),
            Self::SweepLost { .. } => "run it again; what is left is removed then".to_owned(),
            Self::NoneYet { .. } => "take one with `sexton once backup`".to_owned(),
            Self::NoSuchDatabase { .. } => "name one of them with --database".to_owned(),
            Self::NoBackup { .. } | Self::BadId(_) => "`sexton backup list` shows the identifiers".to_owned(),
            Self::BadTableName(_) => "write table, schema.table, or either part in double quotes".to_owned(),
            Self::NoSuchTable { near, .. } if near.is_empty() => "`sexton backup show` lists the tables".to_owned(),
            Self::NoSuchTable { near, .. } => format!("did you mean {}?", near.join(" or ")),
            Self::NotDecoded { .. } => "use `--format binary`, or leave the column out with `--columns`".to_owned(),
            Self::StoredAsText { .. } => "use `--format text` or `--format csv`".to_owned(),
            Self::NotAlone { .. } => "restore the whole database".to_owned(),
            Self::Write(_) => "look whether the disk is full; what was written is not all of the table".to_owned(),
            Self::NotEmpty { .. } => {
                "create a new database and restore into that: sexton overwrites nothing".to_owned()
            }
            Self::NoTarget { database, .. } => {
                format!(
                    "create it first, owned by the role that restores: `CREATE DATABASE {} OWNER … TEMPLATE template0`",
                    quote_identifier(database)
                )
            }
            Self::NoRoom { .. } => {
                "give the scratch server a larger disk and say so in `drill.room` of policies/backup.yaml".to_owned()
            }
            Self::Checkpoint { .. } => {
                "name another file with --checkpoint, or remove this one to begin from the start".to_owned()
            }
            Self::TargetOlder { source_major, .. } => {
                format!("restore into PostgreSQL {source_major} or newer")
            }
            Self::Schema { cause, .. } if matches!(**cause, PostgresError::InsufficientPrivilege { .. }) => {
                "make the role that restores the owner of the database: `CREATE DATABASE … OWNER …`".to_owned()
            }
            Self::Schema { statement, .. } if statement.contains("CREATE EXTENSION") => {
                "install the extension's package on the server, or have a superuser create it in template1".to_owned()
            }
            Self::NoIdentity { .. } => {
                "name the file of the secret key under `store.identities` in the configuration; the backup's manifest says \
                 for whom it was encrypted"
                    .to_owned()
            }
            Self::Differs { findings, .. } if findings.iter().all(|finding| finding.contains(": server: ")) => {
                "every row is equal: look first at the command under `drill.server` in policies/backup.yaml and at its \
                 server's configuration; `drill.keep_failed` keeps the database for a look"
                    .to_owned()
            }
            Self::Chunk { .. } | Self::Differs { .. } => "do not rely on this backup; remove from the store what is \
                named as damaged, since the next backup would use it again, then take a new one and look at the disk \
                below the store"
                .to_owned(),
            Self::Manifest { .. } => {
                "do not rely on this backup; take a new one and look at the disk below the store".to_owned()
            }
            Self::Unverified { reasons, .. } if reasons.iter().any(|reason| reason.contains("no identity is configured")) => {
                "name the file of the secret key under `store.identities` in the configuration".to_owned()
            }
            Self::Unverified { .. } => "run it again when the cause is gone; until then it is not a pass".to_owned(),
            _ => return None,
        })
    }
}
