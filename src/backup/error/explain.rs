//! Of what kind each error of a backup is, and what to do about it.

use super::BackupError;
use crate::clients::postgres::{PostgresError, quote_identifier};
use crate::failure::{Explain, Kind};

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
