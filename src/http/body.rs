//! Bodies of requests: bounded in size and in time, and refused with a reason.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::{Problem, only};
use super::{App, LARGEST_BODY};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The whole body.
async fn read(request: Request) -> Result<Bytes, Problem> {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let problem =
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is compressed, and nothing here reads that");
        return Err(problem.with_hint("send it without `Content-Encoding`"));
    }
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let too_large =
        || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {LARGEST_BODY} bytes"));
    if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > LARGEST_BODY) {
        return Err(too_large());
    }
    let body: Body = request.into_body();
    match tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The limit's own error is not told apart by its type, and a connection that broke gets no answer anyway.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

/// What a parser says, which may repeat all that it was given.
pub(super) fn cut(error: impl std::fmt::Display) -> String {
    const MOST: usize = 300;
    let text = error.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn content_type(request: &Request) -> Result<String, Problem> {
    let value = only(request.headers(), header::CONTENT_TYPE.as_str())?;
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// A body of JSON, with its bytes for telling requests apart; an empty one, or `null`, is that of an empty object.
#[derive(Debug)]
pub(super) struct Json<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let kind = content_type(&request)?;
        let bytes = read(request).await?;
        if !bytes.is_empty() && kind != "application/json" {
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not said to be JSON");
            return Err(problem.with_hint("send `Content-Type: application/json`"));
        }
        let text: &[u8] = match bytes.trim_ascii() {
            b"" | b"null" => b"{}",
            // serde would take the fields of a list one after the other.
            [b'{', ..] => &bytes,
            _ => return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body is no object")),
        };
        let value = serde_json::from_slice(text).map_err(|error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body does not fit: {}", cut(error)))
        })?;
        Ok(Self { value, bytes })
    }
}

/// The fields of a form.
#[derive(Debug)]
pub(super) struct Form<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        if content_type(&request)? != "application/x-www-form-urlencoded" {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this is not the form of a page"));
        }
        let bytes = read(request).await?;
        let value = serde_urlencoded::from_bytes(&bytes).map_err(|error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the form does not fit: {}", cut(error)))
        })?;
        Ok(Self(value))
    }
}
