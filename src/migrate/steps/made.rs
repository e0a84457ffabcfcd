//! The databases that a migration makes on the target. One is its own when its comment says so; nothing else is
//! ever dropped.

use super::StepError;
use crate::clients::postgres::{Databases, NewDatabase, draft};
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

async fn databases(hands: &Hands<'_>) -> Result<Databases, StepError> {
    Ok(Databases::open(&hands.place(Server::Target)?.postgres).await?)
}

/// Refuses when one of the target's databases is there and was not made by this migration.
///
/// # Errors
/// The refusal, or when the target cannot be asked.
pub(super) async fn refuse_foreign(hands: &Hands<'_>) -> Result<(), StepError> {
    let target = hands.place(Server::Target)?;
    let (mark, mut databases) = (mark(hands).await?, databases(hands).await?);
    for name in target.all() {
        if databases.comment(&name).await?.is_some_and(|said| said != mark) {
            let message = format!("the target at {} has a database `{name}` already", target.postgres.address());
            let hint = "look what is in it; drop or rename it when it is not needed: the migration makes its own";
            return Err(StepError::new(Kind::Refused, message, hint));
        }
    }
    databases.close().await;
    Ok(())
}

/// Makes an empty database and marks it.
///
/// # Errors
/// When the role may not, or one of the name is there.
pub(super) async fn create(hands: &Hands<'_>, name: &str) -> Result<(), StepError> {
    let mut databases = databases(hands).await?;
    let comment = &mark(hands).await?;
    let owner = hands.place(Server::Target)?.postgres.settings().role.as_deref();
    let draft = &draft_of(comment, name);
    databases.create(NewDatabase { name, draft, comment, encoding: None, owner }).await?;
    databases.close().await;
    Ok(())
}

/// What a database is called until it has its mark. Nothing else could tell whose it is.
fn draft_of(mark: &str, name: &str) -> String {
    let hash = blake3::hash(format!("{mark} {name}").as_bytes()).to_hex();
    draft(hash.get(..32).unwrap_or_default())
}

/// Drops those of the target's databases that this migration made, looked at right before.
///
/// # Errors
/// When one cannot be dropped.
pub(super) async fn drop_own(hands: &Hands<'_>) -> Result<(), StepError> {
    let (mark, mut databases) = (mark(hands).await?, databases(hands).await?);
    for name in hands.place(Server::Target)?.all() {
        databases.drop_own(&name, |said| said == mark).await?;
        databases.drop_own(&draft_of(&mark, &name), |said| said == mark).await?;
    }
    databases.close().await;
    Ok(())
}
