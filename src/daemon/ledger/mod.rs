//! The ledger: sexton's own PostgreSQL database, with every run, the schedules served, and what webhooks are to
//! be told.

mod bookmarks;
mod forget;
mod http;
mod keys;
mod lock;
mod outcome;
mod runs;
mod schedules;
mod stats;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgPool};

use crate::clients::postgres::{Postgres, PostgresError, quote_identifier};
use crate::failure::{Explain, Kind};
use crate::units::counted;

pub use http::{Action, Answer, Key, NotedAction};
pub use lock::Lock;
pub use outcome::{Outcome, Trigger};
pub use runs::{Asked, Beat, Ended, Run};
pub use stats::JobStats;
pub use webhooks::{Delivery, DeliveryCounts, DeliveryState, Dismissed, Retried};
pub(super) use webhooks::{EndedRun, Taken};

/// Every table of it that is written to.
const TABLES: [&str; 12] = [
    "bookmarks",
    "http_actions",
    "http_idempotency",
    "keys",
    "migration_approvals",
    "migration_rehearsals",
    "migration_steps",
    "migrations",
    "runs",
    "runs_removed",
    "schedules",
    "webhook_deliveries",
];

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/ledger");

/// A connected ledger whose schema is current.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: PgPool,
    postgres: Arc<Postgres>,
    database: String,
}

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The server or the database cannot be reached or refuses.
    #[error("the ledger")]
    Postgres(#[from] PostgresError),
    /// The database is there but has no ledger, or an older one.
    #[error("the ledger database `{database}` is not ready: {reason}")]
    NotReady {
        /// Its name.
        database: String,
        /// What is missing.
        reason: String,
    },
    /// The schema could not be brought up to date.
    #[error("bringing the ledger database `{database}` up to date")]
    Migrate {
        /// Its name.
        database: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A query failed.
    #[error("the ledger: {what}")]
    Query {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
}

impl Explain for LedgerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Postgres(inner) => inner.kind(),
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            // The same remedy for a missing database as for a missing table, and the likeliest cause of both.
            Self::Postgres(PostgresError::NoDatabase { .. }) => Some("run `sexton ledger init`".into()),
            Self::Postgres(PostgresError::NoCreate { database, role, .. }) => Some(format!(
                "let a superuser run `CREATE DATABASE {0} OWNER {1}; {2}`, or `ALTER ROLE {1} CREATEDB`",
                quote_identifier(database),
                quote_identifier(role),
                close_statement(database)
            )),
            Self::Postgres(inner) => inner.hint(),
            Self::NotReady { .. } => Some("run `sexton ledger init`".into()),
            Self::Migrate { .. } => Some("check that the role may create tables there; `sexton doctor` tells".into()),
            Self::Query { .. } => Some("run `sexton doctor`; `sexton ledger init` mends missing tables".into()),
        }
    }
}

/// Turns a query's error into a [`LedgerError`] that says what was attempted.
pub(super) fn query(what: &'static str) -> impl Fn(sqlx::Error) -> LedgerError {
    move |source| LedgerError::Query { what, source }
}

/// A call to the ledger that gives no answer for so long is given up: a connection whose other end is gone says nothing.
const ANSWER: Duration = Duration::from_secs(15);

/// The answer to a call, or an error that says what was attempted.
pub(super) async fn answer<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, LedgerError> {
    let answered = tokio::time::timeout(ANSWER, call).await;
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER.as_secs()));
    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(late()))).map_err(query(what))
}

/// What `ledger init` found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Initialised {
    /// The database was created.
    pub created: bool,
    /// How many schema migrations were applied.
    pub applied: usize,
    /// Every role could connect to it, and now only its owner and those whom somebody lets in.
    pub closed: bool,
    /// Every role can still connect to it, for this role may not change that, or Temporal's tables are in it.
    pub open_to_public: bool,
}

impl Ledger {
    /// Connects; the schema must be current.
    ///
    /// # Errors
    /// When the server refuses, or the ledger was not initialised.
    pub async fn open(postgres: Arc<Postgres>, database: &str) -> Result<Self, LedgerError> {
        let ledger = Self::connect(postgres, database).await?;
        let missing = ledger.missing_migrations().await?;
        if missing > 0 {
            let reason = counted(missing, "schema migration is not applied", "schema migrations are not applied");
            return Err(LedgerError::NotReady { database: database.to_owned(), reason });
        }
        Ok(ledger)
    }

    /// Creates the database when it is missing and brings its schema up to date; safe to repeat.
    ///
    /// # Errors
    /// When the role may not create it, or a migration fails.
    pub async fn init(postgres: Arc<Postgres>, database: &str) -> Result<(Self, Initialised), LedgerError> {
        let (created, ledger) = match Self::connect(Arc::clone(&postgres), database).await {
            Ok(ledger) => (false, ledger),
            Err(LedgerError::Postgres(PostgresError::NoDatabase { .. })) => {
                create_database(&postgres, database).await?;
                (true, Self::connect(postgres, database).await?)
            }
            Err(error) => return Err(error),
        };
        let applied = ledger.missing_migrations().await?;
        MIGRATIONS
            .run(&ledger.pool)
            .await
            .map_err(|source| LedgerError::Migrate { database: database.to_owned(), source })?;
        let closed = ledger.close_to_public().await?;
        let open_to_public = ledger.is_open_to_public().await?;
        Ok((ledger, Initialised { created, applied, closed, open_to_public }))
    }

    /// Whether every role of the server may connect to it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_open_to_public(&self) -> Result<bool, LedgerError> {
        const OPEN: &str = "SELECT EXISTS (SELECT FROM pg_database d, \
            aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS acl \
            WHERE d.datname = current_database() AND acl.grantee = 0 AND acl.privilege_type = 'CONNECT')";
        let open = sqlx::query_scalar(OPEN).fetch_one(&self.pool);
        answer("reading who may connect", open).await
    }

    /// Its tables that are not there.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn lost_tables(&self) -> Result<Vec<String>, LedgerError> {
        const LOST: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL ORDER BY name";
        answer("looking for its tables", sqlx::query_scalar(LOST).bind(TABLES).fetch_all(&self.pool)).await
    }

    /// What this role lacks to write it, as `INSERT, UPDATE ON runs`; nothing when it may do all.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn lacking(&self) -> Result<Vec<String>, LedgerError> {
        const LACKING: &str = "SELECT string_agg(privilege, ', ' ORDER BY privilege) || ' ON ' || name \
            FROM unnest($1::text[]) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege \
            WHERE NOT has_table_privilege(to_regclass(name), privilege) GROUP BY name ORDER BY name";
        answer("reading privileges", sqlx::query_scalar(LACKING).bind(TABLES).fetch_all(&self.pool)).await
    }

    /// Whether its server takes no writes, as a standby, or this role's sessions do not.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn is_read_only(&self) -> Result<bool, LedgerError> {
        let asked =
            sqlx::query_scalar("SELECT current_setting('transaction_read_only')::boolean").fetch_one(&self.pool);
        answer("reading whether it can be written to", asked).await
    }

    /// Takes the right to connect from PUBLIC, where this role may: the ledger has approvals, and the key for what one
    /// backup leaves to the next. A database that is Temporal's as well is left alone, for Temporal may come in by that
    /// very right. True when something was taken.
    async fn close_to_public(&self) -> Result<bool, LedgerError> {
        const MAY: &str = "SELECT pg_has_role(datdba, 'USAGE') AND to_regclass('schema_version') IS NULL \
            FROM pg_database WHERE datname = current_database()";
        if !self.is_open_to_public().await? {
            return Ok(false);
        }
        let may: bool = answer("reading who owns it", sqlx::query_scalar(MAY).fetch_one(&self.pool)).await?;
        if may {
            let statement = close_statement(&self.database);
            let closing = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.pool);
            answer("closing it to PUBLIC", closing).await?;
        }
        Ok(may)
    }

    async fn connect(postgres: Arc<Postgres>, database: &str) -> Result<Self, LedgerError> {
        // The pool connects when it is first used and then says little about why it could not.
        let probe = postgres.connect(database).await?;
        probe.close().await.map_err(query("closing a connection"))?;
        let pool = postgres.pool(database, 8);
        Ok(Self { pool, postgres, database: database.to_owned() })
    }

    /// The pool, for the parts that keep tables of their own in the ledger.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    async fn missing_migrations(&self) -> Result<usize, LedgerError> {
        let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&self.pool)
            .await
            .map_err(query("looking for its tables"))?;
        let total = MIGRATIONS.iter().count();
        if !there {
            return Ok(total);
        }
        let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(&self.pool)
            .await
            .map_err(query("reading its schema version"))?;
        Ok(MIGRATIONS.iter().filter(|m| !applied.contains(&m.version)).count())
    }
}

/// What closes a ledger's database to everybody whom nobody lets in by name.
#[must_use]
pub fn close_statement(database: &str) -> String {
    format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", quote_identifier(database))
}

async fn create_database(postgres: &Postgres, database: &str) -> Result<(), LedgerError> {
    let mut conn = postgres.connect("postgres").await?;
    let statement = format!("CREATE DATABASE {}", quote_identifier(database));
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.map_err(|error| {
        match postgres.error("postgres", "creating the ledger database", error) {
            PostgresError::InsufficientPrivilege { host, role, .. } => {
                PostgresError::NoCreate { host, database: database.to_owned(), role }
            }
            error => error,
        }
    })?;
    conn.close().await.map_err(query("closing a connection"))
}
