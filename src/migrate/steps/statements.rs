//! Statements under PostgreSQL's own time-outs, queries that cannot write, and why either did not succeed.

use std::time::Duration;

use futures::TryStreamExt;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection, Either, Executor, PgConnection, Row, SqlSafeStr, Statement};

use crate::migrate::error::MigrateError;
use crate::migrate::names::Sql;
use crate::units::Span;

/// What a query may come to whose rows are kept in the journal, in bytes.
const MOST_TEXT: usize = 8 << 20;
/// What reading a statement may wait for a lock at most.
const READING_LOCK: Span = Span::milliseconds(10);
/// What the network may take on top of the server's own time-outs before an answer counts as lost.
const NETWORK_MARGIN: Duration = Duration::from_secs(10);

pub(super) const fn default_lock_timeout() -> Span {
    // Short enough that the queue of writers behind the waiting lock stays below what their callers notice.
    Span::milliseconds(500)
}

pub(super) const fn default_statement_timeout() -> Span {
    Span::minutes(1)
}

/// Why statements did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum SqlFailure {
    /// Somebody else held the lock each time.
    #[error("the lock was not to be had in {attempts} attempts: {}", crate::clients::postgres::said(cause))]
    Locked {
        /// How often it was tried.
        attempts: u32,
        /// What the server said last.
        cause: sqlx::Error,
    },
    /// The server refused or the connection broke.
    #[error("{}", crate::clients::postgres::said(.0))]
    Database(sqlx::Error),
    /// A statement of the step failed.
    #[error("{}: {}", shortened(statement), crate::clients::postgres::said(cause))]
    Statement {
        /// Its text.
        statement: Box<str>,
        /// What the server said.
        cause: Box<sqlx::Error>,
    },
    /// The answer of a check is not one boolean.
    #[error("`{0}` must return one row with one boolean that is not null")]
    NotBoolean(String),
    /// A query that is to return texts returns something else.
    #[error("each row of `{}` must be one text that is not null{found}", shortened(query))]
    NotText {
        /// The query.
        query: Box<str>,
        /// What it is instead.
        found: &'static str,
    },
    /// The rows of a query for texts come to more than the journal is to keep.
    #[error("the rows of `{}` come to more than {}", shortened(.0), crate::units::human_bytes(MOST_TEXT as u64))]
    TooMuch(Box<str>),
    /// No answer within the server's time-outs and a margin.
    #[error("no answer from the server within {0:?}")]
    NoAnswer(Duration),
    /// The journal could not take a note of the transaction, of which nothing was done then.
    #[error(transparent)]
    Journal(Box<MigrateError>),
    /// Asked to stop while waiting for the next attempt.
    #[error("stopped while waiting for a lock")]
    Cancelled,
}

impl From<sqlx::Error> for SqlFailure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// A statement in an error, on one line.
pub(super) fn shortened(statement: &str) -> String {
    const MOST: usize = 120;
    let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
        None => words,
    }
}

impl SqlFailure {
    /// What the server or the connection said.
    pub(crate) fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(cause) => Some(cause),
            Self::Statement { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// True when that is what the server called it (SQLSTATE).
    pub(crate) fn has_code(&self, code: &str) -> bool {
        let said = self.database().and_then(|error| error.as_database_error()).and_then(|error| error.code());
        said.as_deref() == Some(code)
    }

    /// True when a statement named a table, column, function, schema or other object that does not exist.
    pub(crate) fn is_undefined(&self) -> bool {
        let Some(error) = self.database() else { return false };
        let code = error.as_database_error().and_then(|e| e.code());
        matches!(code.as_deref(), Some("42P01" | "42703" | "42883" | "42704" | "3F000"))
    }
}

/// The server's time-outs of one statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatementLimits {
    pub(super) lock: Span,
    pub(super) statement: Span,
}

impl Default for StatementLimits {
    fn default() -> Self {
        Self { lock: default_lock_timeout(), statement: default_statement_timeout() }
    }
}

impl StatementLimits {
    /// For that many statements, as seen from here.
    pub(super) fn patience(self, statements: usize) -> Duration {
        let each = Duration::from(self.statement) + Duration::from(self.lock);
        each * u32::try_from(statements + 1).unwrap_or(u32::MAX) + NETWORK_MARGIN
    }

    /// `local` ends with the transaction.
    pub(super) async fn set(self, connection: &mut PgConnection, local: bool) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT set_config('lock_timeout', $1, $3), set_config('statement_timeout', $2, $3)")
            .bind(format!("{}ms", self.lock.as_millis()))
            .bind(format!("{}ms", self.statement.as_millis()))
            .bind(local)
            .execute(connection)
            .await
            .map(drop)
    }
}

/// One statement through the extended protocol, which takes no second one in the same text.
pub(super) async fn one(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::query(AssertSqlSafe(statement)).persistent(false)).await.map(drop)
}

/// Asks a query for its one boolean, in a transaction that cannot write.
pub(crate) async fn holds(
    connection: &mut PgConnection,
    query: &Sql,
    limits: StatementLimits,
) -> Result<bool, SqlFailure> {
    let patience = limits.patience(1);
    let answer = read_only(connection, limits, async |connection| {
        sqlx::query_scalar::<_, Option<bool>>(AssertSqlSafe(query.as_str()))
            .persistent(false)
            .fetch_all(connection)
            .await
    });
    let rows = match tokio::time::timeout(patience, answer).await.map_err(|_| SqlFailure::NoAnswer(patience))? {
        Err(sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnIndexOutOfBounds { .. }) => Vec::new(),
        other => other?,
    };
    match rows.as_slice() {
        [Some(value)] => Ok(*value),
        _ => Err(SqlFailure::NotBoolean(query.as_str().to_owned())),
    }
}

/// Asks a query for rows of one text, in a transaction that cannot write.
pub(crate) async fn texts(
    connection: &mut PgConnection,
    query: &Sql,
    limits: StatementLimits,
) -> Result<Vec<String>, SqlFailure> {
    let patience = limits.patience(1);
    let answer = read_only(connection, limits, async |connection| {
        let mut rows = sqlx::query(AssertSqlSafe(query.as_str())).persistent(false).fetch(connection);
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            let row = match rows.try_next().await {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(sqlx::Error::ColumnDecode { .. } | sqlx::Error::TypeNotFound { .. }) => {
                    return Ok(Err(not_text(query, "; write `::text` behind what is of another type")));
                }
                Err(error) => return Err(error),
            };
            let text = match row.len() {
                1 => row.try_get::<Option<String>, _>(0),
                _ => return Ok(Err(not_text(query, "; it has several columns, or none"))),
            };
            match text {
                Ok(Some(text)) => {
                    bytes += text.len() + size_of::<String>();
                    found.push(text);
                }
                Ok(None) => return Ok(Err(not_text(query, "; one is NULL"))),
                Err(_) => return Ok(Err(not_text(query, "; write `::text` behind what is of another type"))),
            }
            if bytes > MOST_TEXT {
                return Ok(Err(SqlFailure::TooMuch(query.as_str().into())));
            }
        }
        Ok(Ok(found))
    });
    tokio::time::timeout(patience, answer).await.map_err(|_| SqlFailure::NoAnswer(patience))??
}

fn not_text(query: &Sql, found: &'static str) -> SqlFailure {
    SqlFailure::NotText { query: query.as_str().into(), found }
}

/// The first of some texts that cannot be run as one statement, and why, by the server's own parser. What they name may not
/// be there yet.
pub(super) async fn misread<'s>(
    connection: &mut PgConnection,
    statements: &'s [Sql],
    limits: StatementLimits,
) -> Result<Option<(&'s Sql, String)>, SqlFailure> {
    let patience = limits.patience(statements.len());
    // The parser comes before any lock: who waits for one has a statement that can be read.
    let limits = StatementLimits { lock: READING_LOCK, ..limits };
    let read = async {
        limits.set(connection, false).await?;
        let mut misread = None;
        for statement in statements {
            misread = misread_one(connection, statement).await?.map(|why| (statement, why));
            if misread.is_some() {
                break;
            }
        }
        // Kept as prepared, one would fail when what it reads has other columns by then.
        connection.clear_cached_statements().await?;
        Ok::<_, sqlx::Error>(misread)
    };
    Ok(tokio::time::timeout(patience, read).await.map_err(|_| SqlFailure::NoAnswer(patience))??)
}

async fn misread_one(connection: &mut PgConnection, statement: &Sql) -> Result<Option<String>, sqlx::Error> {
    let sql = AssertSqlSafe(statement.as_str().to_owned()).into_sql_str();
    match connection.prepare(sql).await {
        Ok(read) => {
            let has_parameters = match read.parameters() {
                Some(Either::Left(types)) => !types.is_empty(),
                Some(Either::Right(count)) => count > 0,
                None => false,
            };
            Ok(has_parameters.then(|| UNFILLED.to_owned()))
        }
        // Behind a lock it was not looked at to the end.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {
            Ok(has_placeholder(statement.as_str()).then(|| UNFILLED.to_owned()))
        }
        Err(sqlx::Error::Database(error)) => Ok(is_misread(&*error).then(|| error.message().to_owned())),
        Err(error) => Err(error),
    }
}

const UNFILLED: &str = "it has a `$1`, which nothing fills";

fn has_placeholder(sql: &str) -> bool {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().unwrap_or_default();
    tokens.iter().any(|token| matches!(token, Token::Placeholder(_)))
}

/// Whether the parser itself has said no. The same code, 42601, is given for what does not fit a table as it is now, and may
/// fit it when the step has changed it: such an error comes from elsewhere in the server (src/backend/parser).
fn is_misread(error: &dyn DatabaseError) -> bool {
    let said_by = error.try_downcast_ref::<PgDatabaseError>();
    let file = said_by.and_then(PgDatabaseError::file).and_then(|path| path.rsplit('/').next());
    // Several statements in one are not the parser's, and never right.
    let is_several = said_by.and_then(PgDatabaseError::routine) == Some("exec_parse_message");
    match error.code().as_deref() {
        Some("42601") => is_several || matches!(file, Some("gram.y" | "scan.l" | "parser.c")),
        // undefined_parameter, indeterminate_datatype
        Some("42P02" | "42P18") => true,
        _ => false,
    }
}

async fn read_only<T>(
    connection: &mut PgConnection,
    limits: StatementLimits,
    ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
    limits.set(&mut transaction, true).await?;
    let answer = ask(&mut transaction).await?;
    transaction.rollback().await?;
    Ok(answer)
}

/// lock_not_available or deadlock_detected: https://www.postgresql.org/docs/15/errcodes-appendix.html
pub(super) fn is_contention(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
