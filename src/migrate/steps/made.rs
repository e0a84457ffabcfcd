//! The databases that a migration makes on the target. One is its own when its comment says so; nothing else is
//! ever dropped.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::StepError;
use crate::clients::postgres::{MAINTENANCE, quote_identifier, quote_literal};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::journal::bounded;
use crate::migrate::world::Server;

/// What the comment of an own database says: which migration of which ledger made it, and of what source. Another
/// cluster's move to the same server has another.
async fn mark(hands: &Hands<'_>) -> Result<String, StepError> {
    let asked = sqlx::query_scalar("SELECT datname || ' ' || oid FROM pg_database WHERE datname = current_database()");
    let ledger: String = bounded(asked.fetch_one(hands.journal.ledger())).await?;
    let source = hands.place(Server::Source)?;
    let (name, address, database) = (hands.migration.name(), source.postgres.address(), &source.main);
    Ok(format!("sexton: made by migration {name} from {address}/{database}, ledger {ledger}"))
}

async fn session(hands: &Hands<'_>) -> Result<PgConnection, StepError> {
    Ok(hands.place(Server::Target)?.postgres.connect_held(MAINTENANCE).await?)
}

/// The comment of a database; `None` when there is no such database, an empty text when it has no comment.
async fn comment(hands: &Hands<'_>, session: &mut PgConnection, name: &str) -> Result<Option<String>, StepError> {
    const SAID: &str = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1";
    let said = sqlx::query_scalar(SAID).bind(name).fetch_optional(session).await;
    said.map_err(|error| failed(hands, &format!("looking for database `{name}`"), error))
}

fn failed(hands: &Hands<'_>, doing: &str, error: sqlx::Error) -> StepError {
    match hands.place(Server::Target) {
        Ok(target) => target.postgres.error(MAINTENANCE, doing, error).into(),
        Err(none) => none,
    }
}

/// Refuses when one of the target's databases is there and was not made by this migration.
///
/// # Errors
/// The refusal, or when the target cannot be asked.
pub(super) async fn refuse_foreign(hands: &Hands<'_>) -> Result<(), StepError> {
    let target = hands.place(Server::Target)?;
    let (mark, mut session) = (mark(hands).await?, session(hands).await?);
    for name in target.all() {
        if comment(hands, &mut session, &name).await?.is_some_and(|said| said != mark) {
            let message = format!("the target at {} has a database `{name}` already", target.postgres.address());
            let hint = "look what is in it; drop or rename it when it is not needed: the migration makes its own";
            return Err(StepError::new(Kind::Refused, message, hint));
        }
    }
    let _ = session.close().await;
    Ok(())
}

/// Makes an empty database and marks it. It gets its own name last: as long as it has no mark, nothing but its name could
/// tell whose it is, and that of the first moments is nobody else's.
///
/// # Errors
/// When the role may not, or one of the name is there.
pub(super) async fn create(hands: &Hands<'_>, name: &str) -> Result<(), StepError> {
    let mut session = session(hands).await?;
    let mark = mark(hands).await?;
    let (quoted, unmarked) = (quote_identifier(name), quote_identifier(&unmarked(&mark, name)));
    let said = quote_literal(&mark);
    let owner = hands.place(Server::Target)?.postgres.settings().role.as_deref();
    let owner = owner.map(|role| format!(" OWNER {}", quote_identifier(role))).unwrap_or_default();
    for statement in [
        format!("CREATE DATABASE {unmarked} TEMPLATE template0 ENCODING 'UTF8'{owner}"),
        format!("COMMENT ON DATABASE {unmarked} IS {said}"),
        format!("ALTER DATABASE {unmarked} RENAME TO {quoted}"),
    ] {
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut session).await;
        done.map_err(|error| failed(hands, &format!("making the database `{name}`"), error))?;
    }
    let _ = session.close().await;
    Ok(())
}

/// What a database is called until it has its mark.
fn unmarked(mark: &str, name: &str) -> String {
    let hash = blake3::hash(format!("{mark} {name}").as_bytes()).to_hex();
    format!("sexton_new_{}", hash.get(..32).unwrap_or_default())
}

/// Drops those of the target's databases that this migration made, looked at right before.
///
/// # Errors
/// When one cannot be dropped.
pub(super) async fn drop_own(hands: &Hands<'_>) -> Result<(), StepError> {
    let (mark, mut session) = (mark(hands).await?, session(hands).await?);
    for name in hands.place(Server::Target)?.all() {
        let is_own = comment(hands, &mut session, &name).await?.is_some_and(|said| said == mark);
        let unmarked = unmarked(&mark, &name);
        for name in is_own.then_some(&name).into_iter().chain([&unmarked]) {
            let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name));
            let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut session).await;
            done.map_err(|error| failed(hands, &format!("dropping the database `{name}`"), error))?;
        }
    }
    let _ = session.close().await;
    Ok(())
}
