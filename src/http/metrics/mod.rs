//! `GET /metrics`: everything is computed when it is asked for, so that no gauge can freeze. Ages are ages of now.

mod ledger;
mod scrape;
mod views;

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::scrape::Scrape;
use super::App;
use super::auth::{self, Peer};
use super::problem::Problem;
use super::settings::Role;

type Labels = Vec<(String, String)>;

/// Requests so far. Routes are those of the router, so that no visitor can make new ones.
#[derive(Debug)]
pub(super) struct Requests {
    registry: Registry,
    counted: Family<Labels, Counter>,
    took: Family<Labels, Histogram, fn() -> Histogram>,
    began: Timestamp,
}

impl Default for Requests {
    fn default() -> Self {
        let buckets: fn() -> Histogram =
            || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0]);
        let (counted, took) = (Family::default(), Family::new_with_constructor(buckets));
        let mut registry = Registry::with_prefix("sexton");
        registry.register("http_requests", "Requests that were answered", counted.clone());
        registry.register("http_request_duration_seconds", "How long answers took", took.clone());
        Self { registry, counted, took, began: Timestamp::now() }
    }
}

/// Counts a request and its time.
pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "DELETE") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let clock = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = vec![of("method", &method), of("route", &route), of("status", &status)];
    app.requests.counted.get_or_create(&labels).inc();
    app.requests.took.get_or_create(&vec![of("route", &route)]).observe(clock.elapsed().as_secs_f64());
    response
}

/// The metrics, in the text form of OpenMetrics.
pub(super) async fn metrics(State(app): State<App>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    if let Err(problem) = allowed(&app, peer, request.headers()) {
        return problem.into_response();
    }
    let mut scrape = Scrape::new(Timestamp::now());
    scrape.gauge("build_info", "The version that answers", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let leads = app.leads.load(std::sync::atomic::Ordering::Relaxed);
    scrape.flag("leader", "Whether this process leads", &[], leads);
    let known = ledger::collect(&app, &mut scrape).await;
    if let Err(error) = &known {
        tracing::warn!(%error, "the ledger gave no answer to a scrape");
    }
    scrape.flag("ledger_up", "Whether the ledger has answered", &[], known.is_ok());
    views::collect(&app, &mut scrape);
    let mut text = String::new();
    let encoded =
        [scrape.registry(), &process(app.requests.began), &app.requests.registry].iter().try_for_each(|part| {
            // Each encoding ends with a line that says so; only the last one may.
            text.truncate(text.trim_end_matches("# EOF\n").len());
            encode(&mut text, part)
        });
    if encoded.is_err() {
        return Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
            .into_response();
    }
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn allowed(app: &App, peer: Option<Peer>, headers: &HeaderMap) -> Result<(), Problem> {
    if app.settings.public_metrics {
        return Ok(());
    }
    let nobody = || Problem::new(axum::http::StatusCode::UNAUTHORIZED, "the metrics need a token");
    let peer = peer.ok_or_else(nobody)?;
    let principal: Option<auth::Principal> = app.gate.principal(peer.0, headers)?;
    principal.ok_or_else(nobody)?.may(Role::Read)
}

/// What every program tells of itself under the same names.
fn process(began: Timestamp) -> Registry {
    let mut scrape = Scrape::bare();
    scrape.gauge("process_start_time_seconds", "When the process began", &[], began.as_second() as f64);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
    if let Some(kilobytes) = resident.and_then(|text| text.trim().parse::<f64>().ok()) {
        scrape.gauge("process_resident_memory_bytes", "Memory in use", &[], kilobytes * 1024.0);
    }
    scrape.into_registry()
}
