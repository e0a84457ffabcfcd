use crate::clients::{tls_failure, tls_words};
use crate::failure::{Explain, Kind};

/// What can go wrong with a PostgreSQL server. Variants follow what the reader has to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No answer, or no connection.
    #[error("PostgreSQL at {host} cannot be reached")]
    Unreachable {
        /// `host:port`.
        host: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// SQLSTATE 28P01.
    #[error("PostgreSQL at {host} refused the password of role `{role}`")]
    WrongPassword {
        /// `host:port`.
        host: String,
        /// The role.
        role: String,
    },
    /// The same, because none is configured.
    #[error("PostgreSQL at {host} wants a password for role `{role}`, and none is configured")]
    NoPassword {
        /// `host:port`.
        host: String,
        /// The role.
        role: String,
    },
    /// SASLprep (RFC 4013) forbids a character of the password, so it cannot be sent.
    #[error("the password of role `{role}` for PostgreSQL at {host} holds a character that cannot be sent")]
    PasswordCharacter {
        /// `host:port`.
        host: String,
        /// The role.
        role: String,
    },
    /// The role may not create a database.
    #[error("role `{role}` may not create the database `{database}` at {host}")]
    NoCreate {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
        /// The role.
        role: String,
    },
    /// SQLSTATE 28000: no such role, or no rule of `pg_hba.conf` lets it in.
    #[error("PostgreSQL at {host} does not let role `{role}` in: {message}")]
    RoleRefused {
        /// `host:port`.
        host: String,
        /// The role.
        role: String,
        /// The server's words.
        message: String,
    },
    /// SQLSTATE 3D000.
    #[error("PostgreSQL at {host} has no database `{database}`")]
    NoDatabase {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
    },
    /// The encrypted connection could not be made.
    #[error("TLS with PostgreSQL at {host} failed: {message}")]
    Tls {
        /// `host:port`.
        host: String,
        /// Why.
        message: String,
        /// True when the server has none to offer.
        not_offered: bool,
    },
    /// SQLSTATE 42501.
    #[error("role `{role}` may not do this in database `{database}` at {host} ({doing}): {message}")]
    InsufficientPrivilege {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
        /// The role.
        role: String,
        /// What was being done.
        doing: String,
        /// The server's words, which name the object.
        message: String,
    },
    /// SQLSTATE 53300.
    #[error("PostgreSQL at {host} has no connection left: {message}")]
    TooManyConnections {
        /// `host:port`.
        host: String,
        /// The server's words.
        message: String,
    },
    /// SQLSTATE 57014 by `statement_timeout`, or 55P03 by `lock_timeout`.
    #[error("database `{database}` at {host} took too long ({doing}): {message}")]
    Timeout {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
        /// What was being done.
        doing: String,
        /// The server's words.
        message: String,
    },
    /// A connection pooler stands where the server itself is needed.
    #[error("between here and database `{database}` at {host} stands a connection pooler")]
    Pooler {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
    },
    /// The server's own tool was not found.
    #[error("`{tool}` of PostgreSQL {major} or newer was not found; looked at {looked}")]
    ToolMissing {
        /// `pg_dump`.
        tool: String,
        /// The server's major version.
        major: u32,
        /// The places.
        looked: String,
    },
    /// Only older tools were found; they refuse a newer server.
    #[error("the newest `{tool}` found is {found}, and the server is PostgreSQL {major}")]
    ToolTooOld {
        /// `pg_dump`.
        tool: String,
        /// Path and version of the newest one.
        found: String,
        /// The server's major version.
        major: u32,
    },
    /// Anything else.
    #[error("database `{database}` at {host}, {doing}")]
    Query {
        /// `host:port`.
        host: String,
        /// The database.
        database: String,
        /// What was being done.
        doing: String,
        /// The cause.
        #[source]
        cause: Box<sqlx::Error>,
    },
}

impl PostgresError {
    /// Tells the causes apart by SQLSTATE (PostgreSQL manual, appendix A), never by words of a message, except for a
    /// pooler's refusal of startup parameters, which has the general code of a protocol violation.
    #[must_use]
    pub fn classify(host: &str, database: &str, role: &str, doing: &str, error: sqlx::Error) -> Self {
        let (host, database) = (host.to_owned(), database.to_owned());
        let (role, doing) = (role.to_owned(), doing.to_owned());
        match error {
            // rustls hands its refusals over as I/O errors of this kind.
            sqlx::Error::Io(cause) => match tls_failure(&cause) {
                Some(tls) => Self::Tls { host, message: tls_words(tls), not_offered: false },
                None if cause.kind() == std::io::ErrorKind::InvalidData => {
                    Self::Tls { host, message: cause.to_string(), not_offered: false }
                }
                None => Self::Unreachable { host, cause },
            },
            sqlx::Error::Configuration(cause) if cause.to_string().contains("saslprep") => {
                Self::PasswordCharacter { host, role }
            }
            sqlx::Error::Tls(cause) => {
                let message = tls_failure(&*cause).map_or_else(|| crate::failure::chain(&*cause), tls_words);
                let not_offered = message.contains("does not support TLS");
                Self::Tls { host, message, not_offered }
            }
            sqlx::Error::Database(ref cause) => {
                let message = cause.message().to_owned();
                match cause.code().as_deref() {
                    Some("28P01") => Self::WrongPassword { host, role },
                    Some("28000") => Self::RoleRefused { host, role, message },
                    Some("3D000") => Self::NoDatabase { host, database },
                    Some("42501") => Self::InsufficientPrivilege { host, database, role, doing, message },
                    Some("53300") => Self::TooManyConnections { host, message },
                    Some("57014" | "55P03" | "25P03") => Self::Timeout { host, database, doing, message },
                    Some("08P01") if message.contains("startup parameter") => Self::Pooler { host, database },
                    _ => Self::Query { host, database, doing, cause: Box::new(error) },
                }
            }
            cause => Self::Query { host, database, doing, cause: Box::new(cause) },
        }
    }

    /// The SQLSTATE behind an error that has no variant of its own.
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Query { cause, .. } => cause.as_database_error()?.code().map(std::borrow::Cow::into_owned),
            _ => None,
        }
    }
}

/// What went wrong, in the server's own words; sqlx would add a line number, that of PostgreSQL's source.
#[must_use]
pub fn said(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

impl Explain for PostgresError {
    fn kind(&self) -> Kind {
        match self {
            Self::Pooler { .. } | Self::ToolMissing { .. } | Self::ToolTooOld { .. } => Kind::Refused,
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { host, .. } => {
                format!(
                    "check that the server runs, that {host} is its address and that no network policy is in the way"
                )
            }
            Self::WrongPassword { role, .. } => format!(
                "check the secret that holds the password of role `{role}`, and that the role exists: the server says \
                 the same to both"
            ),
            Self::NoPassword { .. } => "set the connection's `password: {env: NAME}` or `{file: PATH}`".to_owned(),
            Self::PasswordCharacter { .. } => {
                "take out control characters such as tabs and line ends, or give the role another password".to_owned()
            }
            Self::NoCreate { role, database, .. } => format!(
                "let a superuser run `CREATE DATABASE \"{database}\" OWNER \"{role}\"`, or `ALTER ROLE \"{role}\" CREATEDB`"
            ),
            Self::RoleRefused { role, .. } => format!(
                "create role `{role}` with LOGIN, add a line for it to pg_hba.conf, or give the connection the \
                 certificate that the server wants"
            ),
            Self::NoDatabase { .. } => "check the name of the database in the configuration".to_owned(),
            Self::Tls { not_offered: true, .. } => {
                "turn `ssl` on at the server, or set the connection's TLS mode to `prefer` or `disable`".to_owned()
            }
            Self::Tls { .. } => {
                "give the authority that signed the server's certificate as the connection's CA file, and connect by a \
                 name that stands in the certificate"
                    .to_owned()
            }
            Self::InsufficientPrivilege { role, .. } => {
                format!("grant role `{role}` what the message names, or log in as the owner of the tables")
            }
            Self::TooManyConnections { .. } => {
                "lower the job's parallelism, or raise max_connections or the role's connection limit".to_owned()
            }
            Self::Timeout { .. } => {
                "look for long transactions and locks in pg_stat_activity, or raise statement_timeout of the connection"
                    .to_owned()
            }
            Self::Pooler { .. } => {
                "connect to the PostgreSQL server itself, not through PgBouncer or its like".to_owned()
            }
            Self::ToolMissing { major, .. } | Self::ToolTooOld { major, .. } => {
                format!("install the client package postgresql-client-{major}, or set the connection's `bin_dir`")
            }
            Self::Query { .. } => return None,
        })
    }
}
