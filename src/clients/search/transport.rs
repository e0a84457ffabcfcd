//! One call: sent with a limit, tried again where that is safe, its failure put into the engine's words.

use std::fmt;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method;
use elasticsearch::http::headers::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::engine::Engine;
use super::error::{SearchError, words};
use super::settings::{Auth, Settings};
use crate::clients::{tls_failure, tls_words};

/// A client of one search cluster. Cheap to clone.
#[derive(Clone)]
pub struct Search {
    transport: Transport,
    address: String,
    timeout: Duration,
    engine: Engine,
}

// The transport's own Debug shows the credentials.
impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("address", &self.address).field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Search {
    /// Connects, logs in and asks which engine it is.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Malformed`] when what answers is no search engine.
    pub async fn connect(settings: &Settings) -> Result<Self, SearchError> {
        let transport = transport(settings).await?;
        let unknown = Engine {
            product: super::Product::Other(String::new()),
            version: super::Version { major: 0, minor: 0 },
            number: String::new(),
            cluster: String::new(),
        };
        let address = settings.url.as_str().trim_end_matches('/').to_owned();
        let mut search = Self { transport, address, timeout: settings.timeout, engine: unknown };
        let body = search.call(Call::get("/")).await?;
        search.engine = Engine::read(&body).ok_or_else(|| SearchError::Malformed {
            call: "GET /".into(),
            cause: "no version in it, so this is no Elasticsearch or OpenSearch".into(),
        })?;
        Ok(search)
    }

    /// Which engine answers.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The address as configured.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a call and gives the JSON body of a 2xx answer; an empty one is `null`.
    pub(super) async fn call(&self, call: Call) -> Result<Value, SearchError> {
        self.call_as(call).await
    }

    /// The same, read as a type of its own: what is not in the type is not kept, which counts with answers of many
    /// documents.
    pub(super) async fn call_as<T: DeserializeOwned>(&self, call: Call) -> Result<T, SearchError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(3))
            .with_max_times(3)
            .with_jitter();
        let again = |error: &SearchError| turned_away(error) || (call.idempotent && passing(error));
        let body = (|| self.once(&call)).retry(backoff).when(again).await?;
        serde_json::from_slice(if body.is_empty() { b"null" } else { &body })
            .map_err(|error| SearchError::Malformed { call: call.to_string(), cause: error.to_string() })
    }

    async fn once(&self, call: &Call) -> Result<Bytes, SearchError> {
        let mut headers = HeaderMap::new();
        // The engine would compress its answers otherwise: work for both sides, to spare a network that is near.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = match &call.body {
            Body::None => None,
            Body::Json(body) => Some(Bytes::from(body.to_string())),
            Body::Lines(lines) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
                Some(lines.clone())
            }
        };
        let query = (!call.query.is_empty()).then_some(&call.query);
        let sent = self.transport.send(call.method, &call.path, headers, query, body, Some(self.timeout)).await;
        let response = sent.map_err(|error| self.failure(&error, call))?;
        let status = response.status_code().as_u16();
        let body = response.bytes().await.map_err(|error| self.failure(&error, call))?;
        if !(200..300).contains(&status) {
            return Err(self.refusal(call, status, &String::from_utf8_lossy(&body)));
        }
        Ok(body)
    }

    fn failure(&self, error: &elasticsearch::Error, call: &Call) -> SearchError {
        if error.is_timeout() {
            return SearchError::Timeout { call: call.to_string(), limit: self.timeout };
        }
        let address = self.address.clone();
        match tls_failure(error) {
            Some(tls @ rustls::Error::InvalidCertificate(_)) => {
                SearchError::Untrusted { address, cause: tls_words(tls) }
            }
            Some(tls) => SearchError::Tls { address, cause: tls_words(tls) },
            None => SearchError::Unreachable { address, cause: innermost(error) },
        }
    }

    fn refusal(&self, call: &Call, status: u16, text: &str) -> SearchError {
        let (kind, reason) = words(text);
        let call_text = call.to_string();
        let unallocated = ["all shards failed", "no_shard_available_action_exception", "unavailable_shards_exception"];
        match status {
            401 => SearchError::Unauthorized { address: self.address.clone(), reason },
            403 | 429 if kind == "cluster_block_exception" => SearchError::Blocked { call: call_text, reason },
            403 if !kind.is_empty() => SearchError::Forbidden { call: call_text, reason },
            404 => SearchError::NotFound { what: call.path.trim_start_matches('/').to_owned(), reason },
            503 if kind == "cluster_block_exception"
                || kind == "master_not_discovered_exception"
                || kind == "cluster_manager_not_discovered_exception"
                || unallocated.iter().any(|word| kind == *word || reason.starts_with(word)) =>
            {
                SearchError::Red { address: self.address.clone(), reason }
            }
            _ => SearchError::Unexpected { call: call_text, status, kind, reason },
        }
    }
}

/// True for failures that pass by themselves: no connection, an overloaded node, a gateway that lost its backend.
/// A time-out is not one: the call may still be at work in the engine.
fn passing(error: &SearchError) -> bool {
    matches!(error, SearchError::Unreachable { .. } | SearchError::Unexpected { status: 429 | 502 | 503 | 504, .. })
}

/// True when the engine was short of memory and did not take the request at all, so that even one that must not be made
/// twice may be sent again.
fn turned_away(error: &SearchError) -> bool {
    matches!(error, SearchError::Unexpected { status: 429, kind, .. } if kind == "circuit_breaking_exception")
}

/// One request, before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Body,
    idempotent: bool,
}

/// What a request carries.
#[derive(Debug, Clone)]
enum Body {
    None,
    Json(Value),
    /// One JSON value a line, as `_bulk` takes them.
    Lines(Bytes),
}

impl Call {
    /// A read.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), query: vec![], body: Body::None, idempotent: true }
    }

    /// A write that leaves the same state when it is made twice.
    pub(super) fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::Put, path: path.into(), query: vec![], body: Body::Json(body), idempotent: true }
    }

    /// A write without a body that leaves the same state when it is made twice.
    pub(super) fn put_empty(path: impl Into<String>) -> Self {
        Self { method: Method::Put, ..Self::get(path) }
    }

    /// A call that must not be made twice, unless [`Self::repeatable`] is said.
    pub(super) fn post(path: impl Into<String>, body: Option<Value>) -> Self {
        let body = body.map_or(Body::None, Body::Json);
        Self { method: Method::Post, path: path.into(), query: vec![], body, idempotent: false }
    }

    /// A call whose body is lines of JSON. Documents carry versions of their own, so that a repetition is harmless.
    pub(super) fn lines(path: impl Into<String>, lines: Bytes) -> Self {
        let body = Body::Lines(lines);
        Self { method: Method::Post, path: path.into(), query: vec![], body, idempotent: true }
    }

    /// A removal; never repeated, since a second one would hide what the first did.
    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::Delete, path: path.into(), query: vec![], body: Body::None, idempotent: false }
    }

    /// Adds a parameter.
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Says that a repetition is harmless.
    pub(super) fn repeatable(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Says that a repetition is not harmless.
    pub(super) fn once(mut self) -> Self {
        self.idempotent = false;
        self
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Head => "HEAD",
        };
        write!(f, "{method} {}", self.path)
    }
}

/// A name as one segment of a path. Index names never hold a space, so that the form encoding is a path encoding.
pub(super) fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

async fn transport(settings: &Settings) -> Result<Transport, SearchError> {
    let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(settings.url.clone()))
        .timeout(settings.timeout)
        .enable_meta_header(false);
    match &settings.auth {
        Auth::None => {}
        Auth::Basic { user, password } => {
            builder = builder.auth(Credentials::Basic(user.clone(), password.expose_secret().to_owned()));
        }
        Auth::ApiKey(key) => {
            let key = key.expose_secret().trim();
            // The transport panics on a key that is no header value.
            if key.is_empty() || HeaderValue::from_str(key).is_err() {
                return Err(SearchError::Settings("the API key holds characters that no header can carry".into()));
            }
            builder = builder.auth(Credentials::EncodedApiKey(key.to_owned()));
        }
    }
    if let Some(path) = &settings.ca {
        let ca_error = |cause: String| SearchError::CaFile { path: path.clone(), cause };
        let pem = tokio::fs::read(path).await.map_err(|error| ca_error(error.to_string()))?;
        let chain = Certificate::from_pem(&pem).map_err(|error| ca_error(innermost(&error)))?;
        builder = builder.cert_validation(CertificateValidation::Full(chain));
    }
    builder.build().map_err(|error| SearchError::Settings(error.to_string()))
}

/// The text at the end of an error's chain of causes.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
