use super::Finding;
use crate::clients::search::{Auth, Product, Resolved, Search, Settings};
use crate::policy::visibility::VisibilityPolicy;

const SYSTEM: &str = "search";

/// Connection, product and version, and what the index's name stands for.
pub(super) async fn examine(settings: &Settings, policy: Option<&VisibilityPolicy>) -> Vec<Finding> {
    let search = match Search::connect(settings).await {
        Ok(search) => search,
        Err(error) => return vec![Finding::failed(SYSTEM, "connection", error)],
    };
    let engine = search.engine();
    let mut findings = vec![match &engine.product {
        Product::Elasticsearch | Product::OpenSearch => {
            Finding::ok(SYSTEM, "version", format!("{engine} at {}", search.address()))
        }
        Product::Other(name) => Finding::warning(
            SYSTEM,
            "version",
            format!("{name} {} is neither Elasticsearch nor OpenSearch", engine.number),
            "only those two are tested",
        ),
    }];
    if settings.url.scheme() == "http" && !matches!(settings.auth, Auth::None) {
        findings.push(Finding::warning(
            SYSTEM,
            "login",
            "it travels unencrypted, since the address begins with http://",
            "let the engine offer TLS and use https://, or let only its own network reach it",
        ));
    }
    let Some(policy) = policy else { return findings };
    let name = policy.index.to_string();
    findings.push(match search.resolve(&name).await {
        Ok(Resolved::Alias(alias)) => {
            Finding::ok(SYSTEM, format!("index {name}"), format!("an alias of {} indices", alias.members.len()))
        }
        Ok(Resolved::Concrete) => Finding::warning(
            SYSTEM,
            format!("index {name}"),
            "a concrete index: it cannot be rolled over",
            "it has to become an alias first; docs/visibility.md says how",
        ),
        Ok(Resolved::Missing) => Finding::warning(
            SYSTEM,
            format!("index {name}"),
            "there is no index and no alias of that name",
            "check `index:` in policies/visibility.yaml and run Temporal's schema tool",
        ),
        Err(error) => Finding::failed(SYSTEM, format!("index {name}"), error),
    });
    findings
}
