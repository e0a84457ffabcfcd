//! What the API keeps: who did what, and the answers to requests with an Idempotency-Key.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use super::{Ledger, LedgerError, answer, query};
use crate::clients::postgres::instant::{required, utc};

/// Days for which it stays written who did what.
const ACTIONS_DAYS: i32 = 400;
/// Hours for which a request with the same key gets the same answer.
const KEY_HOURS: i32 = 24;
/// Rows that are removed at once.
const SWEEP: i64 = 10_000;

/// A request that changed something, or was to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Who.
    pub who: String,
    /// Their role then.
    pub role: String,
    /// From which address.
    pub address: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The status of the answer.
    pub status: i32,
}

/// One of them as the ledger has it.
#[derive(Debug, Clone, Serialize)]
pub struct NotedAction {
    /// Its id; they sort by time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header `Location`.
    pub location: Option<String>,
    /// Its body.
    pub body: Value,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// Nothing was known; from now on it is this request's.
    New,
    /// The same request was begun and never answered: its process died, or lost the ledger. What it may have begun is
    /// this run.
    Again(Uuid),
    /// The same request was answered.
    Answered(Answer),
    /// The same request is in progress.
    InProgress,
    /// It was used for another request.
    Other,
}

impl Ledger {
    /// Writes who did what.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note_action(&self, action: &Action) -> Result<(), LedgerError> {
        let query = sqlx::query(
            "INSERT INTO http_actions (id, who, role, address, method, path, status) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(Uuid::now_v7())
        .bind(&action.who)
        .bind(&action.role)
        .bind(&action.address)
        .bind(&action.method)
        .bind(action.path.get(..500).unwrap_or(&action.path))
        .bind(action.status);
        answer("writing who did what", query.execute(self.pool())).await.map(drop)
    }

    /// Who did what, the newest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn actions(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<NotedAction>, LedgerError> {
        let asked = sqlx::query(concat!(
            "SELECT id, ",
            utc!("date_trunc('second', at)"),
            " AS at, who, coalesce(role, '') AS role, address, method, path, status FROM http_actions \
             WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        ))
        .bind(before)
        .bind(i64::from(limit));
        let rows = answer("reading who did what", asked.fetch_all(self.pool())).await?;
        let one = |row: &sqlx::postgres::PgRow| -> Result<NotedAction, sqlx::Error> {
            let action = Action {
                who: row.try_get("who")?,
                role: row.try_get("role")?,
                address: row.try_get("address")?,
                method: row.try_get("method")?,
                path: row.try_get("path")?,
                status: row.try_get("status")?,
            };
            Ok(NotedAction { id: row.try_get("id")?, at: required(row, "at")?, action })
        };
        rows.iter().map(one).collect::<Result<_, _>>().map_err(query("reading who did what"))
    }

    /// Takes a key for a request that is to begin `run`, or says what became of the one that had it.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn take_key(&self, who: &str, key: &str, request: &str, run: Uuid) -> Result<Key, LedgerError> {
        // One whose process died gives no answer any more; after a minute it may be tried again, for the same run.
        let taken = sqlx::query_scalar(
            "INSERT INTO http_idempotency AS i (who, key, request, run) VALUES ($1, $2, $3, $5) \
             ON CONFLICT (who, key) DO UPDATE \
             SET request = excluded.request, created_at = now(), status = NULL, body = NULL, location = NULL, \
                 run = CASE WHEN i.created_at < now() - make_interval(hours => $4) THEN excluded.run \
                            ELSE coalesce(i.run, excluded.run) END \
             WHERE i.created_at < now() - make_interval(hours => $4) \
                OR i.status IS NULL AND i.request = excluded.request AND i.created_at < now() - interval '1 minute' \
             RETURNING run",
        )
        .bind(who)
        .bind(key)
        .bind(request)
        .bind(KEY_HOURS)
        .bind(run);
        if let Some(of) = answer("taking a key", taken.fetch_optional(self.pool())).await? {
            return Ok(if of == run { Key::New } else { Key::Again(of) });
        }
        let asked =
            sqlx::query("SELECT request, status, location, body FROM http_idempotency WHERE who = $1 AND key = $2")
                .bind(who)
                .bind(key);
        let Some(row) = answer("reading a key", asked.fetch_optional(self.pool())).await? else {
            return Ok(Key::InProgress);
        };
        let read = || -> Result<Key, sqlx::Error> {
            if row.try_get::<String, _>("request")? != request {
                return Ok(Key::Other);
            }
            let Some(status) = row.try_get::<Option<i32>, _>("status")? else { return Ok(Key::InProgress) };
            Ok(Key::Answered(Answer {
                status: u16::try_from(status).unwrap_or(500),
                location: row.try_get("location")?,
                body: row.try_get::<Option<Value>, _>("body")?.unwrap_or_default(),
            }))
        };
        read().map_err(query("reading a key"))
    }

    /// Keeps the answer to a request; `None` gives the key back, so that it may be tried again, unless its run was begun.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn keep_answer(&self, who: &str, key: &str, given: Option<&Answer>) -> Result<(), LedgerError> {
        let query = match given {
            Some(given) => sqlx::query(
                "UPDATE http_idempotency SET status = $3, location = $4, body = $5 WHERE who = $1 AND key = $2",
            )
            .bind(who)
            .bind(key)
            .bind(i32::from(given.status))
            .bind(&given.location)
            .bind(&given.body),
            None => sqlx::query(
                "DELETE FROM http_idempotency i WHERE who = $1 AND key = $2 AND status IS NULL \
                 AND NOT EXISTS (SELECT FROM runs r WHERE r.id = i.run)",
            )
            .bind(who)
            .bind(key),
        };
        answer("keeping an answer", query.execute(self.pool())).await.map(drop)
    }

    /// Removes what is old.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn sweep_http(&self) -> Result<(), LedgerError> {
        let keys = sqlx::query(
            "DELETE FROM http_idempotency WHERE (who, key) IN (SELECT who, key FROM http_idempotency \
             WHERE created_at < now() - make_interval(hours => $1) LIMIT $2)",
        );
        answer("removing old keys", keys.bind(KEY_HOURS).bind(SWEEP).execute(self.pool())).await?;
        let actions = sqlx::query(
            "DELETE FROM http_actions WHERE id IN (SELECT id FROM http_actions \
             WHERE at < now() - make_interval(days => $1) LIMIT $2)",
        );
        answer("removing old actions", actions.bind(ACTIONS_DAYS).bind(SWEEP).execute(self.pool())).await.map(drop)
    }
}
