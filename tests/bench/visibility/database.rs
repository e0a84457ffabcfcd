//! Temporal's tables as far as a reconcile reads them, in a database that goes away with the value, by psql.

use std::io::{BufWriter, Write};
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::documents::{NAMESPACE, Run, SHARDS};
use crate::{go_on, stack, suffix};

/// A database on PostgreSQL 15.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
}

/// `temporal.server.api.persistence.v1.WorkflowExecutionState`.
#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(string, tag = "1")]
    create_request_id: String,
    #[prost(string, tag = "2")]
    run_id: String,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "4")]
    status: i32,
    #[prost(message, optional, tag = "6")]
    start_time: Option<Instant>,
}

#[derive(Clone, PartialEq, Message)]
struct Instant {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// `executions` as in schema v12. The large column is half as long as a small run's, and not read here.
const TABLES: &str = "
    CREATE TABLE namespaces (partition_id int, id bytea, name varchar(255) UNIQUE NOT NULL);
    CREATE TABLE shards (shard_id int PRIMARY KEY, range_id bigint NOT NULL);
    CREATE TABLE cluster_metadata_info (
        metadata_partition int, cluster_name varchar(255), data bytea NOT NULL, data_encoding varchar(16) NOT NULL,
        version bigint NOT NULL);
    CREATE TABLE executions (
        shard_id int, namespace_id bytea, workflow_id varchar(255), run_id bytea,
        next_event_id bigint NOT NULL DEFAULT 12, last_write_version bigint NOT NULL DEFAULT 0,
        data bytea NOT NULL DEFAULT decode(repeat('0a', 250), 'hex'), data_encoding varchar(16) NOT NULL DEFAULT 'Proto3',
        state bytea NOT NULL, state_encoding varchar(16) NOT NULL DEFAULT 'Proto3',
        db_record_version bigint NOT NULL DEFAULT 3,
        PRIMARY KEY (shard_id, namespace_id, workflow_id, run_id));";

impl Database {
    /// An empty one.
    pub(crate) fn new(what: &str) -> Result<Self> {
        let name = format!("bench_{what}_{}", suffix());
        psql("postgres", |sql| Ok(writeln!(sql, "CREATE DATABASE {name}")?))?;
        Ok(Self { name })
    }

    /// One with the tables, where these runs exist.
    pub(crate) fn of(runs: &[Run]) -> Result<Self> {
        let database = Self::new("temporal")?;
        let namespace = hex::encode(NAMESPACE.as_bytes());
        psql(&database.name, |sql| {
            writeln!(sql, "{TABLES}\nINSERT INTO namespaces VALUES (0, '\\x{namespace}', 'bench');")?;
            writeln!(sql, "INSERT INTO shards SELECT s, 7 FROM generate_series(1, {SHARDS}) s;")?;
            writeln!(sql, "COPY executions (shard_id, namespace_id, workflow_id, run_id, state) FROM STDIN;")?;
            for run in runs {
                let (state, status) = if run.open { (2, 1) } else { (3, 2) };
                let state = State {
                    create_request_id: run.run().to_string(),
                    run_id: run.run().to_string(),
                    state,
                    status,
                    start_time: Some(Instant { seconds: run.started.as_second() }),
                };
                let (id, state) = (hex::encode(run.run().as_bytes()), hex::encode(state.encode_to_vec()));
                let workflow = run.workflow();
                writeln!(sql, "{}\t\\\\x{namespace}\t{workflow}\t\\\\x{id}\t\\\\x{state}", run.shard())?;
            }
            Ok(writeln!(sql, "\\.\nVACUUM ANALYZE executions;")?)
        })?;
        Ok(database)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = feed("postgres", |sql| Ok(writeln!(sql, "DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)?));
    }
}

fn psql(database: &str, write: impl FnOnce(&mut BufWriter<ChildStdin>) -> Result<()>) -> Result<()> {
    go_on()?;
    feed(database, write)
}

fn feed(database: &str, write: impl FnOnce(&mut BufWriter<ChildStdin>) -> Result<()>) -> Result<()> {
    let mut psql = Command::new(format!("{}/psql", stack("PG15_BIN")?))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .env("PGHOST", stack("PG15_HOST")?)
        .env("PGPORT", stack("PG15_PORT")?)
        .env("PGUSER", stack("PG15_USER")?)
        .env("PGPASSWORD", stack("PG15_PASSWORD")?)
        .env("PGDATABASE", database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .context("starting psql")?;
    let mut sql = BufWriter::new(psql.stdin.take().context("psql has no input")?);
    let written = write(&mut sql).and_then(|()| Ok(sql.flush()?));
    drop(sql);
    ensure!(psql.wait()?.success(), "psql failed");
    written
}
