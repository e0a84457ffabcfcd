//! tbd
use super::App;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
#[derive(Debug, Default)]
pub(super) struct Requests;
pub(super) async fn metrics(State(_app): State<App>) -> &'static str {
    ""
}
pub(super) async fn count(State(_app): State<App>, request: Request, next: Next) -> Response {
    let _ = Arc::new(1);
    next.run(request).await
}
