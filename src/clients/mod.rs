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

/// Makes aws-lc-rs the process's TLS provider. rustls has two in this dependency tree and panics when it has to
/// choose; call this before the first connection. Calling it again does nothing.
pub fn install_crypto_provider() {
    // The error says that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
