//! The fingerprint of a source: what must be the same when a migration is run as it was when it was rehearsed and
//! approved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, Row};

use super::error::MigrateError;
use super::migration::Migration;
use super::names::Digest;
use super::world::{Place, Server, World};
use crate::clients::postgres::{MAINTENANCE, Postgres};
use crate::context::Context;

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fingerprint {
    /// The server's `system_identifier`, which each cluster of PostgreSQL gets when it is made; empty where the role may
    /// not know it.
    pub server: String,
    /// `server_version_num`.
    pub version: i32,
    /// Settings that change what a migration comes to.
    pub settings: BTreeMap<String, String>,
    /// Its databases: Temporal's, and others that the migration acts on.
    pub databases: Vec<DatabasePrint>,
    /// Where they are moved to, when the migration does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetPrint>,
}

/// What a target is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct TargetPrint {
    /// `host:port`.
    pub address: String,
    /// `system_identifier`; empty where the role may not know it.
    pub server: String,
    /// `server_version_num`.
    pub version: i32,
    /// The names of the databases there, in order.
    pub databases: Vec<String>,
    /// The role that owns them, else who logs in.
    pub role: String,
}

/// What a database is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct DatabasePrint {
    /// Its name.
    pub name: String,
    /// Its OID: a database that was made anew under the same name has another.
    pub oid: i64,
    /// Temporal's schema version; empty when it has none.
    pub schema_version: String,
    /// A hash of its tables, columns, indexes and constraints.
    pub shape: String,
    /// Its size, in bytes. It grows all the time and is not part of the digest.
    pub bytes: i64,
}

const SETTINGS: [&str; 8] = [
    "autovacuum",
    "default_transaction_read_only",
    "maintenance_work_mem",
    "max_connections",
    "max_wal_size",
    "shared_buffers",
    "synchronous_commit",
    "wal_level",
];

const SERVER: &str = "SELECT current_setting('server_version_num')::int4 AS version, \
    (SELECT system_identifier::text FROM pg_control_system()) AS identifier";
const DATABASE: &str = "SELECT d.oid::int8 AS oid, pg_database_size(d.oid) AS bytes, md5(coalesce((\
      SELECT string_agg(line, E'\\n' ORDER BY line) FROM (\
        SELECT format('%s.%s %s %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) AS line \
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE c.relkind IN ('r', 'p', 'm', 'v') AND a.attnum > 0 AND NOT a.attisdropped \
            AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        UNION ALL SELECT format('%s %s', i.indisvalid, pg_get_indexdef(i.indexrelid)) FROM pg_index i \
          JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        UNION ALL SELECT format('%s %s', k.conrelid::regclass, pg_get_constraintdef(k.oid)) FROM pg_constraint k \
          JOIN pg_namespace n ON n.oid = k.connamespace WHERE k.conrelid <> 0 AND n.nspname !~ '^pg_' \
      ) lines), '')) AS shape \
    FROM pg_database d WHERE d.datname = current_database()";
const VERSION: &str = "SELECT curr_version FROM schema_version WHERE version_partition = 0 ORDER BY db_name = current_database() DESC LIMIT 1";

impl Fingerprint {
    /// Of everything but the sizes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut sized = self.clone();
        sized.databases.iter_mut().for_each(|database| database.bytes = 0);
        Digest::of(&sized)
    }

    /// Which databases it is of, whatever is in them now.
    #[must_use]
    pub fn identity(&self) -> Self {
        let databases = self.databases.iter().map(|database| DatabasePrint {
            schema_version: String::new(),
            shape: String::new(),
            bytes: 0,
            ..database.clone()
        });
        Self { settings: BTreeMap::new(), databases: databases.collect(), ..self.clone() }
    }

    /// The schema versions that a copy, whose databases have other names and stand in the same order, does not share.
    pub(super) fn older_schemas(&self, copy: &Self) -> Vec<String> {
        let pairs = self.databases.iter().zip(&copy.databases);
        let differing = pairs.filter(|(here, there)| here.schema_version != there.schema_version);
        let told = |version: &str| if version.is_empty() { "none".to_owned() } else { version.to_owned() };
        differing
            .map(|(here, there)| {
                format!("{} has {}, its copy {}", here.name, told(&here.schema_version), told(&there.schema_version))
            })
            .collect()
    }

    /// The size of all its databases, in bytes.
    #[must_use]
    pub fn bytes(&self) -> i64 {
        self.databases.iter().map(|database| database.bytes).sum()
    }

    /// How this one differs from an earlier one, in words; sizes aside.
    #[must_use]
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: String, was: &str, is: &str| {
            if was != is {
                found.push(format!("{what} was {was} and is {is}"));
            }
        };
        compare("the server".into(), &before.server, &self.server);
        compare("its version".into(), &before.version.to_string(), &self.version.to_string());
        for (name, is) in &self.settings {
            compare(format!("setting {name}"), before.settings.get(name).map_or("", String::as_str), is);
        }
        let target = |print: &Self| {
            print.target.as_ref().map_or_else(
                || "none".to_owned(),
                |target| {
                    let TargetPrint { address, server, version, databases, role } = target;
                    format!(
                        "{} at {address} (server {server}, version {version}) of role {role}",
                        databases.join(" and ")
                    )
                },
            )
        };
        compare("the target".into(), &target(before), &target(self));
        for is in &self.databases {
            let Some(was) = before.databases.iter().find(|was| was.name == is.name) else {
                found.push(format!("database {} was not part of it", is.name));
                continue;
            };
            let mut compare = |what: &str, was: &str, now: &str| {
                if was != now {
                    found.push(format!("{what} of database {} was {was} and is {now}", is.name));
                }
            };
            compare("the OID", &was.oid.to_string(), &is.oid.to_string());
            compare("the schema version", &was.schema_version, &is.schema_version);
            if was.shape != is.shape {
                found.push(format!("tables, columns, indexes or constraints of database {} are others", is.name));
            }
        }
        found
    }
}

/// Takes the fingerprint of what a migration acts on.
///
/// # Errors
/// When the source or the target cannot be asked.
pub async fn fingerprint(world: &World, migration: &Migration, ctx: &Context) -> Result<Fingerprint, MigrateError> {
    let postgres = &world.source.postgres;
    let mut print = Fingerprint {
        server: String::new(),
        version: 0,
        settings: BTreeMap::new(),
        databases: Vec::new(),
        target: None,
    };
    if let Some(place) = migration.target(world)? {
        print.target = Some(target(place).await?);
    }
    let mut names = world.source.all();
    for (_, database) in migration.databases().into_iter().filter(|(server, _)| *server == Server::Source) {
        match world.source.name(&database) {
            Ok(name) if !names.iter().any(|known| known == name) => names.push(name.to_owned()),
            _ => {}
        }
    }
    for name in names {
        if ctx.is_cancelled() {
            return Err(MigrateError::Cancelled { name: name.clone(), step: "the fingerprint".to_owned() });
        }
        let failed = |error| postgres.error(&name, "taking the fingerprint", error);
        let mut session = postgres.connect(&name).await?;
        if print.databases.is_empty() {
            (print.version, print.server) = server(postgres, &name, &mut session).await?;
            let settings: Vec<(String, String)> =
                sqlx::query_as("SELECT name::text, setting::text FROM pg_settings WHERE name = ANY ($1)")
                    .bind(SETTINGS.map(str::to_owned).to_vec())
                    .fetch_all(&mut session)
                    .await
                    .map_err(failed)?;
            print.settings = settings.into_iter().collect();
        }
        let row = sqlx::query(DATABASE).fetch_one(&mut session).await.map_err(failed)?;
        let schema_version = sqlx::query_scalar(VERSION).fetch_optional(&mut session).await;
        print.databases.push(DatabasePrint {
            oid: row.try_get("oid").map_err(failed)?,
            shape: row.try_get("shape").map_err(failed)?,
            bytes: row.try_get("bytes").map_err(failed)?,
            // A database that is not Temporal's has none.
            schema_version: schema_version.ok().flatten().unwrap_or_default(),
            name: name.clone(),
        });
        let _ = session.close().await;
    }
    Ok(print)
}

/// The version of the server that a session is on, and its `system_identifier`. Where the control data is kept from the
/// role, the version still counts.
pub(super) async fn server(
    postgres: &Postgres,
    database: &str,
    session: &mut PgConnection,
) -> Result<(i32, String), MigrateError> {
    match sqlx::query_as::<_, (i32, Option<String>)>(SERVER).fetch_one(&mut *session).await {
        Ok((version, identifier)) => Ok((version, identifier.unwrap_or_default())),
        Err(_) => {
            let version = postgres.server_version(database, session).await?.0;
            Ok((i32::try_from(version).unwrap_or(0), String::new()))
        }
    }
}

/// What a target is now.
pub(super) async fn target(place: &Place) -> Result<TargetPrint, MigrateError> {
    let (postgres, settings) = (&place.postgres, place.postgres.settings());
    let mut session = postgres.connect(MAINTENANCE).await?;
    let (version, server) = server(postgres, MAINTENANCE, &mut session).await?;
    let _ = session.close().await;
    let role = settings.role.as_ref().unwrap_or(&settings.user).clone();
    Ok(TargetPrint { address: postgres.address(), server, version, databases: place.all(), role })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print() -> Fingerprint {
        Fingerprint {
            server: "7".into(),
            version: 150_018,
            settings: BTreeMap::from([("wal_level".into(), "replica".into())]),
            databases: vec![DatabasePrint {
                name: "temporal".into(),
                oid: 5,
                schema_version: "1.19".into(),
                shape: "a".into(),
                bytes: 10,
            }],
            target: None,
        }
    }

    #[test]
    fn a_source_may_grow_but_not_change() {
        let (before, mut now) = (print(), print());
        now.databases[0].bytes = 20;
        assert_eq!(now.digest(), before.digest());
        let differs = |change: &dyn Fn(&mut Fingerprint), expect: &str| {
            let mut now = print();
            change(&mut now);
            assert_ne!(now.digest(), before.digest(), "{expect}");
            assert_eq!(now.differences(&before), [expect]);
        };
        differs(&|p| p.server = "8".into(), "the server was 7 and is 8");
        differs(&|p| p.databases[0].oid = 6, "the OID of database temporal was 5 and is 6");
        differs(
            &|p| p.databases[0].schema_version = "1.20".into(),
            "the schema version of database temporal was 1.19 and is 1.20",
        );
        differs(
            &|p| p.databases[0].shape = "b".into(),
            "tables, columns, indexes or constraints of database temporal are others",
        );
        differs(
            &|p| drop(p.settings.insert("wal_level".into(), "logical".into())),
            "setting wal_level was replica and is logical",
        );
        let target = TargetPrint {
            address: "b:5432".into(),
            server: "9".into(),
            version: 170_005,
            databases: vec!["temporal".into()],
            role: "t".into(),
        };
        differs(
            &|p| p.target = Some(target.clone()),
            "the target was none and is temporal at b:5432 (server 9, version 170005) of role t",
        );
        now.databases[0].shape = "b".into();
        assert_eq!(now.identity(), before.identity());
        now.databases[0].name = "other".into();
        assert_eq!(now.differences(&before), ["database other was not part of it"]);
    }
}
