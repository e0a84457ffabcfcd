//! The databases that a migration makes on the target. One is its own when its comment says so; nothing else is
//! ever dropped.

use serde_json::json;

use super::StepError;
use crate::clients::postgres::{Databases, NewDatabase, draft};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::journal::bounded;
use crate::migrate::names::Database;
use crate::migrate::world::{Server, identity};

/// What the comment of an own database says: which migration of which ledger made it, and of what source. Another
/// cluster's move to the same server has another.
struct Mark {
    /// With the server's own identifier, which it keeps under whatever address; `None` where the role may not know it.
    by_server: Option<String>,
    by_address: String,
}

impl Mark {
    async fn of(hands: &mut Hands<'_>) -> Result<Self, StepError> {
        let asked =
            sqlx::query_scalar("SELECT datname || ' ' || oid FROM pg_database WHERE datname = current_database()");
        let ledger: String = bounded(asked.fetch_one(hands.journal.ledger())).await?;
        let source = hands.place(Server::Source)?;
        let server = identity(hands.session(Server::Source, &Database::Main).await?).await;
        let (name, database) = (hands.migration.name(), &source.main);
        let of = |server: &str| format!("sexton: made by migration {name} from {server}/{database}, ledger {ledger}");
        Ok(Self {
            by_server: server.map(|server| of(&format!("server {server}"))),
            by_address: of(&source.postgres.address()),
        })
    }

    /// What is written now.
    fn text(&self) -> &str {
        self.by_server.as_ref().unwrap_or(&self.by_address)
    }

    /// Whether it says so, as it would now or as it did when the role did not know the server.
    fn is(&self, said: &str) -> bool {
        self.by_server.as_deref() == Some(said) || self.by_address == said
    }
}

async fn databases(hands: &Hands<'_>) -> Result<Databases, StepError> {
    Ok(Databases::open(&hands.place(Server::Target)?.postgres).await?)
}

/// Refuses when one of the target's databases is there and was not made by this migration.
///
/// # Errors
/// The refusal, or when source or target cannot be asked.
pub(super) async fn refuse_foreign(hands: &mut Hands<'_>) -> Result<(), StepError> {
    let target = hands.place(Server::Target)?;
    let (mark, mut databases) = (Mark::of(hands).await?, databases(hands).await?);
    for name in target.all() {
        if databases.comment(&name).await?.is_some_and(|said| !mark.is(&said)) {
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
pub(super) async fn create(hands: &mut Hands<'_>, name: &str) -> Result<(), StepError> {
    let mark = Mark::of(hands).await?;
    let mut databases = databases(hands).await?;
    let owner = hands.place(Server::Target)?.postgres.settings().role.as_deref();
    let (comment, draft) = (mark.text(), &draft_of(mark.text(), name));
    databases.create(NewDatabase { name, draft, comment, encoding: None, owner }).await?;
    databases.close().await;
    Ok(())
}

/// What a database is called until it has its mark. Nothing else could tell whose it is.
fn draft_of(mark: &str, name: &str) -> String {
    let hash = blake3::hash(format!("{mark} {name}").as_bytes()).to_hex();
    draft(hash.get(..32).unwrap_or_default())
}

/// Drops those of the target's databases that this migration made, looked at right before. Gives back the names of those that
/// are there and that it did not make.
///
/// # Errors
/// When one cannot be dropped.
pub(super) async fn drop_own(hands: &mut Hands<'_>) -> Result<Vec<String>, StepError> {
    let (mark, mut databases) = (Mark::of(hands).await?, databases(hands).await?);
    let mut left = Vec::new();
    for name in hands.place(Server::Target)?.all() {
        if !databases.drop_own(&name, |said| mark.is(said)).await? && databases.comment(&name).await?.is_some() {
            left.push(name.clone());
        }
        for mark in mark.by_server.iter().chain([&mark.by_address]) {
            databases.drop_own(&draft_of(mark, &name), |said| said == mark).await?;
        }
    }
    databases.close().await;
    Ok(left)
}

/// Undoes what made the target's databases. One that is not, or not any more, of this migration stays, and is told of.
///
/// # Errors
/// When one cannot be dropped.
pub(super) async fn undo(hands: &mut Hands<'_>) -> Result<(), StepError> {
    let left = drop_own(hands).await?;
    if !left.is_empty() {
        tracing::warn!(databases = left.join(", "), "left on the target: by its comment not made by this migration");
        hands.told = json!({ "left_on_target": left });
    }
    Ok(())
}
