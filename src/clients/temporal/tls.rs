//! The TLS side of a connection: files to tonic's configuration, every mistake named before a byte is sent.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{Settings, TemporalError};

/// How a connection is protected; decides what an error on it most likely means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Plain text.
    Off,
    /// The server shows a certificate.
    Server,
    /// Both sides show one.
    Mutual,
}

/// The mode that the settings ask for.
pub(super) fn mode(settings: &Settings) -> Mode {
    match &settings.tls {
        None => Mode::Off,
        Some(files) if files.certificate.is_some() => Mode::Mutual,
        Some(_) => Mode::Server,
    }
}

/// tonic's TLS configuration, or `None` when TLS is off.
///
/// # Errors
/// [`TemporalError::TlsFiles`] for a file that cannot be read or holds no PEM of its kind, and for a certificate
/// without its key or a key without its certificate.
pub(super) async fn config(settings: &Settings) -> Result<Option<ClientTlsConfig>, TemporalError> {
    let Some(files) = &settings.tls else { return Ok(None) };
    let wrong = |problem: String| TemporalError::TlsFiles { address: settings.address.clone(), problem };
    let mut config = ClientTlsConfig::new();
    config = match &files.ca {
        None => config.with_native_roots(),
        Some(path) => {
            let pem = read(path).await.map_err(&wrong)?;
            certificates(path, &pem).map_err(&wrong)?;
            config.ca_certificate(Certificate::from_pem(pem))
        }
    };
    config = match (&files.certificate, &files.key) {
        (None, None) => config,
        (Some(certificate), Some(key)) => {
            let chain = read(certificate).await.map_err(&wrong)?;
            certificates(certificate, &chain).map_err(&wrong)?;
            let secret = read(key).await.map_err(&wrong)?;
            PrivateKeyDer::from_pem_slice(&secret)
                .map_err(|_| wrong(format!("`{}` holds no private key in PEM", key.display())))?;
            config.identity(Identity::from_pem(chain, secret))
        }
        (Some(_), None) => return Err(wrong("a client certificate is given without its key".into())),
        (None, Some(_)) => return Err(wrong("a client key is given without its certificate".into())),
    };
    if let Some(name) = &settings.server_name {
        config = config.domain_name(name);
    }
    Ok(Some(config))
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate.map_err(|error| format!("`{}` is not valid PEM: {error}", path.display()))?;
        count += 1;
    }
    if count == 0 { Err(format!("`{}` holds no certificate in PEM", path.display())) } else { Ok(()) }
}
