//! Where a migration was begun. On other servers it is neither gone on with nor undone: what the journal says of its
//! steps would not be so there, and the way back would look at a target that nobody has written to.

use serde::{Deserialize, Serialize};

use super::error::MigrateError;
use super::fingerprint::{self, TargetPrint};
use super::hands::Hands;
use super::migration::Migration;
use super::world::Server;

/// The servers of a migration that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Pin {
    source: Pinned,
    target: Option<Pinned>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Pinned {
    /// `host:port`, which may come to mean another server, or to be another for the same.
    address: String,
    /// `system_identifier`; empty where it could not be asked.
    server: String,
    /// Temporal's databases there.
    databases: Vec<String>,
}

impl Pin {
    /// Where it would be begun now. A server that cannot be asked is told of by the step that needs it.
    ///
    /// # Errors
    /// When there is no target, or a statement of a run that is gone is still at work.
    pub(super) async fn now(migration: &Migration, hands: &mut Hands<'_>) -> Result<Self, MigrateError> {
        let world = hands.world;
        let source = &world.source;
        let server = match hands.session(Server::Source, migration.database()).await {
            Ok(session) => fingerprint::server(&source.postgres, &source.main, session).await.unwrap_or_default().1,
            Err(error @ MigrateError::Busy { .. }) => return Err(error),
            Err(_) => String::new(),
        };
        let source = Pinned { address: source.postgres.address(), server, databases: source.all() };
        let target = match migration.target(world)? {
            None => None,
            Some(place) => {
                let server = fingerprint::target(place).await.map(|TargetPrint { server, .. }| server);
                let server = server.unwrap_or_default();
                Some(Pinned { address: place.postgres.address(), server, databases: place.all() })
            }
        };
        Ok(Self { source, target })
    }

    /// That nothing else is meant now.
    ///
    /// # Errors
    /// [`MigrateError::OtherServers`].
    pub(super) fn holds(&self, now: &Self, name: &str) -> Result<(), MigrateError> {
        let mut found = Vec::new();
        found.extend(Pinned::difference("source", Some(&self.source), Some(&now.source)));
        found.extend(Pinned::difference("target", self.target.as_ref(), now.target.as_ref()));
        if found.is_empty() {
            return Ok(());
        }
        Err(MigrateError::OtherServers { name: name.to_owned(), differences: found.join("; ") })
    }
}

impl Pinned {
    fn difference(which: &str, was: Option<&Self>, now: Option<&Self>) -> Option<String> {
        let is_same = match (was, now) {
            (None, None) => true,
            (Some(was), Some(now)) => {
                let is_known = !was.server.is_empty() && !now.server.is_empty();
                let is_server = if is_known { was.server == now.server } else { was.address == now.address };
                is_server && was.databases == now.databases
            }
            _ => false,
        };
        let told = |one: Option<&Self>| one.map_or_else(|| "none".to_owned(), Self::told);
        (!is_same).then(|| format!("the {which} was {} and is {}", told(was), told(now)))
    }

    fn told(&self) -> String {
        let server = if self.server.is_empty() { "unknown" } else { &self.server };
        format!("{} at {} (server {server})", self.databases.join(" and "), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(address: &str, server: &str) -> Pinned {
        Pinned { address: address.into(), server: server.into(), databases: vec!["temporal".into()] }
    }

    #[test]
    fn a_server_is_known_by_its_identifier_and_else_by_its_address() {
        let check = |was: Option<Pinned>, now: Option<Pinned>, expect: Option<&str>| {
            assert_eq!(Pinned::difference("target", was.as_ref(), now.as_ref()).as_deref(), expect);
        };
        check(None, None, None);
        check(Some(pinned("a:1", "7")), Some(pinned("b:1", "7")), None);
        check(Some(pinned("a:1", "")), Some(pinned("a:1", "7")), None);
        check(
            Some(pinned("a:1", "7")),
            Some(pinned("a:1", "8")),
            Some("the target was temporal at a:1 (server 7) and is temporal at a:1 (server 8)"),
        );
        check(
            Some(pinned("a:1", "")),
            Some(pinned("b:1", "8")),
            Some("the target was temporal at a:1 (server unknown) and is temporal at b:1 (server 8)"),
        );
        check(Some(pinned("a:1", "7")), None, Some("the target was temporal at a:1 (server 7) and is none"));
        let other = Pinned { databases: vec!["other".into()], ..pinned("a:1", "7") };
        check(
            Some(pinned("a:1", "7")),
            Some(other),
            Some("the target was temporal at a:1 (server 7) and is other at a:1 (server 7)"),
        );
    }
}
