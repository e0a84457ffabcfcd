//! Values that the journal keeps and nobody reads there: sealed with age for a key in the ledger, so that a look at the
//! journal, a report or a log of its queries does not show them. Whoever may read all of the ledger can open them.

use age::x25519::{Identity, Recipient};
use secrecy::ExposeSecret;

use super::error::MigrateError;
use super::journal::{Journal, bounded};

/// The ledger's name of the key.
const KEY: &str = "migrations";

impl Journal {
    async fn key(&self) -> Result<Identity, MigrateError> {
        let new = Identity::generate().to_string();
        let made = sqlx::query("INSERT INTO keys (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(KEY)
            .bind(new.expose_secret());
        bounded(made.execute(self.ledger())).await?;
        let asked = sqlx::query_scalar("SELECT secret FROM keys WHERE name = $1").bind(KEY);
        let secret: String = bounded(asked.fetch_one(self.ledger())).await?;
        secret.parse().map_err(|_| MigrateError::JournalValue("a key that is none".to_owned()))
    }

    /// Seals a value; hex.
    pub(crate) async fn seal(&self, value: &[u8]) -> Result<String, MigrateError> {
        let recipient: Recipient = self.key().await?.to_public();
        let sealed = age::encrypt(&recipient, value);
        Ok(hex::encode(sealed.map_err(|error| MigrateError::JournalValue(error.to_string()))?))
    }

    /// Opens a sealed value.
    pub(crate) async fn open(&self, sealed: &str) -> Result<Vec<u8>, MigrateError> {
        let wrong = || MigrateError::JournalValue("a sealed value that cannot be opened".to_owned());
        let bytes = hex::decode(sealed).map_err(|_| wrong())?;
        age::decrypt(&self.key().await?, &bytes).map_err(|_| wrong())
    }
}
