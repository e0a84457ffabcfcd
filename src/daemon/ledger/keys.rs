//! Secret keys that sexton makes for itself.

use secrecy::{ExposeSecret, SecretString};

use super::{Ledger, LedgerError, answer};

impl Ledger {
    /// The key of that name; the first who asks gets this one.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn key(&self, name: &str, new: &SecretString) -> Result<SecretString, LedgerError> {
        let made = sqlx::query("INSERT INTO keys (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(new.expose_secret());
        answer("keeping a key", made.execute(&self.pool)).await?;
        let asked = sqlx::query_scalar("SELECT secret FROM keys WHERE name = $1").bind(name);
        let secret: String = answer("reading a key", asked.fetch_one(&self.pool)).await?;
        Ok(secret.into())
    }
}
