use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::error::PostgresError;
use super::settings::{Settings, TlsMode};
use super::tools::{Tool, find_tool};

/// One PostgreSQL server and the role that logs in there. Cloning is cheap; it holds no connection.
#[derive(Debug, Clone)]
pub struct Postgres {
    settings: Settings,
}

/// A server's version number as `server_version_num` has it: `150018` is 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// The major version: 15.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 10_000, self.0 % 10_000)
    }
}

/// Where Debian's and Red Hat's families keep the certificates they trust.
const TRUST_STORES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// What a session is for; it decides its time-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Short queries.
    Ordinary,
    /// One long transaction: a copy under a snapshot, a restore, building an index.
    Held,
}

impl Postgres {
    /// A client for the server of these settings; nothing is connected yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Where and how it connects.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same with another `statement_timeout`.
    #[must_use]
    pub fn with_statement_timeout(mut self, limit: Duration) -> Self {
        self.settings.statement_timeout = limit;
        self
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.settings.host, self.settings.port)
    }

    /// A connection for ordinary queries, bounded by `statement_timeout`.
    ///
    /// # Errors
    /// Any [`PostgresError`] of connecting; the whole attempt is bounded by `connect_timeout`.
    pub async fn connect(&self, database: &str) -> Result<PgConnection, PostgresError> {
        self.open(database, Use::Ordinary).await
    }

    /// A connection that may hold a transaction for hours: no `statement_timeout`, no
    /// `idle_in_transaction_session_timeout`, no `transaction_timeout`. Whoever asks for it bounds it otherwise.
    ///
    /// # Errors
    /// Any [`PostgresError`] of connecting, and [`PostgresError::Pooler`] when something in between dropped the
    /// session's settings, as PgBouncer does: such a session cannot be relied on to be one session.
    pub async fn connect_held(&self, database: &str) -> Result<PgConnection, PostgresError> {
        let mut connection = self.open(database, Use::Held).await?;
        let marker: Option<String> = sqlx::query_scalar("SELECT current_setting('sexton.session', true)")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| self.error(database, "reading the session's settings", error))?;
        if marker.as_deref() == Some("held") {
            // A role or a database may have one by default. Known since PostgreSQL 17, so no startup option.
            const UNBOUND: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
                WHERE name = 'transaction_timeout' AND setting <> '0'";
            let unbound = sqlx::raw_sql(UNBOUND).execute(&mut connection).await;
            unbound.map_err(|error| self.error(database, "preparing the session", error))?;
            return Ok(connection);
        }
        let _ = connection.close().await;
        Err(PostgresError::Pooler { host: self.address(), database: database.to_owned() })
    }

    /// A pool of ordinary connections that opens them when they are needed, `max` at most.
    #[must_use]
    pub fn pool(&self, database: &str, max: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(max)
            .acquire_timeout(self.settings.connect_timeout)
            .idle_timeout(Duration::from_secs(300))
            .connect_lazy_with(self.options(database, Use::Ordinary))
    }

    /// The version of the server behind a connection.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn server_version(
        &self,
        database: &str,
        connection: &mut PgConnection,
    ) -> Result<ServerVersion, PostgresError> {
        let number: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int4")
            .fetch_one(connection)
            .await
            .map_err(|error| self.error(database, "reading the server's version", error))?;
        Ok(ServerVersion(u32::try_from(number).unwrap_or_default()))
    }

    /// A `pg_dump` that can read a server of this major version; see [`find_tool`].
    ///
    /// # Errors
    /// [`PostgresError::ToolMissing`] and [`PostgresError::ToolTooOld`].
    pub async fn pg_dump(&self, major: u32) -> Result<Tool, PostgresError> {
        find_tool("pg_dump", major, self.settings.bin_dir.as_deref()).await
    }

    /// A `pg_dump`-like command that will log in to `database` as this client does. Everything about the connection
    /// goes through the child's environment (libpq's `PG*` variables), nothing through its arguments.
    #[must_use]
    pub fn command(&self, tool: &Tool, database: &str) -> tokio::process::Command {
        let settings = &self.settings;
        let mut command = tokio::process::Command::new(&tool.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", &settings.host)
            .env("PGPORT", settings.port.to_string())
            .env("PGUSER", &settings.user)
            .env("PGDATABASE", database)
            .env("PGSSLMODE", libpq_mode(settings.tls_mode))
            .env("PGCONNECT_TIMEOUT", settings.connect_timeout.as_secs().max(1).to_string())
            .env("PGAPPNAME", "sexton")
            .env("PGPASSFILE", "/dev/null")
            .env("LC_ALL", "C");
        if let Some(password) = &settings.password {
            command.env("PGPASSWORD", password.expose_secret());
        }
        if let Some(ca) = &settings.tls.ca {
            command.env("PGSSLROOTCERT", ca);
        } else if matches!(settings.tls_mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
            // libpq looks for a file of its own and knows the system's trust store only since version 16.
            let bundle = TRUST_STORES.into_iter().find(|path| std::path::Path::new(path).exists());
            command.env("PGSSLROOTCERT", bundle.unwrap_or("system"));
        }
        if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
            command.env("PGSSLCERT", certificate).env("PGSSLKEY", key);
        }
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        command
    }

    /// What went wrong with a query, with the server and database named and the cause told apart.
    #[must_use]
    pub fn error(&self, database: &str, doing: &str, error: sqlx::Error) -> PostgresError {
        match PostgresError::classify(&self.address(), database, &self.settings.user, doing, error) {
            PostgresError::WrongPassword { host, role } if self.settings.password.is_none() => {
                PostgresError::NoPassword { host, role }
            }
            error => error,
        }
    }

    async fn open(&self, database: &str, purpose: Use) -> Result<PgConnection, PostgresError> {
        let limit = self.settings.connect_timeout;
        let options = self.options(database, purpose);
        match tokio::time::timeout(limit, options.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.error(database, "connecting", error)),
            Err(_) => Err(PostgresError::Unreachable {
                host: self.address(),
                cause: std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("no connection within {}", crate::units::Span::from(limit)),
                ),
            }),
        }
    }

    fn options(&self, database: &str, purpose: Use) -> PgConnectOptions {
        let settings = &self.settings;
        let statement_timeout = match purpose {
            Use::Ordinary => u64::try_from(settings.statement_timeout.as_millis()).unwrap_or_default(),
            Use::Held => 0,
        };
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&settings.host)
            .port(settings.port)
            .username(&settings.user)
            .database(database)
            .application_name("sexton")
            .ssl_mode(match settings.tls_mode {
                TlsMode::Disable => PgSslMode::Disable,
                TlsMode::Prefer => PgSslMode::Prefer,
                TlsMode::Require => PgSslMode::Require,
                TlsMode::VerifyCa => PgSslMode::VerifyCa,
                TlsMode::VerifyFull => PgSslMode::VerifyFull,
            })
            // Startup options rather than SET: through a transaction pooler SET would stay behind in a session that
            // someone else gets next, while the pooler refuses or drops these.
            .options([("statement_timeout", statement_timeout.to_string())])
            // A node that vanished sends no end: its session, and with it its locks, would live for two hours.
            .options([("tcp_keepalives_idle", "30"), ("tcp_keepalives_interval", "10"), ("tcp_keepalives_count", "3")])
            .disable_statement_logging();
        if purpose == Use::Held {
            options = options.options([
                ("idle_in_transaction_session_timeout", "0"),
                ("lock_timeout", "0"),
                ("sexton.session", "held"),
            ]);
        }
        // The server's own databases are where others are made, which the role itself may not be allowed to.
        if let Some(role) = settings.role.as_ref().filter(|_| database != "postgres") {
            options = options.options([("role", role.as_str())]);
        }
        if let Some(password) = &settings.password {
            options = options.password(password.expose_secret());
        }
        if let Some(ca) = &settings.tls.ca {
            options = options.ssl_root_cert(ca);
        }
        if let Some(certificate) = &settings.tls.certificate {
            options = options.ssl_client_cert(certificate);
        }
        if let Some(key) = &settings.tls.key {
            options = options.ssl_client_key(key);
        }
        options
    }
}

fn libpq_mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

/// A name as SQL writes it, always in double quotes. A NUL, which no name can hold, is left out.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// A text as an SQL literal, safe whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let escaped = text.replace('\0', "").replace('\\', "\\\\").replace('\'', "''");
    if escaped.contains('\\') { format!("E'{escaped}'") } else { format!("'{escaped}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_end_their_quotes() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn versions_read_as_people_say_them() {
        assert_eq!(ServerVersion(150_018).to_string(), "15.18");
        assert_eq!(ServerVersion(170_010).major(), 17);
    }
}
