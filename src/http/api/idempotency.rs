//! `Idempotency-Key`: a request that is sent again, because its answer was lost, does nothing a second time.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::IntoParams;
use uuid::Uuid;

use super::jobs::started;
use crate::daemon::ledger::{Answer, Key};
use crate::http::App;
use crate::http::problem::{Problem, only};

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

/// Does what was asked, or gives the answer that it was given before. A run that is begun has the id that is given to `act`:
/// it is written down before, so that a request whose process died in the middle finds what it had begun.
pub(super) async fn once<F: Future<Output = Result<Given, Problem>>>(
    app: &App,
    who: &str,
    headers: &HeaderMap,
    request: &[&[u8]],
    act: impl FnOnce(Uuid) -> F,
) -> Result<Given, Problem> {
    let mut run = Uuid::now_v7();
    let Some(key) = only(headers, "idempotency-key")? else { return act(run).await };
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
    match app.ledger().take_key(who, key, digest.finalize().to_hex().as_str(), run).await? {
        Key::New => {}
        Key::Again(begun) => {
            if app.ledger().one(begun).await?.is_some() {
                let given = started(app, begun).await?;
                keep(app, who, key, Some(&given)).await;
                return Ok(given);
            }
            run = begun;
        }
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
    let given = act(run).await;
    // What was refused may be sent again once the reason is gone.
    keep(app, who, key, given.as_ref().ok()).await;
    given
}

/// An answer that cannot be kept leaves the key as it is: whoever asks again finds the run.
async fn keep(app: &App, who: &str, key: &str, given: Option<&Given>) {
    let answer = given.map(|given| Answer {
        status: given.status.as_u16(),
        location: given.location.clone(),
        body: given.body.clone(),
    });
    if let Err(error) = app.ledger().keep_answer(who, key, answer.as_ref()).await {
        tracing::warn!(error = %crate::failure::chain(&error), "the answer to a request could not be kept");
    }
}
