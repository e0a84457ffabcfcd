use super::Finding;
use crate::clients::temporal::{Health, Settings, Support, Temporal, support};

const SYSTEM: &str = "temporal";

/// Connection, health, version, and whether its visibility store is the kind that is configured here.
pub(super) async fn examine(settings: &Settings, search_configured: bool) -> Vec<Finding> {
    let temporal = match Temporal::connect(settings).await {
        Ok(temporal) => temporal,
        Err(error) => return vec![Finding::failed(SYSTEM, "connection", error)],
    };
    let mut findings = vec![match temporal.health().await {
        Ok(Health::Serving) => Finding::ok(SYSTEM, "connection", format!("{} serves", settings.address)),
        Ok(Health::NotServing) => Finding::warning(
            SYSTEM,
            "connection",
            format!("{} answers that it does not serve", settings.address),
            "it is starting or shutting down; look at its logs if that lasts",
        ),
        Err(error) => Finding::failed(SYSTEM, "connection", error),
    }];
    let info = match temporal.server_info().await {
        Ok(info) => info,
        Err(error) => {
            findings.push(Finding::failed(SYSTEM, "version", error));
            return findings;
        }
    };
    findings.push(match support(&info.version) {
        Support::Supported => Finding::ok(SYSTEM, "version", info.version.clone()),
        Support::Untested(why) => {
            Finding::warning(SYSTEM, "version", why, "rehearse on a staging cluster before you rely on it")
        }
    });
    let uses_search = ["elasticsearch", "opensearch"].iter().any(|kind| info.visibility_store.contains(kind));
    findings.push(match (uses_search, search_configured) {
        (true, false) => Finding::warning(
            SYSTEM,
            "visibility store",
            format!("{}, but the configuration has no `search:`", info.visibility_store),
            "add `search:`, or its index grows for ever",
        ),
        (false, true) => Finding::warning(
            SYSTEM,
            "visibility store",
            format!("{}, but the configuration has a `search:`", info.visibility_store),
            "check that the address is the right cluster's",
        ),
        _ => Finding::ok(SYSTEM, "visibility store", info.visibility_store.clone()),
    });
    findings.push(match temporal.list_namespaces().await {
        Ok(namespaces) => Finding::ok(SYSTEM, "namespaces", format!("{} can be read", namespaces.len())),
        Err(error) => Finding::failed(SYSTEM, "namespaces", error),
    });
    findings
}
