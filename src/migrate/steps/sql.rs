//! The `sql` operation: statements under a lock time-out, tried again while somebody else holds the lock.

use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::statements::{
    SqlFailure, StatementLimits, default_lock_timeout, default_statement_timeout, holds, is_contention, misread, one,
    shortened, texts,
};
use super::{Act, Ran, Reversal, StepError};
use crate::clients::postgres::PostgresError;
use crate::failure::Kind;
use crate::migrate::error::MigrateError;
use crate::migrate::hands::{Hands, Noting};
use crate::migrate::names::{Database, Sql};
use crate::migrate::parameters::{ParameterError, Values};
use crate::migrate::recipe::is_default;
use crate::migrate::world::Server;
use crate::units::Span;

/// SQL statements. Each item is one statement; parameters are put in by type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SqlStep {
    /// The database, when it is another than the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// Passed over where the site does not have the database.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// The server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub server: Server,
    /// A query that returns one boolean: does it hold already? Asked before the step, and after a kill. Without it, a
    /// step that was interrupted cannot be taken up again unless it has a `verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Sql>,
    /// What is done.
    pub run: Vec<Sql>,
    /// Statements that undo it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Sql>,
    /// A query asked before the step, whose rows are the statements that undo it: for former values. Instead of
    /// `undo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_query: Option<Sql>,
    /// A query that returns one boolean: does it hold now? False fails the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Sql>,
    /// PostgreSQL's `lock_timeout` of each statement: how long others may queue behind a lock that waits.
    #[serde(default = "default_lock_timeout")]
    pub lock_timeout: Span,
    /// PostgreSQL's `statement_timeout` of each statement.
    #[serde(default = "default_statement_timeout")]
    pub statement_timeout: Span,
    /// How often it is tried while a lock is not to be had (55P03) or a deadlock is met (40P01).
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// One transaction around all statements. `false` for what cannot run in one (CREATE INDEX CONCURRENTLY); the
    /// statements must then be repeatable from the first, because a retry begins there.
    #[serde(default = "default_transaction")]
    pub transaction: bool,
}

const fn default_attempts() -> u32 {
    10
}

const fn default_transaction() -> bool {
    true
}

/// The first pause after a lock was not to be had, and the longest one; each is doubled and jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
impl SqlStep {
    pub(crate) fn limits(&self) -> StatementLimits {
        StatementLimits { lock: self.lock_timeout, statement: self.statement_timeout }
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.run.is_empty() {
            return Err("`run` needs at least one statement; write one".to_owned());
        }
        if !self.undo.is_empty() && self.undo_query.is_some() {
            return Err("`undo` and `undo_query` exclude each other; keep one".to_owned());
        }
        if !(1..=1_000).contains(&self.attempts) {
            return Err("`attempts` is out of bounds; write a number from 1 to 1000".to_owned());
        }
        // Zero means "wait for ever" to PostgreSQL; i32::MAX milliseconds is its largest value.
        for (name, span) in [("lock_timeout", self.lock_timeout), ("statement_timeout", self.statement_timeout)] {
            if !(1..=2_147_483_647).contains(&span.as_millis()) {
                return Err(format!("`{name}` is out of bounds; write a duration from 1ms to 24d"));
            }
        }
        Ok(())
    }

    pub(crate) fn statements(&self) -> impl Iterator<Item = &Sql> {
        let queries = [&self.check, &self.undo_query, &self.verify].into_iter().flatten();
        queries.chain(&self.run).chain(&self.undo)
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        let one = |sql: &Option<Sql>| sql.as_ref().map(|s| s.render(values)).transpose();
        let all = |list: &[Sql]| list.iter().map(|s| s.render(values)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            check: one(&self.check)?,
            run: all(&self.run)?,
            undo: all(&self.undo)?,
            undo_query: one(&self.undo_query)?,
            verify: one(&self.verify)?,
            ..self.clone()
        })
    }

    /// Runs statements, again and again while a lock is not to be had; returns the number of attempts.
    async fn execute(
        &self,
        connection: &mut PgConnection,
        statements: &[Sql],
        noting: &Noting<'_>,
        cancel: &CancellationToken,
    ) -> Result<u32, SqlFailure> {
        let statements: Vec<&str> = statements.iter().map(Sql::as_str).collect();
        let attempts = self.attempts.max(1);
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(usize::try_from(attempts).unwrap_or(usize::MAX))
            .with_jitter()
            .build();
        let mut attempt = 1;
        loop {
            let patience = self.limits().patience(statements.len());
            let tried = tokio::time::timeout(patience, self.attempt(connection, &statements, noting)).await;
            match tried.map_err(|_| SqlFailure::NoAnswer(patience))? {
                Ok(()) => return Ok(attempt),
                Err(SqlFailure::Statement { cause, .. }) if is_contention(&cause) && attempt >= attempts => {
                    return Err(SqlFailure::Locked { attempts, cause: *cause });
                }
                Err(error) if attempt >= attempts || !error.database().is_some_and(is_contention) => return Err(error),
                Err(error) => tracing::info!(attempt, attempts, %error, "the lock is held by somebody else"),
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(SqlFailure::Cancelled),
                () = tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)) => attempt += 1,
            }
        }
    }

    async fn attempt(
        &self,
        connection: &mut PgConnection,
        statements: &[&str],
        noting: &Noting<'_>,
    ) -> Result<(), SqlFailure> {
        if self.transaction {
            let mut transaction = connection.begin().await?;
            self.limits().set(&mut transaction, true).await?;
            note(noting, &mut transaction).await?;
            for statement in statements {
                told(statement, one(&mut transaction, statement).await)?;
            }
            Ok(transaction.commit().await?)
        } else {
            self.limits().set(connection, false).await?;
            for statement in statements {
                told(statement, one(connection, statement).await)?;
            }
            Ok(())
        }
    }
}

fn told(statement: &str, done: Result<(), sqlx::Error>) -> Result<(), SqlFailure> {
    done.map_err(|cause| SqlFailure::Statement { statement: statement.into(), cause: Box::new(cause) })
}

/// What could not be run on the way back is refused before there is anything to undo.
fn no_statement(why: &str) -> StepError {
    let message = format!("a row of `undo_query` is no statement that can be run: {why}");
    StepError::new(Kind::Failed, message, "correct the recipe's `undo_query`; the step has done nothing")
}

/// How many statements have undone a step, in what is told of it.
pub(crate) const UNDONE_BY: &str = "statements";
/// Under which the transaction of a step is noted before it does anything. After a kill the server says what became of it.
const NOTED: &str = "transaction";

async fn note(noting: &Noting<'_>, transaction: &mut PgConnection) -> Result<(), SqlFailure> {
    let id: String = sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(transaction).await?;
    noting.note(&json!({ NOTED: id })).await.map_err(|error| SqlFailure::Journal(Box::new(error)))
}

impl SqlStep {
    async fn session<'h>(&self, hands: &'h mut Hands<'_>) -> Result<&'h mut PgConnection, StepError> {
        let database = self.database.as_ref().unwrap_or_else(|| hands.migration.database());
        Ok(hands.session(self.server, database).await?)
    }

    /// The session, unless it would be in a database of the target that an earlier step makes and that is not there.
    async fn session_if_there<'h>(&self, hands: &'h mut Hands<'_>) -> Result<Option<&'h mut PgConnection>, StepError> {
        let database = self.database.as_ref().unwrap_or_else(|| hands.migration.database());
        match hands.session(self.server, database).await {
            Err(MigrateError::Connect(error))
                if self.server == Server::Target && matches!(*error, PostgresError::NoDatabase { .. }) =>
            {
                Ok(None)
            }
            session => Ok(Some(session?)),
        }
    }

    async fn asks(&self, hands: &mut Hands<'_>, query: Option<&Sql>) -> Result<Option<bool>, StepError> {
        let Some(query) = query else { return Ok(None) };
        match self.session_if_there(hands).await? {
            Some(session) => Ok(Some(holds(session, query, self.limits()).await?)),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl Act for SqlStep {
    fn reversal(&self) -> Reversal {
        if self.undo.is_empty() && self.undo_query.is_none() { Reversal::Never } else { Reversal::Undo }
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        let database = self.database.as_ref().unwrap_or_else(|| hands.migration.database());
        if self.optional && matches!(hands.world.place(self.server)?.name(database), Err(MigrateError::NoVisibility)) {
            return Ok(Some(true));
        }
        self.asks(hands, self.check.as_ref()).await
    }

    /// What the server says of the transaction. None was noted: nothing was sent. Of one that is too old the server has
    /// forgotten it.
    async fn took_effect(&self, hands: &mut Hands<'_>, noted: &Value) -> Result<Option<bool>, StepError> {
        if !self.transaction {
            return Ok(None);
        }
        let Some(id) = noted.get(NOTED).and_then(Value::as_str) else { return Ok(Some(false)) };
        let Some(session) = self.session_if_there(hands).await? else { return Ok(Some(false)) };
        let asked = sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)").bind(id);
        let status: Option<String> = match asked.fetch_one(session).await {
            // Of another life of the server: it has not come that far yet.
            Err(sqlx::Error::Database(_)) => None,
            status => status.map_err(SqlFailure::Database)?,
        };
        Ok(match status.as_deref() {
            Some("committed") => Some(true),
            Some("aborted") => Some(false),
            _ => None,
        })
    }

    /// The statements that undo it.
    async fn prepare(&self, hands: &mut Hands<'_>) -> Result<Value, StepError> {
        Ok(match &self.undo_query {
            Some(query) => {
                let cancel = hands.ctx.cancel.clone();
                let session = self.session(hands).await?;
                let rows = texts(session, query, self.limits()).await?.into_iter();
                let rows: Vec<Sql> =
                    rows.map(|row| Sql::try_from(row).map_err(|why| no_statement(&why))).collect::<Result<_, _>>()?;
                let read = cancel.run_until_cancelled(misread(session, &rows, self.limits())).await;
                if let Some((row, why)) = read.ok_or(StepError::Cancelled)?? {
                    return Err(no_statement(&format!("{}: {why}", shortened(row.as_str()))));
                }
                json!(rows)
            }
            None => json!(self.undo),
        })
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let (noting, cancel) = (hands.noting(), hands.ctx.cancel.clone());
        let attempts = self.execute(self.session(hands).await?, &self.run, &noting, &cancel).await?;
        Ok(Ran { attempts, found: json!({}) })
    }

    async fn verify(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        self.asks(hands, self.verify.as_ref()).await
    }

    async fn undo(&self, hands: &mut Hands<'_>, kept: &Value) -> Result<(), StepError> {
        let kept: Vec<Sql> = super::kept(kept)?;
        // None at all may be right, where nothing had a former value, and is to be seen.
        hands.told = json!({ UNDONE_BY: kept.len() });
        if kept.is_empty() {
            return Ok(());
        }
        let (noting, cancel) = (hands.noting(), hands.ctx.cancel.clone());
        self.execute(self.session(hands).await?, &kept, &noting, &cancel).await?;
        Ok(())
    }
}
