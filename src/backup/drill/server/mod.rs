//! A real Temporal server on the restored databases: the command that the policy names is started on them, and some
//! workflows are read through it and held against what the databases said before it began.
//!
//! The command is told by its environment alone where the databases are. Before, the copy is taken out of the ring of
//! the cluster that it is a copy of: its servers must not meet. The server ends with the drill in any case.

mod process;
mod read;

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::Connection;
use tokio::net::TcpStream;

use super::checks::{Check, Outcome};
use crate::backup::error::BackupError;
use crate::clients::postgres::{Postgres, PostgresError};
use crate::clients::temporal::{Health, Settings, Temporal};
use crate::context::Context;
use crate::failure::chain;
use crate::policy::drill::ServerPolicy;
use crate::progress::Unit;

use crate::units::millis_since;
use process::Process;
use read::Chosen;

/// Between two looks whether the server serves.
const PAUSE: Duration = Duration::from_millis(300);
/// No single call takes longer.
const CALL: Duration = Duration::from_secs(10);

/// What a Temporal server made of the restored databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Its version.
    pub version: String,
    /// Until it served, in milliseconds.
    pub milliseconds: u64,
    /// Workflows whose history it gave as it is in the database.
    pub workflows: u64,
    /// Events of them.
    pub events: u64,
}

/// The restored databases, by their names on the scratch server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restored<'a> {
    pub(super) main: &'a str,
    pub(super) visibility: Option<&'a str>,
}

/// Why it is no pass.
enum Trouble {
    /// The server could not work with the databases.
    Broken(String),
    /// That could not be told.
    Unknown(String),
}

/// Starts the server, reads workflows through it, and stops it again.
///
/// # Errors
/// Only on cancel; the server has ended then, too.
pub(super) async fn look(
    policy: &ServerPolicy,
    scratch: &Postgres,
    restored: Restored<'_>,
    ctx: &Context,
) -> Result<(Check, Option<Served>), BackupError> {
    ctx.progress.stage("reading workflows through a Temporal server", None, Unit::Items);
    let looked = match ctx.cancel.run_until_cancelled(prepare(policy, scratch, restored, ctx)).await {
        None => return Err(BackupError::Cancelled),
        Some(Err(trouble)) => Err(trouble),
        Some(Ok((mut process, runs))) => {
            let served = ctx.cancel.run_until_cancelled(serve(policy, &mut process, &runs, ctx)).await;
            process.stop().await;
            served.ok_or(BackupError::Cancelled)?
        }
    };
    let (outcome, served, detail) = match looked {
        Ok(served) => (Outcome::Holds, Some(served), None),
        Err(Trouble::Broken(detail)) => (Outcome::Broken, None, Some(detail)),
        Err(Trouble::Unknown(detail)) => (Outcome::Unknown, None, Some(detail)),
    };
    let looked_at = served.as_ref().map_or(0, |served| served.workflows);
    Ok((Check { check: "server", outcome, looked_at, detail }, served))
}

/// Notes what the databases say, makes them a cluster of their own, and starts the server.
async fn prepare(
    policy: &ServerPolicy,
    scratch: &Postgres,
    restored: Restored<'_>,
    ctx: &Context,
) -> Result<(Process, Vec<Chosen>), Trouble> {
    let untold = |error: PostgresError| Trouble::Unknown(chain(&error));
    let runs = read::choose(scratch, restored.main, policy.workflows.get().into(), ctx).await.map_err(untold)?;
    for (database, sql) in [(Some(restored.main), OWN_RING), (restored.visibility, "")] {
        let Some(database) = database else { continue };
        isolate(scratch, database, sql).await.map_err(untold)?;
    }
    let address = policy.address.as_str();
    // Else the workflows might be read through the very cluster that was backed up.
    if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await {
        return Err(Trouble::Unknown(format!(
            "something answers at {address} before the server was started; end it, or set another `drill.server.address`"
        )));
    }
    let process = Process::start(policy, scratch.settings(), restored).map_err(|error| {
        let problem = crate::failure::without_errno(&error.to_string());
        Trouble::Unknown(format!("`{}` of `drill.server.start` does not start: {problem}", policy.start.program()))
    })?;
    Ok((process, runs))
}

const OWN_RING: &str = "DELETE FROM public.cluster_membership;";
/// A server looks its schema's version up under the name of its database.
const OWN_NAME: &str = "UPDATE public.schema_version SET db_name = current_database() \
    WHERE NOT EXISTS (SELECT FROM public.schema_version WHERE db_name = current_database())";

/// Makes a restored copy one that knows no servers and has its own name.
async fn isolate(scratch: &Postgres, database: &str, more: &'static str) -> Result<(), PostgresError> {
    let mut connection = scratch.connect(database).await?;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{more}{OWN_NAME}"))).execute(&mut connection).await;
    done.map_err(|error| scratch.error(database, "taking the copy out of its cluster", error))?;
    let _ = connection.close().await;
    Ok(())
}

/// Waits until it serves, and has it show the runs.
async fn serve(
    policy: &ServerPolicy,
    process: &mut Process,
    runs: &[Chosen],
    ctx: &Context,
) -> Result<Served, Trouble> {
    let clock = Instant::now();
    let limit = policy.timeout.get();
    let deadline = clock + Duration::from_millis(limit.as_millis());
    let mut why = "no answer".to_owned();
    let temporal = loop {
        if let Some(status) = process.ended() {
            return Err(Trouble::Broken(format!(
                "the server ended before it served ({status}){}",
                process.words().await
            )));
        }
        if Instant::now() >= deadline {
            return Err(Trouble::Broken(format!(
                "the server did not serve within {limit}: {why}{}",
                process.words().await
            )));
        }
        match healthy(policy.address.as_str()).await {
            Ok(temporal) => break temporal,
            Err(problem) => why = problem,
        }
        tokio::time::sleep(PAUSE).await;
    };
    let milliseconds = millis_since(clock);
    let version = temporal.server_info().await.map(|info| info.version).unwrap_or_default();
    let mut served = Served { version, milliseconds, workflows: 0, events: 0 };
    for run in runs {
        served.events += loop {
            let problem = match read::held(&temporal, run).await {
                Ok(events) => break events,
                Err(read::Unheld::Differs(detail)) => return Err(Trouble::Broken(detail)),
                Err(read::Unheld::Unread(error)) => chain(&error),
            };
            // The frontend serves before the service behind it does.
            if process.ended().is_some() || Instant::now() >= deadline {
                let detail = format!("workflow {run} could not be read within {limit}: {problem}");
                return Err(Trouble::Broken(format!("{detail}{}", process.words().await)));
            }
            tokio::time::sleep(PAUSE).await;
        };
        served.workflows += 1;
        ctx.progress.advance(1);
    }
    Ok(served)
}

async fn healthy(address: &str) -> Result<Temporal, String> {
    let address = address.to_owned();
    let settings = Settings { address, tls: None, server_name: None, api_key: None, timeout: CALL };
    let temporal = Temporal::connect(&settings).await.map_err(|error| chain(&error))?;
    match temporal.health().await {
        Ok(Health::Serving) => Ok(temporal),
        Ok(Health::NotServing) => Err("it says that it does not serve yet".into()),
        Err(error) => Err(chain(&error)),
    }
}
