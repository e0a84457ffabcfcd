use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// How requests are authenticated.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// HTTP basic.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: SecretString,
    },
    /// `Authorization: ApiKey …`, the encoded form (`base64(id:key)`).
    ApiKey(SecretString),
}

/// Where the search engine is and how to log in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http://` or `https://` address, without credentials.
    pub url: Url,
    /// Credentials.
    pub auth: Auth,
    /// Certificates of the authorities to trust, as PEM, beside the built-in list.
    pub ca: Option<PathBuf>,
    /// Limit of one call.
    pub timeout: Duration,
}
