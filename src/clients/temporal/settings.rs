use std::time::Duration;

use secrecy::SecretString;

use crate::clients::TlsFiles;

/// Where Temporal's frontend is and how to log in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port`, without a scheme.
    pub address: String,
    /// `Some` turns TLS on; client certificate and key make it mutual.
    pub tls: Option<TlsFiles>,
    /// The name the server's certificate must carry, when it is not the host of the address.
    pub server_name: Option<String>,
    /// Sent as `authorization: Bearer …` with every call.
    pub api_key: Option<SecretString>,
    /// Limit of one call.
    pub timeout: Duration,
}
