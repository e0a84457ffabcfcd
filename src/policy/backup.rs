//! `policies/backup.yaml`: how a backup is made. When it is made stands in the schedule.

use serde::{Deserialize, Serialize};

use crate::backup::seal::{KeyTextError, Recipients};
use crate::units::{Size, Span};

/// How a backup reads and stores. Which databases it covers is told by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupPolicy {
    /// Connections per database that copy at once.
    pub parallel: Parallel,
    /// zstd level of new chunks.
    pub compression_level: CompressionLevel,
    /// Bytes of a table, TOAST included, that make up one range of pages.
    pub range_size: RangeSize,
    /// For whom new chunks are encrypted.
    pub encryption: EncryptionPolicy,
    /// How old the newest backup may be before `sexton plan` calls a new one due.
    pub max_age: Span,
}

impl Default for BackupPolicy {
    fn default() -> Self {
        Self {
            parallel: Parallel(2),
            compression_level: CompressionLevel(1),
            range_size: RangeSize(Size::bytes(4 << 20)),
            encryption: EncryptionPolicy::default(),
            max_age: Span::hours(26),
        }
    }
}

impl BackupPolicy {
    /// The bytes of COPY output after which a chunk is closed even inside a range: values that PostgreSQL holds
    /// compressed come out larger than they lie in the table, and memory must not follow them.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> usize {
        usize::try_from(self.range_size.0.as_bytes().saturating_mul(4)).unwrap_or(usize::MAX)
    }
}

/// For whom new chunks are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptionPolicy {
    /// age's public keys; none for no encryption.
    pub recipients: Vec<RecipientKey>,
    /// Store everything anew that is encrypted for others, as after a key was lost to somebody.
    pub renew: bool,
}

impl EncryptionPolicy {
    /// The recipients; `None` when nothing is encrypted.
    #[must_use]
    pub fn recipients(&self) -> Option<Recipients> {
        // Each was read before.
        Recipients::read(self.recipients.iter().map(|key| key.0.as_str())).ok().flatten()
    }
}

/// A public key of age's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecipientKey(String);

impl TryFrom<String> for RecipientKey {
    type Error = KeyTextError;

    fn try_from(text: String) -> Result<Self, KeyTextError> {
        Recipients::read([text.as_str()])?;
        Ok(Self(text.trim().to_owned()))
    }
}

impl From<RecipientKey> for String {
    fn from(key: RecipientKey) -> Self {
        key.0
    }
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $text:literal, $get:ident, $test:expr, $message:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = $text, into = $text)]
        pub struct $name($inner);

        impl $name {
            /// The value.
            #[must_use]
            pub const fn $get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<$inner> for $name {
            type Error = String;

            fn try_from(value: $inner) -> Result<Self, String> {
                let test: fn($inner) -> bool = $test;
                if test(value) { Ok(Self(value)) } else { Err(format!($message, value)) }
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> $inner {
                value.0
            }
        }
    };
}

bounded!(
    /// 1 to 64.
    Parallel, usize, "usize", get, |n| (1..=64).contains(&n), "`parallel` is {}; it must be from 1 to 64"
);
bounded!(
    /// 1 to 19.
    CompressionLevel, i32, "i32", get, |n| (1..=19).contains(&n), "`compression_level` is {}; zstd has the levels 1 to 19"
);
bounded!(
    /// 64kb to 64mb.
    RangeSize, Size, "Size", get, |n| (64 << 10..=64 << 20).contains(&n.as_bytes()),
    "`range_size` is {}; it must be from 64kb to 64mb"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BackupPolicy, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_policy_is_the_default() {
        assert_eq!(read(include_str!("../../policies/backup.yaml")), Ok(BackupPolicy::default()));
    }

    #[test]
    fn values_out_of_bounds_and_unknown_keys_are_refused() {
        let check = |text: &str, word: &str| {
            let error = read(text).expect_err(text);
            assert!(error.contains(word), "{error}");
        };
        check("parallel: 0", "from 1 to 64");
        check("compression_level: 22", "1 to 19");
        check("range_size: 1kb", "64kb to 64mb");
        check("level: 3", "level");
    }
}
