//! Scratch databases on PostgreSQL 15, and psql as the judge.

use std::process::Command;
use std::time::Duration;

use sexton::clients::TlsFiles;
use sexton::clients::postgres::{Postgres, Settings, TlsMode};

use super::stack;

/// The server, as its superuser.
pub(crate) fn postgres15() -> Postgres {
    Postgres::new(Settings {
        host: stack().get("PG15_HOST").to_owned(),
        port: stack().get("PG15_PORT").to_owned().parse().unwrap(),
        user: stack().get("PG15_USER").to_owned(),
        password: Some(stack().get("PG15_PASSWORD").to_owned().into()),
        tls_mode: TlsMode::Prefer,
        tls: TlsFiles::default(),
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(60),
        bin_dir: None,
    })
}

/// A database that goes away with the value.
pub(crate) struct Scratch {
    pub(crate) name: String,
}

impl Scratch {
    pub(crate) fn new(what: &str) -> Self {
        let name = format!("it_{what}_{}", uuid::Uuid::new_v4().simple());
        psql("postgres", &format!("CREATE DATABASE {name}"));
        Self { name }
    }

    /// What psql prints for a query: rows by line, columns by `|`.
    pub(crate) fn psql(&self, sql: &str) -> String {
        psql(&self.name, sql)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = try_psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn psql(database: &str, sql: &str) -> String {
    try_psql(database, sql).unwrap_or_else(|error| panic!("psql: {error}\n{sql}"))
}

fn try_psql(database: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .env("PGHOST", stack().get("PG15_HOST").to_owned())
        .env("PGPORT", stack().get("PG15_PORT").to_owned())
        .env("PGUSER", stack().get("PG15_USER").to_owned())
        .env("PGPASSWORD", stack().get("PG15_PASSWORD").to_owned())
        .env("PGDATABASE", database)
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
