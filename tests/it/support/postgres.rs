//! Scratch databases on the stack's PostgreSQL servers, and PostgreSQL's own tools as the judge.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use sexton::clients::TlsFiles;
use sexton::clients::postgres::{Postgres, Settings, TlsMode};
use sexton::policy::retention::ScanPolicy;
use sexton::retention::Source;

use super::{stack, suffix};

/// One of the stack's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Pg15,
    Pg17,
}

impl Server {
    fn get(self, name: &str) -> &'static str {
        stack().get(&match self {
            Self::Pg15 => format!("PG15_{name}"),
            Self::Pg17 => format!("PG17_{name}"),
        })
    }

    /// How sexton logs in as the superuser.
    pub fn settings(self) -> Settings {
        Settings {
            host: self.get("HOST").to_owned(),
            port: self.get("PORT").parse().unwrap(),
            user: self.get("USER").to_owned(),
            password: Some(self.get("PASSWORD").to_owned().into()),
            tls_mode: TlsMode::Prefer,
            tls: TlsFiles::default(),
            connect_timeout: Duration::from_secs(15),
            statement_timeout: Duration::from_secs(60),
            role: None,
            bin_dir: Some(self.get("BIN").into()),
        }
    }

    /// sexton's client, as the superuser.
    pub fn client(self) -> Postgres {
        Postgres::new(self.settings())
    }

    /// A program of PostgreSQL 17, which reads both servers, logged in as the superuser.
    pub fn tool(self, name: &str, database: &str) -> Command {
        let mut command = Command::new(format!("{}/{name}", stack().get("PG17_BIN")));
        command
            .env("PGHOST", self.get("HOST"))
            .env("PGPORT", self.get("PORT"))
            .env("PGUSER", self.get("USER"))
            .env("PGPASSWORD", self.get("PASSWORD"))
            .env("PGDATABASE", database);
        command
    }

    /// What psql prints for a query: rows by line, columns by `|`.
    pub fn psql(self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("psql: {error}\n{sql:.300}"))
    }

    /// The same, giving psql's refusal back.
    pub fn try_psql(self, database: &str, sql: &str) -> Result<String, String> {
        let mut child = self
            .tool("psql", database)
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().unwrap();
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        writer.join().unwrap().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

/// PostgreSQL 15, as its superuser.
pub fn postgres15() -> Postgres {
    Server::Pg15.client()
}

/// A database that goes away with the value.
#[derive(Debug)]
pub struct Scratch {
    pub server: Server,
    pub name: String,
}

impl Scratch {
    /// On PostgreSQL 15.
    pub fn new(what: &str) -> Self {
        Self::on(Server::Pg15, what)
    }

    pub fn on(server: Server, what: &str) -> Self {
        Self::copy_of(server, what, "template0 ENCODING 'UTF8'")
    }

    /// A copy of a database that nobody is connected to.
    pub fn copy_of(server: Server, what: &str, template: &str) -> Self {
        let name = format!("it_{what}_{}", suffix());
        server.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        Self { server, name }
    }

    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    /// Takes it away as an outage does: nobody comes in, and whoever is there is cut off.
    pub fn goes_away(&self) {
        let name = &self.name;
        self.server.psql(
            "postgres",
            &format!(
                "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
                 SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"
            ),
        );
    }

    pub fn comes_back(&self) {
        self.server.psql("postgres", &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name));
    }

    /// sexton's way to read Temporal's tables in it.
    pub fn source(&self) -> Source {
        Source::new(&self.server.client(), None, &self.name, ScanPolicy::default())
    }

    /// Everything `pg_dump` says about the database, see [`dumped`].
    pub fn dump(&self) -> Vec<String> {
        dumped(self.server.tool("pg_dump", &self.name))
    }
}

/// What this `pg_dump` says, schema, rows and sequences, as sorted lines without comments.
pub fn dumped(mut command: Command) -> Vec<String> {
    let output = command.args(["--inserts", "--no-owner", "--no-privileges", "--quote-all-identifiers"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let noise = |line: &str| line.starts_with("--") || line.starts_with('\\') || line.is_empty();
    let mut lines: Vec<String> = text.lines().filter(|line| !noise(line)).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.server.try_psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// A role that goes away with the value; it owns nothing.
#[derive(Debug)]
pub struct Role {
    server: Server,
    pub name: String,
    pub password: String,
}

impl Role {
    pub fn new(server: Server) -> Self {
        Self::with_password(server, suffix())
    }

    pub fn with_password(server: Server, password: impl Into<String>) -> Self {
        let (name, password) = (format!("it_role_{}", suffix()), password.into());
        let quoted = password.replace('\'', "''");
        server.psql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD '{quoted}'"));
        Self { server, name, password }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.server.try_psql("postgres", &format!("DROP ROLE IF EXISTS {}", self.name));
    }
}
