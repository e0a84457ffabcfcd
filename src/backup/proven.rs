//! Which backups are proven. The object `backups/ID/proven.json` says that a drill has restored and compared one; that
//! it is there counts, what it says is for people.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use super::manifest::BackupId;
use super::store::{Store, StoreError};

/// The object that makes a backup proven.
pub(super) const PROVEN: &str = "proven.json";
/// The largest proof that is read.
const MAX_PROOF: u64 = 1 << 20;

/// What a proof says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proof {
    /// When the backup was proven; `None` when the proof does not say so in a form that is understood.
    pub at: Option<Timestamp>,
}

impl Proof {
    fn read(bytes: &[u8]) -> Self {
        let read: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        let at = read.as_ref().and_then(|value| value.get("at")?.as_str()?.parse().ok());
        Self { at }
    }
}

/// The proofs of all backups that have one.
///
/// # Errors
/// When the store cannot be read. A proof that makes no sense is still one.
pub async fn proofs(store: &dyn Store) -> Result<HashMap<BackupId, Proof>, BackupError> {
    let mut proofs = HashMap::new();
    for entry in store.list("backups/").await? {
        let Some((id, PROVEN)) = entry.key.as_str().strip_prefix("backups/").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let Ok(id) = id.parse::<BackupId>() else { continue };
        let proof = match store.get(&entry.key, MAX_PROOF).await {
            Ok(bytes) => Proof::read(&bytes),
            Err(StoreError::TooLarge { .. }) => Proof::default(),
            // Removed since the listing.
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        proofs.insert(id, proof);
    }
    Ok(proofs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_that_makes_no_sense_is_still_one() {
        let check = |text: &str, at: Option<&str>| {
            assert_eq!(Proof::read(text.as_bytes()), Proof { at: at.map(|at| at.parse().unwrap()) }, "{text}");
        };
        check(r#"{"at": "2026-11-24T00:43:06Z", "by": {"host": "a"}}"#, Some("2026-11-24T00:43:06Z"));
        check(r#"{"at": 7}"#, None);
        check("", None);
    }
}
