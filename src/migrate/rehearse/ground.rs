//! The databases of a rehearsal on the scratch server: made, recognised, dropped. Nothing else there is ever touched.
//!
//! One is a rehearsal's own when its name begins with [`PREFIX`] and its comment with [`MARK`]. A rehearsal holds a lock
//! on its name for as long as it works; the next one drops what has no holder any more.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::clients::postgres::{MAINTENANCE, Postgres, quote_identifier, quote_literal};
use crate::migrate::error::MigrateError;
use crate::migrate::world::{Place, World};

const PREFIX: &str = "sexton_rehearsal_";
const MARK: &str = "sexton: a rehearsal's";
const KEPT: &str = "sexton: kept after a rehearsal";

/// The databases of one rehearsal, and the session that holds its lock.
pub(super) struct Ground {
    session: PgConnection,
    scratch: Postgres,
    names: Vec<String>,
    world: World,
    ledger: String,
}

impl Ground {
    /// Drops what killed rehearsals have left, then makes a copy's database for each of the source's, and one for the
    /// journal.
    pub(super) async fn make(scratch: &Postgres, source: &World) -> Result<Self, MigrateError> {
        let mut session = scratch.connect_held(MAINTENANCE).await?;
        sweep(scratch, &mut session).await?;
        let stem = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let stem = stem.get(..PREFIX.len() + 8).unwrap_or(PREFIX).to_owned();
        let name = |role: &str| format!("{stem}_{role}");
        let visibility = source.source.visibility.as_ref().map(|_| name("visibility"));
        let place = Place::new(scratch.clone(), name("main"), visibility);
        let names: Vec<String> = place.all().into_iter().chain([name("ledger")]).collect();
        let world = World { sql_tool: source.sql_tool.clone(), ..World::of(place) };
        let mut ground = Self { session, scratch: scratch.clone(), names: Vec::new(), world, ledger: name("ledger") };
        for name in names {
            if let Err(error) = ground.create(&name).await {
                let _ = ground.remove().await;
                return Err(error);
            }
        }
        Ok(ground)
    }

    async fn create(&mut self, name: &str) -> Result<(), MigrateError> {
        // Before there is anything to find: from its first instant on it is of a rehearsal at work.
        lock(&self.scratch, &mut self.session, name).await?;
        self.names.push(name.to_owned());
        let quoted = quote_identifier(name);
        for statement in [
            format!("CREATE DATABASE {quoted} TEMPLATE template0 ENCODING 'UTF8'"),
            format!("COMMENT ON DATABASE {quoted} IS {}", quote_literal(MARK)),
        ] {
            let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut self.session).await;
            done.map_err(|error| self.scratch.error(MAINTENANCE, &format!("making the database {name}"), error))?;
        }
        Ok(())
    }

    /// The copy, as what the migration acts on.
    pub(super) const fn world(&self) -> &World {
        &self.world
    }

    /// The database of the journal.
    pub(super) fn ledger(&self) -> &str {
        &self.ledger
    }

    /// After the restore: the schema's version under the copy's name, and nobody in the ring that a server would join.
    pub(super) async fn settle(&self) -> Result<(), MigrateError> {
        for name in self.world.source.all() {
            let mut session = self.scratch.connect(&name).await?;
            for (table, statement) in [
                ("schema_version", "UPDATE schema_version SET db_name = current_database()"),
                ("cluster_membership", "DELETE FROM cluster_membership"),
            ] {
                let failed = |error| self.scratch.error(&name, "settling the copy", error);
                let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table);
                if there.fetch_one(&mut session).await.map_err(failed)? {
                    sqlx::query(statement).execute(&mut session).await.map_err(failed)?;
                }
            }
            let _ = session.close().await;
        }
        Ok(())
    }

    /// Drops them.
    pub(super) async fn remove(mut self) -> Result<(), MigrateError> {
        for name in std::mem::take(&mut self.names) {
            drop_own(&self.scratch, &mut self.session, &name).await?;
        }
        let _ = self.session.close().await;
        Ok(())
    }

    /// Leaves them for a person, who drops them.
    pub(super) async fn keep(mut self) -> Result<(), MigrateError> {
        for name in &self.names {
            let said = quote_literal(&format!("{KEPT}; drop it by hand"));
            let statement = format!("COMMENT ON DATABASE {} IS {said}", quote_identifier(name));
            let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut self.session).await;
            done.map_err(|error| self.scratch.error(MAINTENANCE, &format!("keeping the database {name}"), error))?;
        }
        let _ = self.session.close().await;
        Ok(())
    }
}

async fn sweep(scratch: &Postgres, session: &mut PgConnection) -> Result<(), MigrateError> {
    const LEFT: &str = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1";
    let failed = |error| scratch.error(MAINTENANCE, "looking for what rehearsals have left", error);
    let left: Vec<String> = sqlx::query_scalar(LEFT).bind(PREFIX).fetch_all(&mut *session).await.map_err(failed)?;
    for name in left {
        if lock(scratch, session, &name).await? {
            drop_own(scratch, session, &name).await?;
        }
    }
    Ok(())
}

/// Drops a database that is a rehearsal's by its name and comment, looked at right before.
async fn drop_own(scratch: &Postgres, session: &mut PgConnection, name: &str) -> Result<(), MigrateError> {
    const SAID: &str = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1";
    let failed = |error| scratch.error(MAINTENANCE, &format!("dropping the database {name}"), error);
    let said: Option<String> =
        sqlx::query_scalar(SAID).bind(name).fetch_optional(&mut *session).await.map_err(failed)?;
    if name.starts_with(PREFIX) && said.as_deref() == Some(MARK) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", quote_identifier(name));
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *session).await.map_err(failed)?;
    }
    let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(key(name)).execute(session).await;
    unlock.map_err(failed)?;
    Ok(())
}

async fn lock(scratch: &Postgres, session: &mut PgConnection, name: &str) -> Result<bool, MigrateError> {
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key(name)).fetch_one(session).await;
    Ok(asked.map_err(|error| scratch.error(MAINTENANCE, "taking a rehearsal's lock", error))?)
}

fn key(name: &str) -> i64 {
    blake3::hash(name.as_bytes()).as_bytes().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}
