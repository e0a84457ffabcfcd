use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::types::{Page, Query, limit, page_of};
use crate::daemon::ledger::NotedAction;
use crate::http::App;
use crate::http::auth::Reader;
use crate::http::problem::Problem;

/// A page of who did what.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Actions {
    /// The newest first: `id`, `at`, `who`, `role`, `address`, `method`, `path`, `status`.
    #[schema(value_type = Vec<Object>)]
    actions: Vec<NotedAction>,
    /// What to give as `before` for the next page; `null` on the last.
    next: Option<Uuid>,
}

/// Who did what through HTTP, the newest first.
#[utoipa::path(
    get, path = "/api/v1/actions", tag = "history", params(Page),
    responses((status = 200, body = Actions), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn actions(
    State(app): State<App>,
    _: Reader,
    Query(page): Query<Page>,
) -> Result<Json<Actions>, Problem> {
    let limit = limit(page.limit)?;
    let actions = app.ledger().actions(page.before, limit + 1).await?;
    let (actions, next) = page_of(actions, limit, |action| action.id);
    Ok(Json(Actions { actions, next }))
}
