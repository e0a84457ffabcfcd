//! tbd
use super::App;
use super::problem::Problem;
use axum::Router;
pub(super) fn router() -> Router<App> {
    Router::new()
}
pub(super) async fn not_found() -> Problem {
    Problem::not_found("such path")
}
pub(super) fn api_docs(_: &serde_json::Value) -> Result<String, Problem> {
    Ok(String::new())
}
