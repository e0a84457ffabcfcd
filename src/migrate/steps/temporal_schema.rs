//! The `temporal_schema` operation: Temporal's own schema, brought to a version by Temporal's own tool, one version at
//! a time. sexton has no copy of that schema.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::process::Command;

use super::{Act, Ran, Reversal, SqlFailure, StepError, child};
use crate::clients::postgres::{Settings, TlsMode};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::names::{Database, Text};
use crate::migrate::parameters::{ParameterError, Values};
use crate::migrate::world::Server;
use crate::units::{Span, millis_since};

/// The first pause after a lock was not to be had; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Which schema, and to what version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TemporalSchemaStep {
    /// Whose.
    pub schema: Schema,
    /// The version of the schema, such as `1.19`.
    pub to: Text,
    /// PostgreSQL's `lock_timeout` of each statement of the tool: how long others may queue behind a lock that waits.
    #[serde(default = "default_lock_timeout")]
    pub lock_timeout: Span,
    /// How often a version is tried while a lock is not to be had.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// How long one version may take; a version that rewrites a table takes as long as that.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// Temporal's schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schema {
    /// Of the main database.
    Main,
    /// Of SQL visibility.
    Visibility,
}

impl Schema {
    pub(super) const fn database(self) -> Database {
        match self {
            Self::Main => Database::Main,
            Self::Visibility => Database::Visibility,
        }
    }

    /// The tool's name of it.
    const fn name(self) -> &'static str {
        match self {
            Self::Main => "postgresql/v12/temporal",
            Self::Visibility => "postgresql/v12/visibility",
        }
    }

    /// A table that only this schema has, and one that only the other has.
    const fn tables(self) -> (&'static str, &'static str) {
        match self {
            Self::Main => ("history_node", "executions_visibility"),
            Self::Visibility => ("executions_visibility", "history_node"),
        }
    }
}

const fn default_lock_timeout() -> Span {
    Span::seconds(2)
}

const fn default_attempts() -> u32 {
    20
}

const fn default_timeout() -> Span {
    Span::hours(6)
}

/// A version of Temporal's schema: `1.9` comes before `1.10`.
type Version = (u32, u32);

fn parse(text: &str) -> Result<Version, StepError> {
    let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts.ok_or_else(|| {
        let message = format!("`{text}` is not a version of Temporal's schema");
        StepError::new(Kind::Config, message, "write two numbers with a point between them, such as `1.19`")
    })
}

impl TemporalSchemaStep {
    /// Zero is "wait for ever" to PostgreSQL.
    pub(super) fn validate(&self) -> Result<(), String> {
        super::is_some_time("lock_timeout", self.lock_timeout)?;
        super::is_some_time("timeout", self.timeout)?;
        match self.attempts {
            1..=1_000 => Ok(()),
            _ => Err("`attempts` is out of bounds; write a number from 1 to 1000".to_owned()),
        }
    }

    pub(super) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        Ok(Self { to: self.to.render(values)?, ..self.clone() })
    }

    /// The version the database is at.
    async fn installed(&self, hands: &mut Hands<'_>) -> Result<Version, StepError> {
        let database = self.schema.database();
        let name = hands.world.source.name(&database)?.to_owned();
        let session = hands.session(Server::Source, &database).await?;
        let version = read(session, &name, self.schema).await?;
        parse(&version)
    }

    /// Brings the database from its version to the next.
    async fn step(&self, (major, minor): Version, hands: &mut Hands<'_>) -> Result<u32, StepError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let ended = self.call((major, minor), hands).await?;
            let reached = self.installed(hands).await? >= (major, minor);
            // The tool has been seen to end with 0 without having done it: what counts is what the database says.
            if reached && ended.code == Some(0) {
                return Ok(attempt);
            }
            let locked = ended.said.contains("lock timeout") || ended.said.contains("deadlock detected");
            if !locked || attempt >= self.attempts {
                let message = format!(
                    "temporal-sql-tool did not bring the {} schema to {major}.{minor} in {attempt} attempts: {}",
                    if self.schema == Schema::Main { "main" } else { "visibility" },
                    last_lines(&ended.said)
                );
                let hint = "the tool may be run again: what it did already it passes over";
                return Err(StepError::new(Kind::Failed, message, hint));
            }
            tracing::info!(attempt, attempts = self.attempts, "the lock is held by somebody else");
            tokio::select! {
                () = hands.ctx.cancel.cancelled() => return Err(StepError::Cancelled),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt += 1;
        }
    }

    async fn call(&self, (major, minor): Version, hands: &Hands<'_>) -> Result<child::Ended, StepError> {
        let source = &hands.world.source;
        let tool = hands.world.sql_tool.clone().unwrap_or_else(|| PathBuf::from("temporal-sql-tool"));
        let mut command = Command::new(tool);
        login(&mut command, source.postgres.settings(), source.name(&self.schema.database())?);
        command
            .env("PGOPTIONS", options(source.postgres.settings().role.as_deref(), self.lock_timeout))
            .env("PGAPPNAME", "sexton")
            .args(["update-schema", "--schema-name", self.schema.name(), "--version", &format!("{major}.{minor}")]);
        child::run(command, Duration::from(self.timeout), hands).await
    }
}

/// The version in `schema_version`, after a look whether this is the right database.
async fn read(session: &mut PgConnection, database: &str, schema: Schema) -> Result<String, StepError> {
    let (own, other) = schema.tables();
    let found: (bool, bool) = sqlx::query_as("SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL")
        .bind(own)
        .bind(other)
        .fetch_one(&mut *session)
        .await
        .map_err(SqlFailure::Database)?;
    if found != (true, false) {
        let which = if schema == Schema::Main { "main" } else { "visibility" };
        let why = if found.1 { format!("it has the table `{other}`") } else { format!("it has no table `{own}`") };
        let message = format!("database `{database}` is not Temporal's {which} database: {why}");
        return Err(StepError::new(Kind::Refused, message, "correct `postgres.databases` in the configuration"));
    }
    const VERSION: &str = "SELECT curr_version FROM schema_version WHERE version_partition = 0 AND db_name = $1";
    let version: Option<String> =
        sqlx::query_scalar(VERSION).bind(database).fetch_optional(session).await.map_err(SqlFailure::Database)?;
    version.ok_or_else(|| {
        let message = format!("database `{database}` has no schema version under its own name");
        let hint = "a copy under another name keeps the name of the original: UPDATE schema_version SET db_name = current_database()";
        StepError::new(Kind::Refused, message, hint)
    })
}

/// How the tool logs in: everything secret through its environment.
fn login(command: &mut Command, settings: &Settings, database: &str) {
    command.args(["--plugin", "postgres12", "--ep", &settings.host, "--port", &settings.port.to_string()]);
    command.args(["--user", &settings.user, "--db", database]);
    if let Some(password) = &settings.password {
        command.env("SQL_PASSWORD", password.expose_secret());
    }
    if matches!(settings.tls_mode, TlsMode::Disable | TlsMode::Prefer) {
        return;
    }
    command.arg("--tls");
    if let Some(ca) = &settings.tls.ca {
        command.arg("--tls-ca-file").arg(ca);
    }
    if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
        command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
    }
    if settings.tls_mode != TlsMode::VerifyFull {
        command.arg("--tls-disable-host-verification");
    }
}

/// What its sessions are set to: nobody else can tell it, and what it makes is to belong to the role that sexton acts as.
fn options(role: Option<&str>, lock_timeout: Span) -> String {
    let mut options = format!("-c lock_timeout={}ms -c statement_timeout=0", lock_timeout.as_millis());
    if let Some(role) = role {
        // White space ends an option, unless a backslash is before it (PostgreSQL's `pg_split_opts`).
        options.push_str(" -c role=");
        for c in role.chars() {
            if c.is_ascii_whitespace() || c == '\\' {
                options.push('\\');
            }
            options.push(c);
        }
    }
    options
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

#[async_trait]
impl Act for TemporalSchemaStep {
    /// Temporal has no way down.
    fn reversal(&self) -> Reversal {
        Reversal::Never
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        Ok(Some(self.installed(hands).await? >= parse(self.to.as_str())?))
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let to = parse(self.to.as_str())?;
        let from = self.installed(hands).await?;
        if from.0 != to.0 {
            let message = format!("there is no way from version {}.{} to {}.{}", from.0, from.1, to.0, to.1);
            return Err(StepError::new(Kind::Refused, message, "see Temporal's notes on this upgrade"));
        }
        let (mut attempts, mut versions) = (0, Vec::new());
        for minor in from.1 + 1..=to.1 {
            if hands.ctx.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            let clock = Instant::now();
            let tried = self.step((to.0, minor), hands).await?;
            attempts += tried;
            let milliseconds = millis_since(clock);
            versions.push(json!({ "version": format!("{}.{minor}", to.0), "milliseconds": milliseconds }));
        }
        Ok(Ran { attempts, found: json!({ "from": format!("{}.{}", from.0, from.1), "versions": versions }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_word_of_the_options() {
        let of = |role| options(role, Span::seconds(2));
        assert_eq!(of(None), "-c lock_timeout=2000ms -c statement_timeout=0");
        assert_eq!(of(Some("a b\\c")), "-c lock_timeout=2000ms -c statement_timeout=0 -c role=a\\ b\\\\c");
    }

    #[test]
    fn versions_are_numbers_and_not_texts() {
        assert!(parse("1.9").unwrap() < parse("1.10").unwrap());
        for bad in ["1", "1.x", "v1.2", "1.2.3", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
