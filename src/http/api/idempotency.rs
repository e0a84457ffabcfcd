//! `Idempotency-Key`: a request that is sent again, because its answer was lost, does nothing a second time.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::IntoParams;

use crate::daemon::ledger::{Answer, Key};
use crate::http::App;
use crate::http::problem::Problem;

/// Characters of the longest key.
const LONGEST: usize = 200;

/// The header, as it is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described; `once` reads it")]
pub(super) struct KeyHeader {
    /// Any text, new for each request.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 200,
        pattern = "^[!-~]{1,200}$",
        nullable = false
    )]
    idempotency_key: Option<String>,
}

/// An answer that can be given again.
pub(super) struct Given {
    pub status: StatusCode,
    pub location: Option<String>,
    pub body: Value,
}

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        if let Some(location) = self.location.and_then(|location| HeaderValue::try_from(location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// Does what was asked, or gives the answer that it was given before.
pub(super) async fn once(
    app: &App,
    who: &str,
    headers: &HeaderMap,
    request: &[&[u8]],
    act: impl Future<Output = Result<Given, Problem>>,
) -> Result<Given, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return act.await };
    let key = key.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = format!("an Idempotency-Key has 1 to {LONGEST} characters of ASCII, and no space");
        return Err(Problem::bad_request(detail));
    }
    let mut digest = blake3::Hasher::new();
    for part in request {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    match app.ledger().take_key(who, key, digest.finalize().to_hex().as_str()).await? {
        Key::New => {}
        Key::Answered(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(Given { status, location: answer.location, body: answer.body });
        }
        Key::InProgress => {
            let problem = Problem::new(StatusCode::CONFLICT, "the same request is in progress");
            return Err(problem.with_hint("send it once more in a while"));
        }
        Key::Other => {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was another request's");
            return Err(problem.with_hint("make a new key for each request"));
        }
    }
    let given = act.await;
    // What was refused may be sent again once the reason is gone.
    let keep = given.as_ref().ok().map(|given| Answer {
        status: given.status.as_u16(),
        location: given.location.clone(),
        body: given.body.clone(),
    });
    if let Err(error) = app.ledger().keep_answer(who, key, keep.as_ref()).await {
        tracing::warn!(error = %crate::failure::chain(&error), "the answer to a request could not be kept");
    }
    given
}
