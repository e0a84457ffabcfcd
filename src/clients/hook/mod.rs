//! One HTTP request to somebody's webhook: no redirects, a limit on everything, and no word of its address but the host,
//! for with many services the address is the secret.

mod address;
mod error;

pub use address::{Address, NoAddress};
pub use error::HookError;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, redirect};

use super::install_crypto_provider;

/// Of an answer no more is read. Bytes.
const ANSWER_AT_MOST: usize = 1 << 10;
/// No connection takes longer than this, whatever the whole may take.
const CONNECT_AT_MOST: Duration = Duration::from_secs(10);

/// Where a webhook is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its address.
    pub address: Address,
    /// Certificates of the authorities to trust, as PEM, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// What the other side answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// When it wants to be asked again, if it says so.
    pub retry_after: Option<Duration>,
    /// Why it refuses, when it says that in one lower-case word, such as `no_service`; anything longer could repeat
    /// what it was sent.
    pub word: Option<String>,
}

/// A client of one webhook.
#[derive(Debug, Clone)]
pub struct Hook {
    client: Client,
    address: Address,
}

impl Hook {
    /// Reads the certificates; connects to nothing yet.
    ///
    /// # Errors
    /// [`HookError::Ca`] when the file cannot be used.
    pub async fn new(settings: &Settings) -> Result<Self, HookError> {
        install_crypto_provider();
        let mut builder = Client::builder()
            .user_agent(concat!("sexton/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_AT_MOST)
            // Deliveries are rare: a connection that was kept would be one the other side has closed.
            .pool_max_idle_per_host(0);
        if let Some(path) = &settings.ca {
            let wrong = |problem: String| HookError::Ca { path: path.clone(), problem };
            let pem = tokio::fs::read(path).await.map_err(|error| wrong(error.to_string()))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("it is not PEM".into()))?;
            if authorities.is_empty() {
                return Err(wrong("no certificate is in it".into()));
            }
            builder = builder.tls_built_in_root_certs(false);
            builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder.build().map_err(|error| HookError::of(&settings.address, error, Duration::ZERO))?;
        Ok(Self { client, address: settings.address.clone() })
    }

    /// Posts a JSON document and gives the answer, whatever its status. Not retried.
    ///
    /// # Errors
    /// When there is no answer within `limit`.
    pub async fn post(
        &self,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
        limit: Duration,
    ) -> Result<Answer, HookError> {
        let mut request = self.client.post(self.address.url()).timeout(limit).body(body);
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            request = request.header(HeaderName::from_static(name), value);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| HookError::of(&self.address, error, limit))?;
        let status = response.status();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|text| retry_after(text, Timestamp::now()));
        let word = if status.is_success() { None } else { self.word(&mut response).await };
        Ok(Answer { status: status.as_u16(), retry_after, word })
    }

    async fn word(&self, response: &mut reqwest::Response) -> Option<String> {
        let mut read = Vec::new();
        while let Ok(Some(part)) = response.chunk().await {
            if read.len() + part.len() > ANSWER_AT_MOST {
                return None;
            }
            read.extend_from_slice(&part);
        }
        let text = std::str::from_utf8(&read).ok()?.trim();
        let is_word = (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_word && !self.address.holds(text)).then(|| text.to_owned())
    }
}

/// A number of seconds, or an instant as HTTP writes it. A number that is too large to count is as long as can be.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(at.duration_since(now).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now: Timestamp = "2026-01-31T07:28:00Z".parse().unwrap();
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        };
        check("120", Some(120));
        check("Sat, 31 Jan 2026 07:30:00 GMT", Some(120));
        check("Sat, 31 Jan 2026 07:00:00 GMT", Some(0));
        check("99999999999999999999999999", Some(u64::MAX));
        check("", None);
        check("soon", None);
        check("-1", None);
    }
}
