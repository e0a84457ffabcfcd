//! The databases of a rehearsal on the scratch server: made, recognised, dropped. Nothing else there is ever touched.
//!
//! One is a rehearsal's own when its name begins with [`PREFIX`] and its comment with [`MARK`]. A rehearsal holds a lock
//! on its name for as long as it works; the next one drops what has no holder any more.

use sqlx::Connection;

use crate::clients::postgres::{Databases, NewDatabase, Postgres, PostgresError, becomes, draft};
use crate::migrate::error::MigrateError;
use crate::migrate::world::{Place, World};

const PREFIX: &str = "sexton_rehearsal_";
const MARK: &str = "sexton: a rehearsal's";
const KEPT: &str = "sexton: kept after a rehearsal";

/// The databases of one rehearsal, and the session that holds its lock.
pub(super) struct Ground {
    databases: Databases,
    scratch: Postgres,
    names: Vec<String>,
    world: World,
    ledger: String,
}

impl Ground {
    /// Drops what killed rehearsals have left, then makes a copy's database for each of the source's, and one for the
    /// journal.
    pub(super) async fn make(scratch: &Postgres, source: &World) -> Result<Self, MigrateError> {
        let mut databases = Databases::open(scratch).await?;
        sweep(&mut databases).await?;
        let stem = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let stem = stem.get(..PREFIX.len() + 8).unwrap_or(PREFIX).to_owned();
        let name = |role: &str| format!("{stem}_{role}");
        let visibility = source.source.visibility.as_ref().map(|_| name("visibility"));
        let place = Place::new(scratch.clone(), name("main"), visibility);
        let names: Vec<String> = place.all().into_iter().chain([name("ledger")]).collect();
        let world = World { sql_tool: source.sql_tool.clone(), ..World::of(place) };
        let scratch = scratch.clone();
        let mut ground = Self { databases, scratch, names: Vec::new(), world, ledger: name("ledger") };
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
        self.databases.lock(name).await?;
        self.names.push(name.to_owned());
        let draft = &draft(name);
        let new = NewDatabase { name, draft, comment: MARK, encoding: None, owner: None };
        Ok(self.databases.create(new).await?)
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
            drop_own(&mut self.databases, &draft(&name)).await?;
            drop_own(&mut self.databases, &name).await?;
        }
        self.databases.close().await;
        Ok(())
    }

    /// Leaves them for a person, who drops them.
    pub(super) async fn keep(mut self) -> Result<(), MigrateError> {
        for name in &self.names {
            self.databases.say(name, &format!("{KEPT}; drop it by hand")).await?;
        }
        self.databases.close().await;
        Ok(())
    }
}

async fn sweep(databases: &mut Databases) -> Result<(), MigrateError> {
    for (name, _) in [databases.named(PREFIX).await?, databases.named(&draft(PREFIX)).await?].concat() {
        if databases.lock(&name).await? {
            drop_own(databases, &name).await?;
            databases.unlock(&name).await?;
        }
    }
    Ok(())
}

/// Drops a database that is a rehearsal's by its name and comment.
async fn drop_own(databases: &mut Databases, name: &str) -> Result<bool, PostgresError> {
    databases.drop_own(name, |said| becomes(name).starts_with(PREFIX) && said == MARK).await
}
