//! `policies/backup.yaml`: how a backup is made and which ones are kept. When it is made stands in the schedule.

use serde::{Deserialize, Serialize};

use super::drill::DrillPolicy;
use super::keep::{Grace, Keep};
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
    /// Bytes of rows that are read a second, over all connections; `None` for as fast as it goes.
    pub throttle: Option<Throttle>,
    /// Every part of a table is read whole again after at most so long, though the server says that only some of its
    /// rows are new; 0 reads all of them each time.
    pub reread: Span,
    /// For whom new chunks are encrypted.
    pub encryption: EncryptionPolicy,
    /// How old the newest backup may be before `sexton plan` calls a new one due.
    pub max_age: Span,
    /// How a backup is proven.
    pub drill: DrillPolicy,
    /// Which backups are kept when the job `prune` runs. Nothing is guessed here: a file without it keeps all, and the
    /// job refuses to run.
    #[serde(default)]
    pub keep: Option<Keep>,
    /// For how long nothing must have named a chunk before it is removed.
    pub grace: Grace,
}

impl Default for BackupPolicy {
    fn default() -> Self {
        Self {
            parallel: Parallel(2),
            compression_level: CompressionLevel(1),
            range_size: RangeSize(Size::bytes(8 << 20)),
            throttle: None,
            reread: Span::days(7),
            encryption: EncryptionPolicy::default(),
            max_age: Span::hours(26),
            keep: Some(Keep::default()),
            grace: Grace::default(),
            drill: DrillPolicy::default(),
        }
    }
}

impl BackupPolicy {
    /// The bytes of COPY output after which a chunk is closed even inside a range: values that PostgreSQL holds
    /// compressed come out larger than they lie in the table, and memory must not follow them.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> usize {
        usize::try_from(self.range_size.0.as_bytes().saturating_mul(2)).unwrap_or(usize::MAX)
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
    /// 1 to 64.
    Jobs, usize, "usize", get, |n| (1..=64).contains(&n), "`jobs` is {}; it must be from 1 to 64"
);
bounded!(
    /// 1 to 19.
    CompressionLevel, i32, "i32", get, |n| (1..=19).contains(&n), "`compression_level` is {}; zstd has the levels 1 to 19"
);
bounded!(
    /// 64kb or more.
    Throttle, Size, "Size", get, |n| n.as_bytes() >= 64 << 10,
    "`throttle` is {} a second; no backup would come to its end below 64kb"
);
bounded!(
    /// 64kb to 64mb.
    RangeSize, Size, "Size", get, |n| (64 << 10..=64 << 20).contains(&n.as_bytes()),
    "`range_size` is {}; it must be from 64kb to 64mb"
);

impl Default for Jobs {
    fn default() -> Self {
        Self(2)
    }
}

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
        check("throttle: 1kb", "64kb");
        check("drill: {jobs: 65}", "from 1 to 64");
        check("drill: {keep: true}", "keep");
        check("keep: {}", "keeps nothing");
        check("keep: {last: 0, daily: 0}", "keeps nothing");
        check("keep: {last: -1}", "last");
        check("keep: {hourly: 3}", "hourly");
        check("grace: 59m", "from 1h to 365d");
    }

    #[test]
    fn what_is_not_written_is_never_pruned() {
        assert_eq!(read("parallel: 2").map(|policy| policy.keep), Ok(None));
        let keep = Keep { last: 0, daily: 0, weekly: 2, monthly: 0, yearly: 0 };
        assert_eq!(read("keep: {weekly: 2}").map(|policy| policy.keep), Ok(Some(keep)));
    }
}
