//! How far jobs that look at a part of something in each run have come.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ledger, LedgerError, answer};

impl Ledger {
    /// The bookmark of that name; the default when there is none, or one of another version's making.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn bookmark<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, LedgerError> {
        let asked = sqlx::query_scalar("SELECT value FROM bookmarks WHERE name = $1").bind(name);
        let value: Option<serde_json::Value> = answer("reading a bookmark", asked.fetch_optional(&self.pool)).await?;
        Ok(value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default())
    }

    /// Puts the bookmark there.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn set_bookmark<T: Serialize + Sync>(&self, name: &str, bookmark: &T) -> Result<(), LedgerError> {
        let value = serde_json::to_value(bookmark).unwrap_or_default();
        let written = sqlx::query(
            "INSERT INTO bookmarks (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, saved_at = now()",
        )
        .bind(name)
        .bind(value);
        answer("writing a bookmark", written.execute(&self.pool)).await.map(drop)
    }
}
