//! What a restore is refused for before it changes anything.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::Run;
use crate::backup::error::BackupError;
use crate::backup::live::{Chunks, opened};
use crate::backup::manifest::{Database, Table};
use crate::clients::postgres::PostgresError;

impl Run {
    /// An empty database has no relation, function or type of anyone's, and no schema but `public`; extensions and
    /// what belongs to them may be there. Of a single table's target only its schema counts.
    pub(super) async fn refuse_filled(&self, session: &mut PgConnection) -> Result<(), BackupError> {
        const FOUND: &str = "WITH ours AS (SELECT oid, nspname FROM pg_namespace \
            WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)' \
              AND ($1::text IS NULL OR nspname = $1)), \
            owned AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e') \
            SELECT kind || ' ' || name FROM ( \
            SELECT 'schema' AS kind, nspname::text AS name, oid, 'pg_namespace'::regclass AS class FROM ours WHERE nspname <> 'public' AND $1 IS NULL \
            UNION ALL SELECT 'relation', n.nspname || '.' || c.relname, c.oid, 'pg_class'::regclass FROM pg_class c \
              JOIN ours n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') \
            UNION ALL SELECT 'function', n.nspname || '.' || p.proname, p.oid, 'pg_proc'::regclass FROM pg_proc p \
              JOIN ours n ON n.oid = p.pronamespace \
            UNION ALL SELECT 'type', n.nspname || '.' || t.typname, t.oid, 'pg_type'::regclass FROM pg_type t \
              JOIN ours n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r') \
            ) found WHERE NOT EXISTS (SELECT 1 FROM owned WHERE owned.classid = found.class AND owned.objid = found.oid) \
            ORDER BY 1 LIMIT 10000";
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let objects: Vec<String> = sqlx::query_scalar(FOUND)
            .bind(&self.schema)
            .fetch_all(session)
            .await
            .map_err(|error| postgres.error(name, "looking whether it is empty", error))?;
        if objects.is_empty() {
            return Ok(());
        }
        Err(BackupError::NotEmpty { host: postgres.address(), database: name.to_owned(), objects })
    }

    /// Whether the role may make there what the backup has.
    pub(super) async fn refuse_closed(&self, session: &mut PgConnection, source: &Database) -> Result<(), BackupError> {
        const MAY: &str = "SELECT has_database_privilege(current_database(), 'CREATE'), \
            coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), true)";
        let (postgres, name) = (&self.target.postgres, self.target.database.as_str());
        let asked: Result<(bool, bool), _> = sqlx::query_as(MAY).fetch_one(session).await;
        let (database, public) = asked.map_err(|error| postgres.error(name, "asking for privileges", error))?;
        let is_public = |table: &Table| table.name.schema == "public";
        let needs_public = source.tables.iter().any(is_public);
        // A restore of one table into a schema that is there makes none.
        let needs_schemas = self.schema.is_none() && source.tables.iter().any(|table| !is_public(table));
        let lacking = match () {
            () if needs_public && !public => "schema public",
            () if needs_schemas && !database => "the database",
            () => return Ok(()),
        };
        let (host, database, role) = (postgres.address(), name.to_owned(), postgres.settings().user.clone());
        let message = format!("CREATE on {lacking} is needed");
        Err(PostgresError::InsufficientPrivilege { host, database, role, doing: "restoring".into(), message }.into())
    }
}

/// Before anything is made it is known that there is an identity for every set of recipients.
pub(in crate::backup) async fn refuse_sealed(from: &Chunks, source: &Database) -> Result<(), BackupError> {
    let mut sets = BTreeMap::new();
    for table in &source.tables {
        for chunk in table.chunks.iter().map(|slice| &slice.chunk).filter(|chunk| chunk.sealed.is_some()) {
            let (smallest, _) = sets.entry(chunk.sealed).or_insert((*chunk, table));
            if chunk.stored < smallest.stored {
                sets.insert(chunk.sealed, (*chunk, table));
            }
        }
    }
    for (chunk, table) in sets.into_values() {
        opened(from.clone(), chunk, table.keys(), table.name.to_string()).await?;
    }
    Ok(())
}
