//! How backups are named.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use super::store::Key;

/// The identifier of a backup: the UTC instant it began and some random digits, `20260131T235959Z-1f2e3d4c`. Their
/// order as text is their order in time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

impl BackupId {
    /// A new one for a backup that begins at this instant.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), random.get(..8).unwrap_or_default()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The instant it began, to the second.
    #[must_use]
    pub fn taken(&self) -> Option<Timestamp> {
        let (instant, _) = self.0.split_once('-')?;
        let parsed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", instant).ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(parsed.to_datetime().ok()?).ok()
    }

    /// The key of one of its objects.
    pub(super) fn object(&self, name: &str) -> Result<Key, BackupError> {
        Ok(Key::new(format!("backups/{self}/{name}"))?)
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BackupId {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<Self, BackupError> {
        let bytes = text.as_bytes();
        let fits = bytes.len() == 25
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'T',
                15 => *byte == b'Z',
                16 => *byte == b'-',
                17.. => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
                _ => byte.is_ascii_digit(),
            });
        if fits { Ok(Self(text.to_owned())) } else { Err(BackupError::BadId(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for BackupId {
    type Error = BackupError;

    fn try_from(text: String) -> Result<Self, BackupError> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}
