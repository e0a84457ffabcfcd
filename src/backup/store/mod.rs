//! Where backups lie: a flat space of keys, in a bucket or in a directory. Both pass one conformance suite.

mod directory;
mod error;
mod key;
mod s3;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;

pub use directory::Directory;
pub use error::StoreError;
pub use key::{Key, KeyError};
pub use s3::S3;

/// How a bucket's store is asked to encrypt what it gets (S3's `x-amz-server-side-encryption`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSide {
    /// In which way.
    pub algorithm: Algorithm,
    /// The key in the key management service; without, the bucket's or the account's own.
    pub kms_key: Option<String>,
}

/// S3's ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum Algorithm {
    /// With keys of S3's own.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of the key management service.
    #[serde(rename = "aws:kms")]
    Kms,
    /// The same, twice.
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Settings {
    /// A bucket of Amazon S3 or of anything that speaks its protocol.
    S3 {
        /// The bucket; it must exist.
        bucket: String,
        /// What every key begins with, without slashes at its ends; may be empty.
        prefix: String,
        /// Its region; `us-east-1` suits most stores that have none.
        region: String,
        /// Address of a store that is not Amazon's.
        endpoint: Option<String>,
        /// The bucket in the path of the address instead of in its host.
        path_style: bool,
        /// Access key and secret key; `None` takes what the environment, profile or pod offers.
        credentials: Option<(String, SecretString)>,
        /// How the store is asked to encrypt; `None` leaves it to the bucket.
        server_side: Option<ServerSide>,
    },
    /// A directory of a mounted file system.
    Directory {
        /// The directory; it is made when it does not exist.
        path: PathBuf,
    },
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's own clock; `None` when the store does not say.
    pub modified: Option<Timestamp>,
}

/// Something that a writer began and has not finished: no object, but it takes space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The key of the object it was to become, or the name of the temporary file, without the store's own prefix.
    pub name: String,
    /// What the store calls it, where that is not the name.
    pub upload: Option<String>,
    /// When it was begun or last written to, by the store's own clock; `None` when the store does not say.
    pub since: Option<Timestamp>,
}

/// A space of keys and the bytes behind them. An object is there whole or not at all: a `put` that did not return
/// `Ok` leaves the key as it was or, at worst, with the new bytes, never with a part of them.
///
/// Dropping a future cancels the call and leaves nothing that counts as an object.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Where it is, for messages: `s3://bucket/prefix`, `/var/backups`.
    fn location(&self) -> String;

    /// Whether it is there and can be read, found out without writing. A directory that does not exist yet counts.
    ///
    /// # Errors
    /// What stands in the way.
    async fn reach(&self) -> Result<(), StoreError>;

    /// Whether it can be written to: writes a small object and removes it again.
    ///
    /// # Errors
    /// What stands in the way.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Stores the bytes under the key, over whatever was there. What arrives is checked against a checksum of what
    /// was sent where the store can.
    ///
    /// # Errors
    /// Any [`StoreError`] but `NotFound`.
    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError>;

    /// Stores the bytes unless the key exists; `false` says that it did. Of several that try at once, one gets `true`
    /// where the store has conditional writes.
    ///
    /// # Errors
    /// Any [`StoreError`] but `NotFound`.
    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError>;

    /// The bytes under the key.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key, [`StoreError::TooLarge`] when it holds more than `limit`
    /// bytes.
    async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError>;

    /// The size of the object in bytes; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError>;

    /// Every object whose key begins with the prefix, in the order of their keys. Objects whose names are no keys are
    /// someone else's and are left out.
    ///
    /// # Errors
    /// When the listing is not complete.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;

    /// Removes the object; a key that does not exist is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// What writers have begun and not finished, in the folders of this layout alone: temporary files, uploads in
    /// parts. Those of writers that are at work are among them; their age tells.
    ///
    /// # Errors
    /// When the listing is not complete.
    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        Ok(Vec::new())
    }

    /// Removes one of these; one that is gone is no error. A writer that was still at work on it fails.
    ///
    /// # Errors
    /// When it cannot be removed.
    async fn abandon(&self, _: &Unfinished) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Whether this is one of the folders in which objects of this layout lie.
fn is_folder(folder: &str) -> bool {
    let mut parts = folder.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("prune"), None, None) => true,
        (Some("chunks"), Some(two), None) => {
            two.len() == 2 && two.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        }
        (Some("backups"), Some(id), None) => id.parse::<super::BackupId>().is_ok(),
        _ => false,
    }
}

/// The store of these settings; nothing is contacted yet, ambient credentials aside.
///
/// # Errors
/// When the settings make no sense.
pub async fn open(settings: &Settings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match settings {
        Settings::S3 { .. } => Arc::new(S3::open(settings).await?),
        Settings::Directory { path } => Arc::new(Directory::new(path.clone())),
    })
}
