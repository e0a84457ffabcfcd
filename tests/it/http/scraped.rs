//! What `/metrics` serves, as a real Prometheus takes it, held against docs/metrics.md and the alerts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::lived::{INDEX_MARKUP, Lived};
use crate::monitoring::{component, metrics::documented};
use crate::support::prometheus::{Prometheus, eventually};

fn prometheus(base: &str) -> Prometheus {
    let target = base.trim_start_matches("http://");
    let scraped = json!({"job_name": "sexton", "honor_labels": true, "static_configs": [{"targets": [target]}]});
    Prometheus::start(scraped, &[component().join("rules/sexton.yaml")])
}

/// The names of what it scraped of sexton, those of a histogram as one.
fn scraped(prometheus: &Prometheus) -> Option<BTreeSet<String>> {
    let names = prometheus.get("label/__name__/values", &[])?;
    let names = names.as_array()?.iter().filter_map(Value::as_str);
    let own = names.filter(|name| name.starts_with("sexton_") || name.starts_with("process_"));
    let histogram = "sexton_http_request_duration_seconds";
    Some(own.map(|name| if name.starts_with(histogram) { histogram } else { name }.to_owned()).collect())
}

/// Backups as `backup list` tells them, and namespaces of which the policy says nothing as such.
fn as_the_commands_tell(lived: &Lived) {
    let seen = |view: &str| lived.api.get(&format!("/api/v1/{view}")).expect(200).json()["value"].take();
    let listed = lived.api.site.run(&["backup", "list", "--json"]).expect(0).json();
    assert_eq!(listed["backups"][0]["state"], "readable", "{listed}");
    assert_eq!(seen("backups"), listed["backups"]);
    let namespaces = seen("retention")["namespaces"].take();
    let namespaces = namespaces.as_array().unwrap();
    let scopes = |wanted: bool| namespaces.iter().filter(|one| one["in_scope"] == wanted).count();
    assert_eq!((scopes(true), scopes(false)), (1, namespaces.len() - 1), "{namespaces:?}");
    assert!(scopes(false) > 0, "{namespaces:?}");
    let page = lived.api.get("/retention").expect(200).body;
    assert_eq!(page.matches(">not in scope<").count(), scopes(false), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_finds_every_metric_that_is_documented_and_no_other() {
    let lived = Lived::new("scraped").await;
    lived.is_known();
    as_the_commands_tell(&lived);
    let prometheus = prometheus(&lived.api.base);
    eventually("the target", || prometheus.ask("up{job=\"sexton\"} == 1"));
    let documented = documented("sexton");
    let differs = || -> Option<(Vec<String>, Vec<String>)> {
        let scraped = scraped(&prometheus)?;
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect();
        Some((only(&documented, &scraped), only(&scraped, &documented)))
    };
    let came = crate::support::site::eventually(std::time::Duration::from_secs(40), || {
        differs().is_some_and(|(missing, _)| missing.is_empty())
    });
    let (missing, more) = differs().unwrap();
    assert!(came && more.is_empty(), "documented and not served: {missing:?}; served and not documented: {more:?}");

    // Its labels come as they are, sexton's jobs and Temporal's namespaces among them.
    for (expression, label) in [
        ("sexton_job_last_success_age_seconds{job=\"backup\"} < 600", "job"),
        ("sexton_retention_seconds == 2592000", "namespace"),
        ("sexton_backup_proven_age_seconds < 600", ""),
        ("sexton_migration_state{migration=\"one-table\", state=\"applied\"} == 1", "migration"),
        ("sexton_visibility_is_write_index == 1", "index"),
        ("sexton_leader == 1", ""),
    ] {
        let series = eventually(expression, || prometheus.ask(expression));
        assert!(label.is_empty() || series[0]["metric"][label].is_string(), "{series:#?}");
    }
    let stranger = format!("{}-{INDEX_MARKUP}", lived.alias());
    let indices = prometheus.ask("sexton_visibility_index_documents").unwrap();
    assert!(indices.iter().any(|one| one["metric"]["index"] == stranger.as_str()), "{indices:#?}");

    // The rules are evaluated on what is really served: nothing that tells of trouble but what there is.
    let groups = prometheus.get("rules", &[]).unwrap();
    for rule in groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
    lived.api.is_sound();
}
