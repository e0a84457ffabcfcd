use super::key::KeyError;
use crate::failure::{Explain, Kind};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("{location} has no object `{key}`")]
    NotFound {
        /// The store.
        location: String,
        /// The key.
        key: String,
    },
    /// No such bucket.
    #[error("the bucket of {location} does not exist")]
    NoBucket {
        /// The store.
        location: String,
    },
    /// Wrong keys, or keys that may not do this.
    #[error("{location} denies access ({doing}): {message}")]
    AccessDenied {
        /// The store.
        location: String,
        /// What was being done.
        doing: String,
        /// The store's words.
        message: String,
    },
    /// No answer.
    #[error("{location} cannot be reached: {message}")]
    Unreachable {
        /// The store.
        location: String,
        /// Why.
        message: String,
    },
    /// No space left, or a quota is used up.
    #[error("{location} is full ({doing})")]
    Full {
        /// The store.
        location: String,
        /// What was being done.
        doing: String,
    },
    /// What was stored or read is not what was sent.
    #[error("{location} did not keep the bytes of `{key}`: {message}")]
    Checksum {
        /// The store.
        location: String,
        /// The key.
        key: String,
        /// How it was seen.
        message: String,
    },
    /// An object larger than it can rightly be.
    #[error("`{key}` in {location} has {size} bytes, more than the {limit} it may have")]
    TooLarge {
        /// The store.
        location: String,
        /// The key.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A name that is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Anything else.
    #[error("{location}, {doing}: {message}")]
    Other {
        /// The store.
        location: String,
        /// What was being done.
        doing: String,
        /// What happened.
        message: String,
    },
}

impl StoreError {
    /// Whether the store has said no, so that it will not carry the call out later either.
    pub(in crate::backup) const fn is_refusal(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NoBucket { .. } | Self::AccessDenied { .. } | Self::Key(_))
    }
}

impl Explain for StoreError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoBucket { .. } => {
                "create the bucket, or correct its name and region in the configuration".to_owned()
            }
            Self::AccessDenied { location, .. } if location.starts_with("s3://") => {
                "check the access key and its secret, and allow s3:ListBucket, GetObject, PutObject, DeleteObject and \
                 AbortMultipartUpload on the bucket"
                    .to_owned()
            }
            Self::AccessDenied { .. } => "give the user that runs sexton write access to the directory".to_owned(),
            Self::Unreachable { .. } => "check the endpoint's address, its TLS and the network policies".to_owned(),
            Self::Full { .. } => "free space or raise the quota, then run the backup again".to_owned(),
            Self::Checksum { .. } => "check the disk or network below the store before trusting it again".to_owned(),
            Self::NotFound { .. } | Self::TooLarge { .. } => {
                "run `sexton backup verify` on the backup it belongs to".to_owned()
            }
            Self::Other { location, .. } if location.starts_with("s3://") => {
                "check bucket, region and endpoint, and that the endpoint is one of S3's".to_owned()
            }
            Self::Other { .. } => "check that the path is a folder on a disk that works".to_owned(),
            Self::Key(_) => return None,
        })
    }
}
