//! Advisory locks that are polled, never waited for: a session waiting in `pg_advisory_lock` holds a snapshot that
//! blocks `CREATE INDEX CONCURRENTLY`.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Ledger, LedgerError, answer};

/// How often a taken lock is tried again.
const POLL: Duration = Duration::from_millis(250);

/// A held advisory lock. It lives as long as its session: when the process or the connection dies, it is free.
#[derive(Debug)]
pub struct Lock {
    connection: PgConnection,
}

impl Ledger {
    /// Tries to take the lock `name` until `patience` has passed; `None` when somebody else keeps it, or on cancel.
    ///
    /// # Errors
    /// When the ledger cannot be reached.
    pub async fn lock(
        &self,
        name: &str,
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Result<Option<Lock>, LedgerError> {
        let mut connection = self.postgres.connect(&self.database).await?;
        let give_up = Instant::now().checked_add(patience);
        loop {
            let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key(name));
            let taken: bool = answer("taking a lock", asked.fetch_one(&mut connection)).await?;
            if taken {
                return Ok(Some(Lock { connection }));
            }
            if give_up.is_some_and(|instant| Instant::now() >= instant) || cancel.is_cancelled() {
                let _ = connection.close().await;
                return Ok(None);
            }
            tokio::select! {
                () = sleep(POLL) => {}
                () = cancel.cancelled() => {}
            }
        }
    }
}

impl Ledger {
    /// Whether any session holds the lock `name`.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn is_locked(&self, name: &str) -> Result<bool, LedgerError> {
        // PostgreSQL shows a 64-bit key as two halves, and marks it with objsubid 1 (manual, pg_locks).
        let asked = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database() \
             AND ((l.classid::int8 << 32) | l.objid::int8) = $1)",
        )
        .bind(key(name));
        answer("looking for a lock", asked.fetch_one(&self.pool)).await
    }
}

impl Lock {
    /// The session that holds the lock, for a query that proves it is still alive.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Asks the session for a sign of life.
    ///
    /// # Errors
    /// When it is gone, and the lock with it.
    pub async fn check(&mut self) -> Result<(), LedgerError> {
        answer("checking a lock", sqlx::query("SELECT 1").execute(&mut self.connection)).await.map(drop)
    }

    /// Gives the lock back.
    pub async fn release(self) {
        // Closing the session releases it; if that fails the session is gone already.
        let _ = answer("giving a lock back", self.connection.close()).await;
    }
}

/// The lock's number: sexton's own name space, so that other programs in the same database do not meet it by chance.
fn key(name: &str) -> i64 {
    let hash = blake3::derive_key("sexton advisory lock", name.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(hash.first_chunk::<8>().unwrap_or(&[0; 8]));
    i64::from_be_bytes(bytes)
}
