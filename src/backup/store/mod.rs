//! (to be filled)
use std::path::PathBuf;

use secrecy::SecretString;

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
    },
    /// A directory of a mounted file system.
    Directory {
        /// The directory; it is made when it does not exist.
        path: PathBuf,
    },
}
