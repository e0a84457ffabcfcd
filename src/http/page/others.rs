//! Who did what.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use uuid::Uuid;

use super::frame::Frame;
use super::{Oops, Visitor, render};
use crate::daemon::ledger::NotedAction;
use crate::http::App;
use crate::http::api::Query;
use crate::http::problem::Problem;

/// Entries on one page.
const SHOWN: u32 = 100;

#[derive(askama::Template)]
#[template(path = "actions.html")]
struct ActionsPage {
    frame: Frame,
    actions: Vec<NotedAction>,
    next: Option<Uuid>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    before: Option<Uuid>,
}

pub(super) async fn actions(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    wanted: Result<Query<Wanted>, Problem>,
) -> Result<Response, Oops> {
    let Query(wanted) = wanted?;
    let mut actions = app.ledger().actions(wanted.before, SHOWN + 1).await?;
    let more = actions.len() > SHOWN as usize;
    actions.truncate(SHOWN as usize);
    let next = actions.last().filter(|_| more).map(|action| action.id);
    Ok(render(&ActionsPage { frame: Frame::of(&visitor, "Who did what", "/actions").still(), actions, next }))
}
