use std::path::PathBuf;
use std::time::Duration;

use super::Address;
use crate::clients::{tls_failure, tls_words};
use crate::failure::{Explain, Kind, chain};
use crate::units::Span;

/// Why there is no answer. Every message names the host and nothing else of the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The file with the authorities.
    #[error("{} cannot be used: {problem}", path.display())]
    Ca { path: PathBuf, problem: String },
    /// Nobody listens there, or the name does not resolve.
    #[error("{host}: no connection: {problem}")]
    Connect { host: String, problem: String },
    /// The certificate of the other side is not one to trust.
    #[error("{host}: its certificate is not trusted: {problem}")]
    Untrusted { host: String, problem: String },
    /// TLS failed in another way.
    #[error("{host}: TLS: {problem}")]
    Tls { host: String, problem: String },
    /// No answer in time.
    #[error("{host}: no answer within {limit}")]
    Timeout { host: String, limit: Span },
    /// The connection broke.
    #[error("{host}: {problem}")]
    Broken { host: String, problem: String },
}

impl HookError {
    pub(super) fn of(address: &Address, error: reqwest::Error, limit: Duration) -> Self {
        // reqwest's own words end with the whole address.
        let error = error.without_url();
        let host = address.to_string();
        match tls_failure(&error) {
            Some(tls @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted { host, problem: tls_words(tls) },
            Some(tls) => Self::Tls { host, problem: tls_words(tls) },
            None if error.is_timeout() => Self::Timeout { host, limit: limit.into() },
            None if error.is_connect() => Self::Connect { host, problem: innermost(&error) },
            None => Self::Broken { host, problem: chain(&error) },
        }
    }
}

/// The last cause says what happened, those before it only in which layer.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        last = cause.to_string();
        next = cause.source();
    }
    crate::failure::without_errno(&last)
}

impl Explain for HookError {
    fn kind(&self) -> Kind {
        if matches!(self, Self::Ca { .. }) { Kind::Config } else { Kind::Failed }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Ca { .. } => "name a file of certificates in PEM under the webhook's `ca`",
            Self::Connect { .. } => "check the webhook's address, its DNS, and that no network policy drops it",
            Self::Untrusted { .. } => "set the webhook's `ca` to the authority that signed the receiver's certificate",
            Self::Tls { .. } => "check that the port speaks TLS, or write http:// where it does not",
            Self::Timeout { .. } => "see whether the receiver is slow, or raise the webhook's `timeout`",
            Self::Broken { .. } => "check the receiver's log",
        };
        Some(hint.into())
    }
}
