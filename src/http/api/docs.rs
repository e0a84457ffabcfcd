use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use crate::http::auth::Reader;
use crate::http::page;
use crate::http::problem::Problem;

static TEXT: LazyLock<String> = LazyLock::new(|| super::description().to_pretty_json().unwrap_or_default());

/// The description of the API. It holds nothing that is not in the source.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// The same for people.
pub(super) async fn page(Reader(visitor): Reader) -> Result<Html<String>, Problem> {
    let description: Value = serde_json::from_str(&TEXT).unwrap_or_default();
    page::api_docs(&visitor, &description).map(Html)
}
