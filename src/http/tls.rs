//! TLS of the server. Certificates are read again when their files change, as cert-manager renews them.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::listen::Plain;
use super::settings::Tls;

/// How often it is looked whether the files were written anew.
const LOOK: Duration = Duration::from_secs(5);

/// Accepts TLS connections with the certificate of now.
#[derive(Clone)]
pub(super) struct Acceptor(Arc<RwLock<TlsAcceptor>>);

fn wrong(path: &Path, why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| wrong(path, error))?;
    if all.is_empty() { Err(wrong(path, "holds no certificate in PEM")) } else { Ok(all) }
}

fn read(tls: &Tls) -> io::Result<TlsAcceptor> {
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| wrong(&tls.key, error))?;
    let builder = match &tls.client_ca {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            ServerConfig::builder().with_client_cert_verifier(verifier.map_err(|error| wrong(path, error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| wrong(&tls.certificate, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// When each of the files was last written.
fn written(tls: &Tls) -> Vec<Option<SystemTime>> {
    let files = [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()];
    files.into_iter().flatten().map(|path| path.metadata().and_then(|file| file.modified()).ok()).collect()
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or they do not fit together.
    pub(super) fn new(tls: &Tls) -> io::Result<Self> {
        Ok(Self(Arc::new(RwLock::new(read(tls)?))))
    }

    /// Takes up new files until it is stopped. Ones that do not fit together change nothing: a renewal may be under way.
    pub(super) async fn renew(self, tls: Tls, stop: CancellationToken) {
        let (mut known, mut told) = (written(&tls), None);
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let now = written(&tls);
            if now == known {
                continue;
            }
            match read(&tls) {
                Ok(acceptor) => {
                    *self.0.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    known = now;
                    info!("the server's certificate was read anew");
                }
                Err(error) if told.as_ref() != Some(&now) => {
                    warn!(%error, "the server's certificate has changed and cannot be used; the old one stays");
                    told = Some(now);
                }
                Err(_) => {}
            }
        }
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: Plain) -> io::Result<TlsStream<Plain>> {
        let acceptor = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        acceptor.accept(stream).await
    }
}
