//! The schema as SQL: taken with the server's own `pg_dump`, given back through a plain connection.
//!
//! It is fed to the server as one simple query rather than to psql: no second program is needed, the whole section
//! is one transaction, and the server's answer points at the statement that failed. psql's own commands that newer
//! releases of `pg_dump` write around the SQL (`\restrict`, `\unrestrict`, since 17.6 and 15.14) are taken out.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::error::BackupError;
use crate::clients::postgres::{Postgres, Tool};

/// A schema of thousands of tables takes minutes, not more.
const LIMIT: Duration = Duration::from_secs(1800);

/// One section of the schema (`pre-data` or `post-data`) as `pg_dump` writes it under an exported snapshot.
///
/// # Errors
/// [`BackupError::PgDump`] with the end of what it said.
pub(super) async fn dump(
    postgres: &Postgres,
    tool: &Tool,
    database: &str,
    snapshot: &str,
    section: &'static str,
) -> Result<String, BackupError> {
    let failed = |message: String| BackupError::PgDump { database: database.to_owned(), message };
    let mut command = postgres.command(tool, database);
    command.args(["--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces", "--no-password"]);
    command.args(["--no-publications", "--no-subscriptions", "--no-security-labels", "--encoding=UTF8"]);
    command.arg("--lock-wait-timeout=60000");
    command.arg(format!("--section={section}")).arg(format!("--snapshot={snapshot}"));
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| failed(format!("no end after {} s", LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let tail = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ");
        return Err(failed(if tail.is_empty() { output.status.to_string() } else { tail }));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("its output is not UTF-8".into()))?;
    Ok(without_psql_commands(&text))
}

/// The SQL without `\restrict KEY` at its beginning and `\unrestrict KEY` at its end; the key tells them from a line
/// of a function's body.
fn without_psql_commands(text: &str) -> String {
    let key = text.lines().find_map(|line| line.strip_prefix("\\restrict ")).map(str::to_owned);
    let Some(key) = key else { return text.to_owned() };
    let (opening, closing) = (format!("\\restrict {key}"), format!("\\unrestrict {key}"));
    // Not `lines()`: that would take the carriage returns out of function bodies, defaults and comments.
    let kept = text.split_inclusive('\n').filter(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line != opening && line != closing
    });
    kept.collect()
}

/// Settings that a newer `pg_dump` writes and an older server does not know.
fn without_unknown_settings(text: &str, major: u32) -> String {
    if major >= 17 {
        return text.to_owned();
    }
    text.replacen("SET transaction_timeout = 0;\n", "", 1)
}

/// Runs one section of the schema in one transaction.
///
/// # Errors
/// [`BackupError::Schema`] with the statement that failed.
pub(super) async fn run(
    connection: &mut PgConnection,
    postgres: &Postgres,
    database: &str,
    major: u32,
    stage: &'static str,
    sql: &str,
) -> Result<(), BackupError> {
    let sql = without_unknown_settings(sql, major);
    let outcome = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(connection).await;
    outcome.map(|_| ()).map_err(|error| {
        let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        let statement = said.map(|error| match error.position() {
            Some(PgErrorPosition::Original(position)) => excerpt(&sql, position),
            _ => named_in(error),
        });
        let cause = postgres.error(database, "restoring the schema", error);
        match statement {
            Some(statement) => BackupError::Schema { stage, statement, cause: Box::new(cause) },
            // The connection broke; no statement is at fault.
            None => cause.into(),
        }
    })
}

fn named_in(error: &PgDatabaseError) -> String {
    let message = error.message();
    // The server gives no position for utility statements; the extension's own error is told by its code or file.
    if message.contains("extension") { format!("CREATE EXTENSION ({message})") } else { message.to_owned() }
}

/// The line of the SQL at a position counted in characters from 1.
fn excerpt(sql: &str, position: usize) -> String {
    let at = sql.char_indices().nth(position.saturating_sub(1)).map_or(sql.len(), |(at, _)| at);
    let (before, after) = sql.split_at(at);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = format!("{}{}", before.get(start..).unwrap_or_default(), after.lines().next().unwrap_or_default());
    line.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_commands_with_the_dump_s_own_key_go() {
        let text = "\\restrict abc\n\nCREATE FUNCTION f AS $$\n\\restrict other\n$$;\n\\unrestrict abc\n";
        assert_eq!(without_psql_commands(text), "\nCREATE FUNCTION f AS $$\n\\restrict other\n$$;\n");
        assert_eq!(without_psql_commands("SELECT 1;\n"), "SELECT 1;\n");
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let text = "\\restrict abc\nCOMMENT ON TABLE t IS 'a\r\nb\r\n\r';\n\\unrestrict abc";
        assert_eq!(without_psql_commands(text), "COMMENT ON TABLE t IS 'a\r\nb\r\n\r';\n");
    }

    #[test]
    fn an_error_s_position_becomes_its_line() {
        let sql = "SELECT 'ä';\nCREATE TABLE x;\nSELECT 2;";
        assert_eq!(excerpt(sql, 14), "CREATE TABLE x;");
        assert_eq!(excerpt(sql, 10_000), "SELECT 2;");
        assert_eq!(excerpt("", 0), "");
    }
}
