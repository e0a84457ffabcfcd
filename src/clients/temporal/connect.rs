//! Making the connection, and finding out what is wrong when it cannot be made.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::error::{self, Failing};
use super::{Settings, Temporal, TemporalError, tls};
use crate::clients::install_crypto_provider;

/// What carries the calls: the channel, with the API key added to each request.
pub(super) type Wire = InterceptedService<Channel, ApiKey>;

/// No connection takes longer than this, whatever a call may take.
const CONNECT_AT_MOST: Duration = Duration::from_secs(10);

/// See [`Temporal::connect`].
pub(super) async fn connect(settings: &Settings) -> Result<Temporal, TemporalError> {
    install_crypto_provider();
    let address = settings.address.as_str();
    let mode = tls::mode(settings);
    let limit = settings.timeout.min(CONNECT_AT_MOST);
    let api_key = ApiKey::of(settings)?;
    let endpoint = endpoint(settings, tls::config(settings).await?, limit)?;
    resolve(address, limit).await?;

    let failing = Failing { address, call: "connect", subject: None, tls: mode, limit };
    // tonic's own limit covers each address of the host and the handshake apart; this one covers everything.
    let channel = match tokio::time::timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(error::of_transport(&failing, &error)),
        Err(_) => return Err(TemporalError::ConnectTimeout { address: address.into(), limit: limit.into() }),
    };
    let temporal = Temporal {
        address: Arc::from(address),
        tls: mode,
        timeout: settings.timeout,
        wire: InterceptedService::new(channel, api_key),
    };
    match temporal.system_version().await {
        Ok(_) => Ok(temporal),
        Err(error) if mode == tls::Mode::Off && error.is_connection() && speaks_tls(address, limit).await => {
            Err(TemporalError::NeedsTls { address: address.into() })
        }
        // In TLS 1.3 the client's certificate is judged after the handshake, and the alert that tells the verdict gets
        // lost when the HTTP/2 layer is told of the end first. A frontend has no other reason to hang up here.
        Err(TemporalError::Broken { tls: true, .. }) => Err(TemporalError::ClientCertificate {
            address: address.into(),
            problem: "it closed the connection right after the TLS handshake".into(),
            sent: mode == tls::Mode::Mutual,
        }),
        Err(error) => Err(error),
    }
}

/// Adds `authorization: Bearer …` where a key is configured. The value is marked sensitive, so that no Debug prints it.
#[derive(Clone)]
pub(super) struct ApiKey(Option<MetadataValue<Ascii>>);

impl ApiKey {
    fn of(settings: &Settings) -> Result<Self, TemporalError> {
        let Some(key) = &settings.api_key else { return Ok(Self(None)) };
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", key.expose_secret().trim())
            .parse()
            .map_err(|_| TemporalError::ApiKey { address: settings.address.clone() })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn endpoint(settings: &Settings, tls: Option<ClientTlsConfig>, limit: Duration) -> Result<Endpoint, TemporalError> {
    let address = &settings.address;
    let wrong = |problem: &str| TemporalError::Address { address: address.clone(), problem: problem.into() };
    if address.contains("://") {
        return Err(wrong("it has a scheme"));
    }
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
    if !matches!(port, Some(Ok(1..))) {
        return Err(wrong("it has no port"));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| wrong(&error.to_string()))?
        .user_agent(concat!("sexton/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| wrong(&error.to_string()))?
        .connect_timeout(limit)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    match tls {
        None => Ok(endpoint),
        Some(config) => endpoint.tls_config(config).map_err(|error| TemporalError::TlsFiles {
            address: address.clone(),
            problem: crate::failure::chain(&error),
        }),
    }
}

/// A name that does not resolve deserves an error of its own; the transport does not tell it from the others.
async fn resolve(address: &str, limit: Duration) -> Result<(), TemporalError> {
    let unresolved = |problem: String| TemporalError::Unresolved { address: address.into(), problem };
    match tokio::time::timeout(limit, tokio::net::lookup_host(address)).await {
        Ok(Ok(mut found)) => match found.next() {
            Some(_) => Ok(()),
            None => Err(unresolved("the name has no address".into())),
        },
        Ok(Err(error)) => Err(unresolved(error.to_string())),
        Err(_) => Err(unresolved(format!("no answer within {}", crate::units::Span::from(limit)))),
    }
}

/// True when a TLS handshake with the server gets as far as a certificate or an alert. It trusts nobody, so it never
/// completes.
async fn speaks_tls(address: &str, limit: Duration) -> bool {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map(|endpoint| endpoint.connect_timeout(limit))
        .and_then(|endpoint| endpoint.tls_config(ClientTlsConfig::new()));
    let Ok(endpoint) = endpoint else { return false };
    match tokio::time::timeout(limit, endpoint.connect()).await {
        Ok(Err(error)) => {
            error::tls_failure(&error).is_some_and(|tls| !matches!(tls, rustls::Error::InvalidMessage(_)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_key_goes_into_the_header_and_into_no_debug_output() {
        let sent = |key: Option<&str>| {
            let settings = Settings {
                address: "localhost:7233".into(),
                tls: None,
                server_name: None,
                api_key: key.map(Into::into),
                timeout: Duration::from_secs(1),
            };
            ApiKey::of(&settings).unwrap().call(Request::new(())).unwrap()
        };
        let request = sent(Some("a-secret\n"));
        assert_eq!(request.metadata().get("authorization").unwrap().to_str().unwrap(), "Bearer a-secret");
        assert!(!format!("{request:?}").contains("a-secret"), "{request:?}");
        assert!(sent(None).metadata().is_empty());
    }
}
