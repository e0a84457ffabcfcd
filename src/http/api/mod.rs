//! The API under `/api/v1`, and its description.

mod docs;
mod history;
mod idempotency;
mod jobs;
mod migrations;
mod runs;
mod standing;
mod state;
mod types;
mod webhooks;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use self::docs::description_text;
pub(super) use self::jobs::start_job;
pub(super) use self::migrations::{grant, run_it, take_back, undo_it};
pub(super) use self::runs::{cancel_run, running};
pub(super) use self::standing::{Look, MigrationState, Needy, Recipe, Step, all, look};
pub(super) use self::state::overall;
pub(super) use self::types::{OfJob, Path, Progress, Query, Run, RunLine, page_of};
pub(super) use self::webhooks::{forget, try_again};
use super::App;
use super::events;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sexton",
        description = "Maintenance of a self-hosted Temporal cluster: state, runs, migrations. Errors are \
                       `application/problem+json`. Requests that change something take an `Idempotency-Key`: the same \
                       request with the same key again gets the same answer and does nothing.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    security(("token" = [])),
    modifiers(&Token),
    tags(
        (name = "state", description = "How things are"),
        (name = "runs", description = "Jobs and their runs"),
        (name = "migrations", description = "Staged migrations"),
        (name = "history", description = "Who did what")
    )
)]
struct Described;

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let scheme = scheme.description(Some("A token of the configuration; its role is read, run or approve."));
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

/// Every error is told as a [`super::problem::Problem`], whichever the route, and each can be told to wait.
fn tell_problems(openapi: &mut utoipa::openapi::OpenApi) {
    for item in openapi.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten();
        for responses in operations.map(|operation| &mut operation.responses.responses) {
            responses.insert("429".to_owned(), RefOr::T(Response::new("Too many wrong tokens came from this address")));
            for (status, response) in responses.iter_mut() {
                let RefOr::T(response) = response else { continue };
                if !status.starts_with(['4', '5']) {
                    continue;
                }
                let content = Content::new(Some(Ref::from_schema_name("Problem")));
                response.content = [("application/problem+json".to_owned(), RefOr::T(content))].into_iter().collect();
                let code = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
                if response.description.is_empty() {
                    code.and_then(|code| code.canonical_reason())
                        .unwrap_or("Error")
                        .clone_into(&mut response.description);
                }
            }
        }
    }
}

fn described() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut openapi) = routes();
    tell_problems(&mut openapi);
    (router, openapi)
}

fn routes() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(state::status))
        .routes(routes!(state::connections))
        .routes(routes!(state::retention))
        .routes(routes!(state::visibility))
        .routes(routes!(state::backups))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::start))
        .routes(routes!(runs::list))
        .routes(routes!(runs::one))
        .routes(routes!(runs::log))
        .routes(routes!(runs::cancel))
        .routes(routes!(events::events))
        .routes(routes!(migrations::list))
        .routes(routes!(migrations::one))
        .routes(routes!(migrations::approve, migrations::revoke))
        .routes(routes!(migrations::run))
        .routes(routes!(migrations::undo))
        .routes(routes!(history::actions))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::retry))
        .routes(routes!(webhooks::dismiss))
        .split_for_parts()
}

/// The API's description, as it is served.
pub(super) fn description() -> utoipa::openapi::OpenApi {
    described().1
}

pub(super) fn router() -> Router<App> {
    described().0.route("/openapi.json", get(docs::openapi))
}
