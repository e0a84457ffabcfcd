//! One scrape: gauges and counters with the values of now.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Labels;

type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter<u64, AtomicU64>>;

/// What is answered to one scrape.
pub(super) struct Scrape {
    registry: Registry,
    gauges: HashMap<&'static str, Gauges>,
    counters: HashMap<&'static str, Counters>,
    /// The instant of the scrape.
    pub now: Timestamp,
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Seconds of an instant since 1970.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

impl Scrape {
    pub(super) fn new(now: Timestamp) -> Self {
        let registry = Registry::with_prefix("sexton");
        Self { registry, gauges: HashMap::new(), counters: HashMap::new(), now }
    }

    /// One whose names are not sexton's own.
    pub(super) fn bare() -> Self {
        Self { registry: Registry::default(), ..Self::new(Timestamp::now()) }
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.gauges.entry(name).or_insert_with(|| {
            let family = Gauges::default();
            self.registry.register(name, help, family.clone());
            family
        });
        family.get_or_create(&owned(labels)).set(value);
    }

    /// One that is 1 or 0.
    pub(super) fn flag(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], truth: bool) {
        self.gauge(name, help, labels, f64::from(u8::from(truth)));
    }

    /// The same for what may not be known.
    pub(super) fn maybe(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.gauge(name, help, labels, value);
        }
    }

    /// An age of now, in seconds.
    pub(super) fn age(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], since: Option<Timestamp>) {
        let now = self.now;
        self.maybe(name, help, labels, since.map(|since| seconds(now) - seconds(since)));
    }

    /// `_total` is added to the name.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: u64) {
        let family = self.counters.entry(name).or_insert_with(|| {
            let family = Counters::default();
            self.registry.register(name, help, family.clone());
            family
        });
        family.get_or_create(&owned(labels)).inc_by(value);
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn into_registry(self) -> Registry {
        self.registry
    }
}
