use super::Finding;
use crate::clients::temporal::{Health, Settings, Support, Temporal, support};
use crate::daemon::jobs::Site;
use crate::retention::without_namespace;

const SYSTEM: &str = "temporal";

/// Connection, health, version, whether its visibility store is the kind that is configured here, and whether it has the
/// namespaces that the policy is for.
pub(super) async fn examine(settings: &Settings, site: &Site) -> Vec<Finding> {
    let search_configured = site.config.search.is_some();
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
    findings.push(version(&info.version));
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
    match temporal.list_namespaces().await {
        Ok(namespaces) => {
            findings.push(Finding::ok(SYSTEM, "namespaces", format!("{} can be read", namespaces.len())));
            let policy = site.policies.retention.as_ref();
            let unmatched = policy.map(|policy| without_namespace(&namespaces, policy)).unwrap_or_default();
            findings.extend(unmatched.into_iter().map(|what| {
                let hint = "look at `applies_to` and `namespaces` in policies/retention.yaml";
                Finding::warning(SYSTEM, "namespaces", what, hint)
            }));
        }
        Err(error) => findings.push(Finding::failed(SYSTEM, "namespaces", error)),
    }
    findings
}

fn version(version: &str) -> Finding {
    match support(version) {
        Support::Supported => Finding::ok(SYSTEM, "version", version),
        Support::Untested(why) => {
            Finding::warning(SYSTEM, "version", why, "rehearse on a staging cluster before you rely on it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn an_unknown_version_is_a_warning_that_says_which_and_what_to_do() {
        let check = |number: &str, verdict: Verdict, detail: &str| {
            let finding = version(number);
            assert_eq!((finding.verdict, finding.detail.as_str()), (verdict, detail));
            assert_eq!(finding.hint.is_some(), verdict != Verdict::Ok);
        };
        check("1.31.0", Verdict::Ok, "1.31.0");
        check("1.45.1", Verdict::Warning, "Temporal 1.45.1 is newer than 1.31, the newest release tested");
        check("custom", Verdict::Warning, "`custom` is not a version of a Temporal server");
    }
}
