//! The only places that know a wire: thin, typed clients, one folder per system. They know no policy and no plan.

pub mod hook;
pub mod kubernetes;
pub mod persistence;
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

/// What a TLS library says, in words for people: not who says it, and the names of a certificate as they stand in it.
#[must_use]
pub fn tls_words(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "it was not signed by an authority that is trusted here".into()
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let names: Vec<String> = presented.iter().map(|name| bare_name(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("it is for {names}, not for {}", expected.to_str())
        }
        _ => error.to_string().trim_start_matches("invalid peer certificate: ").to_owned(),
    }
}

/// `DnsName("localhost")` and `IpAddress(127.0.0.1)`, as rustls lists them, without the type.
fn bare_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

/// The TLS error among the causes, if there is one. `io::Error` hides the error inside it from `source`, so that is
/// opened as well.
#[must_use]
pub fn tls_failure<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    // No real chain is this long; a chain that ends in itself must not hang.
    for _ in 0..32 {
        let cause = next?;
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        next = match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}
