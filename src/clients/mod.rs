//! The only places that know a wire: thin, typed clients, one folder per system. They know no policy and no plan.

pub mod postgres;
pub mod search;
pub mod temporal;

use std::path::PathBuf;

/// Files that make up one side of a TLS connection, as PEM. Everything unset means the system's trust store and no
/// client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain.
    pub certificate: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
}
