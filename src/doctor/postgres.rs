use sqlx::{Connection, PgConnection};

use super::{Finding, Verdict};
use crate::clients::postgres::{MAINTENANCE, Postgres, PostgresError, ServerVersion, Settings, quote_identifier};
use crate::daemon::jobs::Site;
use crate::daemon::ledger::{Ledger, LedgerError, close_statement};
use crate::failure::{Failure, Kind};
use crate::migrate::{Server, World};
use crate::policy::retention::OrphanAction;
use crate::retention::Source;
use crate::units::Span;

const SYSTEM: &str = "postgres";
/// The releases the test suite runs on.
const TESTED: [u32; 2] = [15, 17];
/// TID range scans, which parallel copies rest on, came with this release.
const OLDEST: u32 = 14;

/// The server, each of Temporal's databases, the tools, the ledger.
pub(super) async fn examine(site: &Site) -> Vec<Finding> {
    let postgres = site.postgres();
    let mut findings = Vec::new();
    let mut major = None;
    for database in site.config.databases.all() {
        let subject = format!("database {database}");
        match postgres.connect(&database).await {
            Ok(mut connection) => {
                if major.is_none() {
                    let (finding, version) = version(&postgres, &database, &mut connection).await;
                    findings.push(finding);
                    major = version;
                }
                findings.push(privileges(&postgres, &database, &mut connection).await);
                let is_main = database == site.config.databases.main;
                if is_main && removes_orphans(site) {
                    findings.push(removal(&postgres, &database, &mut connection).await);
                }
                findings.extend(schema(&mut connection, &database, is_main).await);
                let _ = connection.close().await;
            }
            Err(error) => findings.push(Finding::failed(SYSTEM, subject, error)),
        }
    }
    if site.config.replica.is_some() {
        findings.push(replica(&site.source()).await);
    }
    if let Some(settings) = &site.config.scratch {
        findings.push(scratch(Postgres::new(settings.clone()), major).await);
    }
    if site.config.target.is_some() {
        findings.push(target(&site.world(), major).await);
    }
    if let (Some(major), Some(_)) = (major, &site.config.store) {
        findings.push(match postgres.pg_dump(major).await {
            Ok(tool) => Finding::ok(SYSTEM, "pg_dump", tool.path.display().to_string()),
            Err(error) => Finding::failed(SYSTEM, "pg_dump", error),
        });
    }
    findings.push(ledger(site).await);
    findings
}

/// sexton's own database: ready, and closed to those who have no business there.
async fn ledger(site: &Site) -> Finding {
    const SYSTEM: &str = "ledger";
    let database = &site.config.ledger_database;
    let subject = format!("database {database}");
    let ledger = match site.ledger().await {
        Ok(ledger) => ledger,
        Err(error) => return Finding::failed(SYSTEM, subject, error),
    };
    match writable(&ledger, &site.config.postgres).await {
        Ok(None) => {}
        Ok(Some(failure)) => return Finding::failed(SYSTEM, subject, failure),
        Err(error) => return Finding::failed(SYSTEM, subject, error),
    }
    match ledger.is_open_to_public().await {
        Ok(false) => Finding::ok(SYSTEM, subject, "ready"),
        Ok(true) => Finding::warning(
            SYSTEM,
            subject,
            "ready, and every role of the server may connect to it",
            match site.config.databases.all().iter().any(|temporals| temporals == database) {
                true => "give it a database of its own: Temporal comes into this one by that right".to_owned(),
                false => {
                    let statement = close_statement(database);
                    format!("let its owner run `{statement}`; `sexton ledger init` does that where it may")
                }
            },
        ),
        Err(error) => Finding::failed(SYSTEM, subject, error),
    }
}

/// Why the ledger cannot be written, though it can be read; `None` when it can.
async fn writable(ledger: &Ledger, settings: &Settings) -> Result<Option<Failure>, LedgerError> {
    if ledger.is_read_only().await? {
        let hint = "point `postgres:` at the primary, or take `default_transaction_read_only` from the role";
        return Ok(Some(Failure::new(Kind::Failed, "it can be read, and not written to").with_hint(hint)));
    }
    let lost = ledger.lost_tables().await?;
    if !lost.is_empty() {
        let hint = "bring them back from a dump of the ledger: `sexton ledger init` makes only what it has never made";
        let message = format!("these of its tables are not there: {}", lost.join(", "));
        return Ok(Some(Failure::new(Kind::Failed, message).with_hint(hint)));
    }
    let lacking = ledger.lacking().await?;
    let role = settings.role.as_ref().unwrap_or(&settings.user);
    let failure = || {
        let to = quote_identifier(role);
        Failure::new(Kind::Failed, format!("role `{role}` lacks {}", lacking.join("; "))).with_hint(format!(
            "let the owner of its tables run `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {to}` there"
        ))
    };
    Ok((!lacking.is_empty()).then(failure))
}

async fn version(postgres: &Postgres, database: &str, connection: &mut PgConnection) -> (Finding, Option<u32>) {
    match postgres.server_version(database, connection).await {
        Ok(version) => {
            let major = version.major();
            let finding = if major < OLDEST {
                Finding::warning(
                    SYSTEM,
                    "version",
                    format!("{version} is older than {OLDEST}, the oldest release that copies in parallel"),
                    "upgrade PostgreSQL before you rely on backups made with sexton",
                )
            } else if TESTED.contains(&major) {
                Finding::ok(SYSTEM, "version", format!("{version} at {}", postgres.address()))
            } else {
                Finding::warning(
                    SYSTEM,
                    "version",
                    format!("{version}; the releases tested are {}", TESTED.map(|v| v.to_string()).join(" and ")),
                    "rehearse on a staging cluster before you rely on it",
                )
            };
            (finding, Some(major))
        }
        Err(error) => (Finding::failed(SYSTEM, "version", error), None),
    }
}

/// The standby to read from: one of this primary, and not far behind.
async fn replica(source: &Source) -> Finding {
    const SYSTEM: &str = "replica";
    match source.open().await {
        Ok(reading) => {
            let behind = reading.behind.unwrap_or_default().unsigned_abs();
            reading.close().await;
            Finding::ok(SYSTEM, "standby", format!("{} behind", Span::from(behind)))
        }
        Err(error) => Finding::failed(SYSTEM, "standby", error),
    }
}

/// The server to restore on: reached, not older than the one backed up, and willing to make the drill's databases.
async fn scratch(postgres: Postgres, source: Option<u32>) -> Finding {
    const SYSTEM: &str = "scratch";
    let older = ("the server that is backed up", "a backup is restored on the same major or a newer one");
    let (mut connection, version) = match reached(SYSTEM, &postgres, source, older).await {
        Ok(reached) => reached,
        Err(finding) => return finding,
    };
    const MAY_CREATE: &str = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
    let may_create = sqlx::query_scalar(MAY_CREATE).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    if !matches!(may_create, Ok(false)) {
        return Finding::ok(SYSTEM, "version", format!("{version} at {}", postgres.address()));
    }
    let role = &postgres.settings().user;
    let detail = format!("role `{role}` may not create databases at {}, which the drill does", postgres.address());
    Finding::warning(SYSTEM, "privileges", detail, format!("run `ALTER ROLE \"{role}\" CREATEDB` there"))
}

/// The server that databases are moved to: named as the source's are, reached, not older.
async fn target(world: &World, source: Option<u32>) -> Finding {
    const SYSTEM: &str = "target";
    let postgres = match world.place(Server::Target) {
        Ok(place) => &place.postgres,
        Err(error) => return Finding::failed(SYSTEM, "databases", error),
    };
    let older = ("the source", "databases are moved to the same major or a newer one");
    match reached(SYSTEM, postgres, source, older).await {
        Ok((connection, version)) => {
            let _ = connection.close().await;
            Finding::ok(SYSTEM, "version", format!("{version} at {}", postgres.address()))
        }
        Err(finding) => finding,
    }
}

/// A session on a server that is to be no older than another, and its version; else what is wrong with it.
async fn reached(
    system: &'static str,
    postgres: &Postgres,
    source: Option<u32>,
    (than, hint): (&str, &str),
) -> Result<(PgConnection, ServerVersion), Finding> {
    let connected = postgres.connect(MAINTENANCE).await;
    let mut connection = connected.map_err(|error| Finding::failed(system, "connection", error))?;
    let version = postgres.server_version(MAINTENANCE, &mut connection).await;
    let version = version.map_err(|error| Finding::failed(system, "version", error))?;
    if source.is_some_and(|source| version.major() < source) {
        let detail = format!("{version} at {} is older than {than}", postgres.address());
        return Err(Finding::warning(system, "version", detail, hint));
    }
    Ok((connection, version))
}

/// Whether the role can read every table and sequence, which a backup needs.
async fn privileges(postgres: &Postgres, database: &str, connection: &mut PgConnection) -> Finding {
    let subject = format!("database {database}");
    let unreadable: Result<Vec<String>, sqlx::Error> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
         AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 1 LIMIT 5",
    )
    .fetch_all(connection)
    .await;
    match unreadable {
        Ok(tables) if tables.is_empty() => Finding::ok(SYSTEM, subject, "every table and sequence can be read"),
        Ok(tables) => {
            let role = &postgres.settings().user;
            let detail = format!("role `{role}` cannot read {}", tables.join(", "));
            let hint = format!("GRANT pg_read_all_data TO \"{role}\"");
            Finding { verdict: Verdict::Failed, ..Finding::warning(SYSTEM, subject, detail, hint) }
        }
        Err(error) => Finding::failed(SYSTEM, subject, postgres.error(database, "reading privileges", error)),
    }
}

fn removes_orphans(site: &Site) -> bool {
    site.policies.retention.as_ref().is_some_and(|policy| policy.orphans.action == OrphanAction::Delete)
}

/// Whether the role can remove histories, which `orphans.action: delete` has it do.
async fn removal(postgres: &Postgres, database: &str, connection: &mut PgConnection) -> Finding {
    const SUBJECT: &str = "removal of orphans";
    // A row lock takes UPDATE. Where there are no such tables the schema is what is wrong.
    const MISSING: &str = "SELECT privilege || ' ON ' || name FROM (VALUES ('history_tree', 'UPDATE'), \
        ('history_tree', 'DELETE'), ('history_node', 'DELETE')) AS needed (name, privilege) \
        WHERE NOT has_table_privilege(to_regclass(name), privilege)";
    let missing: Result<Vec<String>, sqlx::Error> = sqlx::query_scalar(MISSING).fetch_all(connection).await;
    match missing {
        Ok(missing) if missing.is_empty() => {
            Finding::ok(SYSTEM, SUBJECT, format!("histories in {database} can be removed"))
        }
        Ok(missing) => {
            let role = &postgres.settings().user;
            let grants =
                missing.iter().map(|what| format!("GRANT {what} TO \"{role}\"")).collect::<Vec<_>>().join("; ");
            let detail = format!("role `{role}` lacks {} in {database}", missing.join(", "));
            Finding { verdict: Verdict::Failed, ..Finding::warning(SYSTEM, SUBJECT, detail, grants) }
        }
        Err(error) => Finding::failed(SYSTEM, SUBJECT, postgres.error(database, "reading privileges", error)),
    }
}

/// Temporal's own schema version; a database without one is somebody else's.
async fn schema(connection: &mut PgConnection, database: &str, is_main: bool) -> Option<Finding> {
    let version: Result<Option<String>, sqlx::Error> = sqlx::query_scalar(
        "SELECT curr_version FROM schema_version WHERE version_partition = 0 \
             ORDER BY db_name = current_database() DESC LIMIT 1",
    )
    .fetch_one(connection)
    .await;
    let subject = format!("schema of {database}");
    let missing = "check the names under postgres.databases";
    Some(match version {
        Ok(Some(version)) if is_main && !crate::retention::audit::is_known(&version) => Finding::warning(
            SYSTEM,
            subject,
            format!("Temporal schema {version}, which this sexton does not know"),
            "`overdue` and `audit` refuse it; look for a newer sexton",
        ),
        Ok(Some(version)) => Finding::ok(SYSTEM, subject, format!("Temporal schema {version}")),
        Ok(None) => Finding::warning(SYSTEM, subject, "its schema_version is empty", missing),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
            Finding::warning(SYSTEM, subject, "it has no table schema_version: is this Temporal's database?", missing)
        }
        // Not being allowed to read it was reported with the privileges.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => return None,
        Err(error) => Finding::failed(SYSTEM, subject, PostgresError::classify("", database, "", "reading it", error)),
    })
}
