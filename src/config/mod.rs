//! `sexton.yaml`: where the systems are and how to log in. Read once, resolved into settings of the clients; what to
//! do with the systems stands in the policies.

mod http_section;
mod resolve;
mod secret;
mod webhooks;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_saphyr::Spanned;

use secret::Secrets;

use crate::backup::seal::Identities;
use crate::backup::store;
use crate::clients::{kubernetes, postgres, search, temporal};
use crate::daemon::webhooks::Webhooks;
use crate::document::{ConfigError, Document};
use crate::http;

/// The resolved configuration: paths absolute or relative to the working directory, secrets read but for those of
/// [`Config::http`] and [`Config::webhooks_to_tell`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Temporal's frontend; `None` when nothing is to be done there.
    pub temporal: Option<temporal::Settings>,
    /// The PostgreSQL server that holds Temporal's databases.
    pub postgres: postgres::Settings,
    /// Their names there.
    pub databases: Databases,
    /// A standby of `postgres`, where Temporal's tables are read as a whole; `None` reads them on the primary.
    pub replica: Option<postgres::Settings>,
    /// The server that backups are restored on to be proven, and migrations are rehearsed on.
    pub scratch: Option<postgres::Settings>,
    /// The server that databases are moved to.
    pub target: Option<Target>,
    /// Where Temporal's servers are scaled and pointed at a database; `None` when migrations do not do that.
    pub kubernetes: Option<kubernetes::Settings>,
    /// The visibility store; `None` when the cluster uses SQL visibility.
    pub search: Option<search::Settings>,
    /// Where backups go; `None` when none are made.
    pub store: Option<store::Settings>,
    /// What opens encrypted backups; whoever only makes them needs none.
    pub identities: Arc<Identities>,
    /// The name of the ledger's database, on the same server.
    pub ledger_database: String,
    /// The folder of the policies.
    pub policies: PathBuf,
    /// A folder of recipes beside the built-in ones.
    pub recipes: Option<PathBuf>,
    /// The run-once migrations that the job `migrate` applies, in this order.
    pub apply: Vec<String>,
    /// Parameters of migrations, by recipe and name.
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
    /// Where `temporal-sql-tool` is; `None` looks on `PATH`.
    pub sql_tool: Option<PathBuf>,
    /// Who is told how runs end. What is secret of them was not read: [`Config::webhooks_to_tell`] does.
    pub webhooks: Webhooks,
    unread: Arc<Unread>,
}

/// What is checked at once, and whose secrets are read by whoever needs them: a pod that makes a backup has no tokens.
struct Unread {
    doc: Document,
    http: Option<Spanned<written::Http>>,
    webhooks: Vec<Spanned<written::Webhook>>,
}

// The text is that of a file in which somebody may have written out a secret.
impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unread(..)")
    }
}

/// A server that databases are moved to, and what they are called there.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub postgres: postgres::Settings,
    /// The names.
    pub databases: Databases,
}

/// Temporal's databases by role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Databases {
    /// Histories, executions, namespaces.
    pub main: String,
    /// SQL visibility, when the cluster uses it.
    pub visibility: Option<String>,
}

impl Databases {
    /// All of them, the main one first.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        std::iter::once(&self.main).chain(&self.visibility).cloned().collect()
    }
}

impl Config {
    /// Reads and resolves a file.
    ///
    /// # Errors
    /// With file, line, column and a hint.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        resolve::resolve(&Document::read(path)?)
    }

    /// How the daemon serves its page, API and metrics, with its tokens and files; `None` when it does not.
    ///
    /// # Errors
    /// When one of them is not there or is no token, with file, line, column and a hint.
    pub fn http(&self) -> Result<Option<http::settings::Settings>, ConfigError> {
        let Unread { doc, http, .. } = &*self.unread;
        http.as_ref().map(|http| http_section::settings(doc, http, Secrets::Read)).transpose()
    }

    /// The webhooks as whoever delivers to them needs them.
    ///
    /// # Errors
    /// When an address, a secret or a file of theirs is not there, with file, line, column and a hint.
    pub fn webhooks_to_tell(&self) -> Result<Webhooks, ConfigError> {
        let Unread { doc, webhooks, .. } = &*self.unread;
        webhooks::resolve(doc, webhooks, self.temporal.as_ref(), Secrets::Read)
    }

    /// Finds the file: the one named, else `sexton.yaml` here, else the system's.
    #[must_use]
    pub fn find(named: Option<&Path>) -> PathBuf {
        const SYSTEM: &str = "/etc/sexton/sexton.yaml";
        match named {
            Some(path) => path.to_owned(),
            None if !Path::new("sexton.yaml").exists() && Path::new(SYSTEM).exists() => SYSTEM.into(),
            None => "sexton.yaml".into(),
        }
    }
}
