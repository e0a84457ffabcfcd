use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::clients::TlsFiles;

/// How a connection is encrypted, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Never.
    Disable,
    /// When the server offers it; nothing is verified.
    #[default]
    Prefer,
    /// Always; nothing is verified.
    Require,
    /// Always; the server's certificate must come from a trusted authority.
    VerifyCa,
    /// Always; the certificate must also be for the host's name.
    VerifyFull,
}

/// Where a PostgreSQL server is and how to log in; the database is named per connection.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// The role to act as, as by SET ROLE; what is made belongs to it. `None` acts as who logs in.
    pub role: Option<String>,
    /// Its password; `None` for certificate or trust authentication.
    pub password: Option<SecretString>,
    /// Encryption.
    pub tls_mode: TlsMode,
    /// Certificates.
    pub tls: TlsFiles,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// `statement_timeout` of ordinary queries; copies set their own.
    pub statement_timeout: Duration,
    /// Folder of `pg_dump`; `None` looks on `PATH` and in the usual folders of the packages.
    pub bin_dir: Option<PathBuf>,
}
