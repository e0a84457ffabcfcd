//! What can go wrong between sexton and Temporal, and how a failed call becomes one of these.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tonic::{Code, Status};

use super::tls::Mode;
use crate::clients::tls_words;
use crate::failure::{Explain, Kind};
use crate::units::Span;

/// Why a connection or a call failed. Every message names the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemporalError {
    /// The configured address is not `host:port`.
    #[error("`{address}` is not the address of a Temporal frontend: {problem}")]
    Address { address: String, problem: String },
    /// The API key has characters that no HTTP header may carry.
    #[error("the API key for Temporal at {address} has characters that cannot be sent in a header")]
    ApiKey { address: String },
    /// A certificate or key file is missing or wrong.
    #[error("TLS for Temporal at {address}: {problem}")]
    TlsFiles { address: String, problem: String },
    /// The host name has no address.
    #[error("Temporal at {address}: the host name does not resolve: {problem}")]
    Unresolved { address: String, problem: String },
    /// Nothing listens there.
    #[error("Temporal at {address}: connection refused")]
    Refused { address: String },
    /// The connection was not made in time.
    #[error("Temporal at {address}: no connection within {limit}")]
    ConnectTimeout { address: String, limit: Span },
    /// A plain client met a TLS server.
    #[error("Temporal at {address}: the server speaks TLS, but TLS is off for this connection")]
    NeedsTls { address: String },
    /// A TLS client met a plain server.
    #[error("Temporal at {address}: TLS is on for this connection, but the server answers without TLS")]
    NotTls { address: String },
    /// The server's certificate does not lead to a trusted authority, or is not valid now.
    #[error("Temporal at {address}: the server's certificate is not trusted: {problem}")]
    Untrusted { address: String, problem: String },
    /// The server's certificate is good, but not for the name it was asked under.
    #[error("Temporal at {address}: the server's certificate is for another name: {problem}")]
    WrongName { address: String, problem: String },
    /// The server wants a client certificate and got none, or not one that it trusts.
    #[error(
        "Temporal at {address}: the server {}: {problem}",
        if *sent { "does not accept the client certificate" } else { "wants a client certificate" }
    )]
    ClientCertificate { address: String, problem: String, sent: bool },
    /// The connection broke in another way.
    #[error("Temporal at {address}: the connection failed during {call}: {problem}")]
    Broken { address: String, call: String, problem: String, tls: bool },
    /// No or wrong credentials.
    #[error("Temporal at {address}: {call} needs a login: {message}")]
    Unauthenticated { address: String, call: String, message: String },
    /// Known, but not allowed.
    #[error("Temporal at {address}: {call} is not permitted: {message}")]
    Denied { address: String, call: String, message: String },
    /// No answer in time.
    #[error("Temporal at {address}: no answer to {call} within {limit}")]
    Deadline { address: String, call: String, limit: Span },
    /// The namespace does not exist.
    #[error("Temporal at {address}: namespace `{namespace}` does not exist")]
    NamespaceNotFound { address: String, namespace: String },
    /// A namespace of that name exists already.
    #[error("Temporal at {address}: namespace `{namespace}` exists already")]
    NamespaceExists { address: String, namespace: String },
    /// The run does not exist.
    #[error("Temporal at {address}: workflow `{workflow}` has no run {run}")]
    RunNotFound { address: String, workflow: String, run: String },
    /// The workflow has no open run.
    #[error("Temporal at {address}: workflow `{workflow}` is not open in namespace `{namespace}`")]
    NotOpen { address: String, workflow: String, namespace: String },
    /// A rate limit of the server.
    #[error("Temporal at {address}: {call} exceeds a rate limit: {message}")]
    Exhausted { address: String, call: String, message: String },
    /// The server says that it cannot serve now.
    #[error("Temporal at {address}: {call}: the server is unavailable: {message}")]
    Unavailable { address: String, call: String, message: String },
    /// Any other refusal of the server.
    #[error("Temporal at {address}: {call} failed ({code}): {message}")]
    Call { address: String, call: String, code: String, message: String },
    /// An answer that makes no sense.
    #[error("Temporal at {address}: the answer to {call} is not understood: {problem}")]
    Answer { address: String, call: String, problem: String },
}

impl TemporalError {
    /// True when the same read may succeed in a moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::Unavailable { .. } | Self::Refused { .. } | Self::Broken { .. })
    }

    /// True when the failure is of the connection or the login, so that the next call would fail as well.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        !matches!(
            self,
            Self::Denied { .. }
                | Self::NamespaceNotFound { .. }
                | Self::NamespaceExists { .. }
                | Self::RunNotFound { .. }
                | Self::NotOpen { .. }
                | Self::Exhausted { .. }
                | Self::Call { .. }
                | Self::Answer { .. }
        )
    }
}

impl Explain for TemporalError {
    fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } | Self::ApiKey { .. } | Self::TlsFiles { .. } => Kind::Config,
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address { .. } => "write it as `host:port` without a scheme, such as `temporal-frontend:7233`",
            Self::ApiKey { .. } => "check that the key is the bare token, on one line",
            Self::TlsFiles { .. } => "correct the file or the path under `tls` of the temporal connection",
            Self::Unresolved { .. } => "check the host of the temporal address, and the DNS where sexton runs",
            Self::Refused { .. } => {
                "check that the frontend runs and that the port is its gRPC port (7233 unless configured)"
            }
            Self::ConnectTimeout { .. } => "check the address and that no firewall or network policy drops it",
            Self::NeedsTls { .. } => "turn on `tls` for the temporal connection",
            Self::NotTls { .. } => "remove `tls` from the temporal connection, or use the port that speaks TLS",
            Self::Untrusted { .. } => "set `tls.ca` to the authority that signed the frontend's certificate",
            Self::WrongName { .. } => "set `server_name` to a name in the frontend's certificate",
            Self::ClientCertificate { sent: false, .. } => {
                "set `tls.certificate` and `tls.key`; this frontend wants mutual TLS"
            }
            Self::ClientCertificate { sent: true, .. } => {
                "use a client certificate signed by the authority that the frontend trusts, and not expired"
            }
            Self::Broken { tls: false, .. } => {
                "check that the port is Temporal's gRPC port and not that of its UI or metrics"
            }
            Self::Broken { tls: true, .. } => {
                "check the frontend's log; a server that wants a client certificate may close without a word"
            }
            Self::Unauthenticated { .. } => "set `api_key`, or the client certificate, of the temporal connection",
            Self::Denied { .. } => {
                "give the identity sexton uses the admin role; changing namespaces needs it in Temporal's authorizer"
            }
            Self::Deadline { .. } => "check the frontend's load and its database, or raise the connection's `timeout`",
            Self::NamespaceNotFound { .. } => {
                "check the name with `temporal operator namespace list`, or set `ensure: true` in the policy"
            }
            Self::RunNotFound { .. } => "it was deleted meanwhile; run again",
            Self::NotOpen { .. } => "start the workflow; check its id and namespace with `temporal workflow describe`",
            Self::Exhausted { .. } => "wait and run again; Temporal limits changes of namespaces per second",
            Self::Unavailable { .. } => "check the frontend's log; its history service or database may be down",
            Self::NamespaceExists { .. } => "run again: a new plan takes it as it is",
            Self::Call { .. } | Self::Answer { .. } => {
                "check that the address is that of Temporal's gRPC port, and look at the frontend's log"
            }
        };
        Some(hint.into())
    }
}

/// What is known about a failed call besides its error.
pub(super) struct Failing<'a> {
    pub(super) address: &'a str,
    pub(super) call: &'a str,
    /// The namespace the call is about.
    pub(super) subject: Option<&'a str>,
    pub(super) tls: Mode,
    pub(super) limit: Duration,
}

impl Failing<'_> {
    /// The error for a call without an answer.
    pub(super) fn deadline(&self) -> TemporalError {
        TemporalError::Deadline { address: self.address.into(), call: self.call.into(), limit: self.limit.into() }
    }
}

/// The error for a status; a status with a source was made on this side, from a broken connection.
pub(super) fn of_status(failing: &Failing<'_>, status: &Status) -> TemporalError {
    let address = failing.address.to_owned();
    let call = failing.call.to_owned();
    let message = status.message().to_owned();
    if let Some(source) = status.source() {
        return of_transport(failing, source);
    }
    match (status.code(), failing.subject) {
        // tonic reports its own time-out as a cancelled call.
        (Code::DeadlineExceeded | Code::Cancelled, _) => failing.deadline(),
        (Code::NotFound, Some(namespace)) if !is_about_a_run(failing, status) => {
            TemporalError::NamespaceNotFound { address, namespace: namespace.into() }
        }
        (Code::AlreadyExists, Some(namespace)) => {
            TemporalError::NamespaceExists { address, namespace: namespace.into() }
        }
        (Code::Unauthenticated, _) => TemporalError::Unauthenticated { address, call, message },
        (Code::PermissionDenied, _) => TemporalError::Denied { address, call, message },
        (Code::ResourceExhausted, _) => TemporalError::Exhausted { address, call, message },
        (Code::Unavailable, _) => TemporalError::Unavailable { address, call, message },
        (code, _) => TemporalError::Call { address, call, code: format!("{code:?}"), message },
    }
}

/// The server says "not found" of a run and of a namespace, and names the second in the status's details
/// (`temporal.api.errordetails.v1.NamespaceNotFoundFailure`).
fn is_about_a_run(failing: &Failing<'_>, status: &Status) -> bool {
    const OF_NAMESPACE: &[u8] = b"NamespaceNotFoundFailure";
    let of_namespace = status.details().windows(OF_NAMESPACE.len()).any(|part| part == OF_NAMESPACE);
    failing.call.contains("WorkflowExecution") && !of_namespace
}

/// The error for a connection that could not be made or broke.
pub(super) fn of_transport(failing: &Failing<'_>, error: &(dyn Error + 'static)) -> TemporalError {
    let address = failing.address.to_owned();
    if let Some(tls) = tls_failure(error) {
        return of_tls(failing, tls);
    }
    if find(error, |cause| cause.downcast_ref::<tonic::TimeoutExpired>()).is_some() {
        return failing.deadline();
    }
    let io = find(error, |cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match io {
        Some(io::ErrorKind::ConnectionRefused) => TemporalError::Refused { address },
        Some(io::ErrorKind::TimedOut) => TemporalError::ConnectTimeout { address, limit: failing.limit.into() },
        _ => TemporalError::Broken {
            address,
            call: failing.call.into(),
            problem: crate::failure::chain(error),
            tls: failing.tls != Mode::Off,
        },
    }
}

/// The TLS error among the causes, if there is one.
pub(super) fn tls_failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    find(error, |cause| cause.downcast_ref::<rustls::Error>())
}

fn of_tls(failing: &Failing<'_>, error: &rustls::Error) -> TemporalError {
    use rustls::Error as Tls;
    let address = failing.address.to_owned();
    let problem = tls_words(error);
    match error {
        Tls::InvalidMessage(_) => TemporalError::NotTls { address },
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => TemporalError::WrongName { address, problem },
        Tls::InvalidCertificate(_) => TemporalError::Untrusted { address, problem },
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => TemporalError::ClientCertificate { address, problem, sent: failing.tls == Mode::Mutual },
        _ => TemporalError::Broken { address, call: failing.call.into(), problem, tls: true },
    }
}

/// Walks the causes of an error. `io::Error` hides the error inside it from `source`, so that is opened as well.
fn find<'a, T>(error: &'a (dyn Error + 'static), pick: impl Fn(&'a (dyn Error + 'static)) -> Option<T>) -> Option<T> {
    let mut next = Some(error);
    // No real chain is this long; a chain that ends in itself must not hang.
    for _ in 0..32 {
        let cause = next?;
        if let Some(found) = pick(cause) {
            return Some(found);
        }
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_a_message_that_says_where_and_what() {
        let check = |code: Code, subject: Option<&str>, expect: &str| {
            let limit = Duration::from_secs(5);
            let failing = Failing { address: "t:7233", call: "UpdateNamespace", subject, tls: Mode::Off, limit };
            let error = of_status(&failing, &Status::new(code, "why"));
            assert_eq!(error.to_string(), format!("Temporal at t:7233: {expect}"));
        };
        check(Code::NotFound, Some("a"), "namespace `a` does not exist");
        check(Code::NotFound, None, "UpdateNamespace failed (NotFound): why");
        check(Code::AlreadyExists, Some("a"), "namespace `a` exists already");
        check(Code::Unauthenticated, None, "UpdateNamespace needs a login: why");
        check(Code::PermissionDenied, None, "UpdateNamespace is not permitted: why");
        check(Code::ResourceExhausted, None, "UpdateNamespace exceeds a rate limit: why");
        check(Code::Unavailable, None, "UpdateNamespace: the server is unavailable: why");
        check(Code::DeadlineExceeded, None, "no answer to UpdateNamespace within 5s");
        check(Code::Cancelled, None, "no answer to UpdateNamespace within 5s");
        check(Code::InvalidArgument, Some("a"), "UpdateNamespace failed (InvalidArgument): why");
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let check = |error: rustls::Error, expect: fn(&TemporalError) -> bool| {
            let limit = Duration::from_secs(5);
            let failing = Failing { address: "t:7233", call: "c", subject: None, tls: Mode::Server, limit };
            let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            let found = of_transport(&failing, &outer);
            assert!(expect(&found), "{found:?}");
        };
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        check(alert, |e| matches!(e, TemporalError::ClientCertificate { sent: false, .. }));
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        check(expired, |e| matches!(e, TemporalError::Untrusted { .. }));
        let name = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        check(name, |e| matches!(e, TemporalError::WrongName { .. }));
        check(rustls::Error::DecryptError, |e| matches!(e, TemporalError::Broken { tls: true, .. }));
    }
}
