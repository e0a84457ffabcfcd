//! What webhooks were told, are to be told, or could not be told.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::format::{When, tone};
use super::frame::{Frame, may_run};
use super::sign_in::Signed;
use super::{Form, Oops, Visitor, render, see};
use crate::http::App;
use crate::http::api::{Path, Query, forget, page_of, try_again};
use crate::http::problem::Problem;
use crate::http::settings::Role;

/// Deliveries on one page.
const SHOWN: u32 = 100;

#[derive(askama::Template)]
#[template(path = "webhooks.html")]
struct WebhooksPage {
    frame: Frame,
    none_configured: bool,
    dead: i64,
    rows: Vec<Row>,
    next: Option<Uuid>,
    may_run: bool,
}

struct Row {
    id: Uuid,
    written: When,
    webhook: String,
    state: String,
    tone: &'static str,
    attempts: i32,
    run: Option<Uuid>,
    about: String,
    error: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    before: Option<Uuid>,
}

pub(super) async fn page(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    wanted: Result<Query<Wanted>, Problem>,
) -> Result<Response, Oops> {
    let Query(wanted) = wanted?;
    let deliveries = app.ledger().deliveries(None, SHOWN + 1, wanted.before).await?;
    let (deliveries, next) = page_of(deliveries, SHOWN, |delivery| delivery.id);
    let now = Timestamp::now();
    let rows = deliveries.iter().map(|delivery| Row {
        id: delivery.id,
        written: When::of(delivery.created_at, now),
        webhook: delivery.webhook.clone(),
        tone: match delivery.state.as_str() {
            "delivered" => tone("done"),
            "dead" => tone("failed"),
            _ => tone("running"),
        },
        state: delivery.state.clone(),
        attempts: delivery.attempts,
        run: delivery.run,
        about: ["job", "outcome"].map(|key| delivery.payload["run"][key].as_str().unwrap_or_default()).join(" "),
        error: delivery.last_error.clone().unwrap_or_default(),
    });
    Ok(render(&WebhooksPage {
        frame: Frame::of(&visitor, "Webhooks", "/webhooks"),
        none_configured: app.site.config.webhooks.is_empty(),
        dead: app.ledger().delivery_counts().await?.dead,
        rows: rows.collect(),
        next,
        may_run: may_run(&visitor),
    }))
}

pub(super) async fn retry(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    id: Result<Path<Uuid>, Problem>,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Run)?;
    let Path(id) = id?;
    try_again(&app, id).await?;
    Ok(see("/webhooks"))
}

pub(super) async fn dismiss(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    id: Result<Path<Uuid>, Problem>,
    Form(form): Form<Signed>,
) -> Result<Response, Oops> {
    visitor.sends(&form.csrf, Role::Run)?;
    let Path(id) = id?;
    forget(&app, id).await?;
    Ok(see("/webhooks"))
}
