//! Signing in with a token, and out.

use std::net::SocketAddr;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;

use super::frame::Frame;
use super::{Form, Oops, Visitor, render, see};
use crate::http::App;
use crate::http::actions::SignedIn;
use crate::http::api::Query;
use crate::http::auth::{self, Principal, Via, is_cross_site};
use crate::http::problem::Problem;

#[derive(askama::Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    error: Option<String>,
    has_tokens: bool,
    next: String,
}

/// Where somebody signs in who wanted to see `next`.
pub(super) fn path(next: &str) -> String {
    let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
    if next == "/" { "/sign-in".to_owned() } else { format!("/sign-in?{query}") }
}

/// Only a path of this server is gone to; `//elsewhere` is another one's.
fn local(next: &str) -> &str {
    let is_local = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if is_local { next } else { "/" }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
}

fn shown(app: &App, next: &str, error: Option<String>) -> SignInPage {
    let has_tokens = !app.settings.tokens.is_empty();
    SignInPage { frame: Frame::plain("Sign in"), error, has_tokens, next: local(next).to_owned() }
}

pub(super) async fn page(State(app): State<App>, wanted: Result<Query<Wanted>, Problem>) -> Result<Response, Oops> {
    let Query(wanted) = wanted?;
    Ok(render(&shown(&app, &wanted.next, None)))
}

/// The address at the other end of the connection.
pub(super) struct PeerAddress(SocketAddr);

impl FromRequestParts<App> for PeerAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(auth::peer(parts)))
    }
}

#[derive(Deserialize)]
pub(super) struct Given {
    token: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn sign_in(
    State(app): State<App>,
    PeerAddress(peer): PeerAddress,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Result<Response, Oops> {
    if is_cross_site(&headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "another site has sent this form").into());
    }
    let token = match app.gate.token(given.token.trim(), app.gate.address(peer, &headers)) {
        Ok(token) => token,
        Err(problem) => {
            let page = shown(&app, &given.next, Some(problem.detail.clone()));
            let mut response = (problem.status(), render(&page)).into_response();
            if let Some(seconds) = problem.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            return Ok(response);
        }
    };
    let until = Timestamp::now().checked_add(app.settings.session).unwrap_or(Timestamp::MAX);
    let cookie = app.gate.sessions().begin(token, until).and_then(|cookie| HeaderValue::try_from(cookie).ok());
    let cookie = cookie.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no session can be begun"))?;
    let mut response = see(local(&given.next));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    let (name, role) = (token.name.clone(), token.role);
    response.extensions_mut().insert(SignedIn(Principal { name, role, via: Via::Session, csrf: String::new() }));
    Ok(response)
}

#[derive(Deserialize)]
pub(super) struct Signed {
    pub csrf: String,
}

pub(super) async fn sign_out(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.check_csrf(&form.csrf)?;
    let mut response = see("/sign-in");
    if let Ok(cookie) = HeaderValue::try_from(app.gate.sessions().end()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example", "", "runs", "/a\nb"] {
            assert_eq!(local(elsewhere), "/", "{elsewhere}");
        }
        assert_eq!(local("/runs?job=backup"), "/runs?job=backup");
        assert_eq!(path("/runs?job=a&b"), "/sign-in?next=%2Fruns%3Fjob%3Da%26b");
    }
}
