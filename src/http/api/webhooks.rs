use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::idempotency::{Given, KeyHeader, once};
use super::types::{Page, Path, Query, limit, page_of};
use crate::daemon::ledger::{Delivery, Dismissed, Retried};
use crate::http::App;
use crate::http::auth::{Operator, Reader};
use crate::http::problem::Problem;

/// A page of deliveries to webhooks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Deliveries {
    /// The newest first: `id`, `webhook`, `run`, `state` (`pending`, `delivered`, `dead`), `attempts`, `last_error`.
    #[schema(value_type = Vec<Object>)]
    deliveries: Vec<Delivery>,
    /// What to give as `before` for the next page; `null` on the last.
    next: Option<Uuid>,
}

/// What webhooks were told, are to be told, or could not be told; the newest first.
#[utoipa::path(
    get, path = "/api/v1/webhooks/deliveries", tag = "history", params(Page),
    responses((status = 200, body = Deliveries), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Reader,
    Query(page): Query<Page>,
) -> Result<Json<Deliveries>, Problem> {
    let limit = limit(page.limit)?;
    let deliveries = app.ledger().deliveries(None, limit + 1, page.before).await?;
    let (deliveries, next) = page_of(deliveries, limit, |delivery| delivery.id);
    Ok(Json(Deliveries { deliveries, next }))
}

/// Has a delivery that was given up tried again.
pub(in crate::http) async fn try_again(app: &App, id: Uuid) -> Result<(), Problem> {
    match app.ledger().retry_delivery(id, &app.site.config.webhooks.names()).await? {
        Retried::Due => Ok(()),
        Retried::Delivered => Err(Problem::new(StatusCode::CONFLICT, "it was delivered already")),
        Retried::NoWebhook(webhook) => {
            let detail = format!("it is for `{webhook}`, and there is no such webhook any more");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Retried::Unknown => Err(Problem::not_found(format!("delivery {id}"))),
    }
}

/// Has a delivery tried again at once.
#[utoipa::path(
    post, path = "/api/v1/webhooks/deliveries/{id}/retry", tag = "history",
    params(("id" = Uuid, Path, description = "The delivery"), KeyHeader),
    responses((status = 202, description = "It is due"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, description = "It was delivered already, or its webhook is not configured any more", body = Problem), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn retry(
    State(app): State<App>,
    Operator(by): Operator,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Given, Problem> {
    once(&app, &by.name, &headers, &[b"retry", id.as_bytes()], async |_| {
        try_again(&app, id).await?;
        Ok(Given { status: StatusCode::ACCEPTED, location: None, body: json!({ "id": id }) })
    })
    .await
}

/// Removes a delivery that was given up.
pub(in crate::http) async fn forget(app: &App, id: Uuid) -> Result<(), Problem> {
    match app.ledger().dismiss_delivery(id).await? {
        Dismissed::Gone => Ok(()),
        Dismissed::NotDead(state) => {
            let detail = format!("it is {state}; only one that was given up is dismissed");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Dismissed::Unknown => Err(Problem::not_found(format!("delivery {id}"))),
    }
}

/// Dismisses a delivery that was given up: it is gone, and nobody is told of it any more.
#[utoipa::path(
    post, path = "/api/v1/webhooks/deliveries/{id}/dismiss", tag = "history",
    params(("id" = Uuid, Path, description = "The delivery"), KeyHeader),
    responses((status = 200, description = "It is gone"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, description = "It was not given up", body = Problem), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn dismiss(
    State(app): State<App>,
    Operator(by): Operator,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Given, Problem> {
    once(&app, &by.name, &headers, &[b"dismiss", id.as_bytes()], async |_| {
        forget(&app, id).await?;
        Ok(Given { status: StatusCode::OK, location: None, body: json!({ "id": id }) })
    })
    .await
}
