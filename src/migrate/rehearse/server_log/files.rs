//! The files of a server's log, through its own functions.

use sqlx::PgConnection;

use super::parse::Format;

/// How much of a file is read at once, in bytes.
pub(super) const CHUNK: usize = 1 << 20;

/// Why the server does not let us, in the end without the number of the error.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

pub(super) async fn ask<T>(session: &mut PgConnection, query: &'static str) -> Result<T, String>
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(query).fetch_one(session).await.map_err(|error| said(&error))
}

/// The file that is written now, in the first of these forms that the server has.
pub(super) async fn current(
    session: &mut PgConnection,
    formats: &[Format],
) -> Result<Option<(Format, String)>, String> {
    for format in formats {
        let asked = sqlx::query_scalar("SELECT pg_current_logfile($1)").bind(format.name());
        match asked.fetch_one(&mut *session).await {
            Ok(Some(name)) => return Ok(Some((*format, name))),
            Ok(None) => {}
            // An older server does not know the form.
            Err(error) if code(&error) == "22023" => {}
            Err(error) => {
                let grant = "GRANT pg_monitor TO the role; before PostgreSQL 16 in database postgres also \
                             GRANT EXECUTE ON FUNCTION pg_current_logfile(text) TO the role";
                return Err(refused(&error, grant));
            }
        }
    }
    Ok(None)
}

/// Why it was not to be had, and what grants it where that is why.
fn refused(error: &sqlx::Error, grant: &str) -> String {
    match code(error).as_str() {
        // insufficient_privilege
        "42501" => format!("{} ({grant})", said(error)),
        _ => said(error),
    }
}

fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.map(std::borrow::Cow::into_owned).unwrap_or_default()
}

/// How long a file of the log is, in bytes.
pub(super) async fn length(session: &mut PgConnection, name: &str) -> Result<usize, String> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let asked = sqlx::query_scalar("SELECT size FROM pg_ls_logdir() WHERE name = $1").bind(base);
    let size: Option<i64> = asked.fetch_optional(session).await.map_err(|error| said(&error))?;
    Ok(size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0))
}

/// A piece of a file, as bytes: a log may hold text of several encodings.
pub(super) async fn piece(session: &mut PgConnection, name: &str, from: usize) -> Result<Vec<u8>, String> {
    let (from, length) = (i64::try_from(from).unwrap_or(i64::MAX), i64::try_from(CHUNK).unwrap_or(i64::MAX));
    let asked = sqlx::query_scalar("SELECT pg_read_binary_file($1, $2, $3)").bind(name).bind(from).bind(length);
    let grant = "in database postgres: GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO the role";
    asked.fetch_one(session).await.map_err(|error| refused(&error, grant))
}
