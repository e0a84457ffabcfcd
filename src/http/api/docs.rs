use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};

static TEXT: LazyLock<String> = LazyLock::new(|| super::description().to_pretty_json().unwrap_or_default());

/// The description of the API as JSON. It holds nothing that is not in the source.
pub(in crate::http) fn description_text() -> &'static str {
    &TEXT
}

/// For programs; the page `/docs` is made of the same.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], description_text()).into_response()
}
