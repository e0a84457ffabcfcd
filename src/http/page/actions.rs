//! Who did what.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::format::When;
use super::frame::Frame;
use super::{Oops, Visitor, render};
use crate::daemon::ledger::{Action, NotedAction};
use crate::http::App;
use crate::http::api::{Query, page_of};
use crate::http::problem::Problem;

/// Entries on one page.
const SHOWN: u32 = 100;

#[derive(askama::Template)]
#[template(path = "actions.html")]
struct ActionsPage {
    frame: Frame,
    actions: Vec<Row>,
    next: Option<Uuid>,
}

struct Row {
    at: When,
    action: Action,
}

impl Row {
    fn of(noted: NotedAction, now: Timestamp) -> Self {
        let NotedAction { at, action, .. } = noted;
        Self { at: When::of(at, now), action }
    }
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
    let actions = app.ledger().actions(wanted.before, SHOWN + 1).await?;
    let (actions, next) = page_of(actions, SHOWN, |action| action.id);
    let now = Timestamp::now();
    let actions = actions.into_iter().map(|noted| Row::of(noted, now)).collect();
    Ok(render(&ActionsPage { frame: Frame::of(&visitor, "Who did what", "/actions").still(), actions, next }))
}
