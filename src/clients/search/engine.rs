//! Which engine answers at the address.

use std::fmt;

use serde_json::Value;

/// The products sexton tells apart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Elasticsearch, by Elastic.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
    /// Something else that answers like one of them; the name it gives itself.
    Other(String),
}

/// Major and minor version. Unknown parts are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

/// What `GET /` says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Engine {
    /// The product.
    pub product: Product,
    /// Major and minor.
    pub version: Version,
    /// The version as the engine writes it: `6.8.23`.
    pub number: String,
    /// Name of the cluster.
    pub cluster: String,
}

impl Engine {
    /// Read from the body of `GET /`; `None` when there is no version in it, so that it is no search engine.
    ///
    /// OpenSearch names itself in `version.distribution` (docs: "OpenSearch info API"); Elasticsearch has no such
    /// field but the tagline "You Know, for Search".
    #[must_use]
    pub fn read(body: &Value) -> Option<Self> {
        let number = body.pointer("/version/number")?.as_str()?.to_owned();
        let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
        let version = Version { major: parts.next().unwrap_or(0), minor: parts.next().unwrap_or(0) };
        let product = match body.pointer("/version/distribution").and_then(Value::as_str) {
            Some("opensearch") => Product::OpenSearch,
            Some(other) => Product::Other(other.to_owned()),
            None if body["tagline"].as_str().is_some_and(|tagline| tagline.contains("for Search")) => {
                Product::Elasticsearch
            }
            None => Product::Other("unknown".into()),
        };
        let cluster = body["cluster_name"].as_str().unwrap_or_default().to_owned();
        Some(Self { product, version, number, cluster })
    }

    /// True where mappings carry a type name unless `include_type_name=false` is said: Elasticsearch before 7.
    #[must_use]
    pub fn has_types(&self) -> bool {
        self.product == Product::Elasticsearch && self.version.major < 7
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.product {
            Product::Elasticsearch => write!(f, "Elasticsearch {}", self.number),
            Product::OpenSearch => write!(f, "OpenSearch {}", self.number),
            Product::Other(name) => write!(f, "{name} {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn products_are_told_apart() {
        let check = |body: Value, shown: Option<&str>| {
            assert_eq!(Engine::read(&body).map(|engine| engine.to_string()).as_deref(), shown, "{body}");
        };
        let tagline = "You Know, for Search";
        check(json!({"version": {"number": "6.8.23"}, "tagline": tagline}), Some("Elasticsearch 6.8.23"));
        check(json!({"version": {"number": "3.6.0", "distribution": "opensearch"}}), Some("OpenSearch 3.6.0"));
        check(json!({"version": {"number": "1.0", "distribution": "easysearch"}}), Some("easysearch 1.0"));
        check(json!({"version": {"number": "x"}}), Some("unknown x"));
        check(json!({"hello": "world"}), None);
    }
}
