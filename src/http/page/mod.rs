//! The status page: rendered here, readable without a script, on a phone, in the dark.

mod actions;
mod assets;
mod backups;
mod docs;
mod format;
mod frame;
mod home;
mod migrations;
mod retention;
mod runs;
mod sign_in;
mod visibility;
mod webhooks;

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;

use self::format::Prose;
use self::frame::Frame;
use super::App;
use super::auth::Principal;
use super::body;
use super::problem::Problem;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/", get(home::page))
        .route("/runs", get(runs::list))
        .route("/runs/{id}", get(runs::one))
        .route("/runs/{id}/cancel", post(runs::cancel))
        .route("/jobs/{job}/runs", post(runs::start))
        .route("/retention", get(retention::page))
        .route("/visibility", get(visibility::page))
        .route("/backups", get(backups::page))
        .route("/migrations", get(migrations::list))
        .route("/migrations/{name}", get(migrations::one))
        .route("/migrations/{name}/approvals", post(migrations::approve))
        .route("/migrations/{name}/revoke", post(migrations::revoke))
        .route("/migrations/{name}/runs", post(migrations::run))
        .route("/migrations/{name}/undo", post(migrations::undo))
        .route("/migrations/{name}/rehearsals/{id}", get(migrations::rehearsal))
        .route("/webhooks", get(webhooks::page))
        .route("/webhooks/{id}/retry", post(webhooks::retry))
        .route("/webhooks/{id}/dismiss", post(webhooks::dismiss))
        .route("/actions", get(actions::page))
        .route("/docs", get(docs::page))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/style.css", get(assets::style))
        .route("/assets/live.js", get(assets::live))
        .route("/assets/icon.svg", get(assets::icon))
}

/// Somebody who may look, at a page. Whoever is not signed in is led to where that is done.
#[derive(Debug, Clone)]
struct Visitor(Principal);

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        match Principal::from_request_parts(parts, app).await {
            Ok(principal) => Ok(Self(principal)),
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED && parts.method == axum::http::Method::GET => {
                Err(Redirect::to(&sign_in::path(parts.uri.path_and_query().map_or("/", |path| path.as_str())))
                    .into_response())
            }
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
                // What was sent is lost; the session has ended.
                Err(Redirect::to("/sign-in").into_response())
            }
            Err(problem) => Err(Oops(problem).into_response()),
        }
    }
}

/// What a form of a page has sent; what is wrong with it is a page as well.
#[derive(Debug)]
struct Form<T>(T);

impl<T: DeserializeOwned> FromRequest<App> for Form<T> {
    type Rejection = Oops;

    async fn from_request(request: Request, app: &App) -> Result<Self, Oops> {
        let body::Form(fields) = body::Form::from_request(request, app).await?;
        Ok(Self(fields))
    }
}

/// A problem as a page.
#[derive(Debug)]
struct Oops(Problem);

impl<E: Into<Problem>> From<E> for Oops {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(askama::Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: String,
    detail: Prose,
    hint: Option<Prose>,
    back: &'static str,
}

impl IntoResponse for Oops {
    fn into_response(self) -> Response {
        let Problem { title, detail, hint, .. } = self.0.clone();
        let frame = Frame::plain(title);
        let page = ProblemPage {
            frame,
            title: title.to_owned(),
            detail: detail.into(),
            hint: hint.map(Prose::from),
            back: "/",
        };
        let mut response = (self.0.status(), render(&page)).into_response();
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A page.
fn render(page: &impl askama::Template) -> Response {
    match page.render() {
        Ok(text) => axum::response::Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered").into_response()
        }
    }
}

/// What no route is for: in the form that the asker understands.
pub(super) async fn not_found(uri: Uri) -> Response {
    let problem = Problem::not_found("such page");
    match uri.path().starts_with("/api/") {
        true => problem.into_response(),
        false => Oops(problem).into_response(),
    }
}

/// Where a form leads to.
fn see(path: &str) -> Response {
    Redirect::to(path).into_response()
}
