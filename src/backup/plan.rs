//! What a backup would do: observed read-only, decided without a server.

use serde::Serialize;
use sqlx::Connection;

use super::catalog::{self, Catalog};
use super::error::BackupError;
use super::manifest::{self, Loaded};
use super::store::Store;
use crate::clients::postgres::{Postgres, ServerVersion};
use crate::context::Context;
use crate::plan::{Action, Change, Plan};
use crate::policy::backup::BackupPolicy as Policy;
use crate::units::{counted, human_bytes};

/// One database as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub database: String,
    /// The role that reads it.
    pub role: String,
    /// The server's version.
    pub version: ServerVersion,
    /// What it holds.
    pub catalog: Catalog,
}

/// A backup that would be made: of which databases, where to and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupPlan {
    /// The databases.
    pub databases: Vec<DatabasePlan>,
    /// The store, for people.
    pub store: String,
    /// How.
    pub policy: Policy,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// One database of a planned backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabasePlan {
    /// Its name.
    pub name: String,
    /// How many tables have their rows copied.
    pub tables: usize,
    /// Bytes of these tables now, TOAST included: the order of size of what is read.
    pub bytes: u64,
}

impl BackupPlan {
    /// The common form. A backup is always one change, since there is always something to back up.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let names: Vec<String> = self.databases.iter().map(|database| database.name.clone()).collect();
        let bytes: u64 = self.databases.iter().map(|database| database.bytes).sum();
        let tables: usize = self.databases.iter().map(|database| database.tables).sum();
        let reason = format!("{tables} tables, about {}", human_bytes(bytes));
        let change = Change::new(Action::Create, format!("backup of {}", names.join(", ")), reason).field(
            "store",
            None,
            self.store.clone(),
        );
        let change = match self.policy.encryption.recipients() {
            Some(recipients) => change.field(
                "encrypted",
                None,
                format!("for {}", counted(recipients.keys().len(), "recipient", "recipients")),
            ),
            None => change,
        };
        Plan { changes: vec![change], notes: self.notes.clone() }
    }
}

/// Looks at the store and at each database, writing nothing, and decides.
///
/// # Errors
/// Everything that would keep the backup from succeeding and can be seen beforehand: the store cannot be reached, a
/// pooler stands in between, tables may not be read, large objects exist, `pg_dump` is missing.
pub async fn plan(
    postgres: &Postgres,
    databases: &[String],
    store: &dyn Store,
    policy: &Policy,
    ctx: &Context,
) -> Result<BackupPlan, BackupError> {
    store.reach().await?;
    let mut observed = Vec::new();
    for database in databases {
        if ctx.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        observed.push(observe(postgres, database).await?);
    }
    if let Some(newest) = observed.iter().map(|seen| seen.version.major()).max() {
        postgres.pg_dump(newest).await?;
    }
    let mut plan = decide(&observed, store.location(), policy)?;
    plan.notes.extend(unlike_the_last(store, policy).await?);
    Ok(plan)
}

/// That the newest backup is encrypted and this one would not be: recipients that were lost by mistake are lost silently.
async fn unlike_the_last(store: &dyn Store, policy: &Policy) -> Result<Option<String>, BackupError> {
    if policy.encryption.recipients().is_some() {
        return Ok(None);
    }
    let Some(newest) = manifest::ids(store).await?.into_iter().next() else { return Ok(None) };
    Ok(match manifest::loaded(store, &newest).await? {
        Loaded::Read(last) if !last.recipients.is_empty() => Some(format!(
            "backup {newest} is encrypted and this one will not be: the policy has no `encryption.recipients`"
        )),
        _ => None,
    })
}

async fn observe(postgres: &Postgres, database: &str) -> Result<Observed, BackupError> {
    let mut connection = catalog::session(postgres, database).await?;
    let version = postgres.server_version(database, &mut connection).await?;
    let catalog = catalog::read(&mut connection, postgres, database).await?;
    let _ = connection.close().await;
    Ok(Observed { database: database.to_owned(), role: postgres.settings().user.clone(), version, catalog })
}

/// The backup of what was observed, or the reason why there can be none.
///
/// # Errors
/// The refusals of [`refuse`], and [`BackupError::NoDatabases`].
pub fn decide(observed: &[Observed], store: String, policy: &Policy) -> Result<BackupPlan, BackupError> {
    if observed.is_empty() {
        return Err(BackupError::NoDatabases);
    }
    let mut notes = Vec::new();
    for seen in observed {
        refuse(&seen.database, &seen.role, &seen.catalog)?;
        notes.extend(not_covered(&seen.database, &seen.catalog));
    }
    let databases = observed.iter().map(|seen| DatabasePlan {
        name: seen.database.clone(),
        tables: seen.catalog.tables.len(),
        bytes: seen.catalog.bytes(),
    });
    Ok(BackupPlan { databases: databases.collect(), store, policy: policy.clone(), notes })
}

/// What the backup of a database will lack without being wrong for it, for the plan and the manifest.
#[must_use]
pub(super) fn not_covered(database: &str, catalog: &Catalog) -> Vec<String> {
    let extensions = catalog.extension_tables.iter().map(|extension| {
        format!("rows that extension {extension} keeps in tables of its own in database {database} are not backed up")
    });
    let foreign = catalog.foreign_tables.iter().map(|table| {
        format!("foreign table {table} of database {database} is backed up without the other server's rows")
    });
    extensions.chain(foreign).collect()
}

/// Says no to a database whose backup would be incomplete.
///
/// # Errors
/// [`BackupError::Unreadable`], [`BackupError::LargeObjects`], [`BackupError::HashedByEnum`], [`BackupError::UnloggedOnStandby`].
pub(super) fn refuse(database: &str, role: &str, catalog: &Catalog) -> Result<(), BackupError> {
    let database = database.to_owned();
    let tables = catalog.tables.iter().map(|table| (&table.name, table.readable));
    let sequences = catalog.sequences.iter().map(|(name, readable)| (name, *readable));
    let unreadable: Vec<String> =
        tables.chain(sequences).filter(|(_, readable)| !readable).map(|(name, _)| name.to_string()).collect();
    if !unreadable.is_empty() {
        return Err(BackupError::Unreadable { role: role.to_owned(), database, relations: unreadable });
    }
    if catalog.large_objects > 0 {
        return Err(BackupError::LargeObjects { database, count: catalog.large_objects });
    }
    if !catalog.hashed_by_enum.is_empty() {
        return Err(BackupError::HashedByEnum { database, relations: catalog.hashed_by_enum.clone() });
    }
    let unlogged = catalog.tables.iter().filter(|table| table.unlogged).map(|table| table.name.to_string());
    let unlogged: Vec<String> = unlogged.collect();
    if catalog.standby && !unlogged.is_empty() {
        return Err(BackupError::UnloggedOnStandby { database, relations: unlogged });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::Name;

    fn seen(readable: bool, large_objects: i64) -> Observed {
        Observed {
            database: "temporal".into(),
            role: "reader".into(),
            version: ServerVersion(150_018),
            catalog: Catalog {
                tables: vec![],
                sequences: vec![(Name { schema: "public".into(), name: "ids".into() }, readable)],
                materialized_views: vec![],
                encoding: "UTF8".into(),
                large_objects,
                extension_tables: vec!["postgis".into()],
                foreign_tables: vec!["public.far".into()],
                hashed_by_enum: vec![],
                standby: false,
            },
        }
    }

    #[test]
    fn a_backup_is_one_change_and_notes_what_it_lacks() {
        let plan = decide(&[seen(true, 0)], "s3://b".into(), &Policy::default()).unwrap().plan();
        assert_eq!(plan.changes.len(), 1);
        assert_eq!(plan.changes[0].subject, "backup of temporal");
        assert!(plan.notes[0].contains("postgis") && plan.notes[1].contains("public.far"), "{:?}", plan.notes);
    }

    #[test]
    fn what_would_be_incomplete_is_refused_by_name() {
        let check = |observed: &[Observed], word: &str| {
            let error = decide(observed, "s3://b".into(), &Policy::default()).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        };
        check(&[], "no database");
        check(&[seen(false, 0)], "public.ids");
        check(&[seen(true, 3)], "3 large objects");
    }
}
