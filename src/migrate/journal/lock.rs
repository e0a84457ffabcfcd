//! Locks: one run of a migration at a time, and one migration at each thing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{Journal, bounded};
use crate::migrate::error::MigrateError;

/// How often a lock that is held elsewhere is asked for again.
const LOCK_POLL: Duration = Duration::from_millis(500);

impl Journal {
    /// Takes the lock of one migration, and one for each thing it changes, on a session of its own. They are polled,
    /// never waited for inside the server: a waiting session would hold a snapshot, and CREATE INDEX CONCURRENTLY waits
    /// for those.
    ///
    /// # Errors
    /// [`MigrateError::Busy`] when another session holds one of them for as long as this one is willing to wait.
    pub async fn lock(
        &self,
        name: &str,
        things: &BTreeSet<String>,
        cancel: &CancellationToken,
    ) -> Result<Lock, MigrateError> {
        let mut session = bounded(self.ledger.acquire()).await?.detach();
        self.take(&mut session, lock_key(name), cancel, || busy(name)).await?;
        for thing in things {
            let busy = || MigrateError::BusyThing { name: name.to_owned(), thing: thing.clone() };
            self.take(&mut session, lock_key(&format!("thing {thing}")), cancel, busy).await?;
        }
        Ok(Lock { session })
    }

    /// Whether a session is at a migration.
    pub(crate) async fn is_held(&self, name: &str) -> Result<bool, MigrateError> {
        // PostgreSQL shows a 64-bit key as two halves, and marks it with objsubid 1 (manual, pg_locks).
        let asked = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database() \
             AND ((l.classid::int8 << 32) | l.objid::int8) = $1)",
        );
        bounded(asked.bind(lock_key(name)).fetch_one(&self.ledger)).await
    }

    /// Takes a second lock on a session of the migration's own database, which may be the ledger's. After a kill the server
    /// may still be at the statement of the session that is gone; as long as it is, that session holds this lock and
    /// nobody else begins.
    pub(crate) async fn claim(
        &self,
        session: &mut PgConnection,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<(), MigrateError> {
        self.take(session, lock_key(&format!("at work {name}")), cancel, || busy(name)).await
    }

    async fn take(
        &self,
        session: &mut PgConnection,
        key: i64,
        cancel: &CancellationToken,
        busy: impl Fn() -> MigrateError,
    ) -> Result<(), MigrateError> {
        let until = Instant::now() + self.lock_wait;
        loop {
            let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key);
            if bounded(asked.fetch_one(&mut *session)).await? {
                return Ok(());
            }
            if cancel.is_cancelled() || Instant::now() >= until {
                return Err(busy());
            }
            tokio::select! {
                () = cancel.cancelled() => {},
                () = tokio::time::sleep(LOCK_POLL) => {},
            }
        }
    }
}

fn busy(name: &str) -> MigrateError {
    MigrateError::Busy { name: name.to_owned() }
}

/// The lock of one migration, held by a session; the server lets it go when the session ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    session: PgConnection,
}

impl Lock {
    /// Whether the session, and with it the lock, is still there.
    pub async fn is_held(&mut self) -> bool {
        bounded(self.session.ping()).await.is_ok()
    }

    /// Lets the lock go at once.
    pub async fn release(mut self) {
        let unlocked = sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut self.session);
        // Ending the session lets it go as well.
        let _ = bounded(unlocked).await;
        let _ = bounded(self.session.close()).await;
    }
}

/// 64 bits of the name's hash, apart from the locks of jobs.
fn lock_key(name: &str) -> i64 {
    let hash = blake3::hash(format!("sexton migration {name}").as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    i64::from_be_bytes(bytes)
}
