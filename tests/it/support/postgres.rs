//! Scratch databases on PostgreSQL 15, and psql as the judge.

use std::process::Command;
use std::time::Duration;

use sexton::clients::TlsFiles;
use sexton::clients::postgres::{Postgres, Settings, TlsMode};

use super::stack;

/// The server, as its superuser.
pub(crate) fn postgres15() -> Postgres {
    Postgres::new(Settings {
        host: stack("STACK_PG15_HOST"),
        port: stack("STACK_PG15_PORT").parse().unwrap(),
        user: stack("STACK_PG15_USER"),
        password: Some(stack("STACK_PG15_PASSWORD").into()),
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
        .env("PGHOST", stack("STACK_PG15_HOST"))
        .env("PGPORT", stack("STACK_PG15_PORT"))
        .env("PGUSER", stack("STACK_PG15_USER"))
        .env("PGPASSWORD", stack("STACK_PG15_PASSWORD"))
        .env("PGDATABASE", database)
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
