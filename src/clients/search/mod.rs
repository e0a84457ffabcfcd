//! Elasticsearch and OpenSearch over HTTP.

mod settings;

pub use settings::{Auth, Settings};
