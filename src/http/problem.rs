//! What went wrong, as `application/problem+json` (RFC 9457) for programs.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::daemon::ledger::LedgerError;
use crate::failure::{Explain, Failure, Kind, chain};
use crate::migrate::MigrateError;

/// An error as it is answered. It holds what a caller may know: no secret, no path of the server.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// Which kind of problem; `about:blank` says no more than the status.
    #[serde(rename = "type")]
    pub about: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// After how many seconds it may be tried again.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            about: "about:blank",
            title,
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            retry_after: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what}"))
    }

    /// The status as a type.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The value of a header that may be there once; of two, which one counts would be a guess.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(Problem::bad_request(format!("the header `{name}` is there twice"))),
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure.kind {
            Kind::Refused | Kind::Awaited | Kind::Stale | Kind::Config => StatusCode::CONFLICT,
            Kind::Usage => StatusCode::BAD_REQUEST,
            Kind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Failed | Kind::VerificationFailed | Kind::CouldNotVerify | Kind::Compensated => {
                StatusCode::BAD_GATEWAY
            }
        };
        Self { hint: failure.hint, ..Self::new(status, failure.message) }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(error = %chain(&error), "a request could not be answered");
        let hint = error.hint();
        Self { hint, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error)) }
    }
}

impl From<MigrateError> for Problem {
    fn from(error: MigrateError) -> Self {
        let is_of_ledger =
            matches!(error, MigrateError::Journal(_) | MigrateError::JournalTimeout(_) | MigrateError::NoJournal);
        let problem = Self::from(Failure::from(error));
        match is_of_ledger {
            true => {
                tracing::warn!(error = problem.detail, "a request could not be answered");
                Self { hint: problem.hint, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, problem.detail) }
            }
            false => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sexton\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
